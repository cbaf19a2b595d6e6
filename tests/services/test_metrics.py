from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from blobcache.services.metrics import CacheMetrics


def test_nothing_is_counted_at_first() -> None:
    metrics = CacheMetrics()
    assert (metrics.hits, metrics.misses, metrics.errors, metrics.requests) == (0, 0, 0, 0)


def test_every_outcome_has_its_count_and_all_make_the_requests() -> None:
    metrics = CacheMetrics()
    for count in (metrics.hit, metrics.miss, metrics.miss, metrics.error, metrics.hit, metrics.hit):
        count()
    assert (metrics.hits, metrics.misses, metrics.errors, metrics.requests) == (3, 2, 1, 6)


def test_no_count_is_lost_between_threads() -> None:
    metrics = CacheMetrics()

    def count(_: int) -> None:
        for _ in range(1000):
            metrics.hit()
            metrics.miss()
            metrics.error()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert (metrics.hits, metrics.misses, metrics.errors) == (8000, 8000, 8000)
