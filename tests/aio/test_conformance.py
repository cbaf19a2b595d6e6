from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from tests.conformance import MakeProvider, ProviderConformance
from tests.coroutines import ThroughCoroutines, event_loop
from tests.stores import KINDS, NO_SCRIPTS, store


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with event_loop() as runner:
        yield runner


class TestRedisProvider(ProviderConformance):
    @pytest.fixture(params=[*KINDS, NO_SCRIPTS])
    def any_store(self, request: pytest.FixtureRequest) -> Iterator[Redis]:
        with store(request, request.param) as client:
            yield client

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
