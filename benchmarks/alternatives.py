"""A rejected alternative: redis-py's client-side cache in front of a stat.

It is built here outside of the app, so that the figures can be measured again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from redis import Redis
from redis.cache import CacheConfig

from benchmarks import original
from benchmarks.bench import Bench
from benchmarks.data import OCTETS, REPOSITORY, SIZE, digests
from benchmarks.measuring import Case, Regime, figures, interleaved, pinned, regimes
from benchmarks.results import Figure, Section, ratio
from blobcache.exceptions import CacheUnavailable
from blobcache.services import get_provider

__all__ = ["run"]

HOT = 100
"""Digests that are asked for over and over."""

READERS = 4
"""Threads that read at the same time."""


def run(bench: Bench) -> Iterator[Section]:
    """Measure it in every regime that the machine allows, and check that stats are consistent."""
    for regime in regimes():
        with pinned(regime, bench.server.pid):
            yield _cached(bench, regime)
    yield _coherence(bench)


def _caching_client(url: str) -> Redis:
    config = CacheConfig(max_size=10_000)
    return Redis.from_url(url, protocol=3, cache_config=config, socket_timeout=0.5)


def _cached(bench: Bench, regime: Regime) -> Section:
    client, hot = bench.client, digests(HOT)
    client.flushall(asynchronous=True)
    original.fill(client, REPOSITORY, hot)
    repository = get_provider().repository_scoped(REPOSITORY)
    with _caching_client(bench.server.url) as caching, bench.server.client() as writer:
        rounds = bench.scaled(5, 1)

        def each(call: Callable[[str], object]) -> Callable[[], None]:
            def calls() -> None:
                for _ in range(rounds):
                    for digest in hot:
                        call(digest)

            return calls

        def invalidated() -> Callable[[], None]:
            """Write to every hash, so that the cache has to read all of them again."""
            for digest in hot:
                writer.hset(f"blobs::{digest}", "size", SIZE)
            return each(partial(original.stat, caching, REPOSITORY))

        cases = [
            Case("stat", HOT * rounds, lambda: each(repository.stat)),
            Case(
                "three cached commands, nothing written since",
                HOT * rounds,
                lambda: each(partial(original.stat, caching, REPOSITORY)),
            ),
            Case(f"the same, each hash written once in {rounds}", HOT * rounds, invalidated),
            Case(
                "three commands, not cached",
                HOT * rounds,
                lambda: each(partial(original.stat, client, REPOSITORY)),
            ),
        ]
        found = figures(interleaved(cases, bench.scaled(11, 1)))
    ours, cached, written, _ = found.values()
    return Section(
        f"redis-py's client-side cache, {regime.name}",
        list(found.values()),
        [ratio("cached / stat", cached, ours), ratio("cached, written to / stat", written, ours)],
        [f"{HOT} hot digests, RESP3, one connection; no validation, no Descriptor made"],
    )


WRITER = """
import sys, time
from redis import Redis
url, key, seconds = sys.argv[1:]
client, number, end = Redis.from_url(url, socket_timeout=30), 0, time.monotonic() + float(seconds)
while time.monotonic() < end:
    number += 1
    client.hset(key, "size", number)
    client.set("acknowledged", number)
"""


def _coherence(bench: Bench) -> Section:
    """Read while another process writes; check that no stat is older than a known write.

    The client-side cache is left out: under such writes it can block its threads for good.
    """
    (digest,) = digests(1)
    bench.client.flushall(asynchronous=True)
    original.fill(bench.client, REPOSITORY, [digest])
    key = f"blobs::{digest}"
    repository = get_provider().repository_scoped(REPOSITORY)
    bench.client.hset(key, mapping={"size": 0, "mediatype": OCTETS})
    bench.client.hdel(key, "length")
    bench.client.set("acknowledged", 0)
    with (
        bench.server.client() as observer,
        _writing(bench, key) as is_writing,
        ThreadPoolExecutor(READERS) as pool,
    ):
        reader = partial(_read, lambda: repository.stat(digest).size, observer, is_writing)
        counts = [each.result() for each in [pool.submit(reader) for _ in range(READERS)]]
    reads, stale, failed = map(sum, zip(*counts, strict=True))
    return Section(
        "coherence under a writer in another process",
        [
            Figure("stat: reads", "", (float(reads),)),
            Figure("stat: too old", "", (float(stale),)),
            Figure("stat: failed", "", (float(failed),)),
        ],
        [],
        [
            f"{READERS} threads",
            "too old: the writer had its acknowledgement before the read began",
        ],
    )


def _read(
    read: Callable[[], int], observer: Redis, is_writing: Callable[[], bool]
) -> tuple[int, int, int]:
    """Read while another process writes; count reads, stale reads and failed reads."""
    reads = stale = failed = 0
    while is_writing():
        before = int(observer.get("acknowledged") or 0)
        reads += 1
        try:
            stale += read() < before
        except CacheUnavailable:
            failed += 1
    return reads, stale, failed


@contextmanager
def _writing(bench: Bench, key: str) -> Iterator[Callable[[], bool]]:
    """Let another process write within the block; yield whether it still runs, as a function."""
    seconds = "0.3" if bench.is_short else "5"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, bench.server.url, key, seconds],
        cwd=Path(__file__).parent.parent,
    )
    try:
        yield lambda: process.poll() is None
    finally:
        process.wait()
