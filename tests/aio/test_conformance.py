from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from tests.conformance import MakeProvider, ProviderConformance
from tests.coroutines import LOOPS, ThroughCoroutines, event_loop
from tests.stores import KINDS, NO_SCRIPTS, store


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with event_loop() as runner:
        yield runner


STORES = [
    *((kind, "asyncio") for kind in (*KINDS, NO_SCRIPTS)),
    ("redis, TLS", "uvloop"),
]
"""The kinds of stores, and the event loop that each is used in."""


class TestRedisProvider(ProviderConformance):
    @pytest.fixture(params=STORES, ids=", ".join)
    def kinds(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        kinds: tuple[str, str] = request.param
        return kinds

    @pytest.fixture
    def any_store(self, request: pytest.FixtureRequest, kinds: tuple[str, str]) -> Iterator[Redis]:
        with store(request, kinds[0]) as client:
            yield client

    @pytest.fixture
    def runner(self, kinds: tuple[str, str]) -> Iterator[asyncio.Runner]:
        with event_loop(LOOPS[kinds[1]]) as runner:
            yield runner

    @pytest.fixture
    def make_provider(self, any_store: Redis, runner: asyncio.Runner) -> MakeProvider:
        def make(rules: Rules) -> ThroughCoroutines:
            return ThroughCoroutines(RedisBlobDescriptorCacheProvider(rules), runner)

        return make


class TestMemoryProvider(ProviderConformance):
    @pytest.fixture
    def make_provider(self, runner: asyncio.Runner) -> MakeProvider:
        def make(rules: Rules) -> ThroughCoroutines:
            return ThroughCoroutines(MemoryBlobDescriptorCacheProvider(rules), runner)

        return make
