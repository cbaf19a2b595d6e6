from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.exceptions import CursorInvalid
from blobcache.redis.listings import RedisCatalog
from blobcache.services import get_provider
from project import embedded
from tests.conformance import A, make_descriptor
from tests.management.running import GONE, MEMORY, Terminal, run
from tests.servers import cache_at, commands, limited_user


def test_it_indexes_what_a_registry_wrote_and_prints_the_number(default_cache: Redis) -> None:
    for name in ("team/app", "team/web", "MyTeam/app"):
        default_cache.sadd(f"repository::{name}::blobs", str(A))
    default_cache.set("something else", "x")
    done = run("reindex")
    output = re.fullmatch(r"Indexed 3 repositories as of (.+)\.\n", done.out)
    assert output
    as_of = datetime.strptime(output[1], "%Y-%m-%dT%H:%M:%S%z")
    assert abs(datetime.now(UTC) - as_of) < timedelta(seconds=10)
    assert done.code == 0


def test_it_prints_an_object_if_asked_for_json(default_cache: Redis) -> None:
    default_cache.sadd("repository::team/app::blobs", str(A))
    (found,) = run("reindex", "--json").objects
    assert found["repositories"] == 1
    assert datetime.fromisoformat(found["indexed_at"]).tzinfo


def test_each_run_builds_the_index_again(default_cache: Redis) -> None:
    assert run("reindex").out.startswith("Indexed 0 repositories")
    default_cache.sadd("repository::team/app::blobs", str(A))
    assert run("reindex").out.startswith("Indexed 1 repositories")


def test_a_registry_can_be_named(default_cache: Redis, valkey: embedded.Server) -> None:
    default_cache.sadd("repository::team/app::blobs", str(A))
    with (
        cache_at(valkey.url.replace("/0", "/1"), "second") as second,
        override_settings(BLOBCACHE={"default": {}, "second": {"CACHE_ALIAS": "second"}}),
    ):
        second.flushdb()
        assert run("reindex", "--registry", "second").out.startswith("Indexed 0 repositories")
        assert run("reindex", "--registry=default").out.startswith("Indexed 1 repositories")
        assert run("reindex").out.startswith("Indexed 1 repositories")


def test_a_registry_in_memory_has_no_index() -> None:
    with override_settings(BLOBCACHE={"default": MEMORY}):
        get_provider().repository_scoped("team/app").set_descriptor(A, make_descriptor(A))
        done = run("reindex")
    assert done.code == 2
    assert "'default' keeps no index" in done.err


def test_a_read_only_registry_is_not_indexed_in_its_own_redis(
    default_cache: Redis, valkey: embedded.Server
) -> None:
    with (
        override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}),
        valkey.client() as observer,
        commands(observer) as traffic,
    ):
        done = run("reindex")
    assert "'default' is read-only and keeps its index" in done.err
    assert done.code == 2
    assert traffic.round_trips == 0


def test_a_read_only_registry_is_indexed_elsewhere(default_cache: Redis) -> None:
    default_cache.sadd("repository::team/app::blobs", str(A))
    entry = {"READ_ONLY": True, "CATALOG_ALIAS": "index"}
    with (
        embedded.start() as elsewhere,
        cache_at(elsewhere.url, "index"),
        override_settings(BLOBCACHE={"default": entry}),
    ):
        assert run("reindex").out.startswith("Indexed 1 repositories")
    assert default_cache.keys() == [b"repository::team/app::blobs"]


def test_a_read_only_registry_is_not_indexed_on_its_own_server(
    default_cache: Redis, valkey: embedded.Server
) -> None:
    entry = {"READ_ONLY": True, "CATALOG_ALIAS": "index"}
    with (
        cache_at(valkey.url.replace("/0", "/1"), "index"),
        override_settings(BLOBCACHE={"default": entry}),
    ):
        assert "in the same Redis" in run("reindex").err


def test_a_redis_that_is_down_is_reported_with_the_cause() -> None:
    with cache_at(GONE):
        done = run("reindex")
    assert re.search(r"not available .*\(.*127\.0\.0\.1:1.*\)\n$", done.err)
    assert done.code == 2


def test_what_to_do_about_a_redis_without_scan_is_said(
    default_cache: Redis, valkey: embedded.Server
) -> None:
    with cache_at(limited_user(valkey, "no-scan", "SCAN")):
        done = run("reindex")
    assert done.err.endswith("Allow the command SCAN for this Redis user.\n")
    assert done.code == 2


def test_an_error_without_a_cause_is_reported(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(_: RedisCatalog, progress: object) -> None:
        raise CursorInvalid("The cursor belongs to a cluster that has changed since.")

    monkeypatch.setattr(RedisCatalog, "reindex", changed)
    assert run("reindex").err.endswith("changed since.\n")


def test_progress_is_shown_on_a_terminal_and_erased(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blobcache.management.progress._INTERVAL", 0)
    shown = run("reindex", err=Terminal()).err
    assert "Indexing" in shown
    assert shown.endswith("\r\x1b[K")
