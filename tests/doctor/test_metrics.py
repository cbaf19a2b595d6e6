"""The metrics of the last check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings
from prometheus_client import CollectorRegistry
from redis import Redis

from blobcache.doctor.last_run import LastRun
from blobcache.doctor.metrics import CheckCollector
from blobcache.findings import Kind
from blobcache.services import get_browsable
from tests.servers import cache_at


@pytest.fixture
def scrape() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(CheckCollector())
    return registry


def test_what_the_last_check_has_left_is_measured(
    scrape: CollectorRegistry, default_cache: Redis
) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    LastRun(
        at, is_compared=True, looked_at=10, doubtful=2, uncached=3, counts={Kind.UNLINKED_MEMBER: 4}
    ).write(get_browsable())

    def value(name: str, **labels: str) -> float | None:
        return scrape.get_sample_value(f"blobcache_check_{name}", {"registry": "default", **labels})

    assert value("findings", kind="unlinked-member") == 4
    assert value("findings", kind="missing-data") == 0
    assert value("doubtful") == 2
    assert value("compared") == 1
    assert 3600 <= (value("age_seconds") or 0) < 3700


def test_there_is_nothing_without_a_check_or_without_redis(
    scrape: CollectorRegistry, default_cache: Redis
) -> None:
    assert all(not family.samples for family in scrape.collect())
    with cache_at("redis://127.0.0.1:1/0"):
        assert all(not family.samples for family in scrape.collect())


def test_a_provider_without_an_index_has_none(scrape: CollectorRegistry) -> None:
    memory = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
    with override_settings(BLOBCACHE={"default": {"PROVIDER": memory}}):
        assert all(not family.samples for family in scrape.collect())
