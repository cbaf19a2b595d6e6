"""Conditional sets while other programs write, over damaged keys, and in round trips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.exceptions import CacheUnavailable, PreconditionFailed
from blobcache.redis import guarded_sets
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.wrong_types import delete_wrong_types
from blobcache.services.rules import Rules
from tests.conformance import ALIAS, LAYER, A, make_descriptor
from tests.servers import commands
from tests.stores import KINDS, NO_SCRIPTS, store

NAME = "team/app"
BLOB, MEMBERS = f"blobs::{A}", f"repository::{NAME}::blobs"
OVERRIDE = f"{MEMBERS}::{A}"


@pytest.fixture(params=[*KINDS, NO_SCRIPTS])
def client(request: pytest.FixtureRequest) -> Iterator[Redis]:
    with store(request, request.param) as found:
        yield found


class Meddler:
    """A guard that accepts everything, and lets others write after each look."""

    def __init__(self, *writes: Callable[[], object]) -> None:
        self.writes = list(writes)
        self.seen: list[tuple[Descriptor | None, list[Descriptor]]] = []

    def __call__(self, before: Descriptor | None, known: Sequence[Descriptor]) -> None:
        self.seen.append((before, list(known)))
        if self.writes:
            self.writes.pop(0)()


def test_a_size_that_changes_after_the_look_is_shown_to_the_guard(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    for scope in (provider, provider.repository_scoped(NAME)):
        scope.set_descriptor(A, make_descriptor(A, 1))
        meddler = Meddler(
            partial(scope.set_descriptor, A, make_descriptor(A, 2)),
            lambda: client.hset(BLOB, "size", "x"),
        )
        result = scope.set_guarded(A, make_descriptor(A, 9), meddler)
        assert [before for before, _ in meddler.seen] == [
            make_descriptor(A, 1),
            make_descriptor(A, 2),
            None,
        ]
        assert result.created
        assert scope.stat(A) == make_descriptor(A, 9)


def test_a_size_that_keeps_changing_is_not_overwritten(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    for scope in (provider, provider.repository_scoped(NAME)):
        writes = [
            lambda size=size: provider.set_descriptor(A, make_descriptor(A, size))
            for size in range(100)
        ]
        meddler = Meddler(*writes)
        with pytest.raises(CacheUnavailable):
            scope.set_guarded(A, make_descriptor(A, 500), meddler)
        assert provider.stat(A).size == len(meddler.seen) - 1
        assert provider.repository_scoped(NAME).stat_many([A]) == {}


def test_a_guard_that_refuses_the_second_look_leaves_what_others_wrote(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    looks = []

    def is_new(before: Descriptor | None, _: Sequence[Descriptor]) -> None:
        looks.append(before)
        if before is not None:
            raise PreconditionFailed("It is there.")
        provider.set_descriptor(A, make_descriptor(A, 3, LAYER))

    with pytest.raises(PreconditionFailed):
        provider.set_guarded(A, make_descriptor(A, 1), is_new)
    assert looks == [None, make_descriptor(A, 3, LAYER)]
    assert provider.stat(A) == make_descriptor(A, 3, LAYER)


@pytest.mark.parametrize("kind", ["valkey", "redis", NO_SCRIPTS])
@pytest.mark.parametrize("change", ["membership", "override", "override gone", "set gone"])
def test_in_one_slot_the_membership_and_the_override_are_compared_too(
    kind: str, change: str, request: pytest.FixtureRequest
) -> None:
    with store(request, kind) as client:
        provider = RedisBlobDescriptorCacheProvider()
        scope = provider.repository_scoped(NAME)
        scope.set_descriptor(A, make_descriptor(A))
        if change == "membership":
            client.srem(MEMBERS, A)
        change_it: Callable[[], object] = {
            "membership": lambda: client.sadd(MEMBERS, A),
            "override": lambda: client.hset(OVERRIDE, "mediatype", LAYER),
            "override gone": lambda: client.delete(OVERRIDE),
            "set gone": lambda: client.delete(MEMBERS),
        }[change]
        meddler = Meddler(change_it)
        scope.set_guarded(A, make_descriptor(A, 2), meddler)
        assert len(meddler.seen) == 2
        assert scope.stat(A) == make_descriptor(A, 2)


def test_the_hash_of_the_canonical_digest_is_compared_too(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.set_descriptor(A, make_descriptor(A, 1))
    meddler = Meddler(lambda: provider.set_descriptor(A, make_descriptor(A, 2)))
    scope = provider.repository_scoped(NAME)
    scope.set_guarded(ALIAS, make_descriptor(A, 3), meddler)
    assert [known for _, known in meddler.seen] == [
        [make_descriptor(A, 1)],
        [make_descriptor(A, 2)],
    ]
    assert scope.stat(ALIAS) == scope.stat(A) == make_descriptor(A, 3)


@pytest.mark.parametrize("damaged", [BLOB, MEMBERS, OVERRIDE, "media type"])
def test_damaged_keys_are_replaced(client: Redis, damaged: str) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    scope = provider.repository_scoped(NAME)
    scope.set_descriptor(A, make_descriptor(A, 1))
    if damaged == "media type":
        client.hset(BLOB, "mediatype", "a\nb")
        client.delete(OVERRIDE)
    else:
        client.delete(damaged)
        client.set(damaged, "text")
    result = scope.set_guarded(A, make_descriptor(A, 2, LAYER), lambda *_: None)
    assert result.created
    assert result.before is None
    assert scope.stat(A) == make_descriptor(A, 2, LAYER)


def test_damage_that_comes_back_at_once_is_an_error(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster, where memberships follow without a comparison."""
    with store(request, "cluster") as client:
        client.set(MEMBERS, "text")

        def delete_and_damage(*arguments: Any) -> None:
            delete_wrong_types(*arguments)
            assert client.exists(MEMBERS) == 0
            client.set(MEMBERS, "text")

        monkeypatch.setattr(guarded_sets, "delete_wrong_types", delete_and_damage)
        scope = RedisBlobDescriptorCacheProvider().repository_scoped(NAME)
        with pytest.raises(CacheUnavailable, match="Other programs keep changing this blob"):
            scope.set_guarded(A, make_descriptor(A), lambda *_: None)


def test_a_damaged_global_hash_is_replaced(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    client.set(BLOB, "text")
    result = provider.set_guarded(A, make_descriptor(A, 2, LAYER), lambda *_: None)
    assert result.descriptor == provider.stat(A) == make_descriptor(A, 2, LAYER)


def test_the_expiry_and_the_index_are_those_of_a_set(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider(
        Rules(ttl=1000), RedisOptions(size_fields=("size",))
    )
    scope = provider.repository_scoped(NAME)
    scope.set_guarded(A, make_descriptor(A, 2), lambda *_: None)
    assert all(0 < client.ttl(key) <= 1000 for key in (BLOB, MEMBERS, OVERRIDE))
    assert set(client.hgetall(BLOB)) in (
        {b"digest", b"size", b"mediatype"},
        {"digest", "size", "mediatype"},
    )
    assert provider.catalog.names()[0] == [NAME.encode()]


def test_the_round_trips(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    scope = provider.repository_scoped(NAME)
    for each in (provider, scope):
        each.set_guarded(A, make_descriptor(A, 1), lambda *_: None)  # Redis learns the script
    for each, trips in ((provider, 2), (scope, 3)):
        with commands(default_cache) as traffic:
            each.set_guarded(A, make_descriptor(A, 2), lambda *_: None)
        assert traffic.round_trips == trips

    def refuse(*_: object) -> None:
        raise PreconditionFailed("no")

    with commands(default_cache) as traffic, pytest.raises(PreconditionFailed):
        scope.set_guarded(A, make_descriptor(A, 2), refuse)
    assert traffic.round_trips == 1
    assert set(traffic.calls) == {"hmget", "hget", "sismember"}
