"""The metrics of the index."""

from __future__ import annotations

import pytest
from django.test import override_settings
from prometheus_client import CollectorRegistry
from redis import Redis

from blobcache.services import get_browsable
from blobcache.services.index_metrics import IndexCollector
from tests.servers import cache_at, commands


@pytest.fixture
def scrape() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(IndexCollector())
    return registry


def value(scrape: CollectorRegistry, name: str) -> float | None:
    return scrape.get_sample_value(f"blobcache_index_{name}", {"registry": "default"})


def test_the_age_of_the_index_is_measured(scrape: CollectorRegistry, default_cache: Redis) -> None:
    assert (value(scrape, "complete"), value(scrape, "age_seconds")) == (0, None)
    get_browsable().catalog.reindex()
    assert value(scrape, "complete") == 1
    assert 0 <= (value(scrape, "age_seconds") or 0) < 300


def test_a_scrape_builds_nothing(scrape: CollectorRegistry, default_cache: Redis) -> None:
    get_browsable().catalog.status()
    with commands(default_cache) as sent:
        list(scrape.collect())
    assert sent.round_trips == 1
    assert default_cache.dbsize() == 0


def test_there_is_nothing_without_redis_or_an_index(scrape: CollectorRegistry) -> None:
    with cache_at("redis://127.0.0.1:1/0"):
        assert all(not family.samples for family in scrape.collect())
    memory = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
    with override_settings(BLOBCACHE={"default": {"PROVIDER": memory}}):
        assert all(not family.samples for family in scrape.collect())
