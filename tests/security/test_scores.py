"""Whatever another writer put into the order of repositories, a walk comes to its end."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.figures import Order


@pytest.mark.parametrize("score", ["inf", "-inf", "-5", "0.1", "1e300", "1e-300"])
@pytest.mark.parametrize("descending", [False, True])
def test_a_walk_through_a_sorted_list_ends_whatever_the_scores(
    score: str, descending: bool, default_cache: Redis
) -> None:
    names = [f"team/{number}" for number in range(5)]
    for name in names:
        default_cache.sadd(f"repository::{name}::blobs", "x")
        default_cache.zadd("blobcache::{catalog}::by_bytes", {name: float(score)})
    provider = RedisBlobDescriptorCacheProvider()
    provider.catalog.reindex()
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = provider.figures.list_ordered(Order.BYTES, cursor, 2, descending=descending)
        found += [row.name for row in page.rows]
        cursor = page.next
    assert sorted(found) == names
