"""The index of repository names, on a large keyspace and beside other writers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.redis.index import NameIndex
from blobcache.redis.listings import RedisCatalog
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services.catalog import Budgets, CatalogStatus
from blobcache.services.rules import Rules
from blobcache.transport.server import Server
from project import embedded
from tests.conformance import A, B, make_descriptor, purge
from tests.redis.keyspace import (
    BLOBS,
    CORRUPT_NAMES,
    NAMES,
    ODD_NAMES,
    REPOSITORIES,
    names,
    write_as_a_registry,
)
from tests.servers import cache_at, commands, monitor


class TestBuild:
    def test_reindex_finds_every_repository_and_nothing_else(self, catalog: RedisCatalog) -> None:
        status = catalog.reindex()
        assert status.complete
        assert not status.building
        assert status.age < 60
        found = names(catalog)
        valid = [name for name in found if isinstance(name, RepositoryName)]
        assert valid == sorted([*NAMES, *ODD_NAMES, "not-a-set"])
        assert len(found) == len(valid) + len(CORRUPT_NAMES)

    def test_names_come_in_lexical_order_of_their_bytes(self, catalog: RedisCatalog) -> None:
        catalog.reindex()
        found = [name for name in names(catalog) if isinstance(name, RepositoryName)]
        assert found == sorted(found, key=str.encode)

    @pytest.mark.parametrize("limit", [1, 7, 100, 1000])
    def test_every_page_size_gives_the_same(self, catalog: RedisCatalog, limit: int) -> None:
        catalog.reindex()
        assert names(catalog, "team-00", limit) == sorted(
            name for name in NAMES if name.startswith("team-00")
        )

    def test_an_invalid_name_is_listed_as_corrupt(self, catalog: RedisCatalog) -> None:
        catalog.reindex()
        page = catalog.repositories(limit=1000)
        corrupt = {entry.name: entry.blobs for entry in page.repositories if entry.is_corrupt}
        assert corrupt == {
            "": 1,
            "Not A Name": 1,
            "a//b": 1,
            "\\xff\\xfe": 1,
            "x" * 256 + "...": 1,
            "a::b": 1,
            "line\\nbreak": 1,
            "not-a-set": None,
        }

    def test_rows_have_the_number_of_blobs(self, catalog: RedisCatalog) -> None:
        catalog.reindex()
        (first, *_) = catalog.repositories("team-000/app").repositories
        assert (first.name, first.blobs) == ("team-000/app", BLOBS)

    def test_a_step_keeps_to_its_budget(
        self, catalog: RedisCatalog, registry: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Counted in commands: even without any budget, one step is made."""
        with Redis.from_url(registry) as observer:
            catalog.build_step(0)
            with commands(observer) as traffic:
                status = catalog.build_step(0)
        assert not status.complete
        assert status.building
        assert traffic.calls["scan"] == 1
        assert traffic.calls["evalsha"] == 2

    def test_each_step_continues_where_the_last_one_stopped(self, catalog: RedisCatalog) -> None:
        steps = 0
        while not catalog.build_step(0).complete:
            steps += 1
        assert steps > 25
        assert len(names(catalog)) == REPOSITORIES + len(ODD_NAMES) + len(CORRUPT_NAMES) + 1

    def test_before_the_first_build_is_complete_a_list_has_the_names_found_so_far(
        self, catalog: RedisCatalog
    ) -> None:
        for _ in range(10):
            catalog.build_step(0)
        page = catalog.repositories(limit=1000)
        if not page.status.complete:
            assert page.count is None
            assert len(page.repositories) > 0
        while not (page := catalog.repositories(limit=1000)).status.complete:
            pass
        assert len(page.repositories) == page.count

    def test_no_command_reads_more_than_a_thousand_items(
        self, catalog: RedisCatalog, registry: str
    ) -> None:
        with Redis.from_url(registry) as observer, monitor(observer) as seen:
            catalog.reindex()
            catalog.repositories(limit=1000)
            catalog.holders(Digest(A), limit=1000)
            catalog.members(NAMES[0], limit=1000)
            catalog.blobs(limit=1000)
        assert not {words[0].upper() for words in seen} & {"KEYS", "SMEMBERS", "HGETALL", "SORT"}
        counts = [int(w[w.index("COUNT") + 1]) for w in seen if "COUNT" in w]
        assert counts
        assert max(counts) <= 1000

    def test_a_build_begun_on_another_server_is_started_again(
        self, catalog: RedisCatalog, registry: str
    ) -> None:
        """A cursor is not valid on a replica that took over."""
        catalog.build_step(0)
        begun = catalog.status().begun
        with Redis.from_url(registry) as client:
            client.hset("blobcache::{catalog}::state", "identity", "another server")
        assert catalog.build_step(0).begun == begun + 1

    def test_a_build_with_a_damaged_cursor_is_started_again(
        self, catalog: RedisCatalog, registry: str
    ) -> None:
        catalog.build_step(0)
        with Redis.from_url(registry) as client:
            client.hset("blobcache::{catalog}::state", "cursor", "damaged")
        assert catalog.reindex().complete

    def test_a_build_whose_node_has_left_the_cluster_is_started_again(
        self, catalog: RedisCatalog, registry: str
    ) -> None:
        catalog.build_step(0)
        begun = catalog.status().begun
        with Redis.from_url(registry) as client:
            client.hset("blobcache::{catalog}::state", "cursor", "=" + "9" * 30)
        catalog.build_step(0)
        assert catalog.build_step(0).begun == begun + 1

    def test_an_abandoned_build_is_not_listed(self, any_store: Redis) -> None:
        any_store.zadd("blobcache::{catalog}::build", {"of an abandoned build": 0})
        any_store.sadd("repository::a::blobs", A)
        catalog = RedisBlobDescriptorCacheProvider().catalog
        catalog.reindex()
        assert catalog.index.names() == ([b"a"], False)

    def test_a_builder_renews_its_lock(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(30):
            default_cache.sadd(f"repository::r{number}::blobs", A)
        lock, scan = "blobcache::{catalog}::lock", Server.scan
        left: list[object] = []

        def slow(*args: object) -> object:
            left.append(default_cache.pttl(lock))
            default_cache.pexpire(lock, 5_000)
            return scan(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(Server, "scan", slow)
        RedisBlobDescriptorCacheProvider(budgets=Budgets(build=60, step=10)).catalog.build_step()
        assert len(left) > 1
        assert all(isinstance(each, int) and each > 5_000 for each in left)

    def test_a_fresh_index_is_not_built_again(self, catalog: RedisCatalog) -> None:
        begun = catalog.reindex().begun
        assert catalog.build_step().begun == begun
        assert catalog.build_step(newer_than=begun).begun == begun + 1

    def test_lists_rebuild_an_index_that_is_too_old(self, registry: str) -> None:
        with cache_at(registry):
            options = RedisOptions(catalog_max_age=0)
            stale = RedisBlobDescriptorCacheProvider(options=options).catalog
            begun = stale.reindex().begun
            assert stale.repositories().status.begun > begun


class TestWriters:
    def test_no_name_is_lost_while_repositories_are_added_and_cleared(
        self, catalog: RedisCatalog
    ) -> None:
        """All names that are there all the time, and all that we add, are indexed."""
        provider = RedisBlobDescriptorCacheProvider()
        stop, added = threading.Event(), []

        def write() -> None:
            for number in range(100_000):
                name = f"writer/{number}"
                provider.repository_scoped(name).set_descriptor(B, make_descriptor(B))
                if number % 2:
                    provider.repository_scoped(name).clear(B)
                else:
                    added.append(name)
                if stop.is_set():
                    return

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                catalog.reindex()
                known = set(names(catalog))
                assert set(NAMES) <= known
        finally:
            stop.set()
            writer.join()
        found = {name for name in names(catalog) if name.startswith("writer/")}
        assert found == set(added)
        for name in added:
            provider.repository_scoped(name).clear(B)

    def test_there_is_one_builder_at_a_time(self, catalog: RedisCatalog, registry: str) -> None:
        results: list[CatalogStatus] = []
        with Redis.from_url(registry) as observer, monitor(observer) as seen:
            builders = [
                threading.Thread(target=lambda: results.append(catalog.reindex())) for _ in range(4)
            ]
            for builder in builders:
                builder.start()
            for builder in builders:
                builder.join()
        assert len(results) == 4
        assert all(status.complete for status in results)
        scanned = Counter(words[1] for words in seen if words[0].upper() == "SCAN")
        assert max(scanned.values()) <= catalog.status().begun <= 4

    def test_a_builder_never_waits_for_another(self, catalog: RedisCatalog, registry: str) -> None:
        with Redis.from_url(registry) as client:
            client.set("blobcache::{catalog}::lock", "somebody", px=60_000)
            with commands(client) as traffic:
                status = catalog.build_step()
        assert not status.complete
        assert traffic.calls["scan"] == 0

    def test_a_builder_that_lost_the_lock_changes_nothing(
        self, catalog: RedisCatalog, registry: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its lock expired while it was delayed, and another builder took over."""
        with Redis.from_url(registry) as client:
            scan = Server.scan

            def slow(*args: object) -> object:
                client.set("blobcache::{catalog}::lock", "another", px=60_000)
                return scan(*args)  # type: ignore[arg-type]

            monkeypatch.setattr(Server, "scan", slow)
            catalog.build_step()
            assert not client.exists("blobcache::{catalog}::build")
            assert client.get("blobcache::{catalog}::lock") == b"another"

    def test_a_repository_without_a_set_is_removed_from_the_index_when_it_is_read(
        self, any_store: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        for name in ("gone", "stays"):
            provider.repository_scoped(name).set_descriptor(A, make_descriptor(A))
        provider.catalog.reindex()
        provider.repository_scoped("gone").clear(A)
        assert names(provider.catalog) == ["stays"]
        assert provider.catalog.repositories().count == 1

    def test_a_list_of_a_read_only_registry_changes_no_index(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.repository_scoped("gone").set_descriptor(A, make_descriptor(A))
        provider.catalog.reindex()
        default_cache.delete("repository::gone::blobs")
        reader = RedisBlobDescriptorCacheProvider(Rules(read_only=True))
        assert names(reader.catalog) == []
        assert provider.catalog.index.names() == ([b"gone"], False)

    def test_a_repository_that_is_written_again_before_the_removal_is_kept(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another program writes between our read of the set and our removal of the name."""
        provider = RedisBlobDescriptorCacheProvider()
        provider.repository_scoped("back").set_descriptor(A, make_descriptor(A))
        provider.catalog.reindex()
        provider.repository_scoped("back").clear(A)
        remove = NameIndex.remove_missing

        def late(self: NameIndex, gone: list[bytes]) -> None:
            provider.repository_scoped("back").set_descriptor(A, make_descriptor(A))
            remove(self, gone)

        monkeypatch.setattr(NameIndex, "remove_missing", late)
        provider.catalog.repositories()
        monkeypatch.undo()
        assert names(provider.catalog) == ["back"]

    def test_our_own_writes_are_listed_at_once(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.catalog.reindex()
        provider.repository_scoped("new").set_descriptor(A, make_descriptor(A))
        assert names(provider.catalog) == ["new"]

    def test_a_registrys_writes_are_listed_after_a_reindex(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.catalog.reindex()
        any_store.sadd("repository::pushed::blobs", A)
        assert names(provider.catalog) == []
        provider.catalog.reindex()
        assert names(provider.catalog) == ["pushed"]


class TestSeparateIndex:
    """The index in another Redis."""

    @pytest.fixture
    def provider(
        self, valkey: embedded.Server, default_cache: Redis
    ) -> Iterator[RedisBlobDescriptorCacheProvider]:
        with embedded.start() as apart, cache_at(apart.url, "index"):
            yield RedisBlobDescriptorCacheProvider(options=RedisOptions(catalog_alias="index"))

    def test_all_operations_work(self, provider: RedisBlobDescriptorCacheProvider) -> None:
        for number in range(30):
            provider.repository_scoped(f"r/{number}").set_descriptor(A, make_descriptor(A))
        assert len(names(provider.catalog, limit=7)) == 30
        provider.catalog.reindex()
        assert len(names(provider.catalog, limit=7)) == 30
        assert purge(provider, A) == {f"r/{number}" for number in range(30)}
        assert names(provider.catalog) == []

    def test_the_registrys_redis_has_no_key_of_ours(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        provider.repository_scoped("r").set_descriptor(A, make_descriptor(A))
        provider.catalog.reindex()
        assert not list(default_cache.scan_iter("blobcache::*"))

    def test_a_write_succeeds_although_the_index_is_down(
        self, valkey: embedded.Server, default_cache: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The blob is readable by then: that is returned, announced, and indexed later."""
        with embedded.start() as apart, cache_at(apart.url, "index"):
            provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(catalog_alias="index"))
            apart.kill()
            result = provider.repository_scoped("r").set_descriptor(A, make_descriptor(A))
            assert result.created
            assert provider.repository_scoped("r").stat(A) == make_descriptor(A)
            assert "The name r could not be indexed." in caplog.text
            apart.restart()
            provider.catalog.reindex()
            assert names(provider.catalog) == ["r"]

    @pytest.mark.parametrize("database", [0, 1])
    def test_another_address_of_the_same_server_is_recognised(
        self, valkey: embedded.Server, default_cache: Redis, database: int
    ) -> None:
        write_as_a_registry(default_cache, "r", [A])
        url = f"redis://localhost:{valkey.port}/{database}"
        with cache_at(url, "twin"), valkey.client() as client:
            provider = RedisBlobDescriptorCacheProvider(
                Rules(read_only=True), RedisOptions(catalog_alias="twin")
            )
            before = client.info("keyspace")
            provider.catalog.reindex()
            provider.catalog.repositories()
            assert client.info("keyspace") == before

    def test_a_read_only_registry_is_indexed_and_never_written(
        self, provider: RedisBlobDescriptorCacheProvider, valkey: embedded.Server
    ) -> None:
        provider.repository_scoped("r").set_descriptor(A, make_descriptor(A))
        reader = RedisBlobDescriptorCacheProvider(
            Rules(read_only=True), RedisOptions(catalog_alias="index")
        )
        with valkey.client() as observer, monitor(observer) as seen:
            assert reader.catalog.reindex().complete
            assert names(reader.catalog) == ["r"]
        assert {words[0].upper() for words in seen} <= {"INFO", "SCAN", "SCARD", "CLIENT", "HELLO"}
