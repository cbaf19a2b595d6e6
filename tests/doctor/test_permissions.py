"""Who may check what, and see and repair which finding."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from blobcache.access import Access
from blobcache.doctor.permissions import CheckAccess
from blobcache.findings import Finding, Kind, Place, Subject
from tests.conformance import A
from tests.test_access import Someone

VIEW_ALL, VIEW_BLOBS = "blobcache.view_repository", "blobcache.view_blob"
VIEW_A, DELETE_A = f"{VIEW_ALL}:a", "blobcache.delete_repository:a"
DELETE_ALL, DELETE_BLOBS = "blobcache.delete_repository", "blobcache.delete_blob"


def may(*grants: str, read_only: bool = False) -> CheckAccess:
    user: Any = Someone(*grants)
    return CheckAccess(Access(user), read_only=read_only)


def found(repository: str | None, kind: Kind = Kind.CORRUPT) -> Finding:
    return Finding(kind, Subject.of_blob(repository, A))


def test_who_views_all_may_check_everything() -> None:
    who = may(VIEW_ALL)
    assert who.may_check([])
    assert who.may_check(["b"], list(Kind))


def test_others_may_check_named_repositories_that_they_view() -> None:
    who = may(VIEW_A, VIEW_BLOBS, DELETE_A)
    assert who.may_check(["a"])
    assert who.may_check(["a"], [Kind.CORRUPT])
    assert not who.may_check([])
    assert not who.may_check(["a", "b"])
    assert not may().may_check([])


@pytest.mark.parametrize("kind", [Kind.ORPHAN_OVERRIDE, Kind.UNREFERENCED])
def test_others_may_not_check_for_what_only_a_walk_through_everything_finds(kind: Kind) -> None:
    assert not may(VIEW_A).may_check(["a"], [Kind.CORRUPT, kind])


def test_the_last_check_of_everything_needs_both_permissions_to_view() -> None:
    assert may(VIEW_ALL, VIEW_BLOBS).may_view_last
    assert not may(VIEW_ALL).may_view_last
    assert not may(VIEW_BLOBS).may_view_last
    path = "tests.test_access.only_a"
    with override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": path}}):
        assert not may(VIEW_ALL, VIEW_BLOBS).may_view_last


def test_a_finding_is_viewed_by_who_may_view_its_scope() -> None:
    assert may(VIEW_A).may_view(found("a"))
    assert not may(VIEW_A).may_view(found("b"))
    assert not may(VIEW_A).may_view(found(None))
    assert may(VIEW_BLOBS).may_view(found(None))
    assert not may(VIEW_BLOBS).may_view(found("a"))


@pytest.mark.parametrize("kind", [Kind.UNREFERENCED, Kind.STALE_MANIFEST])
def test_what_depends_on_hidden_repositories_is_viewed_by_who_views_all(kind: Kind) -> None:
    assert may(VIEW_ALL, VIEW_BLOBS).may_view(found(None, kind))
    who = may(VIEW_BLOBS, VIEW_A, DELETE_BLOBS, DELETE_A)
    assert not who.may_view(found(None, kind))
    assert not who.may_view(found("a", kind))
    assert not who.may_repair(found(None, kind))


def test_a_finding_is_repaired_by_who_may_clear_in_its_scope() -> None:
    assert may(VIEW_A, DELETE_A).may_repair(found("a"))
    assert not may(VIEW_A).may_repair(found("a"))
    assert not may(DELETE_A).may_repair(found("a"))
    assert not may(VIEW_A, DELETE_A).may_repair(found("b"))
    assert may(VIEW_BLOBS, DELETE_BLOBS).may_repair(found(None))
    assert not may(VIEW_BLOBS, DELETE_ALL).may_repair(found(None))
    assert not may(VIEW_A, DELETE_BLOBS).may_repair(found("a"))


def test_a_read_only_registry_is_repaired_by_nobody() -> None:
    everything = (VIEW_ALL, VIEW_BLOBS, DELETE_ALL, DELETE_BLOBS)
    assert may(*everything).may_repair(found("a"))
    who = may(*everything, read_only=True)
    assert not who.may_repair(found("a"))
    assert not who.may_repair(found(None))
    assert not who.may_repair_any(["a"])
    assert not who.may_repair_any([])


def test_something_may_be_repaired_where_the_user_may_clear() -> None:
    assert may(VIEW_A, DELETE_A).may_repair_any(["b", "a"])
    assert not may(VIEW_A, DELETE_A).may_repair_any(["b"])
    assert not may(VIEW_A, DELETE_A).may_repair_any([])
    assert may(DELETE_ALL).may_repair_any([])


def test_a_key_in_the_place_of_a_set_belongs_to_its_repository() -> None:
    broken = Finding(Kind.CORRUPT, Subject(Place.REPOSITORY, b"a", None))
    assert may(VIEW_A, DELETE_A).may_repair(broken)
    assert not may(VIEW_BLOBS, DELETE_BLOBS).may_repair(broken)
