"""A clear that stops half way is finished by the next one, whatever step it stopped after.

An override without a membership is the mark of what is left to clear. The original registry has no
such rule: it answers that the blob is unknown, and the rest stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis import Redis

from blobcache.exceptions import BlobUnknown, CacheUnavailable
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from blobcache.transport.clients import ClientHandle
from tests.conformance import A, B, make_descriptor
from tests.servers import cache_at, limited_user
from tests.stores import KINDS, store

SET, HASH = b"repository::a::blobs", b"blobs::" + A.encode()
OVERRIDE = SET + b"::" + A.encode()

Damage = Callable[[Any], object]

STATES: dict[str, Damage] = {
    "whole": lambda _: None,
    "override evicted": lambda raw: raw.delete(OVERRIDE),
    "set of the wrong type": lambda raw: (raw.delete(SET), raw.set(SET, "text")),
    "hash of the wrong type": lambda raw: (raw.delete(HASH), raw.set(HASH, "text")),
    "override of the wrong type": lambda raw: (raw.delete(OVERRIDE), raw.set(OVERRIDE, "text")),
}
"""What was damaged, by other programs, before the clear."""


def exist(raw: Redis) -> set[bytes]:
    return {key for key in (SET, HASH, OVERRIDE) if raw.exists(key)}


class TestLeftovers:
    def test_an_override_without_a_membership_is_cleared(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        repository = provider.repository_scoped("a")
        repository.set_descriptor(B, make_descriptor(B))
        repository.set_descriptor(A, make_descriptor(A))
        any_store.srem(SET, A)
        assert repository.clear(A) is None
        assert exist(any_store) == {SET}
        with pytest.raises(BlobUnknown):
            repository.clear(A)
        assert repository.stat(B) == make_descriptor(B)

    @pytest.mark.parametrize("kind", ["valkey", "cluster"])
    def test_a_primary_store_keeps_the_global_descriptor(
        self, request: pytest.FixtureRequest, kind: str
    ) -> None:
        with store(request, kind) as raw:
            repository = RedisBlobDescriptorCacheProvider(Rules(role="primary"))
            repository.repository_scoped("a").set_descriptor(A, make_descriptor(A))
            raw.srem(SET, A)
            assert repository.repository_scoped("a").clear(A) is None
            assert exist(raw) == {HASH}

    @pytest.mark.parametrize("kind", ["valkey", "cluster"])
    def test_without_an_override_the_blob_is_unknown_and_its_descriptor_stays(
        self, request: pytest.FixtureRequest, kind: str
    ) -> None:
        """Another repository may need it."""
        with store(request, kind) as raw:
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            with pytest.raises(BlobUnknown):
                provider.repository_scoped("a").clear(A)
            assert exist(raw) == {HASH}


@pytest.mark.parametrize("kind", ["valkey", "cluster"])
@pytest.mark.parametrize("refused", ["srem", "hdel", "unlink", "eval"])
def test_the_next_clear_finishes_one_that_was_refused_half_way(
    request: pytest.FixtureRequest, kind: str, refused: str
) -> None:
    fixture, options = KINDS[kind]
    server = request.getfixturevalue(fixture)
    url = limited_user(server, "writer", refused)
    with store(request, kind) as raw, cache_at(url, "writer", **options):
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        writer = RedisBlobDescriptorCacheProvider(options=RedisOptions(cache_alias="writer"))
        for name, damage in STATES.items():
            if name == "override evicted" and kind == "valkey":
                continue  # nothing but a missing permission interrupts a script
            repository.set_descriptor(A, make_descriptor(A))
            damage(raw)
            with suppress(CacheUnavailable):
                writer.repository_scoped("a").clear(A)
            with suppress(BlobUnknown):
                repository.clear(A)
            assert exist(raw) == set(), name


class TestMeanwhile:
    """On a cluster, another client calls between two steps of a clear, or of a set."""

    @pytest.fixture
    def raw(self, request: pytest.FixtureRequest) -> Iterator[Redis]:
        with store(request, "cluster") as client:
            yield client

    @staticmethod
    def meanwhile(call: Callable[[], object], step: int, other: Callable[[], object]) -> bool:
        """Call, with the other call before that step; return whether there are more steps."""
        send, taken = ClientHandle.send_calls, itertools.count()

        def send_after_other(self: ClientHandle, *args: Any, **kwargs: Any) -> Any:
            if next(taken) == step:
                with suppress(BlobUnknown), pytest.MonkeyPatch.context() as patch:
                    patch.setattr(ClientHandle, "send_calls", send)
                    other()
            return send(self, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ClientHandle, "send_calls", send_after_other)
            with suppress(BlobUnknown):
                call()
        return next(taken) > step + 1

    def test_a_refill_by_another_repository_does_not_bring_back_a_cleared_blob(
        self, raw: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        mine, other = map(provider.repository_scoped, ("a", "b"))

        def refill() -> object:
            return other.set_descriptor(A, make_descriptor(A))

        for step in itertools.count():
            mine.set_descriptor(A, make_descriptor(A))
            is_last = not self.meanwhile(lambda: mine.clear(A), step, refill)
            refill()
            assert other.stat(A) == make_descriptor(A)
            with pytest.raises(BlobUnknown):
                mine.stat(A)
            if is_last:
                assert step == 3
                break

    @pytest.mark.parametrize("damage", ["whole", "override evicted"])
    @pytest.mark.parametrize("outer", ["set", "clear"])
    @pytest.mark.parametrize("inner", ["set", "clear"])
    def test_the_next_call_finds_nothing_half_done(
        self, raw: Redis, outer: str, inner: str, damage: str
    ) -> None:
        """Meanwhile the blob is unknown, or what was set is there: never anything else."""
        mine = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        calls: dict[str, Callable[[], object]] = {
            "set": lambda: mine.set_descriptor(A, make_descriptor(A, 2)),
            "clear": lambda: mine.clear(A),
        }
        for step in itertools.count():
            mine.set_descriptor(A, make_descriptor(A, 1))
            STATES[damage](raw)
            is_last = not self.meanwhile(calls[outer], step, calls[inner])
            assert mine.stat_many([A]) in ({}, {A: make_descriptor(A, 2)})
            if is_last:
                break
            with suppress(BlobUnknown):
                mine.clear(A)
            assert exist(raw) == set()
            calls["set"]()
            assert mine.stat(A) == make_descriptor(A, 2)
