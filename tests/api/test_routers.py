"""Addresses are told apart from their ends."""

from __future__ import annotations

import pytest
from django.urls import reverse

from blobcache.api.routers import MAX_PATH, BelowPattern, LinearPattern

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
def test_what_is_reversed_is_matched_again(name: str) -> None:
    path = reverse("blobcache-api:repository-summary", kwargs={"name": name})
    assert path == f"/api/repositories/{name}/summary/"
    assert SUMMARY.match(path.removeprefix("/api/")) == ("", (), {"name": name})


def test_what_is_ours_and_too_long_is_found_by_its_beginning() -> None:
    pattern = BelowPattern("blobs", "status", longer_than=MAX_PATH)
    assert pattern.match("blobs/" + "x" * MAX_PATH)
    assert pattern.match("blobs/" + "x" * (MAX_PATH - 6)) is None
    assert pattern.match("others/" + "x" * MAX_PATH) is None
    assert BelowPattern("blobs").match("blobs/x")
    assert BelowPattern("blobs").match("blobs") is None
