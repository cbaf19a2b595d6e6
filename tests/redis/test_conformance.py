from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.conformance import MakeProvider, ProviderConformance
from tests.stores import KINDS, NO_SCRIPTS, store


class TestRedisProvider(ProviderConformance):
    @pytest.fixture(params=[*KINDS, NO_SCRIPTS])
    def any_store(self, request: pytest.FixtureRequest) -> Iterator[Redis]:
        with store(request, request.param) as client:
            yield client

    @pytest.fixture
    def make_provider(self, any_store: Redis) -> MakeProvider:
        return RedisBlobDescriptorCacheProvider
