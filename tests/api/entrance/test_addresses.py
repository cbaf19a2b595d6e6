"""The entrance finds the view that Django's resolver finds, with the same variables."""

from __future__ import annotations

import sys
from random import Random
from types import ModuleType
from typing import Any

import pytest
from django.conf import LazySettings
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpRequest, HttpResponse
from django.urls import (
    Resolver404,
    URLPattern,
    URLResolver,
    clear_url_caches,
    get_resolver,
    include,
    path,
    re_path,
)
from django.urls.resolvers import RegexPattern, RoutePattern
from django.utils.translation import gettext_lazy

from blobcache.api.entrance.addresses import find, has_translated_addresses
from tests.api.conftest import DIGEST


def first(request: HttpRequest, **variables: str) -> HttpResponse:
    """A view."""
    return HttpResponse()


def second(request: HttpRequest, *args: str, **variables: str) -> HttpResponse:
    """Another one."""
    return HttpResponse()


class Half(URLPattern):
    """A pattern that decides for itself."""

    def resolve(self, path: str) -> Any:
        found = super().resolve(path)
        return None if "b" in path else found


class HalfBelow(URLResolver):
    """The same for what is below a path."""

    def resolve(self, path: str) -> Any:
        if "b" in path:
            raise Resolver404({"path": path})
        return super().resolve(path)


BELOW: list[Any] = [
    path("x/", first),
    path("<int:number>/", second),
    path("<name>/", first, {"name": "always the same"}),
    path("<path:name>/x", second),
]

PATTERNS: list[list[Any]] = [
    [path("", first), path("a/", second), path("a/", first)],
    [path("a/", include(BELOW)), path("a/<path:all>", second)],
    [path("<name>/", include(BELOW)), path("<path:all>", second, {"more": 1})],
    [path("a/", include(BELOW), {"name": "above", "more": 1}), path("<slug:name>/", first)],
    [re_path(r"^(?P<name>[ab]+)/", include(BELOW)), re_path(r"^(?P<name>.)", second)],
    [re_path(r"^([ab])/$", second), path("<name>/", first)],
    [re_path(r"^([ab])/", include(BELOW)), path("<name>/<rest>/", first)],
    [Half(RegexPattern(r"^(?P<name>.*)/$"), first), path("<path:all>", second)],
    [HalfBelow(RegexPattern(r"^a/"), BELOW), path("<path:all>", second)],
    [path("a/", include([path("", include(BELOW)), path("b/<int:n>", first)])), path("b", first)],
]


def by_django(resolver: URLResolver, address: str) -> Any:
    """What Django's resolver finds, in the same form."""
    try:
        match = resolver.resolve(address)
    except Resolver404:
        return None
    return None if match.args else (match.func, match.kwargs)


def by_us(resolver: URLResolver, address: str) -> Any:
    """What the entrance finds; it may leave it to Django to find nothing."""
    try:
        found = find(resolver, address)
    except Resolver404:
        return None
    return None if found is None else (found.view, dict(found.variables))


@pytest.mark.parametrize("number", range(len(PATTERNS)))
def test_the_same_is_found_in_any_urlconf(number: int) -> None:
    random = Random(number)  # noqa: S311
    resolver = URLResolver(RegexPattern(r"^/"), PATTERNS[number])
    seen = []
    for _ in range(1000):
        address = "/" + "".join(random.choices("abx1/-", k=random.randint(0, 7)))
        expected = by_django(resolver, address)
        assert by_us(resolver, address) == expected, address
        seen.append(expected is not None)
    assert {*seen} == {True, False}


def test_the_same_is_found_in_the_demos_urlconf(settings: LazySettings) -> None:
    resolver, random, seen = get_resolver(settings.ROOT_URLCONF), Random(0), 0  # noqa: S311
    parts = ["api", "blobs", "repositories", "registries", "team", DIGEST, "stat", "", "default"]
    parts += ["summary", "purge", "admin", "holders", "x" * 600, "é", "metrics", "md5:a", "changes"]
    for _ in range(5000):
        address = "/" + "/".join(["api", *random.choices(parts, k=random.randint(0, 6))])
        expected = by_django(resolver, address)
        assert by_us(resolver, address) == expected, address
        seen += expected is not None
    assert seen > 500


class Own(RoutePattern):
    """A host's own kind of pattern, which may look at anything."""


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([path("a/", first), re_path("^b/$", first)], False),
        ([path("api/", include("blobcache.api.urls"))], False),
        (
            [path("a/", include([path("b/", first), path("", include([re_path("c", first)]))]))],
            False,
        ),
        ([path("a/", first), path(gettext_lazy("Home"), first)], True),
        ([path(gettext_lazy("Home"), include([path("a/", first)]))], True),
        ([path("a/", include([re_path(gettext_lazy("Home"), first)])), path("b/", first)], True),
        ([URLPattern(Own("a/"), first)], True),
        ([Half(RoutePattern("a/"), first)], True),
        (i18n_patterns(path("a/", first)), True),
    ],
)
def test_the_language_decides_only_if_an_address_is_translated(
    patterns: list[Any], *, expected: bool, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("addresses_of_a_host")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(module)["urlpatterns"] = patterns
    settings.ROOT_URLCONF = module.__name__
    clear_url_caches()  # of another module with this name
    assert has_translated_addresses() is expected
