"""`POST blobs/purge/`: many blobs, one walk, step by step."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from redis import Redis
from rest_framework.test import APIClient

from blobcache.descriptor import Descriptor
from blobcache.services import get_browsable
from project import embedded
from tests.api.conftest import APP, DIGEST, OTHER, UNKNOWN, As
from tests.api.test_bodies import refused
from tests.budgets import limit
from tests.servers import cache_at, commands

PURGE = "/api/blobs/purge/"
DRY = f"{PURGE}?dry_run=1"


@pytest.fixture
def indexed(filled: Redis) -> Redis:
    """Three repositories: `DIGEST` is in two of them, `OTHER` in one."""
    provider = get_browsable()
    provider.repository_scoped("third/app").set_descriptor(OTHER, Descriptor(OTHER, 1, APP))
    provider.catalog.reindex()
    return filled


def post(client: APIClient, digests: list[str], url: str = PURGE, **body: Any) -> Any:
    return client.post(url, {"digests": digests, **body}, format="json")


def walk(client: APIClient, digests: list[str], url: str = PURGE) -> list[dict[str, Any]]:
    """Take all steps."""
    steps: list[dict[str, Any]] = []
    while not steps or steps[-1]["next"]:
        cursor = steps[-1]["next"] if steps else None
        response = post(client, digests, url, cursor=cursor)
        assert response.status_code == 200, response.content
        steps.append(response.json())
    return steps


def content(redis: Redis) -> dict[bytes, bytes | None]:
    return {key: redis.dump(key) for key in redis.scan_iter()}


def together(steps: list[dict[str, Any]], field: str = "cleared") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for step in steps:
        for digest, names in step[field].items():
            found.setdefault(digest, []).extend(names)
    return found


def test_clears_all_of_them_everywhere(superuser: APIClient, indexed: Redis) -> None:
    response = post(superuser, [OTHER, UNKNOWN, DIGEST, DIGEST, "x"])
    assert response.status_code == 200
    body = response.json()
    (invalid,) = body.pop("invalid")
    assert (invalid["digest"], invalid["code"]) == ("x", "DIGEST_INVALID")
    assert body == {
        "cleared": {DIGEST: ["other/app", "team/app"], OTHER: ["third/app"]},
        "next": None,
        "certain": "everywhere",
    }
    assert not list(indexed.scan_iter("*blobs::sha256*"))


def test_is_recorded_and_attributed(
    as_: As, indexed: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("blobcache.audit").addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "blobcache.audit")
    post(as_("superuser"), [DIGEST])
    logging.getLogger("blobcache.audit").removeHandler(caplog.handler)
    assert "actor='superuser' source='api'" in caplog.text
    assert set(LogEntry.objects.values_list("object_id", flat=True)) == {
        DIGEST,
        "other/app",
        "team/app",
    }


def test_goes_on_with_the_cursor_whatever_the_order_of_the_digests(
    superuser: APIClient, indexed: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, purge=0)
    first = post(superuser, [DIGEST, OTHER]).json()
    assert first["certain"] == "global"
    cursor, steps = first["next"], [first]
    while cursor:
        steps.append(post(superuser, [OTHER, DIGEST, DIGEST], cursor=cursor).json())
        cursor = steps[-1]["next"]
    assert together(steps) == {DIGEST: ["other/app", "team/app"], OTHER: ["third/app"]}
    assert steps[-1]["certain"] == "everywhere"


def test_takes_one_walk_for_all_of_them(superuser: APIClient, indexed: Redis) -> None:
    many = [f"sha256:{number:064x}" for number in range(500)]
    post(superuser, [DIGEST])
    with commands(indexed) as one:
        post(superuser, [UNKNOWN])
    with commands(indexed) as all_of_them:
        post(superuser, many)
    assert all_of_them.calls["SCAN"] == one.calls["SCAN"]


def test_its_cursor_is_for_these_digests_alone(
    superuser: APIClient, indexed: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, purge=0, preview=0, step=1)
    cursor = post(superuser, [DIGEST, OTHER]).json()["next"]
    dry = post(superuser, [DIGEST, OTHER], DRY).json()["next"]
    before = content(indexed)
    for digests, token, url in (
        ([DIGEST], cursor, PURGE),
        ([DIGEST, OTHER], cursor, DRY),
        ([DIGEST, OTHER], dry, PURGE),
        ([DIGEST], dry, DRY),
        ([DIGEST, OTHER], "x", PURGE),
    ):
        refused(post(superuser, digests, url, cursor=token), 400, "CURSOR_INVALID")
    response = superuser.post(f"/api/blobs/{DIGEST}/purge/", {"cursor": cursor}, format="json")
    refused(response, 400, "CURSOR_INVALID")
    assert content(indexed) == before


@pytest.mark.parametrize("digests", [[], ["x"]])
def test_without_a_digest_nothing_is_done(
    digests: list[str], superuser: APIClient, indexed: Redis
) -> None:
    before = content(indexed)
    body = post(superuser, digests).json()
    assert (body["cleared"], body["next"], body["certain"]) == ({}, None, "everywhere")
    dry = post(superuser, digests, DRY).json()
    assert (dry["would_clear"], dry["global_descriptors"], dry["next"]) == ({}, [], None)
    assert content(indexed) == before


def test_more_digests_than_the_setting_allows_are_refused(
    superuser: APIClient, indexed: Redis, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"API_MAX_BATCH": 2}}
    before = content(indexed)
    response = post(superuser, [DIGEST] * 3)
    refused(response, 400, "BODY_INVALID")
    assert response.json()["errors"][0]["detail"] == {"maximum": 2}
    assert content(indexed) == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"digests": None},
        {"digests": DIGEST},
        {"digests": [1]},
        {"digests": [DIGEST], "cursor": 7},
        {"digests": [DIGEST], "dry_run": True},
    ],
    ids=repr,
)
def test_an_invalid_body_purges_nothing(
    body: dict[str, Any], superuser: APIClient, indexed: Redis
) -> None:
    before = content(indexed)
    refused(superuser.post(PURGE, body, format="json"), 400, "BODY_INVALID")
    assert content(indexed) == before


@pytest.mark.parametrize("persona", ["nobody", "viewer", "editor", "deleter", "granted"])
@pytest.mark.parametrize("url", [PURGE, DRY])
def test_needs_the_permission_to_purge(url: str, persona: str, as_: As, indexed: Redis) -> None:
    before = content(indexed)
    refused(post(as_(persona), [DIGEST], url), 403, "DENIED")
    assert content(indexed) == before


def team(user: object) -> list[str]:
    return ["team/"]


def test_names_only_repositories_that_the_user_may_view_and_clears_the_others_too(
    as_: As, indexed: Redis, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.team"}}
    body = post(as_("cleaner"), [DIGEST, OTHER]).json()
    assert body["cleared"] == {DIGEST: ["team/app"]}
    assert not list(indexed.scan_iter("*blobs::sha256*"))


class TestDryRun:
    def test_returns_what_would_be_cleared_and_writes_nothing(
        self, superuser: APIClient, indexed: Redis
    ) -> None:
        indexed.delete(f"blobs::{OTHER}")
        before = content(indexed)
        response = post(superuser, [DIGEST, OTHER, UNKNOWN, "x"], DRY)
        assert response.status_code == 200
        body = response.json()
        assert body.pop("indexed_at")
        assert [each["digest"] for each in body.pop("invalid")] == ["x"]
        assert body == {
            "cleared": {},
            "would_clear": {DIGEST: ["other/app", "team/app"], OTHER: ["third/app"]},
            "global_descriptors": [DIGEST],
            "next": None,
            "complete": True,
        }
        assert content(indexed) == before
        assert not LogEntry.objects.exists()

    def test_names_what_the_purge_then_clears(
        self, superuser: APIClient, indexed: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, preview=0, step=1)
        steps = walk(superuser, [OTHER, DIGEST], DRY)
        assert len(steps) >= 3
        foretold = together(steps, "would_clear")
        assert foretold == together(walk(superuser, [DIGEST, OTHER]))

    def test_reveals_nothing_about_repositories_that_the_user_may_not_view(
        self, as_: As, indexed: Redis, settings: LazySettings
    ) -> None:
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.team"}}
        with_hidden = post(as_("cleaner"), [DIGEST, OTHER], DRY).json()
        assert with_hidden["would_clear"] == {DIGEST: ["team/app"]}
        indexed.delete("repository::other/app::blobs", "repository::third/app::blobs")
        assert post(as_("cleaner"), [DIGEST, OTHER], DRY).json() == with_hidden

    @pytest.mark.parametrize("value", ["", "maybe", "yes"])
    def test_an_invalid_value_purges_nothing(
        self, value: str, superuser: APIClient, indexed: Redis
    ) -> None:
        before = content(indexed)
        response = post(superuser, [DIGEST], f"{PURGE}?dry_run={value}")
        refused(response, 400, "PARAMETER_INVALID")
        assert content(indexed) == before

    def test_is_refused_by_a_read_only_registry(
        self,
        superuser: APIClient,
        valkey: embedded.Server,
        indexed: Redis,
        settings: LazySettings,
    ) -> None:
        settings.BLOBCACHE = {"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}}
        with cache_at(valkey.url, "index"):
            refused(post(superuser, [DIGEST], DRY), 405, "UNSUPPORTED")
            refused(post(superuser, [DIGEST]), 405, "UNSUPPORTED")


def test_a_thousand_digests_take_few_round_trips(superuser: APIClient, indexed: Redis) -> None:
    asked = [f"sha256:{number:064x}" for number in range(1000)]
    raw = json.dumps({"digests": asked})
    superuser.post(DRY, raw, content_type="application/json")
    with commands(indexed) as traffic:
        response = superuser.post(DRY, raw, content_type="application/json")
    assert response.status_code == 200
    assert traffic.round_trips < 100
