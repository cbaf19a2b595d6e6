"""Remembers the headers that the host's middleware gives to the response of a stat.

They are the same for every blob, except for those that the stat itself sets. So the middleware is
asked once; after that, a response is put together without it, in a fifth of the time.

That is possible if each middleware is known to set the same headers always: Django's own, but not
those that look at the body, and a host's own that declares it. What else a response depends on is
part of the key. A changed setting makes the entrance forget everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.signals import setting_changed

from blobcache.api.conditions import etag
from blobcache.api.savings import header_list
from blobcache.api.serializers import descriptor_json

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from blobcache.api.at_once import Stat
    from blobcache.api.entrance.stack import Stack

__all__ = ["Brief", "Heads"]

_OK = 200

_MAXIMUM = 256
"""Kinds of responses that are remembered; more begin anew."""

_CHANGING = frozenset({"session", "_messages", "axes_locked_out"})
"""What known middleware looks for in a request, to decide on headers."""


class Brief(NamedTuple):
    """A response with status 200: its headers, and its body in one piece."""

    headers: list[Any]
    body: bytes
    has_length: bool
    """Whether there is a header Content-Length."""


class _Head(NamedTuple):
    """The headers of a kind of response."""

    pairs: list[Any]
    own: list[tuple[int, str]]
    """The places of those that each stat sets for itself, and their names."""

    has_length: bool
    """See `Brief`."""


class Heads:
    """The headers of the kinds of responses that there have been."""

    def __init__(self, stack: Stack, form: Callable[[str], Any]) -> None:
        """`form` makes what the server needs of a header's name, and of its value."""
        self._is_possible = stack.sets_same_headers
        self._form = form
        self._heads: dict[Hashable, _Head] = {}
        setting_changed.connect(self._forget)

    def brief(self, key: Hashable | None, stat: Stat) -> Brief | None:
        """Return the response to a stat; None if its headers are not remembered.

        `key` is that of the stat and its request.
        """
        head = None if key is None else self._heads.get(key)
        if head is None:
            return None
        body = descriptor_json(stat.found)
        own = _own_headers(stat, body)
        pairs = head.pairs.copy()
        for place, name in head.own:
            pairs[place] = pairs[place][0], self._form(own[name])
        return Brief(pairs, body, head.has_length)

    def learn(self, key: Hashable, again: Hashable | None, stat: Stat, response: Any) -> None:
        """Remember the headers of a response to a stat, to which the middleware has added its own.

        Not if the middleware has done anything else with it. `key` is that of the stat and its
        request before that, `again` after it.
        """
        body = descriptor_json(stat.found)
        if (
            key != again
            or response.status_code != _OK
            or response.streaming
            or response.cookies
            or response.content != body
        ):
            return
        own, found = _own_headers(stat, body), header_list(response)
        places = [(place, name) for place, (name, _) in enumerate(found) if name in own]
        missing = own.keys() - {name for _, name in places} - {"Content-Length"}
        if missing or any(found[place][1] != own[name] for place, name in places):
            return
        if len(self._heads) >= _MAXIMUM:
            self._heads.clear()
        pairs = [(*map(self._form, each),) for each in found]
        self._heads[key] = _Head(pairs, places, "Content-Length" in response.headers)

    def key(self, request: Any, stat: Stat, language: str | None) -> Hashable | None:
        """What the headers depend on, besides the blob; None if that is not certain.

        `language` is the one that is active, or None if it is always the same.
        """
        values, meta, view = vars(request), request.META, stat.view
        if (
            not self._is_possible
            or "HTTP_IF_NONE_MATCH" in meta
            or "CSRF_COOKIE_NEEDS_UPDATE" in meta
            or not _CHANGING.isdisjoint(values)
            or values.get("_csp_nonce")  # true once it was made: another one for each request
        ):
            return None
        try:
            is_secure = request.is_secure()  # which the host may have replaced
        except Exception:  # noqa: BLE001 - Django does not ask for it in every project
            return None
        return (
            *(type(view), *view.action_map, view.config.READ_ONLY, view.source is None),
            *(is_secure, language, "entrance_needed_session" in values),
        )

    def _forget(self, **_: object) -> None:
        self._heads.clear()


def _own_headers(stat: Stat, body: bytes) -> Mapping[str, str]:
    """The headers that depend on the blob."""
    return {
        **stat.view.stat_headers(stat.found),
        "ETag": etag(stat.found),
        "Content-Length": str(len(body)),
    }
