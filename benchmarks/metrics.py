"""The cost of counting and timing every call."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.results import Figure, Ratio, Section

__all__ = ["run"]

BARE = """
import sys
from time import thread_time
from timeit import timeit

from blobcache.digest import Digest
from blobcache.descriptor import Descriptor
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider as Provider

digest, rounds, calls = Digest("sha256:" + "a" * 64), int(sys.argv[1]), int(sys.argv[2])
service = Provider().repository_scoped("a")
service.set_descriptor(digest, Descriptor(digest, 1, "text/plain"))
measured = type(service).stat
bare = getattr(measured, "__wrapped__", measured)
for _ in range(rounds):
    without = timeit(lambda: bare(service, digest), timer=thread_time, number=calls)
    with_them = timeit(lambda: measured(service, digest), timer=thread_time, number=calls)
    print((with_them - without) / calls * 1e6)
"""


def run(bench: Bench) -> Iterator[Section]:
    """Measure with counters of one process, with shared counters, and without any."""
    shared = bench.directory / "metrics"
    shared.mkdir(exist_ok=True)
    found = [
        _cost(bench, "in one process", {}),
        _cost(bench, "in files that processes share", {"PROMETHEUS_MULTIPROC_DIR": str(shared)}),
    ]
    yield Section(
        "metrics: what they add to a call",
        found,
        [Ratio("in one process / 1 us", found[0].values, target=2.0)],
        ["a stat of the provider in memory with its counters, less one without; processor time"],
    )


def _cost(bench: Bench, name: str, environment: dict[str, str]) -> Figure:
    numbers = [str(bench.scaled(31, 5)), str(bench.scaled(20_000, 5_000))]
    done = subprocess.run(
        [sys.executable, "-c", BARE, *numbers],
        cwd=Path(__file__).parent.parent,
        env=bench.environment(**environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return Figure(name, "us a call", tuple(max(float(each), 0.001) for each in done.stdout.split()))
