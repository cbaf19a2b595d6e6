"""A router for addresses with names and digests, matched in time linear in the path's length.

Django matches addresses before authentication. A regular expression with two variables of any
length takes time quadratic in the path's length, and the whole process waits. So these patterns use
string methods, from both ends of the path. The regular expression that each pattern also has is
only for `reverse` and the schema; no request is matched against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern
from rest_framework.routers import DynamicRoute, Route, SimpleRouter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.http.response import HttpResponseBase
    from django.urls import URLResolver

    Match = tuple[str, tuple[Any, ...], dict[str, Any]]

__all__ = ["MAX_PATH", "BelowPattern", "LinearPattern", "PrefixPattern", "RegistryRouter"]

MAX_PATH = 1024
"""The longest path below the API's root, in characters; the longest address of a blob has 532."""

_MAX_VARIABLES = 2

_ANYTHING, _ONE_SEGMENT = r"(?P<%s>(?s:.+))", r"(?P<%s>[^/]+)"


class LinearPattern(RegexPattern):
    """One address, such as ``repositories/<name>/summary``, with or without a slash at the end.

    A variable matches any text; with `segment`, a single variable must not contain a slash. If
    there are two variables, the second one begins after the last occurrence of the text between
    them; with a `mark` it must contain the mark, and no slash.
    """

    def __init__(
        self, route: str, name: str | None = None, *, segment: bool = False, mark: str = ""
    ) -> None:
        self.route = route
        self._head, *variables = route.split("<")
        if len(variables) > _MAX_VARIABLES:
            raise ImproperlyConfigured(f"The address '{route}' has more than two variables.")
        self._variables: Sequence[tuple[str, str]] = [
            (variable, text) for variable, _, text in (each.partition(">") for each in variables)
        ]
        """Each variable, with the text that follows it."""
        self._takes_segment = segment
        self._mark = mark
        kind = _ONE_SEGMENT if segment else _ANYTHING
        parts = [kind % variable + text for variable, text in self._variables]
        super().__init__(rf"^{self._head}{''.join(parts)}/\Z", name=name, is_endpoint=True)

    @property
    def precedence(self) -> tuple[bool, bool, int, int]:
        """The sort key that puts a pattern before those that would match its paths as well.

        A marked variable comes first, then a literal last segment, and a longer route before a
        shorter one.
        """
        ends_open = self.route.endswith(">")
        return not self._mark, ends_open, -len(self._variables), -len(self.route)

    def match(self, path: str) -> Match | None:
        """Return the rest of the path (always empty) and the variables; None if nothing matches."""
        path = path.removesuffix("/")
        if not self._variables:
            return ("", (), {}) if path == self._head else None
        tail = self._variables[-1][1]
        if not (path.startswith(self._head) and path.endswith(tail)):
            return None
        values = self._values(path[len(self._head) : len(path) - len(tail)])
        if values is None or not all(values.values()):
            return None
        return "", (), values

    def _values(self, middle: str) -> dict[str, str] | None:
        if len(self._variables) == 1:
            ((variable, _),) = self._variables
            return None if self._takes_segment and "/" in middle else {variable: middle}
        (first, infix), (last, _) = self._variables
        name, _, digest = middle.rpartition(infix)
        if self._mark and ("/" in digest or self._mark not in digest):
            return None
        return {first: name, last: digest}


class BelowPattern(RegexPattern):
    """Every path that begins with one of the words and a slash, and is longer than `longer_than`.

    `reverse` and the schema do not use it.
    """

    def __init__(self, *heads: str, longer_than: int = 0) -> None:
        super().__init__("", is_endpoint=True)
        self._heads = tuple(f"{head}/" for head in heads)
        self._longer_than = longer_than

    def match(self, path: str) -> Match | None:
        """Return an empty rest and no variables; None if the path does not match."""
        matches = len(path) > self._longer_than and path.startswith(self._heads)
        return ("", (), {}) if matches else None


class PrefixPattern(RegexPattern):
    """What is below a word and one segment, such as ``registries/<registry>/``.

    The rest is for the patterns below it. The segment may be any text; `alias` is the regular
    expression for the schema and for `reverse`.
    """

    def __init__(self, word: str, variable: str, alias: str) -> None:
        super().__init__(rf"^{word}/(?P<{variable}>{alias})/")
        self._head = f"{word}/"
        self._variable = variable

    def match(self, path: str) -> Match | None:
        """Return what follows the segment, and the segment; None if the path does not match."""
        if not path.startswith(self._head):
            return None
        segment, _, rest = path[len(self._head) :].partition("/")
        return (rest, (), {self._variable: segment}) if segment and rest else None


class RegistryRouter(SimpleRouter):
    """The framework's router, with addresses that are matched in linear time.

    A prefix may have a variable, as in ``repositories/<name>/blobs``; then variables match slashes.
    Else a variable is one segment, unless the viewset's `lookup_value_regex` is ``.+``. A reserved
    last segment always wins: ``repositories/<name>/summary`` matches before
    ``repositories/<name>/blobs/<digest>`` does, whatever was registered first.

    The name of a single object's address is the basename, and that of a list the basename with the
    last segment of the prefix: ``repository-blob`` and ``repository-blobs``. An extra action adds
    its own: ``blob-purge``, ``blobs-stat``. The slash at the end is optional.

    If each value of a viewset's lookup contains some text that no last segment of other addresses
    does, its `lookup_mark` may say so; then its address is matched first.
    """

    routes = [  # noqa: RUF012 - as the framework declares it
        Route(
            url="{prefix}",
            mapping={"get": "list", "post": "create"},
            name="{list}",
            detail=False,
            initkwargs={"suffix": "List"},
        ),
        DynamicRoute(
            url="{prefix}/{url_path}", name="{list}-{url_name}", detail=False, initkwargs={}
        ),
        Route(
            url="{prefix}/{lookup}",
            mapping={
                "get": "retrieve",
                "put": "update",
                "patch": "partial_update",
                "delete": "destroy",
            },
            name="{basename}",
            detail=True,
            initkwargs={},
        ),
        DynamicRoute(
            url="{prefix}/{lookup}/{url_path}",
            name="{basename}-{url_name}",
            detail=True,
            initkwargs={},
        ),
    ]

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Return the patterns, in the order of their precedence."""
        found = [
            each
            for prefix, viewset, basename in self.registry
            for each in self._patterns(prefix, viewset, basename)
        ]
        found.sort(key=lambda each: each[0].precedence)
        return [URLPattern(pattern, view, name=pattern.name) for pattern, view in found]

    def _patterns(
        self, prefix: str, viewset: Any, basename: str
    ) -> list[tuple[LinearPattern, Callable[..., HttpResponseBase]]]:
        scope, _, _ = basename.rpartition("-")
        *_, last = prefix.split("/")
        names = {"basename": basename, "list": f"{scope}-{last}" if scope else last}
        lookup = f"<{getattr(viewset, 'lookup_url_kwarg', None) or viewset.lookup_field}>"
        is_segment = "<" not in prefix and getattr(viewset, "lookup_value_regex", "") != ".+"
        found = []
        for route in self.get_routes(viewset):
            methods = self.get_method_map(viewset, route.mapping)
            if not methods:
                continue
            name = route.name.format(**names)
            path = route.url.format(prefix=prefix, lookup=lookup)
            options = {**route.initkwargs, "basename": basename, "detail": route.detail}
            pattern = LinearPattern(path, name, segment=is_segment)
            found.append((pattern, viewset.as_view(methods, **options)))
            mark = getattr(viewset, "lookup_mark", "")
            if mark and path.count("<") > 1 and path.endswith(">"):
                # The address that is asked for most, ahead of all others: saves 2 us.
                view = viewset.as_view({**methods}, schema=None, **options)
                found.append((LinearPattern(path, mark=mark), view))
        return found
