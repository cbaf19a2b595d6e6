"""A warm of the cache from a storage on the file system."""

from __future__ import annotations

import resource
import tracemalloc
from time import perf_counter, process_time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.bench import ALIAS, Bench
from benchmarks.results import Figure, Ratio, Section
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.warming.warm import Warm

if TYPE_CHECKING:
    from blobcache.services.base import Backend

__all__ = ["warm"]

OPTIONS = RedisOptions(cache_alias=ALIAS, size_fields=("size",))

WARMED_PER_SECOND = 5_000
"""Descriptors that a warm must look at twice, and write, in a second, at least."""

WARM_MEMORY_MB = 200
"""The most memory that a warm may take."""

SWITCHES = 0.5
"""The most times that a thread of a warm may wait for another one, or for Redis, a descriptor."""


class _Run(NamedTuple):
    links: int
    seconds: float
    work: float
    """Seconds of processor time of the process and of Redis."""

    switches: int
    """How often a thread had to wait."""


def warm(bench: Bench, backend: Backend) -> Section:
    """Warm an empty cache, and then a full one. Both looks are made, without a pause."""

    def once() -> _Run:
        run = Warm(RedisBlobDescriptorCacheProvider(options=OPTIONS), backend, settle=0)
        work, switches, begun = _work(bench), _switches(), perf_counter()
        report = run.run()
        seconds = perf_counter() - begun
        if not report.is_judged:
            raise ValueError(report.counts)
        return _Run(report.links, seconds, _work(bench) - work, _switches() - switches)

    new: list[_Run] = []
    known: list[_Run] = []
    for _ in range(bench.scaled(3, 1)):
        bench.client.flushall()
        new.append(once())
        known.append(once())
    bench.client.flushall()
    tracemalloc.start()
    links = once().links
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    bench.client.flushall()
    return Section(
        f"truth: a warm of {links:,} links",
        [
            Figure("a new descriptor", "us", tuple(1e6 * run.seconds / run.links for run in new)),
            Figure(
                "a new descriptor: work", "us", tuple(1e6 * run.work / run.links for run in new)
            ),
            Figure("a known one", "us", tuple(1e6 * run.seconds / run.links for run in known)),
            Figure("a known one: work", "us", tuple(1e6 * run.work / run.links for run in known)),
            Figure("memory of a warm", "MB", (peak,)),
        ],
        [
            Ratio(
                f"descriptors / {WARMED_PER_SECOND:,} a second",
                tuple(run.links / run.seconds / WARMED_PER_SECOND for run in new),
                target=1,
                at_least=True,
            ),
            Ratio(
                f"switches between threads / {SWITCHES} a descriptor",
                tuple(run.switches / run.links / SWITCHES for run in new),
                target=1,
            ),
            Ratio(f"memory / {WARM_MEMORY_MB} MB", (peak / WARM_MEMORY_MB,), target=1),
        ],
        [
            (
                "Work is the processor time of the process and of Redis together: the time that it "
                "takes on a machine that has nothing else to do. Both looks are made, without a "
                "wait between them."
            )
        ],
    )


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def _work(bench: Bench) -> float:
    used = bench.client.info("cpu")
    return process_time() + float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
