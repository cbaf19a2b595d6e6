from __future__ import annotations

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.conformance import MakeProvider, ProviderConformance


class TestRedisProvider(ProviderConformance):
    @pytest.fixture
    def make_provider(self, any_store: Redis) -> MakeProvider:
        return RedisBlobDescriptorCacheProvider
