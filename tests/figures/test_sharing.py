"""Bytes that are shared with other repositories."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.figures.sharing import MAX_COMPARED
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from blobcache.services.figures import Sharing


def blob(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def fill(provider: RedisBlobDescriptorCacheProvider, name: str, numbers: range) -> None:
    service = provider.repository_scoped(name)
    for number in numbers:
        service.set_descriptor(blob(number), Descriptor(blob(number), number, "a/b"))


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider(budgets=Budgets(sharing=5))


def test_shared_bytes_are_counted_once(
    provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
) -> None:
    fill(provider, "a", range(1, 5))
    fill(provider, "b", range(3, 5))
    fill(provider, "c", range(4, 9))
    default_cache.set("repository::d::blobs", "no set")
    default_cache.sadd("repository::Not a Name!::blobs", blob(1))
    provider.catalog.reindex()
    assert provider.figures.shared_bytes("a") == Sharing(7, 10, is_least=False)
    assert provider.figures.shared_bytes("a").percent == 70


def test_only_the_largest_are_compared(provider: RedisBlobDescriptorCacheProvider) -> None:
    fill(provider, "a", range(1, MAX_COMPARED + 2))
    fill(provider, "b", range(1, 3))
    provider.catalog.reindex()
    found = provider.figures.shared_bytes("a")
    assert found.bytes == 2
    assert found.is_least


def test_without_time_nothing_is_found_and_the_result_is_a_lower_bound(
    provider: RedisBlobDescriptorCacheProvider,
) -> None:
    fill(provider, "a", range(1, 3))
    provider.catalog.reindex()
    slow = RedisBlobDescriptorCacheProvider(budgets=Budgets(sharing=0))
    assert slow.figures.shared_bytes("a") == Sharing(0, 3, is_least=True)


def test_an_unknown_repository_shares_nothing(provider: RedisBlobDescriptorCacheProvider) -> None:
    assert provider.figures.shared_bytes("a").percent == 0
