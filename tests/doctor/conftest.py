from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.stores import KINDS, store


@pytest.fixture(params=KINDS)
def any_store(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """The raw client of CACHES["default"], an empty store of each kind in turn."""
    with store(request, request.param) as client:
        yield client


@pytest.fixture
def provider(any_store: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()
