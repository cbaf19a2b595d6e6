"""What was tried and not kept: a connection held, and redis-py's own cache in front.

Both are built here from the outside, so that whoever doubts the figures can take them again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.cache import CacheConfig
from redis.exceptions import RedisError

from benchmarks import original
from benchmarks.bench import Bench
from benchmarks.callers import Headers, callers
from benchmarks.data import OCTETS, REPOSITORY, SIZE, digests
from benchmarks.measuring import Case, Regime, figures, interleaved, pinned, regimes
from benchmarks.results import Figure, Section, ratio
from benchmarks.wsgi import Portal
from blobcache.exceptions import CacheUnavailable
from blobcache.services import get_provider

__all__ = ["run"]

HOT = 100
"""Digests that are asked for over and over."""

READERS = 4
"""Threads that share one client, and so its cache."""


def run(bench: Bench) -> Iterator[Section]:
    """Measure both in every regime that the machine allows, and the cache's coherence."""
    for regime in regimes():
        with pinned(regime, bench.server.pid):
            yield from (_held(bench, regime), _cached(bench, regime))
    yield _coherence(bench)


# A connection held


@contextmanager
def _holding(client: Redis) -> Iterator[None]:
    """Within the block the pool hands out one and the same connection, unchecked, for nothing."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    pool.get_connection, pool.release = lambda: connection, lambda _: None
    try:
        yield
    finally:
        del pool.get_connection, pool.release
        pool.release(connection)


def _held(bench: Bench, regime: Regime) -> Section:
    client, known = bench.client, digests(bench.scaled(500, 20))
    client.flushall(asynchronous=True)
    original.fill(client, REPOSITORY, known)
    repository = get_provider().repository_scoped(REPOSITORY)
    portal, known_callers = Portal(), callers()

    def stats() -> None:
        for each in known:
            repository.stat(each)

    def held(call: Callable[[], object]) -> Callable[[], None]:
        def calls() -> None:
            with _holding(client):
                call()

        return calls

    def requests(headers: Headers) -> None:
        for each in known:
            portal.get(f"/api/repositories/{REPOSITORY}/blobs/{each}/", headers)

    work = {"stat": stats}
    for name in ("anonymous", "token, ordinary user"):
        work[f"request, {name}"] = partial(requests, known_callers[name])
    cases = []
    for name, calls in work.items():
        cases.append(Case(name, len(known), partial(_same, calls)))
        cases.append(Case(f"{name}, connection held", len(known), partial(_same, held(calls))))
    found = figures(interleaved(cases, bench.scaled(11, 1)))
    return Section(
        f"a connection held, {regime.name}",
        list(found.values()),
        [
            ratio(f"{name}: held / not", found[f"{name}, connection held"], found[name])
            for name in work
        ],
        ["a request: from WSGI to WSGI, within this process; the most that holding could save"],
    )


def _same(calls: Callable[[], None]) -> Callable[[], None]:
    return calls


# redis-py's own cache


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
            """Every hash was written to since."""
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
url, key, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
client, number, end = Redis.from_url(url), 0, time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    number += 1
    client.hset(key, "size", number)
    client.set("acknowledged", number)
"""


def _coherence(bench: Bench) -> Section:
    """Read what another process writes, and compare with what it knew to be written before."""
    (digest,) = digests(1)
    bench.client.flushall(asynchronous=True)
    original.fill(bench.client, REPOSITORY, [digest])
    key = f"blobs::{digest}"
    repository = get_provider().repository_scoped(REPOSITORY)
    found: list[Figure] = []
    with _caching_client(bench.server.url) as caching, bench.server.client() as observer:

        def cached() -> int:
            return int(caching.hget(key, "size") or 0)

        for name, read in (
            ("stat", lambda: repository.stat(digest).size),
            ("cached read", cached),
        ):
            bench.client.hset(key, mapping={"size": 0, "mediatype": OCTETS})
            bench.client.hdel(key, "length")
            bench.client.set("acknowledged", 0)
            with _writing(bench, key) as is_writing, ThreadPoolExecutor(READERS) as pool:
                reader = partial(_read, read, observer, is_writing)
                counts = [each.result() for each in [pool.submit(reader) for _ in range(READERS)]]
            reads, stale, failed = map(sum, zip(*counts, strict=True))
            found += [
                Figure(f"{name}: reads", "", (float(reads),)),
                Figure(f"{name}: too old", "", (float(stale),)),
                Figure(f"{name}: failed", "", (float(failed),)),
            ]
    return Section(
        "coherence under a writer in another process",
        found,
        [],
        [
            f"{READERS} threads share a client",
            "too old: the writer had its acknowledgement before the read began",
        ],
    )


def _read(
    read: Callable[[], int], observer: Redis, is_writing: Callable[[], bool]
) -> tuple[int, int, int]:
    """Read while another writes: how often, how often what was no longer so, how often in vain."""
    reads = stale = failed = 0
    while is_writing():
        before = int(observer.get("acknowledged") or 0)
        reads += 1
        try:
            stale += read() < before
        except (RedisError, CacheUnavailable):
            failed += 1
    return reads, stale, failed


@contextmanager
def _writing(bench: Bench, key: str) -> Iterator[Callable[[], bool]]:
    """Within the block another process writes; yields what says whether it still does."""
    seconds = "0.3" if bench.is_short else "5"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, bench.server.url, key, seconds],
        cwd=Path(__file__).parent.parent,
    )
    try:
        yield lambda: process.poll() is None
    finally:
        process.wait()
