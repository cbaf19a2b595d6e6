"""Adding many descriptors: only what is missing is written, and what is there stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import DigestMismatch, OperationUnsupported, RepositoryNameInvalid
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider, RedisService
from blobcache.services.additions import Addition, Standing, plan
from blobcache.services.rules import Rules
from blobcache.services.work import KEPT, LEASE
from tests.conformance import ALIAS, LAYER, OCTETS, A, B, make_descriptor
from tests.stores import KINDS, NO_SCRIPTS, store

MISSING, KNOWN, DIFFERS = Standing


def plans(service: RedisService, *descriptors: Descriptor) -> list[Addition]:
    records = service.records([each.digest for each in descriptors])
    return [
        plan(record, each.digest, each) for record, each in zip(records, descriptors, strict=True)
    ]


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


class TestEveryKindOfStore:
    @pytest.fixture(params=[*KINDS, NO_SCRIPTS])
    def any_store(self, request: pytest.FixtureRequest) -> Iterator[Redis]:
        with store(request, request.param) as client:
            yield client

    def test_what_is_missing_is_added_and_indexed(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        team = provider.repository_scoped("team/app")
        wanted = [make_descriptor(A, 5), make_descriptor(B, 9, LAYER)]
        planned = plans(team, *wanted)
        assert planned == [
            Addition(each.digest, each, MISSING, blob=True, override=True, member=True)
            for each in wanted
        ]
        assert team.add_many(planned) == planned
        assert team.stat_many([A, B]) == {A: wanted[0], B: wanted[1]}
        # The type of one repository is not that of the blob everywhere.
        assert provider.stat(B) == make_descriptor(B, 9, OCTETS)
        names, _ = provider.catalog.index.names()
        assert names == [b"team/app"]
        # Nothing is added twice.
        known = [Addition(each.digest, each, KNOWN) for each in wanted]
        assert plans(team, *wanted) == known
        assert team.add_many(planned) == known

    def test_only_the_missing_parts_are_added(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A, 5, LAYER))
        team = provider.repository_scoped("team/app")
        planned = plans(team, make_descriptor(A, 5))
        (added,) = team.add_many(planned)
        assert (added.blob, added.override, added.member) == (False, True, True)
        assert provider.stat(A) == make_descriptor(A, 5, LAYER)
        assert team.stat(A) == make_descriptor(A, 5)

    def test_a_descriptor_that_appeared_since_the_plan_stays(self, any_store: Redis) -> None:
        team = RedisBlobDescriptorCacheProvider().repository_scoped("team/app")
        planned = plans(team, make_descriptor(A, 5))
        team.set_descriptor(A, make_descriptor(A, 6, LAYER))
        assert team.add_many(planned) == [
            Addition(A, make_descriptor(A, 5), KNOWN),
        ]
        assert team.stat(A) == make_descriptor(A, 6, LAYER)

    def test_an_alias_adds_nothing_for_its_canonical_digest(self, any_store: Redis) -> None:
        team = RedisBlobDescriptorCacheProvider().repository_scoped("team/app")
        (record,) = team.records([ALIAS])
        team.add_many([plan(record, ALIAS, make_descriptor(A))])
        assert team.stat_many([ALIAS, A]) == {ALIAS: make_descriptor(A)}

    def test_in_the_global_scope_only_the_hash_is_added(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        added = provider.add_many(plans(provider, make_descriptor(A, 5, LAYER)))
        assert added == [Addition(A, make_descriptor(A, 5, LAYER), MISSING, blob=True)]
        assert provider.stat(A) == make_descriptor(A, 5, OCTETS)

    def test_the_notes_of_a_warm(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        one, two = provider.warm_work(), provider.warm_work()
        assert one.begin()
        assert not two.begin()
        assert one.note({"a": "1", "b": b"2"})
        assert one.note({}, ["b", "c"])
        assert two.read(["a", "b"]) == [b"1", None]
        two.end()  # of what it does not have
        assert not two.begin()
        one.end()
        assert two.begin()
        assert not one.note({})
        assert two.read(["a"]) == [b"1"]

    def test_who_has_a_warm_and_its_notes_expire(self, any_store: Redis) -> None:
        """Each note says that the work goes on; a process that died holds it for the lease."""
        work: Any = RedisBlobDescriptorCacheProvider().warm_work()
        assert work.begin()
        assert LEASE / 2 < any_store.ttl(work._lock) <= LEASE
        any_store.expire(work._lock, 5)
        assert work.note({"a": "1"})
        assert LEASE / 2 < any_store.ttl(work._lock) <= LEASE
        assert KEPT - 60 < any_store.ttl(work._notes) <= KEPT


def set_size(client: Redis) -> None:
    client.hset(f"blobs::{A}", "size", "6")


DIFFERENT: dict[str, Callable[[Redis], object]] = {
    "another size": set_size,
    "a size that contradicts the other": lambda client: client.hset(f"blobs::{A}", "length", "6"),
    "a size that is no number": lambda client: client.hset(f"blobs::{A}", "size", "x"),
    "another blob of the same algorithm": lambda client: client.hset(f"blobs::{A}", "digest", B),
    "the digest of an alias": lambda client: client.hset(f"blobs::{A}", "digest", ALIAS),
    "only another length": lambda client: (
        client.hdel(f"blobs::{A}", "digest", "size"),
        client.hset(f"blobs::{A}", "length", "6"),
    ),
    "a hash of another type": lambda client: (
        client.delete(f"blobs::{A}"),
        client.set(f"blobs::{A}", "x"),
    ),
    "a set of another type": lambda client: (
        client.delete("repository::team/app::blobs"),
        client.set("repository::team/app::blobs", "x"),
    ),
    "an override of another type": lambda client: (
        client.delete(f"repository::team/app::blobs::{A}"),
        client.set(f"repository::team/app::blobs::{A}", "x"),
    ),
    "an override that cannot be printed": lambda client: client.hset(
        f"repository::team/app::blobs::{A}", "mediatype", "a\n"
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_or_is_damaged_is_not_changed(
    provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, name: str
) -> None:
    team = provider.repository_scoped("team/app")
    team.set_descriptor(A, make_descriptor(A, 5))
    DIFFERENT[name](default_cache)
    before = {key: default_cache.dump(key) for key in default_cache.keys("[br]*::*")}
    (planned,) = plans(team, make_descriptor(A, 5))
    assert planned == Addition(A, make_descriptor(A, 5), DIFFERS)
    # Nor by an addition that was planned before.
    team.add_many([replace(planned, standing=MISSING, blob=True, override=True, member=True)])
    after = {key: default_cache.dump(key) for key in before}
    missing = {"only another length"}
    assert after == before or name in missing


@pytest.mark.parametrize(
    ("left", "is_added"),
    [
        ({"digest": A}, True),
        ({"size": "5"}, True),
        ({"length": "5"}, True),
        ({"mediatype": LAYER}, True),
        ({"digest": B}, False),
        ({"digest": "x"}, False),
        ({"size": "6"}, False),
        ({"size": "05"}, False),
        ({"digest": A, "size": "5", "length": "5", "mediatype": "a\n"}, False),
        ({"length": "6"}, False),
    ],
)
def test_what_is_left_of_a_hash_must_not_contradict_the_addition(
    provider: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    left: dict[Any, Any],
    is_added: bool,
) -> None:
    default_cache.hset(f"blobs::{A}", mapping=left)
    (planned,) = plans(provider, make_descriptor(A, 5))
    assert planned == Addition(A, make_descriptor(A, 5), MISSING if is_added else DIFFERS, is_added)
    provider.add_many([planned])
    assert bool(provider.stat_many([A])) is is_added


def test_what_an_interrupted_clear_left_is_completed(
    provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
) -> None:
    team = provider.repository_scoped("team/app")
    team.set_descriptor(A, make_descriptor(A, 5, LAYER))
    default_cache.srem("repository::team/app::blobs", A)
    default_cache.hdel(f"blobs::{A}", "digest", "size", "mediatype")  # as a registry clears it
    (added,) = team.add_many(plans(team, make_descriptor(A, 5)))
    assert (added.blob, added.override, added.member) == (True, False, True)
    assert team.stat(A) == make_descriptor(A, 5, LAYER)


def test_with_a_ttl_all_written_keys_expire(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider(Rules(ttl=100))
    team = provider.repository_scoped("team/app")
    team.add_many(plans(team, make_descriptor(A)))
    keys = (f"blobs::{A}", "repository::team/app::blobs", f"repository::team/app::blobs::{A}")
    assert all(0 < default_cache.ttl(key) <= 100 for key in keys)


def test_only_the_configured_size_fields_are_written(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(size_fields=("size",)))
    provider.add_many(plans(provider, make_descriptor(A, 5)))
    assert default_cache.hgetall(f"blobs::{A}") == {
        b"digest": A.encode(),
        b"size": b"5",
        b"mediatype": OCTETS.encode(),
    }


def test_many_take_one_round_trip(
    provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
) -> None:
    team = provider.repository_scoped("team/app")
    digests = [Digest(f"sha256:{number:064x}") for number in range(100)]
    planned = plans(team, *map(make_descriptor, digests))
    added = team.add_many(planned)
    assert added == planned
    assert len(team.stat_many(digests)) == 100


def test_it_is_refused_like_a_set(provider: RedisBlobDescriptorCacheProvider) -> None:
    addition = Addition(A, make_descriptor(A), MISSING, blob=True)
    with pytest.raises(OperationUnsupported):
        RedisBlobDescriptorCacheProvider(Rules(read_only=True)).add_many([addition])
    with pytest.raises(RepositoryNameInvalid):
        provider.repository_scoped("Team/app").add_many([addition])
    with pytest.raises(DigestMismatch):
        provider.add_many([replace(addition, descriptor=make_descriptor(B))])
