"""An index in another Redis remembers which registry and which Redis it is about."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from time import time

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.doctor.last_run import LastRun
from blobcache.redis.index_build import KEPT
from blobcache.redis.service import RedisBlobDescriptorCacheProvider, RedisOptions
from blobcache.services.figures import Order
from blobcache.services.rules import Rules
from project import embedded
from tests.conformance import A
from tests.redis.keyspace import names, write_as_a_registry
from tests.servers import cache_at, commands
from tests.stores import store


@pytest.fixture
def index(valkey: embedded.Server) -> Iterator[Redis]:
    """The emptied Redis of CACHES["index"]; CACHES["one"] and CACHES["two"] are registries."""
    with (
        cache_at(f"redis://localhost:{valkey.port}/1", "one") as one,
        cache_at(f"redis://localhost:{valkey.port}/2", "two") as two,
        cache_at(f"redis://localhost:{valkey.port}/3", "index") as client,
    ):
        one.flushall()
        for each, start in ((one, "one"), (two, "two")):
            write_as_a_registry(each, "both", [A])
            write_as_a_registry(each, f"{start}/app", [A])
        yield client


def provider(alias: str, registry: str = "default") -> RedisBlobDescriptorCacheProvider:
    options = RedisOptions(cache_alias=alias, catalog_alias="index")
    return RedisBlobDescriptorCacheProvider(Rules(registry=registry), options)


def fill(alias: str) -> RedisBlobDescriptorCacheProvider:
    """Build the index of a registry, count its repositories and note a check."""
    filled = provider(alias)
    filled.catalog.reindex()
    while filled.figures.refresh().next is not None:
        pass
    filled.figures.share_step("both")
    LastRun(datetime.now(UTC), is_compared=False, looked_at=7, doubtful=0, uncached=0).write(filled)
    return filled


class TestTheRegistryHasMovedToAnotherRedis:
    def test_the_old_index_is_not_listed(self, index: Redis) -> None:
        fill("one")
        moved = provider("two")
        assert not moved.catalog.status().is_built
        assert moved.catalog.names() == ([], False)
        page = moved.catalog.repositories()
        assert [entry.name for entry in page.repositories] == ["both", "two/app"]
        assert page.count == 2
        holders = moved.catalog.holders(Digest(A))
        assert [each.name for each in holders.holders] == ["both", "two/app"]

    def test_figures_and_notes_are_not_read_either(self, index: Redis) -> None:
        fill("one")
        moved = provider("two")
        assert moved.figures.get("both") == (None, None)
        assert moved.figures.shares("both") == (None, None)
        assert LastRun.read(moved) is None
        assert moved.figures.list_ordered(Order.BYTES).counted == 0

    def test_what_another_redis_had_noted_of_a_warm_is_not_read(self, index: Redis) -> None:
        work = provider("one").warm_work()
        assert work.begin()
        assert work.note({"place": "somewhere"})
        moved = provider("two").warm_work()
        assert moved.read(["place"]) == [None]
        assert moved.begin()

    def test_the_way_back_finds_the_index_again(self, index: Redis) -> None:
        fill("one")
        fill("two")
        assert names(provider("one").catalog) == ["both", "one/app"]
        assert LastRun.read(provider("one")) is not None


class TestTheSameRedis:
    @pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/1", "redis://someone:x@localhost:{}/1"])
    def test_has_one_index_under_another_address_of_this_host_or_for_another_user(
        self, index: Redis, valkey: embedded.Server, url: str
    ) -> None:
        fill("one")
        index.acl_setuser("someone", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all"])
        with cache_at(url.format(valkey.port), "again"):
            again = provider("again")
            assert again.catalog.status().is_built
            assert LastRun.read(again) is not None
        index.acl_deluser("someone")

    def test_has_an_index_of_its_own_for_each_registry(self, index: Redis) -> None:
        fill("one")
        assert not provider("one", "other").catalog.status().is_built


class TestAnIndexOfAnEarlierVersion:
    FORMER = ("names", "state", "figures", "counting", "by_count", "by_bytes")

    def test_is_not_listed_and_is_deleted_after_a_build(self, index: Redis) -> None:
        """It does not say which Redis it is about."""
        former = [f"blobcache::{{catalog:default}}::{name}" for name in self.FORMER]
        index.zadd(former[0], {"foreign": 0})
        index.hset(former[1], mapping={"begun": 1, "indexed": 1, "indexed_at": "9e9"})
        for key in former[2:]:
            index.set(key, "anything")
        catalog = provider("one").catalog
        assert not catalog.status().is_built
        catalog.reindex()
        assert names(catalog) == ["both", "one/app"]
        assert index.exists(*former) == 0


def test_an_index_that_nobody_builds_any_more_expires(index: Redis) -> None:
    filled = fill("one")
    filled.catalog.reindex()
    stored = list(index.scan_iter("blobcache::*"))
    assert len(stored) > 5
    assert all(0 < index.ttl(key) <= KEPT for key in stored)


def test_what_keeps_an_index_current_lets_it_live_longer(index: Redis) -> None:
    catalog = fill("one").catalog
    base = catalog.reindex().indexed
    own = catalog.index.keys
    stored = [own.names, own.state, own.figures, own.by_count, own.by_bytes]
    assert all(index.expire(key, 3600) for key in stored)
    now = time()
    catalog.index.watch_mark(now, base)
    kept = [index.ttl(key) for key in stored]
    assert all(ttl > KEPT - 3600 for ttl in kept), dict(zip(stored, kept, strict=True))
    with commands(index) as seen:
        catalog.index.watch_mark(now + 1, base)
    assert not seen.calls["pexpire"]
    with commands(index) as seen:
        catalog.index.watch_mark(now + 25 * 3600, base)
    assert seen.calls["pexpire"] > 0


def test_an_index_beside_the_descriptors_stays_for_ever(default_cache: Redis) -> None:
    write_as_a_registry(default_cache, "r", [A])
    RedisBlobDescriptorCacheProvider().catalog.reindex()
    assert default_cache.ttl("blobcache::{catalog}::names") == -1


def test_the_registrys_redis_is_only_read(index: Redis, valkey: embedded.Server) -> None:
    fill("one")
    with Redis.from_url(f"redis://localhost:{valkey.port}/1") as client:
        assert not list(client.scan_iter("blobcache::*"))


@pytest.mark.parametrize("kind", ["cluster", "valkey, no scripts"])
def test_an_index_apart_is_built_in_every_kind_of_store(
    kind: str, request: pytest.FixtureRequest, valkey: embedded.Server
) -> None:
    """On a cluster its keys share a slot, with those of an earlier version that it deletes."""
    with store(request, kind) as index, cache_at(valkey.url, "registry") as registry:
        registry.flushall()
        write_as_a_registry(registry, "r", [A])
        index.zadd("blobcache::{catalog:default}::names", {"foreign": 0})
        options = RedisOptions(cache_alias="registry", catalog_alias="default")
        apart = RedisBlobDescriptorCacheProvider(Rules(), options)
        apart.catalog.reindex()
        assert names(apart.catalog) == ["r"]
        assert not index.exists("blobcache::{catalog:default}::names")
        assert 0 < index.ttl(apart.catalog.index.keys.names) <= KEPT
