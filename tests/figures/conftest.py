from __future__ import annotations

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from blobcache.services.figures import FigureStore


@pytest.fixture
def provider(any_store: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


@pytest.fixture
def figures(provider: RedisBlobDescriptorCacheProvider) -> FigureStore:
    return provider.figures


@pytest.fixture
def stepwise(any_store: Redis) -> FigureStore:
    """A store whose steps are over as soon as they have read one page of members."""
    return RedisBlobDescriptorCacheProvider(budgets=Budgets(count=0)).figures
