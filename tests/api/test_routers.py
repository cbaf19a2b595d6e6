"""Addresses are matched from their ends."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import Resolver404, URLResolver, reverse
from django.urls.resolvers import RegexPattern
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from blobcache.api.routers import MAX_PATH, BelowPattern, LinearPattern, RegistryRouter

SUMMARY = LinearPattern("repositories/<name>/summary")
BLOB = LinearPattern("repositories/<name>/blobs/<digest>")
MARKED = LinearPattern("repositories/<name>/blobs/<digest>", mark=":")
PURGE = LinearPattern("blobs/<digest>/purge", segment=True)
STATUS = LinearPattern("status")


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        (STATUS, "status", {}),
        (STATUS, "status/", {}),
        (STATUS, "status//", None),
        (STATUS, "stat", None),
        (SUMMARY, "repositories/a/b/summary/", {"name": "a/b"}),
        (SUMMARY, "repositories/summary/summary", {"name": "summary"}),
        (SUMMARY, "repositories/summary", None),
        (SUMMARY, "repositories//summary", None),
        (SUMMARY, "repositories/a/summary/x", None),
        (BLOB, "repositories/a/blobs/b/blobs/c", {"name": "a/blobs/b", "digest": "c"}),
        (BLOB, "repositories/a/blobs/b/c/", {"name": "a", "digest": "b/c"}),
        (BLOB, "repositories/a/blobs/\n/", {"name": "a", "digest": "\n"}),
        (BLOB, "repositories/a/blobs/", None),
        (BLOB, "repositories/blobs/c", None),
        (MARKED, "repositories/a/blobs/sha256:b", {"name": "a", "digest": "sha256:b"}),
        (MARKED, "repositories/a/blobs/stat", None),
        (MARKED, "repositories/a/blobs/x:y/z", None),
        (PURGE, "blobs/a:b/purge/", {"digest": "a:b"}),
        (PURGE, "blobs/a/b/purge/", None),
        (PURGE, "blobs/purge", None),
    ],
)
def test_an_address_is_matched_as_a_whole(
    pattern: LinearPattern, path: str, found: dict[str, str] | None
) -> None:
    assert pattern.match(path) == (None if found is None else ("", (), found))


@pytest.mark.parametrize("name", ["a", "a/blobs", "a/summary", "x/blobs/stat"])
def test_a_reversed_address_is_matched_again(name: str) -> None:
    path = reverse("blobcache-api:repository-summary", kwargs={"name": name})
    assert path == f"/api/repositories/{name}/summary/"
    assert SUMMARY.match(path.removeprefix("/api/")) == ("", (), {"name": name})


def test_an_address_of_ours_that_is_too_long_is_recognised_by_its_beginning() -> None:
    pattern = BelowPattern("blobs", "status", longer_than=MAX_PATH)
    assert pattern.match("blobs/" + "x" * MAX_PATH)
    assert pattern.match("blobs/" + "x" * (MAX_PATH - 6)) is None
    assert pattern.match("others/" + "x" * MAX_PATH) is None
    assert BelowPattern("blobs").match("blobs/x")
    assert BelowPattern("blobs").match("blobs") is None


class Things(ViewSet):
    lookup_field = "thing"
    lookup_value_regex = ".+"

    def list(self, request: Request, **_: str) -> Response:
        return Response()

    def retrieve(self, request: Request, **_: str) -> Response:
        return Response()

    @action(detail=True)
    def summary(self, request: Request, **_: str) -> Response:
        return Response()

    @action(detail=False)
    def stat(self, request: Request, **_: str) -> Response:
        return Response()


class Parts(Things):
    lookup_field = "part"
    lookup_mark = ":"


class Segments(Things):
    lookup_value_regex = "[^/]+"


def routes() -> URLResolver:
    router = RegistryRouter()
    router.register("things", Things, "thing")
    router.register("things/<thing>/parts", Parts, "thing-part")
    router.register("segments", Segments, "segment")
    return URLResolver(RegexPattern(""), router.urls)


@pytest.mark.parametrize(
    ("path", "name", "variables"),
    [
        ("things/", "things", {}),
        ("things/stat", "things-stat", {}),
        ("things/a/b/", "thing", {"thing": "a/b"}),
        ("things/a/b/summary", "thing-summary", {"thing": "a/b"}),
        ("things/a/stat", "thing", {"thing": "a/stat"}),
        ("things/a/parts", "thing-parts", {"thing": "a"}),
        ("things/a/parts/stat/", "thing-parts-stat", {"thing": "a"}),
        ("things/a/parts/b", "thing-part", {"thing": "a", "part": "b"}),
        ("things/a/parts/b/c", "thing-part", {"thing": "a", "part": "b/c"}),
        ("things/a/parts/b/summary", "thing-part-summary", {"thing": "a", "part": "b"}),
        ("things/a/parts/parts/b", "thing-part", {"thing": "a/parts", "part": "b"}),
        ("things/a/parts/b:c", None, {"thing": "a", "part": "b:c"}),
        ("segments/a", "segment", {"thing": "a"}),
        ("segments/a/summary", "segment-summary", {"thing": "a"}),
    ],
)
def test_reserved_last_segments_have_precedence(
    path: str, name: str | None, variables: dict[str, str]
) -> None:
    match = routes().resolve(path)
    assert (match.url_name, match.kwargs) == (name, variables)
    # The marked pattern has no name, and leads to the same action.
    assert match.func.actions["get"] in {"list", "retrieve", "summary", "stat"}  # type: ignore[attr-defined]


def test_a_segment_has_no_slash() -> None:
    with pytest.raises(Resolver404):
        routes().resolve("segments/a/b")


def test_an_address_has_at_most_two_variables() -> None:
    with pytest.raises(ImproperlyConfigured, match="more than two variables"):
        LinearPattern("a/<a>/b/<b>/c/<c>")
