"""A primary and its replica, under Sentinels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from redis.client import PubSub

from blobcache.exceptions import CacheUnavailable
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.servers import cache_at, commands
from tests.stores import SENTINEL, store

TIMEOUTS: dict[str, Any] = {"SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1}
FAILOVER_SECONDS = 30


def test_a_stat_asks_the_primary(
    request: pytest.FixtureRequest, sentinels: embedded.Sentinels
) -> None:
    with store(request, "sentinel"), sentinels.replica.client() as observer:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        with commands(observer) as traffic:
            assert provider.stat(A) == make_descriptor(A)
        assert traffic.calls["hmget"] == 0


def test_a_stat_asks_a_replica_if_that_is_allowed(
    request: pytest.FixtureRequest, sentinels: embedded.Sentinels
) -> None:
    with store(request, "sentinel"), sentinels.replica.client() as observer:
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(read_from_replicas=True))
        provider.set_descriptor(A, make_descriptor(A))
        with sentinels.primary.client() as client:
            client.wait(1, 5000)
        with commands(observer) as traffic:
            assert provider.stat(A) == make_descriptor(A)
            assert provider.stat_many([A, B]) == {A: make_descriptor(A)}
        assert traffic.calls["hmget"] == 3
        # The cursors of a scan are not valid on another server.
        with commands(observer) as traffic:
            provider.catalog.blobs()
            provider.catalog.reindex()
        assert traffic.calls["scan"] == 0


@contextmanager
def switches_of(node: embedded.Server) -> Iterator[PubSub]:
    """The messages of a Sentinel about a new primary."""
    with node.client() as client, client.pubsub(ignore_subscribe_messages=True) as events:
        events.subscribe("+switch-master")
        events.get_message(timeout=5)  # that it is subscribed
        yield events


def test_a_replica_takes_over_when_the_primary_is_gone() -> None:
    with embedded.sentinels() as watched, ExitStack() as stack:
        switches = [stack.enter_context(switches_of(node)) for node in watched.nodes]
        options = {**SENTINEL, **TIMEOUTS, "SENTINELS": watched.addresses}
        with cache_at(watched.url, **options):
            repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
            repository.set_descriptor(A, make_descriptor(A))
            with watched.primary.client() as client:
                client.wait(1, 5000)
            watched.primary.kill()
            with pytest.raises(CacheUnavailable):
                repository.stat(A)
            for events in switches:
                assert events.get_message(timeout=FAILOVER_SECONDS), "no other primary"
            repository.set_descriptor(B, make_descriptor(B))
            assert repository.stat_many([A, B]) == {A: make_descriptor(A), B: make_descriptor(B)}
