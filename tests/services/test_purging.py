"""Purging, by a provider with a catalog; see `tests.conformance` for all providers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from django.dispatch import Signal
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, CacheUnavailable, CursorInvalid
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.walk import RedisKeyWalk
from blobcache.services.base import Certainty, PurgeManyResult
from blobcache.services.catalog import STEP, Budgets
from blobcache.signals import blob_purged, descriptor_cleared
from project import embedded
from tests.budgets import counting_clock
from tests.conformance import A, B, make_descriptor, purge
from tests.servers import Traffic, cache_at, commands, monitor
from tests.stores import store

SHORTEST = Budgets(purge=0)
"""Each step ends as soon as it can."""


@pytest.fixture
def observer(valkey: embedded.Server) -> Iterator[Redis]:
    """A client of the same server with separate connections."""
    with valkey.client() as client:
        yield client


def digests(number: int) -> list[Digest]:
    return [Digest(f"sha256:{each:064x}") for each in range(number)]


def hold(client: Redis, digest: str, names: Iterable[str]) -> None:
    """Let repositories hold the blob, as a registry does: without the index."""
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.sadd(f"repository::{name}::blobs", digest)
        pipe.execute()


def steps(
    provider: RedisBlobDescriptorCacheProvider, blobs: Iterable[str], cursor: str = ""
) -> Iterator[PurgeManyResult]:
    """Purge to the end, step by step."""
    blobs = list(blobs)
    following: str | None = cursor
    while following is not None:
        result = provider.purge_many(blobs, following)
        yield result
        following = result.next


class TestWhatIsCleared:
    def test_repositories_that_a_registry_wrote_since_the_last_index(
        self, any_store: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.catalog.reindex()
        for name in ("late/one", "late/two", "MyTeam/late"):
            any_store.sadd(f"repository::{name}::blobs", A)
        assert purge(provider, A) == {"late/one", "late/two", "MyTeam/late"}
        assert not any(any_store.exists(f"repository::late/{n}::blobs") for n in ("one", "two"))

    def test_what_the_index_knows_comes_before_any_key_is_scanned(
        self, default_cache: Redis, observer: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        hold(default_cache, A, (f"r{number}" for number in range(30)))
        provider.catalog.reindex()
        hold(default_cache, A, ["late"])
        with monitor(observer) as seen:
            result = provider.purge(A)
        assert set(result.cleared) == {"late", *(f"r{number}" for number in range(30))}
        removed = [place for place, words in enumerate(seen) if words[0].upper() == "SREM"]
        first_scan = next(place for place, words in enumerate(seen) if words[0] == "SCAN")
        assert sum(place < first_scan for place in removed) == 30
        assert len(removed) == 31

    def test_without_an_index_the_walk_finds_all(self, default_cache: Redis) -> None:
        hold(default_cache, A, ["one", "two"])
        results = list(steps(RedisBlobDescriptorCacheProvider(budgets=SHORTEST), [A]))
        assert [each.cleared for each in results if each.cleared] == [{A: ("one", "two")}]

    def test_the_global_descriptor_first_and_again_at_the_end(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(budgets=SHORTEST)
        provider.set_descriptor(A, make_descriptor(A))
        walk = steps(provider, [A])
        first = next(walk)
        assert first.next is not None
        with pytest.raises(BlobUnknown):
            provider.stat(A)
        provider.set_descriptor(A, make_descriptor(A))  # as a registry does meanwhile
        assert list(walk)[-1].next is None
        with pytest.raises(BlobUnknown):
            provider.stat(A)

    def test_invalid_names_and_keys_of_the_wrong_type_are_skipped(
        self, default_cache: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        invalid = [b"Not a Name", b"\xff\xfe", b"x" * 2000]
        for name in invalid:
            default_cache.sadd(b"repository::%b::blobs" % name, A)
        hold(default_cache, A, ["valid"])
        default_cache.set("repository::text::blobs", "text")
        provider.catalog.reindex()
        hold(default_cache, A, ["late"])
        assert purge(provider, A) == {"late", "valid"}

    def test_nothing_for_no_digests(self, default_cache: Redis, observer: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.purge(A)
        with commands(observer) as traffic:
            result = provider.purge_many([])
        assert result == PurgeManyResult((), {}, None, Certainty.EVERYWHERE)
        assert traffic.round_trips == 0

    def test_a_purge_writes_no_key_of_an_index(self, default_cache: Redis) -> None:
        hold(default_cache, A, ["one"])
        RedisBlobDescriptorCacheProvider().purge(A)
        assert default_cache.keys() == []


class TestCertainty:
    def test_grows_from_step_to_step(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(budgets=SHORTEST)
        hold(default_cache, A, ["one"])
        provider.catalog.reindex()
        results = list(steps(provider, [A]))
        assert [each.certain for each in results] == [
            Certainty.GLOBAL,
            Certainty.INDEXED,
            Certainty.INDEXED,
            Certainty.EVERYWHERE,
        ]
        assert [bool(each.cleared) for each in results] == [False, True, False, False]
        assert provider.purge(A).certain is not Certainty.NOTHING

    def test_is_none_until_all_global_descriptors_are_cleared(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(budgets=SHORTEST)
        many = digests(250)
        certain = [each.certain for each in steps(provider, many)]
        assert certain[:3] == [Certainty.NOTHING, Certainty.NOTHING, Certainty.GLOBAL]
        assert certain[-1] is Certainty.EVERYWHERE


class TestAnnouncements:
    @pytest.fixture
    def sent(self) -> Iterator[list[tuple[str, str | None, Digest]]]:
        """The event, repository and digest of each change."""
        found: list[tuple[str, str | None, Digest]] = []

        def receive(signal: Signal, repository: str | None, digest: Digest, **_: object) -> None:
            name = "purge" if signal is blob_purged else "clear"
            found.append((name, repository, digest))

        for signal in (blob_purged, descriptor_cleared):
            signal.connect(receive)
        yield found
        for signal in (blob_purged, descriptor_cleared):
            signal.disconnect(receive)

    def test_each_digest_is_announced_once_after_its_clears(
        self, default_cache: Redis, sent: list[tuple[str, str | None, Digest]]
    ) -> None:
        many = digests(150)
        hold(default_cache, many[0], ["a", "b"])
        results = list(steps(RedisBlobDescriptorCacheProvider(budgets=SHORTEST), many))
        assert len(results) > 4
        assert sent == [
            ("clear", "a", many[0]),
            ("clear", "b", many[0]),
            *(("purge", None, digest) for digest in many),
        ]


class TestSteps:
    def test_a_purge_of_many_holders_takes_several(self, default_cache: Redis) -> None:
        hold(default_cache, A, (f"r{number}" for number in range(250)))
        results = list(steps(RedisBlobDescriptorCacheProvider(budgets=SHORTEST), [A]))
        cleared = [len(each.cleared.get(A, ())) for each in results]
        assert sum(cleared) == 250
        assert max(cleared) <= 100

    def test_are_limited_by_time_and_not_by_the_number_of_holders(
        self, default_cache: Redis
    ) -> None:
        budgets = Budgets(purge=600, page=0, step=100)
        hold(default_cache, A, (f"r{number}" for number in range(250)))
        step = RedisBlobDescriptorCacheProvider(budgets=budgets).purge(A)
        assert len(step.cleared) == 250
        assert step.next is None

    def test_are_limited_by_the_number_of_clears(self, default_cache: Redis) -> None:
        budgets = Budgets(purge=600, purged_repositories=200)
        provider = RedisBlobDescriptorCacheProvider(budgets=budgets)
        for digest in (A, B):
            hold(default_cache, digest, (f"r{number}" for number in range(250)))
        provider.catalog.reindex()
        results = list(steps(provider, [A, B]))
        numbers = [sum(map(len, each.cleared.values())) for each in results]
        assert sum(numbers) == 500
        assert max(numbers) <= 300

    @pytest.mark.parametrize("budgets", [SHORTEST, Budgets(purge=600, purged_repositories=90)])
    def test_are_limited_among_many_digests_that_no_index_knows(
        self, default_cache: Redis, budgets: Budgets
    ) -> None:
        many = digests(100)  # so that ten repositories are asked together
        for digest in many[:9]:
            hold(default_cache, digest, (f"r{number}" for number in range(40)))
        results = list(steps(RedisBlobDescriptorCacheProvider(budgets=budgets), many))
        numbers = [sum(map(len, each.cleared.values())) for each in results]
        assert sum(numbers) == 360
        assert max(numbers) <= 90

    def test_a_step_may_be_repeated_with_the_same_cursor(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(budgets=SHORTEST)
        hold(default_cache, A, (f"r{number}" for number in range(150)))
        provider.catalog.reindex()
        cursor = provider.purge(A).next
        assert cursor is not None
        assert len(provider.purge(A, cursor).cleared) == 100
        assert len(provider.purge(A, cursor).cleared) == 50
        assert not default_cache.keys("repository::*")

    @pytest.mark.parametrize("ticks", [0.5, 1.5, 2.5, 5.5, 9.5])
    def test_wherever_they_end_no_holder_is_missed(
        self, default_cache: Redis, ticks: float
    ) -> None:
        hold(default_cache, A, (f"r{number}" for number in range(130)))
        budgets = Budgets(purge=ticks, clock=counting_clock(), step=10)
        assert len(purge(RedisBlobDescriptorCacheProvider(budgets=budgets), A)) == 130


class TestWork:
    """What the server is asked, counted there."""

    KEYS = 2000

    @pytest.fixture
    def filled(self, default_cache: Redis) -> Redis:
        """A hundred repositories among many other keys."""
        default_cache.mset({f"blobs::{each}": "" for each in digests(self.KEYS)})
        for digest in digests(6):
            hold(default_cache, digest, (f"r{number}" for number in range(100)))
        return default_cache

    def asked(self, filled: Redis, observer: Redis, blobs: list[Digest]) -> Traffic:
        provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(purge=600, step=100))
        provider.catalog.reindex()
        with commands(observer) as traffic:
            cleared = [each.cleared for each in steps(provider, blobs)]
        assert sum(len(names) for each in cleared for names in each.values()) == 100 * len(blobs)
        return traffic

    def test_one_walk_is_shared_by_all_digests(self, filled: Redis, observer: Redis) -> None:
        one = self.asked(filled, observer, digests(1))
        many = self.asked(filled, observer, digests(6)[1:])
        assert one.calls["scan"] >= self.KEYS / 100
        assert many.calls["scan"] <= one.calls["scan"]
        # The index and the walk ask once each, whatever the number of digests.
        assert one.calls["smismember"] <= 200
        assert many.calls["smismember"] <= 200

    def test_no_command_looks_at_more_than_a_thousand_keys_or_members(
        self, default_cache: Redis, observer: Redis
    ) -> None:
        many = digests(1100)
        default_cache.mset({f"other::{number}": "" for number in range(3000)})
        hold(default_cache, many[7], (f"r{number}" for number in range(5)))
        provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(purge=600))
        provider.catalog.reindex()
        with monitor(observer) as seen:
            found = [each.cleared for each in steps(provider, many)]
        assert [set(each) for each in found if each] == [{many[7]}]
        questions = [len(words) - 2 for words in seen if words[0] == "SMISMEMBER"]
        scanned = [int(words[words.index("COUNT") + 1]) for words in seen if words[0] == "SCAN"]
        assert max(questions) == STEP
        assert sum(questions) == 5 * len(many)  # the walk finds no set any more
        assert max(scanned) == 250_000 // len(many)  # as each key may take so many questions
        assert not {words[0] for words in seen} & {"KEYS", "SMEMBERS", "HGETALL"}

    def test_a_thousand_questions_are_one_round_trip(
        self, default_cache: Redis, observer: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(purge=600))
        hold(default_cache, B, (f"r{number:04}" for number in range(900)))
        provider.catalog.reindex()
        provider.purge(A)
        with commands(observer) as traffic:
            provider.purge(A)
        assert traffic.calls["smismember"] == 2 * 900
        # Each batch of questions is longer than the server's buffer of 16 kB.
        assert traffic.round_trips < 40


class TestCursor:
    def first(self, blobs: Iterable[str]) -> str:
        cursor = RedisBlobDescriptorCacheProvider(budgets=SHORTEST).purge_many(blobs).next
        assert cursor is not None
        return cursor

    @pytest.mark.parametrize("cursor", ["x", "x/y", "-1/", "/", "500/", "g/0", "//"])
    def test_of_no_purge_is_refused(self, default_cache: Redis, cursor: str) -> None:
        with pytest.raises(CursorInvalid):
            RedisBlobDescriptorCacheProvider().purge(A, cursor)

    @pytest.mark.parametrize(
        "place", ["", "x", "x/0", "g/", "g/-1", "g/x", "l/\u0663", "/", "g/9" * 40]
    )
    def test_with_another_place_is_refused(self, default_cache: Redis, place: str) -> None:
        fingerprint = self.first([A]).partition("/")[0]
        with pytest.raises(CursorInvalid):
            RedisBlobDescriptorCacheProvider().purge(A, f"{fingerprint}/{place}")

    @pytest.mark.parametrize("others", [[B], [A], [A, B, "sha256:" + "c" * 64]])
    def test_of_a_purge_of_other_digests_is_refused(
        self, default_cache: Redis, others: list[str]
    ) -> None:
        hold(default_cache, B, ["one"])
        with pytest.raises(CursorInvalid):
            RedisBlobDescriptorCacheProvider().purge_many(others, self.first([A, B]))
        assert default_cache.exists("repository::one::blobs")

    def test_is_accepted_with_the_same_digests_in_another_order(self, default_cache: Redis) -> None:
        hold(default_cache, B, ["one"])
        provider = RedisBlobDescriptorCacheProvider()
        (last,) = steps(provider, [B, A, B], self.first([A, B]))
        assert last.cleared == {B: ("one",)}


class TestFailures:
    @pytest.fixture
    def restricted(
        self, valkey: embedded.Server, default_cache: Redis
    ) -> Iterator[tuple[Redis, RedisBlobDescriptorCacheProvider]]:
        """A client that may do all, and a provider with a user of its own."""
        default_cache.execute_command(
            "ACL", "SETUSER", "purger", "reset", "on", ">secret", "~*", "+@all"
        )
        url = valkey.url.replace("://", "://purger:secret@")
        with cache_at(url, "purger"):
            options = RedisOptions(cache_alias="purger")
            yield default_cache, RedisBlobDescriptorCacheProvider(options=options)
        default_cache.execute_command("ACL", "DELUSER", "purger")

    def test_without_scan_the_holders_that_the_index_knows_are_cleared(
        self, restricted: tuple[Redis, RedisBlobDescriptorCacheProvider]
    ) -> None:
        client, provider = restricted
        hold(client, A, ["known/one", "known/two"])
        provider.catalog.reindex()
        hold(client, A, ["late"])
        client.execute_command("ACL", "SETUSER", "purger", "-scan")
        result = provider.purge(A)
        assert result.cleared == ("known/one", "known/two")
        assert result.certain is Certainty.INDEXED
        assert result.next is not None
        with pytest.raises(CacheUnavailable):
            provider.purge(A, result.next)
        client.execute_command("ACL", "SETUSER", "purger", "+scan")
        last = provider.purge(A, result.next)
        assert (last.cleared, last.next, last.certain) == (("late",), None, Certainty.EVERYWHERE)

    def test_a_step_that_fails_half_way_returns_what_it_cleared(
        self, restricted: tuple[Redis, RedisBlobDescriptorCacheProvider]
    ) -> None:
        client, provider = restricted
        hold(client, A, ["a", "b", "c"])
        provider.catalog.reindex()
        allowed = ("~blobs::*", "~blobcache::*", "~repository::a::*", "%R~repository::*")
        client.execute_command("ACL", "SETUSER", "purger", "resetkeys", *allowed)
        result = provider.purge(A)
        assert (result.cleared, result.certain) == (("a",), Certainty.GLOBAL)
        assert result.next is not None
        with pytest.raises(CacheUnavailable):
            provider.purge(A, result.next)
        client.execute_command("ACL", "SETUSER", "purger", "~*")
        last = provider.purge(A, result.next)
        assert (last.cleared, last.next) == (("b", "c"), None)

    def test_a_step_that_fails_before_its_place_changes_returns_what_it_cleared(
        self, restricted: tuple[Redis, RedisBlobDescriptorCacheProvider]
    ) -> None:
        client, provider = restricted
        hold(client, A, ["a", "b"])
        provider.catalog.reindex()
        provider.catalog.budgets = SHORTEST
        first = provider.purge(A)
        assert (first.cleared, first.certain) == ((), Certainty.GLOBAL)
        assert first.next is not None
        provider.catalog.budgets = Budgets()
        allowed = ("~blobs::*", "~blobcache::*", "~repository::a::*", "%R~repository::*")
        client.execute_command("ACL", "SETUSER", "purger", "resetkeys", *allowed)
        result = provider.purge(A, first.next)
        assert (result.cleared, result.next) == (("a",), first.next)

    def test_a_last_step_that_fails_half_way_announces_no_digest_twice(
        self, restricted: tuple[Redis, RedisBlobDescriptorCacheProvider]
    ) -> None:
        client, provider = restricted
        provider.catalog.budgets = SHORTEST
        many, purged = digests(3), []

        def receive(digest: Digest, **_: object) -> None:
            purged.append(digest)

        walk = steps(provider, many)
        cursor = [next(walk) for _ in range(3)][-1].next
        assert cursor is not None
        client.execute_command("ACL", "SETUSER", "purger", "resetkeys", f"~blobs::{many[0]}")
        blob_purged.connect(receive)
        result = provider.purge_many(many, cursor)
        assert (purged, result.certain) == (many[:1], Certainty.INDEXED)
        assert result.next is not None
        with pytest.raises(CacheUnavailable):
            provider.purge_many(many, result.next)
        client.execute_command("ACL", "SETUSER", "purger", "~*")
        assert provider.purge_many(many, result.next).next is None
        blob_purged.disconnect(receive)
        assert purged == many

    def test_the_walk_begins_again_on_another_server(self, default_cache: Redis) -> None:
        budgets = Budgets(purge=0, step=10)
        names = [f"r{number}" for number in range(400)]
        hold(default_cache, B, names)
        provider = RedisBlobDescriptorCacheProvider(budgets=budgets)
        walk = steps(provider, [A])
        result = next(walk)
        while result.certain is not Certainty.INDEXED:
            result = next(walk)
        result = next(walk)  # some keys are behind it now
        assert result.next is not None
        with embedded.start() as promoted, cache_at(promoted.url) as client:
            hold(client, A, names)
            other = RedisBlobDescriptorCacheProvider(budgets=budgets)
            found = [each.cleared.get(A, ()) for each in steps(other, [A], result.next)]
        assert sum(map(len, found)) == len(names)

    def test_the_walk_begins_again_if_the_server_was_replaced_in_its_last_step(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hold(default_cache, A, ["early"])
        asked: list[None] = []

        def identity(_: RedisKeyWalk) -> str:
            asked.append(None)
            if len(asked) == 2:  # the walk has seen all keys of the server before
                hold(default_cache, A, ["late"])
            return "old" if len(asked) == 1 else "new"

        monkeypatch.setattr(RedisKeyWalk, "identity", identity)
        found = [*steps(RedisBlobDescriptorCacheProvider(), [A])]
        names = [name for each in found for name in each.cleared.get(A, ())]
        assert names == ["early", "late"]

    @pytest.mark.parametrize("others", [[], [B]])
    def test_a_clear_that_was_interrupted_on_a_cluster_is_finished(
        self, request: pytest.FixtureRequest, others: list[str]
    ) -> None:
        """Its override is left: the set may be gone, but the index has the name."""
        with store(request, "cluster") as client:
            provider = RedisBlobDescriptorCacheProvider()
            repository = provider.repository_scoped("a")
            for digest in (A, *others):
                repository.set_descriptor(digest, make_descriptor(digest))
            client.srem("repository::a::blobs", A)
            assert purge(provider, A) == {"a"}
            assert not client.exists(f"repository::a::blobs::{A}")
            assert purge(provider, A) == set()
            assert set(repository.stat_many([A, B])) == set(others)

    def test_a_purge_that_is_begun_again_finds_the_rest(self, default_cache: Redis) -> None:
        hold(default_cache, A, (f"r{number}" for number in range(150)))
        provider = RedisBlobDescriptorCacheProvider(budgets=SHORTEST)
        for _, result in zip(range(3), steps(provider, [A]), strict=False):
            cleared = len(result.cleared.get(A, ()))
        assert 0 < cleared < 150
        assert len(purge(provider, A)) == 150 - cleared
