"""A dry run of a purge returns what a purge would do, and changes nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from redis import Redis
from rest_framework.test import APIClient

from blobcache.descriptor import Descriptor
from blobcache.services import get_browsable
from project import embedded
from tests.api.conftest import APP, DIGEST, UNKNOWN, As, user
from tests.api.test_bodies import refused
from tests.budgets import limit
from tests.security.api.test_parameters import content
from tests.servers import cache_at

PURGE = f"/api/blobs/{DIGEST}/purge/"


@pytest.fixture
def indexed(filled: Redis) -> Redis:
    """Two repositories that hold the blob, one that does not, and an index of all."""
    provider = get_browsable()
    provider.repository_scoped("third/app").set_descriptor(UNKNOWN, Descriptor(UNKNOWN, 1, APP))
    provider.catalog.reindex()
    return filled


@pytest.mark.parametrize("value", ["1", "true"])
def test_returns_what_would_be_cleared_and_writes_nothing(
    value: str, superuser: APIClient, indexed: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(indexed)
    caplog.set_level(logging.INFO, "blobcache.audit")
    response = superuser.post(f"{PURGE}?dry_run={value}")
    assert response.status_code == 200
    body = response.json()
    assert body.pop("indexed_at")
    assert body.pop("age") >= 0
    assert body == {
        "cleared": [],
        "would_clear": ["other/app", "team/app"],
        "global_descriptor": True,
        "next": None,
        "complete": True,
    }
    assert content(indexed) == before
    assert not LogEntry.objects.exists()
    assert not [record for record in caplog.records if record.name == "blobcache.audit"]


@pytest.mark.parametrize("value", ["0", "false"])
def test_a_false_value_purges(value: str, superuser: APIClient, indexed: Redis) -> None:
    body = superuser.post(f"{PURGE}?dry_run={value}").json()
    assert sorted(body) == ["certain", "cleared", "next"]
    assert superuser.get(f"/api/blobs/{DIGEST}/").status_code == 404


@pytest.mark.parametrize("value", ["", "maybe", "2", "yes", "True", "1%00", "1 ", "x" * 9000])
def test_an_invalid_value_purges_nothing(value: str, superuser: APIClient, indexed: Redis) -> None:
    before = content(indexed)
    response = superuser.post(f"{PURGE}?dry_run={value}")
    refused(response, 400, "PARAMETER_INVALID")
    (error,) = response.json()["errors"]
    assert error["detail"]["allowed"] == ["0", "1", "false", "true"]
    assert len(response.content) < 2000
    assert content(indexed) == before


def walk(client: APIClient, url: str) -> list[dict[str, Any]]:
    pages: list[dict[str, Any]] = []
    cursor = None
    while not pages or cursor:
        response = client.post(url, {"cursor": cursor} if cursor else {}, format="json")
        assert response.status_code == 200, response.content
        pages.append(response.json())
        cursor = pages[-1]["next"]
    return pages


def test_comes_in_pages(superuser: APIClient, indexed: Redis, settings: LazySettings) -> None:
    settings.BLOBCACHE = {"default": {"API_PAGE_SIZE": 1}}
    pages = walk(superuser, f"{PURGE}?dry_run=1")
    assert [page["would_clear"] for page in pages] == [["other/app"], ["team/app"]]


def test_names_what_the_purge_then_clears(superuser: APIClient, indexed: Redis) -> None:
    foretold = [
        name for page in walk(superuser, f"{PURGE}?dry_run=1") for name in page["would_clear"]
    ]
    cleared = [name for page in walk(superuser, PURGE) for name in page["cleared"]]
    assert foretold == cleared


def test_its_cursor_is_refused_by_a_purge_and_the_other_way_round(
    superuser: APIClient,
    indexed: Redis,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.BLOBCACHE = {"default": {"API_PAGE_SIZE": 1}}
    cursor = superuser.post(f"{PURGE}?dry_run=1").json()["next"]
    before = content(indexed)
    refused(superuser.post(PURGE, {"cursor": cursor}, format="json"), 400, "CURSOR_INVALID")
    assert content(indexed) == before
    other = f"/api/blobs/{UNKNOWN}/purge/?dry_run=1"
    refused(superuser.post(other, {"cursor": cursor}, format="json"), 400, "CURSOR_INVALID")

    limit(monkeypatch, page=0, step=1, purge=0)
    cursor = superuser.post(PURGE).json()["next"]
    assert cursor
    response = superuser.post(f"{PURGE}?dry_run=1", {"cursor": cursor}, format="json")
    refused(response, 400, "CURSOR_INVALID")


def team(user: object) -> list[str]:
    return ["team/"]


def test_reveals_nothing_about_repositories_that_the_user_may_not_view(
    as_: As, indexed: Redis, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.team"}}
    with_hidden = as_("cleaner").post(f"{PURGE}?dry_run=1").json()
    assert with_hidden["would_clear"] == ["team/app"]
    indexed.srem("repository::other/app::blobs", DIGEST)
    without = as_("cleaner").post(f"{PURGE}?dry_run=1").json()
    assert without.pop("age") >= with_hidden.pop("age")
    assert without == with_hidden


def test_names_no_repository_to_a_user_who_may_view_none(as_: As, indexed: Redis) -> None:
    user("deleter").user_permissions.add(Permission.objects.get(codename="view_blob"))
    body = as_("deleter").post(f"{PURGE}?dry_run=1").json()
    assert (body["would_clear"], body["global_descriptor"]) == ([], True)


@pytest.mark.parametrize("persona", ["nobody", "viewer", "editor", "deleter", "granted"])
def test_needs_the_permission_to_purge(persona: str, as_: As, indexed: Redis) -> None:
    refused(as_(persona).post(f"{PURGE}?dry_run=1"), 403, "DENIED")


def test_returns_whether_there_is_a_global_descriptor(superuser: APIClient, indexed: Redis) -> None:
    indexed.delete(f"blobs::{DIGEST}")
    assert superuser.post(f"{PURGE}?dry_run=1").json()["global_descriptor"] is False
    indexed.set(f"blobs::{DIGEST}", "damaged")
    assert superuser.post(f"{PURGE}?dry_run=1").json()["global_descriptor"] is True


def test_is_refused_by_a_read_only_registry(
    superuser: APIClient, valkey: embedded.Server, indexed: Redis, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}}
    with cache_at(valkey.url, "index"):
        refused(superuser.post(f"{PURGE}?dry_run=1"), 405, "UNSUPPORTED")
