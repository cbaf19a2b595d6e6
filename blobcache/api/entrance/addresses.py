"""Finds the view of an address in the host's URLconf, as Django's resolver does.

Django's resolver also collects what a page for developers shows of an address that does not exist,
and what `reverse` needs. A stat needs neither; without them it takes a third of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.urls import URLPattern, URLResolver, get_resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LATER", "Address", "find", "resolver_match"]


class Address(NamedTuple):
    """What a URLconf has for the path of a request."""

    view: Callable[..., Any]
    variables: Mapping[str, Any]


class _UnusualError(Exception):
    """The URLconf has something that only Django's resolver can decide."""


LATER: Any = object()
"""What a request's `resolver_match` is set to when its view was found."""


def _match(request: Any) -> Any:
    match = vars(request).get("resolver_match")
    if match is LATER:
        match = request.resolver_match = get_resolver().resolve(request.path_info)
    return match


def _set_match(request: Any, match: object) -> None:
    vars(request)["resolver_match"] = match


resolver_match = property(_match, _set_match)
"""An attribute of requests. If it is `LATER`, Django's resolver finds it when it is first read."""


def find(resolver: URLResolver, path: str) -> Address | None:
    """Return what Django's resolver finds, if that has only named variables; else None.

    May raise `Resolver404` instead.
    """
    try:
        return _find(resolver, path, {})
    except _UnusualError:
        match = resolver.resolve(path)
        return None if match.args else Address(match.func, match.kwargs)


def _find(resolver: URLResolver, path: str, before: Mapping[str, Any]) -> Address | None:
    if type(resolver) is not URLResolver:
        raise _UnusualError
    match: Any = resolver.pattern.match(path)
    if not match:
        return None
    rest, unnamed, named = match
    if unnamed:
        raise _UnusualError
    if named or resolver.default_kwargs:
        before = {**before, **named, **resolver.default_kwargs}
    for each in resolver.url_patterns:
        if type(each) is URLPattern:
            match = each.pattern.match(rest)
            if match:
                if match[1]:
                    raise _UnusualError
                return Address(each.callback, {**before, **match[2], **each.default_args})
        else:
            address = _find(cast("URLResolver", each), rest, before)
            if address is not None:
                return address
    return None
