"""Finds the view of an address in the host's URLconf, as Django's resolver does.

Django's resolver also collects what a page for developers shows of an address that does not exist,
and what `reverse` needs. A stat needs neither; without them it takes a third of the time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern, RoutePattern

from blobcache.remembered import remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LATER", "Address", "find", "has_translated_addresses", "resolver_match"]


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


@remembered
def has_translated_addresses() -> bool:
    """Whether the language may decide what the URLconf has for a path."""
    return _is_translated(get_resolver())


def _is_translated(either: Any) -> bool:
    """Whether that is so for a pattern, or for a resolver with all that it has."""
    if type(either) not in {URLPattern, URLResolver}:  # which may do anything
        return True
    pattern = either.pattern
    kind = type(pattern)
    if not (kind.__module__.startswith("blobcache.") or type(_text(pattern)) is str):
        return True
    return any(map(_is_translated, getattr(either, "url_patterns", ())))


def _text(pattern: Any) -> object:
    """What a pattern of Django's matches: lazy if it is translated. None for any other class."""
    if type(pattern) is RoutePattern:
        return pattern._route  # type: ignore[attr-defined] # noqa: SLF001 - read nowhere else
    return pattern._regex if type(pattern) is RegexPattern else None  # type: ignore[attr-defined] # noqa: SLF001


class _Below(NamedTuple):
    """What a resolver has."""

    match: Callable[[str], Any]
    default_kwargs: Mapping[str, Any]
    patterns: list[tuple[Callable[[str], Any], URLPattern | None, URLResolver]]
    """For each of its patterns the function that matches it. None in place of a pattern for a
    resolver."""


@lru_cache(256)
def _below(resolver: URLResolver) -> _Below:
    if type(resolver) is not URLResolver:
        raise _UnusualError
    patterns: list[Any] = [
        (each.pattern.match, each if type(each) is URLPattern else None, each)
        for each in resolver.url_patterns
    ]
    return _Below(resolver.pattern.match, resolver.default_kwargs, patterns)


def _find(resolver: URLResolver, path: str, before: Mapping[str, Any]) -> Address | None:
    match_first, default_kwargs, patterns = _below(resolver)
    matched = match_first(path)
    if not matched:
        return None
    rest, unnamed, named = matched
    if unnamed:
        raise _UnusualError
    if named or default_kwargs:
        before = {**before, **named, **default_kwargs}
    for match, pattern, either in patterns:
        if pattern is None:
            address = _find(either, rest, before)
            if address is not None:
                return address
        elif matched := match(rest):
            if matched[1]:
                raise _UnusualError
            return Address(pattern.callback, {**before, **matched[2], **pattern.default_args})
    return None
