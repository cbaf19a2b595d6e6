"""The store of figures: counting in steps, stored figures, and sorted lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import DescriptorCorrupt, OperationUnsupported
from blobcache.figures.store import RedisFigureStore
from blobcache.figures.sums import MAX_MEDIA_TYPES
from blobcache.findings import Kind
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider, RedisService
from blobcache.reference import RepositoryName
from blobcache.services.catalog import Budgets
from blobcache.services.figures import FigureStore, MediaTypeTotal, Order
from blobcache.services.rules import Rules
from project import embedded
from tests.conformance import ALIAS, LAYER, A, B, make_descriptor
from tests.figures.repositories import OCTETS, counted, digest, write
from tests.servers import cache_at, commands, monitor
from tests.stores import KINDS, store


class TestCounting:
    def test_adds_up_by_media_type_and_state(
        self,
        figures: FigureStore,
        provider: RedisBlobDescriptorCacheProvider,
        any_store: Redis,
    ) -> None:
        write(any_store, "a", 5)
        scope = provider.repository_scoped("a")
        scope.set_descriptor(A, make_descriptor(A, size=1000, media_type=LAYER))
        any_store.sadd("repository::a::blobs", B, "rubbish")
        any_store.hset(f"blobs::{digest(4)}", "size", "x")
        found = counted(figures, "a")
        assert (found.sums.blobs, found.sums.bytes) == (8, 1040)
        assert found.sums.media_types == (
            MediaTypeTotal(LAYER, 1, 1000),
            MediaTypeTotal(OCTETS, 4, 40),
        )
        assert found.sums.other_media_types is None
        assert found.sums.states == {Kind.OK: 5, Kind.CORRUPT: 2, Kind.DANGLING_MEMBER: 1}
        assert 0 <= found.age < 60
        assert figures.get_many(["b", "a"]) == [None, found]

    def test_an_alias_adds_no_bytes_if_its_blob_is_a_member_too(
        self, figures: FigureStore, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        provider.repository_scoped("a").set_descriptor(ALIAS, make_descriptor(A, size=1000))
        found = counted(figures, "a")
        assert (found.sums.blobs, found.sums.bytes) == (2, 1000)
        any_store.srem("repository::a::blobs", A)
        found = counted(figures, "a")
        assert (found.sums.blobs, found.sums.bytes) == (1, 1000)

    def test_further_media_types_share_one_sum(
        self, figures: FigureStore, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        scope = provider.repository_scoped("a")
        for number in range(MAX_MEDIA_TYPES + 5):
            blob = digest(number)
            scope.set_descriptor(blob, make_descriptor(blob, size=2, media_type=f"x/{number}"))
        scope.set_descriptor(A, make_descriptor(A, size=7, media_type="x/more"))
        found = counted(figures, "a")
        assert found.sums.bytes == 2 * (MAX_MEDIA_TYPES + 5) + 7
        assert len(found.sums.media_types) == MAX_MEDIA_TYPES
        assert found.sums.other_media_types
        assert found.sums.other_media_types.blobs == 6

    def test_counts_in_steps_and_reports_the_progress(
        self, stepwise: FigureStore, any_store: Redis
    ) -> None:
        write(any_store, "a", 3500)
        shares = []
        while (status := stepwise.count_step("a")).progress is not None:
            assert status.figures is None
            shares.append(status.progress)
            assert stepwise.get("a") == status
        assert shares == sorted(shares)
        assert len(shares) >= 3
        assert 0 < shares[0] < shares[-1] < 1
        assert status.figures
        assert (status.figures.sums.blobs, status.figures.sums.bytes) == (3500, 35000)

    def test_old_figures_stay_until_there_are_new_ones(
        self, figures: FigureStore, stepwise: FigureStore, any_store: Redis
    ) -> None:
        write(any_store, "a", 1500)
        old = counted(figures, "a")
        write(any_store, "a", 100, first=1500)
        status = stepwise.count_step("a")
        assert status.figures == old
        assert status.progress is not None
        assert counted(figures, "a").sums.blobs == 1600

    def test_two_counts_at_once_count_no_blob_twice(
        self, figures: FigureStore, stepwise: FigureStore, any_store: Redis
    ) -> None:
        """Another request counts the same members while ours is reading them."""
        write(any_store, "a", 2500)
        stepwise.count_step("a")
        provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(count=0))

        def overtaken(name: str) -> RedisService:
            stepwise.count_step("a")
            return provider.repository_scoped(name)

        slower = RedisFigureStore("default", provider.server, provider.catalog, overtaken)
        progress = slower.count_step("a").progress
        assert stepwise.get("a").progress == progress
        assert counted(figures, "a").sums.blobs == 2500

    @pytest.mark.parametrize("what", ["of", "at"])
    def test_a_count_on_another_server_or_from_long_ago_starts_again(
        self, what: str, figures: FigureStore, stepwise: FigureStore, any_store: Redis
    ) -> None:
        write(any_store, "a", 1500)
        stepwise.count_step("a")
        key = "blobcache::{catalog}::counting"
        under_way = json.loads(any_store.hget(key, "a"))  # type: ignore[arg-type]
        under_way[what] = "another" if what == "of" else under_way["at"] - 7200
        any_store.hset(key, "a", json.dumps(under_way))
        if what == "at":
            assert figures.get("a").progress is None
        assert counted(figures, "a").sums.blobs == 1500

    def test_a_key_that_is_not_a_set_is_corrupt(
        self, figures: FigureStore, any_store: Redis
    ) -> None:
        any_store.set("repository::a::blobs", "text")
        with pytest.raises(DescriptorCorrupt):
            figures.count_step("a")

    def test_an_unknown_repository_has_no_figures(
        self, figures: FigureStore, any_store: Redis
    ) -> None:
        assert figures.count_step("a") == (None, None)
        assert not any_store.exists("blobcache::{catalog}::figures")


class TestRemoval:
    def test_figures_are_removed_with_the_repository(
        self, figures: FigureStore, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        for name in ("a", "b"):
            write(any_store, name, 1)
        provider.catalog.reindex()
        while figures.refresh().next is not None:
            pass
        any_store.delete("repository::a::blobs")
        assert [row.name for row in figures.list_ordered(Order.BYTES).rows] == ["b"]
        assert figures.get_many(["a"]) == [None]
        assert figures.list_ordered(Order.BYTES).counted == 1

    def test_a_repository_without_blobs_loses_its_figures(
        self, figures: FigureStore, any_store: Redis
    ) -> None:
        write(any_store, "a", 1)
        counted(figures, "a")
        any_store.delete("repository::a::blobs")
        assert figures.count_step("a") == (None, None)


class TestRefresh:
    def test_counts_all_indexed_repositories_except_those_counted_recently(
        self, stepwise: FigureStore, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        for number in range(3):
            write(any_store, f"r{number}", 1500)
        any_store.set("repository::odd::blobs", "no set")
        any_store.sadd("repository::Not A Name::blobs", "x")
        provider.catalog.reindex()
        counted_so_far, cursor, steps = 0, "", 0
        while True:
            step = stepwise.refresh(cursor)
            counted_so_far += step.counted
            steps += 1
            if step.next is None:
                break
            cursor = step.next
        assert steps > 3
        assert counted_so_far == 4, "with the damaged one"
        assert stepwise.list_ordered(Order.BYTES).counted == 3
        figures = RedisBlobDescriptorCacheProvider(budgets=Budgets(count=10)).figures
        assert figures.refresh(max_age=60) == (None, 1)
        assert figures.refresh(max_age=0) == (None, 4)


class TestReadOnly:
    def test_figures_of_a_read_only_registry_are_stored_with_the_index(
        self, valkey: embedded.Server, default_cache: Redis
    ) -> None:
        write(default_cache, "a", 3)
        with (
            embedded.start() as apart,
            cache_at(apart.url, "index") as index,
            valkey.client() as observer,
            monitor(observer) as seen,
        ):
            provider = RedisBlobDescriptorCacheProvider(
                Rules(read_only=True), RedisOptions(catalog_alias="index")
            )
            store = provider.figures
            provider.catalog.reindex()
            while store.refresh().next is not None:
                pass
            (row,) = store.list_ordered(Order.BYTES).rows
            assert row.figures
            assert row.figures.sums.bytes == 30
            assert index.exists(provider.catalog.index.keys.figures)
        assert not list(default_cache.scan_iter("blobcache::*"))
        asked = {words[0].upper() for words in seen}
        assert not asked & {"HSET", "ZADD", "EVALSHA", "EVAL", "SADD", "DEL", "UNLINK"}

    def test_nothing_is_stored_in_the_redis_of_a_read_only_registry(
        self, default_cache: Redis
    ) -> None:
        write(default_cache, "a", 3)
        store = RedisBlobDescriptorCacheProvider(Rules(read_only=True)).figures
        assert not store.may_keep
        with pytest.raises(OperationUnsupported):
            store.count_step("a")
        assert store.get("a") == (None, None)


LARGE = 50_000


@pytest.fixture(scope="module")
def crowd() -> Iterator[str]:
    """The URL of a server with a small repository and a large one."""
    with embedded.start() as server, server.client() as client:
        write(client, "small", 100)
        write(client, "large", LARGE)
        yield server.url


class TestScale:
    """A large repository opens as fast as a small one, and a step does a limited amount of work."""

    def test_stored_figures_of_a_large_repository_cost_the_same(self, crowd: str) -> None:
        with cache_at(crowd), Redis.from_url(crowd) as observer:
            provider = RedisBlobDescriptorCacheProvider()
            store = provider.figures
            traffic = {}
            for name in ("small", "large"):
                assert counted(store, name).sums.bytes == (1000 if name == "small" else 10 * LARGE)
                before = observer.info("stats")["total_net_output_bytes"]
                with commands(observer) as asked:
                    store.get(name)
                    page = provider.catalog.members(name, limit=100)
                    provider.repository_scoped(name).records(page.members)
                after = observer.info("stats")["total_net_output_bytes"]
                traffic[name] = (asked.round_trips, len(page.members), after - before)
            small, large = traffic["small"], traffic["large"]
            assert large[0] <= small[0]
            assert large[1] < 150
            assert large[2] < 1.5 * small[2]

    def test_a_step_stays_within_its_budget(self, crowd: str) -> None:
        with cache_at(crowd), Redis.from_url(crowd) as observer:
            store = RedisBlobDescriptorCacheProvider(budgets=Budgets(count=0)).figures
            with commands(observer) as traffic, monitor(observer) as seen:
                store.count_step("large")
            assert traffic.calls["sscan"] == 1
            assert traffic.calls["hmget"] < 1300
            assert max(map(len, seen)) <= 1002
            kept = observer.hget("blobcache::{catalog}::counting", "large")
            assert len(kept or b"") < 1000


def test_registries_that_share_an_index_have_separate_figures(valkey: embedded.Server) -> None:
    with cache_at(valkey.url) as client, cache_at(valkey.url.replace("/0", "/1"), "index"):
        client.flushall()
        write(client, "a", 2)
        stores = [
            RedisBlobDescriptorCacheProvider(
                Rules(registry=name), RedisOptions(catalog_alias="index")
            ).figures
            for name in ("one", "two")
        ]
        counted(stores[0], "a")
        assert stores[1].get(RepositoryName("a")) == (None, None)


def test_the_time_is_that_of_the_start_of_the_count(default_cache: Redis) -> None:
    write(default_cache, "a", 2)
    before = datetime.now(UTC)
    found = counted(RedisBlobDescriptorCacheProvider().figures, "a")
    assert before <= found.counted_at <= datetime.now(UTC)


@pytest.mark.parametrize("kind", KINDS)
def test_which_digests_other_repositories_hold(kind: str, request: pytest.FixtureRequest) -> None:
    with store(request, kind) as client:
        for number in range(30):
            write(client, f"r{number}", 2, first=number)
        client.set("repository::odd::blobs", "no set")
        client.sadd("repository::Not a Name::blobs", digest(0))
        catalog = RedisBlobDescriptorCacheProvider().catalog
        catalog.reindex()
        asked = [Digest(digest(number)) for number in (0, 1, 99)]
        assert catalog.held_elsewhere(asked, besides="r0") == ({digest(1)}, None)
        assert catalog.held_elsewhere(asked) == ({digest(0), digest(1)}, None)
        assert catalog.held_elsewhere(asked, besides="r0", any_name=True)[0] == {*asked[:2]}
        assert catalog.held_elsewhere([]) == (set(), None)
        catalog = RedisBlobDescriptorCacheProvider(budgets=Budgets(step=1)).catalog
        held, after = catalog.held_elsewhere(asked)
        assert (held, after) == (set(), b"Not a Name")
        assert catalog.held_elsewhere(asked, b"Not a Name")[1] == b"odd"
