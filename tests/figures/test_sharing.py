"""How much of a repository others hold too."""

from __future__ import annotations

from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.figures.sharing import HEAVIEST, Sharing, sharing
from blobcache.redis.service import RedisBlobDescriptorCacheProvider


def blob(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def fill(provider: RedisBlobDescriptorCacheProvider, name: str, numbers: range) -> None:
    service = provider.repository_scoped(name)
    for number in numbers:
        service.set_descriptor(blob(number), Descriptor(blob(number), number, "a/b"))


def shared(provider: RedisBlobDescriptorCacheProvider, name: str, budget: float = 5) -> Sharing:
    members = provider.catalog.members(name, limit=1000).members
    records = provider.repository_scoped(name).inspect(members)
    return sharing(provider, name, records, budget)


def test_bytes_that_others_hold_are_counted_once(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    fill(provider, "a", range(1, 5))
    fill(provider, "b", range(3, 5))
    fill(provider, "c", range(4, 9))
    default_cache.set("repository::d::blobs", "no set")
    default_cache.sadd("repository::Not a Name!::blobs", blob(1))
    provider.catalog.reindex()
    assert shared(provider, "a") == Sharing(7, 10, is_least=False)
    assert shared(provider, "a").percent == 70


def test_only_the_heaviest_are_asked_for(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    fill(provider, "a", range(1, HEAVIEST + 2))
    fill(provider, "b", range(1, 3))
    provider.catalog.reindex()
    found = shared(provider, "a")
    assert found.bytes == 2
    assert found.is_least


def test_without_time_it_is_at_least_nothing(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    fill(provider, "a", range(1, 3))
    provider.catalog.reindex()
    assert shared(provider, "a", budget=0) == Sharing(0, 3, is_least=True)


def test_nothing_is_not_shared(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    assert shared(provider, "a").percent == 0
