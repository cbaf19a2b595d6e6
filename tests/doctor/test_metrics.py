"""The metrics of the last check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from django.test import override_settings
from prometheus_client import CollectorRegistry
from redis import Redis

from blobcache.doctor.last_run import LastRun
from blobcache.doctor.metrics import CheckCollector
from blobcache.findings import Kind
from blobcache.redis.notes import RedisNotes
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_browsable
from project import embedded
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


class Waiting(RedisBlobDescriptorCacheProvider):
    """A provider that waits until the notes of another one are asked for as well."""

    __slots__ = ()
    together = Barrier(2, timeout=60)

    def notes(self) -> RedisNotes | None:
        self.together.wait()
        return super().notes()


def test_a_scrape_asks_all_registries_at_once(
    scrape: CollectorRegistry, default_cache: Redis
) -> None:
    """So one that does not answer adds its own timeout, and not that of each."""
    entry = {"PROVIDER": f"{__name__}.Waiting"}
    with override_settings(BLOBCACHE={"default": entry, "staging": entry}):
        assert all(not family.samples for family in scrape.collect())


def test_the_check_of_each_registry_is_measured(
    scrape: CollectorRegistry, default_cache: Redis, valkey: embedded.Server
) -> None:
    entries = {
        "default": {},
        "down": {"CACHE_ALIAS": "down"},
        "staging": {"CACHE_ALIAS": "staging"},
    }
    with (
        cache_at("redis://127.0.0.1:1/0", "down"),
        cache_at(valkey.url.removesuffix("0") + "1", "staging"),
        override_settings(BLOBCACHE=entries),
    ):
        LastRun(datetime.now(UTC), is_compared=False, looked_at=1, doubtful=3, uncached=0).write(
            get_browsable("staging")
        )
        found = {
            sample.labels["registry"]: sample.value
            for family in scrape.collect()
            for sample in family.samples
            if sample.name == "blobcache_check_doubtful"
        }
    assert found == {"staging": 3}
