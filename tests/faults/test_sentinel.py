"""A failover by Sentinels that leaves the former primary alive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep

import pytest
from django_redis import get_redis_connection
from redis.exceptions import RedisError

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.transport import connections
from project import embedded
from tests.conformance import ALIAS, A, B, make_descriptor
from tests.coroutines import ThroughCoroutines, event_loop
from tests.proxy import Proxy, Silence, proxy
from tests.servers import Meter, cache_at
from tests.stores import SENTINEL

FAILOVER_SECONDS = 20.0
"""How long the Sentinels may take."""

TIMEOUT = 0.3
"""Seconds that a question to a Sentinel may take."""

SLACK = 2.0
"""Seconds that a busy machine may add."""


@pytest.fixture(scope="module")
def watched() -> Iterator[embedded.Sentinels]:
    with embedded.sentinels() as watched:
        yield watched


@pytest.fixture
def provider(watched: embedded.Sentinels) -> Iterator[RedisBlobDescriptorCacheProvider]:
    with cache_at(watched.url, **SENTINEL, SENTINELS=watched.addresses):
        yield RedisBlobDescriptorCacheProvider()


def primaries(watched: embedded.Sentinels) -> set[int]:
    """Return the ports that the Sentinels name."""
    found = set()
    for node in watched.nodes:
        with node.client() as client:
            _, port = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", watched.name)
            found.add(int(port))
    return found


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_process_asks_the_sentinels_once_a_second(
    watched: embedded.Sentinels, provider: RedisBlobDescriptorCacheProvider, is_coroutine: bool
) -> None:
    with watched.nodes[0].client() as client, event_loop() as runner:
        called = ThroughCoroutines(provider, runner) if is_coroutine else provider
        called.set_descriptor(A, make_descriptor(A))
        meter = Meter(client)
        for _ in range(20):
            called.stat(A)
        assert meter.read().calls["sentinel|masters"] <= 1


def test_sentinels_that_are_gone_are_not_asked_again_soon(
    watched: embedded.Sentinels,
    provider: RedisBlobDescriptorCacheProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[None] = []

    def ask() -> None:
        asked.append(None)
        raise RedisError

    monkeypatch.setattr(connections, "ASK_SECONDS", 0.0)
    provider.set_descriptor(A, make_descriptor(A))
    pool = get_redis_connection("default").connection_pool
    monkeypatch.setattr(pool, "get_master_address", ask)
    for _ in range(3):
        provider.stat(A)
    assert len(asked) == 1


@pytest.fixture
def between(watched: embedded.Sentinels) -> Iterator[Proxy]:
    """A proxy before one of the Sentinels."""
    with proxy(watched.nodes[0].port) as between:
        yield between


@contextmanager
def asking(
    watched: embedded.Sentinels, *ports: int | None
) -> Iterator[RedisBlobDescriptorCacheProvider]:
    options = {
        **SENTINEL,
        "SENTINELS": [(embedded.HOST, port) for port in ports],
        "SENTINEL_KWARGS": {"socket_timeout": TIMEOUT},
    }
    with cache_at(watched.url, **options):
        yield RedisBlobDescriptorCacheProvider()


def test_a_silent_sentinel_is_asked_once_and_then_the_next(
    watched: embedded.Sentinels, between: Proxy
) -> None:
    silence = Silence(when=b"SENTINEL")
    with (
        between.causes(silence),
        asking(watched, between.port, watched.nodes[1].port) as provider,
    ):
        provider.set_descriptor(A, make_descriptor(A))
    assert silence.happened == 1


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with event_loop() as runner:
        yield runner


def test_a_former_primary_that_still_answers_is_left(
    watched: embedded.Sentinels,
    provider: RedisBlobDescriptorCacheProvider,
    runner: asyncio.Runner,
) -> None:
    """Within a second after the Sentinels know; they leave it a primary for some ten seconds."""
    provider.set_descriptor(A, make_descriptor(A))
    coroutines = ThroughCoroutines(provider, runner)
    assert coroutines.stat(A) == make_descriptor(A)
    with watched.nodes[0].client() as client:
        client.execute_command("SENTINEL FAILOVER", watched.name)
    deadline = monotonic() + FAILOVER_SECONDS
    while primaries(watched) != {watched.replica.port}:
        assert monotonic() < deadline
        sleep(0.01)
    with watched.primary.client() as former, watched.replica.client() as current:
        assert former.info("replication")["role"] == "master"
        sleep(connections.ASK_SECONDS)
        for digest, called in ((ALIAS, coroutines), (B, provider)):
            called.set_descriptor(digest, make_descriptor(digest))
            assert current.exists(f"blobs::{digest}")
            assert not former.exists(f"blobs::{digest}")
        with suppress(RedisError):  # what the Sentinels do later
            former.replicaof("127.0.0.1", watched.replica.port)
