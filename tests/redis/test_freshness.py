"""How old the index is, when it is due, and what is found beside it."""

from __future__ import annotations

from dataclasses import replace
from time import time

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable, OperationUnsupported, Reason
from blobcache.redis.listings import RedisCatalog
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets, CatalogStatus
from blobcache.services.rules import Rules
from blobcache.visibility import Visible
from project import embedded
from tests.conformance import A
from tests.redis.keyspace import names
from tests.servers import cache_at, commands, limited_user
from tests.stores import store

STATE = "blobcache::{catalog}::state"


def at_age(
    client: Redis, age: float, took: float | None = None, **watched: object
) -> CatalogStatus:
    """The status of an index of that age whose build has taken so many seconds."""
    client.delete(STATE)
    fields = {"indexed": 5, "begun": 5, "indexed_at": repr(time() - age), **watched}
    if took is not None:
        fields["took"] = int(took * 1e6)
    client.hset(STATE, mapping={name: str(value) for name, value in fields.items()})
    return make_catalog().status()


def make_catalog() -> RedisCatalog:
    """A catalog with the default budgets, which others in these tests do not have."""
    return RedisBlobDescriptorCacheProvider(budgets=Budgets()).catalog


class TestBound:
    @pytest.mark.parametrize(
        ("took", "bound"),
        [(0.001, 1.0), (0.05, 1.0), (1.5, 30.0), (15.0, 300.0), (40.0, 300.0), (None, 300.0)],
    )
    def test_is_twenty_times_what_the_last_build_took(
        self, default_cache: Redis, took: float | None, bound: float
    ) -> None:
        """At least a second, at most CATALOG_MAX_AGE."""
        assert at_age(default_cache, 0, took).bound == pytest.approx(bound)

    def test_an_older_index_is_not_complete(self, default_cache: Redis) -> None:
        assert at_age(default_cache, 20, 1.5).complete
        assert at_age(default_cache, 20, 1.5).is_built
        assert not at_age(default_cache, 40, 1.5).complete
        assert at_age(default_cache, 40, 1.5).is_built

    @pytest.mark.parametrize("took", ["x", "-5", "1e3", "9" * 400, ""])
    def test_an_invalid_time_of_another_program_counts_as_unknown(
        self, default_cache: Redis, took: str
    ) -> None:
        at_age(default_cache, 0)
        default_cache.hset(STATE, "took", took)
        assert make_catalog().status().bound == 300

    def test_only_the_time_within_the_steps_of_a_build_counts(self, catalog: RedisCatalog) -> None:
        """The state has the sum so far, and at the end what the build took."""
        index = catalog.index
        spent = []
        while not catalog.build_step(0).is_built:
            spent.append(int(index.server.batch([("HGET", index.keys.state, "spent")])[0]))  # type: ignore[arg-type]
        assert spent == sorted(spent)
        took, left = index.server.batch([("HMGET", index.keys.state, "took", "spent")])[0]  # type: ignore[misc]
        assert int(took) > spent[-1] > 0  # type: ignore[arg-type]
        assert left is None

    def test_a_list_builds_an_index_that_is_due_and_no_other(self, default_cache: Redis) -> None:
        default_cache.sadd("repository::pushed::blobs", A)
        at_age(default_cache, 20, 1.5)
        catalog = make_catalog()
        assert catalog.repositories("p").repositories == ()
        assert catalog.build_step().indexed == 5
        at_age(default_cache, 40, 1.5)
        page = catalog.repositories("p")
        assert [row.name for row in page.repositories] == ["pushed"]
        assert page.status.indexed == 6

    def test_an_index_that_is_not_due_costs_a_build_step_one_round_trip(
        self, default_cache: Redis, observer: Redis
    ) -> None:
        catalog = make_catalog()
        at_age(default_cache, 0, 1.5)
        with commands(observer) as traffic:
            catalog.build_step()
        assert traffic.round_trips == 1
        assert traffic.calls == {"hmget": 1}


class TestProgress:
    def test_grows_from_step_to_step_and_ends_with_the_build(self, catalog: RedisCatalog) -> None:
        shares = []
        while not (status := catalog.build_step(0)).is_built:
            assert status.building
            shares.append(status.progress or 0)
        assert shares == sorted(shares)
        assert 0 < shares[0] < shares[-1] < 1
        assert status.progress is None

    def test_grows_from_node_to_node_of_a_cluster(self, request: pytest.FixtureRequest) -> None:
        with store(request, "cluster") as client:
            for number in range(3000):
                client.sadd(f"repository::r{number}::blobs", A)
            catalog = RedisBlobDescriptorCacheProvider(budgets=Budgets(step=100)).catalog
            shares = []
            while not (status := catalog.build_step(0)).is_built:
                shares.append(status.progress or 0)
            assert shares == sorted(shares)
            assert set(shares) == {0, 1 / 3, 2 / 3}

    @pytest.mark.parametrize("cursor", ["x", "", "=" + "9" * 30, "a=b=c", "node=5" * 300])
    def test_is_zero_for_a_cursor_of_another_program(
        self, default_cache: Redis, cursor: str
    ) -> None:
        at_age(default_cache, 0)
        default_cache.hset(STATE, mapping={"begun": 6, "cursor": cursor})
        assert RedisBlobDescriptorCacheProvider().catalog.status().progress == 0


class TestLookAgain:
    def test_finds_what_was_pushed_before_it_began(self, catalog: RedisCatalog) -> None:
        """Step by step, although the index is not due."""
        catalog.reindex()
        server = catalog.index.server
        server.batch([("SADD", "repository::pushed::blobs", A)])
        try:
            catalog.budgets = replace(catalog.budgets, page=0)
            before = catalog.status()
            steps = 1
            while (status := catalog.look_again()).building:
                assert status.indexed == before.indexed
                steps += 1
            assert steps > 5
            assert status.indexed == before.indexed + 1
            assert "pushed" in names(catalog, "pushed", 1000)
        finally:
            server.batch([("DEL", "repository::pushed::blobs")])

    def test_is_refused_where_no_index_may_be_kept(self, default_cache: Redis) -> None:
        reader = RedisBlobDescriptorCacheProvider(Rules(read_only=True))
        with pytest.raises(OperationUnsupported, match="CATALOG_ALIAS"):
            reader.catalog.look_again()

    def test_says_so_where_redis_refuses_a_scan(
        self, valkey: embedded.Server, default_cache: Redis
    ) -> None:
        with cache_at(limited_user(valkey, "noscan", "scan")):
            with pytest.raises(CacheUnavailable) as caught:
                RedisBlobDescriptorCacheProvider().catalog.look_again()
            assert caught.value.reason is Reason.NO_SCAN

    def test_builds_nothing_while_the_index_is_watched(self, default_cache: Redis) -> None:
        status = at_age(default_cache, 50, 1.5, watched_from=5, watched_at=repr(time()))
        assert status.is_watched
        assert make_catalog().look_again() == status


class TestWatched:
    def test_the_index_is_as_old_as_the_last_time_that_it_was_current(
        self, default_cache: Redis
    ) -> None:
        status = at_age(default_cache, 250, 0.01, watched_from=3, watched_at=repr(time() - 2))
        assert status.is_watched
        assert status.complete
        assert 1.9 < status.age < 60
        assert status.bound == 3

    def test_after_the_watch_has_ended_the_index_grows_old_as_ever(
        self, default_cache: Redis
    ) -> None:
        status = at_age(default_cache, 250, 1.5, watched_from=3, watched_at=repr(time() - 20))
        assert not status.is_watched
        assert status.complete
        status = at_age(default_cache, 250, 1.5, watched_from=3, watched_at=repr(time() - 40))
        assert not status.complete

    @pytest.mark.parametrize(
        "watched",
        [
            {"watched_from": 6},  # a later index than this one
            {"watched_from": 0},
            {"watched_from": "x"},
            {},
            {"watched_from": 5, "watched_at": "inf"},
            {"watched_from": 5, "watched_at": repr(time() + 10_000)},
            {"watched_from": 5, "watched_at": "9" * 300},
        ],
    )
    def test_what_another_program_wrote_does_not_count(
        self, default_cache: Redis, watched: dict[str, object]
    ) -> None:
        status = at_age(default_cache, 250, 1.5, **{"watched_at": repr(time()), **watched})
        assert not status.is_watched
        assert status.age > 200


class TestExactName:
    """A search for the whole name of a repository that was pushed a moment ago."""

    @pytest.fixture
    def fresh(self, default_cache: Redis) -> RedisCatalog:
        for name in ("team/app", "team/app2"):
            default_cache.sadd(f"repository::{name}::blobs", A)
        catalog = RedisBlobDescriptorCacheProvider().catalog
        catalog.reindex()
        default_cache.sadd("repository::team::blobs", A)
        return catalog

    def test_finds_it_before_the_index_does(self, fresh: RedisCatalog) -> None:
        page = fresh.repositories("team")
        assert [row.name for row in page.repositories] == ["team", "team/app", "team/app2"]
        assert page.count == 3
        assert fresh.repositories().count == 3, "it is indexed now"

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_lists_each_name_once_page_by_page(self, fresh: RedisCatalog, limit: int) -> None:
        assert names(fresh, "team", limit) == ["team", "team/app", "team/app2"]

    def test_finds_it_where_the_index_may_not_be_written(
        self, fresh: RedisCatalog, default_cache: Redis
    ) -> None:
        reader = RedisBlobDescriptorCacheProvider(Rules(read_only=True)).catalog
        page = reader.repositories("team", limit=2)
        assert [row.name for row in page.repositories] == ["team", "team/app"]
        assert page.count == 3
        assert [row.name for row in reader.repositories("team", page.next or "").repositories] == [
            "team/app2"
        ]
        assert fresh.index.names()[0] == [b"team/app", b"team/app2"]

    def test_finds_a_key_of_the_wrong_type_too(
        self, fresh: RedisCatalog, default_cache: Redis
    ) -> None:
        default_cache.delete("repository::team::blobs")
        default_cache.set("repository::team::blobs", "text")
        assert fresh.repositories("team").repositories[0] == ("team", None)

    def test_costs_one_round_trip_if_there_is_none(
        self, fresh: RedisCatalog, observer: Redis
    ) -> None:
        with commands(observer) as found:
            fresh.repositories("team/")  # no name
        with commands(observer) as missing:
            fresh.repositories("team/none")
        assert missing.calls["exists"] == 1
        assert missing.calls["zadd"] == 0
        assert missing.round_trips <= found.round_trips

    @pytest.mark.parametrize("by", ["ranges", "predicate"])
    def test_sends_the_same_whether_a_hidden_one_exists_or_not(
        self, fresh: RedisCatalog, default_cache: Redis, observer: Redis, by: str
    ) -> None:
        visible = (
            Visible.of(["other/"])
            if by == "ranges"
            else Visible.of(None, lambda name: name.startswith("other/"))
        )
        sent = []
        for _ in range(2):
            with commands(observer) as traffic:
                page = fresh.repositories("team", visible=visible)
            assert page.repositories == ()
            sent.append((traffic.calls, traffic.round_trips))
            default_cache.delete("repository::team::blobs")
        assert sent[0] == sent[1]
        assert sent[0][0]["exists"] == 0

    def test_finds_no_other_holders(self, fresh: RedisCatalog) -> None:
        """No key leads from a digest to its repositories."""
        assert [holder.name for holder in fresh.holders(Digest(A)).holders] == [
            "team/app",
            "team/app2",
        ]


def test_a_maximum_age_below_a_second_is_respected(default_cache: Redis) -> None:
    options = RedisOptions(catalog_max_age=0)
    catalog = RedisBlobDescriptorCacheProvider(options=options).catalog
    begun = catalog.reindex().begun
    assert not catalog.status().complete
    assert catalog.repositories().status.begun == begun + 1
