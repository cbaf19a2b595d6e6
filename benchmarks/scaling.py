"""How cost grows with worker processes on one server, and on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from django.conf import settings
from django.test import override_settings

from benchmarks import original
from benchmarks.bench import ALIAS, Bench, program
from benchmarks.data import OCTETS, REPOSITORY, SIZE, digests
from benchmarks.measuring import Case, figures, interleaved
from benchmarks.results import Figure, Section, ratio
from blobcache.descriptor import Descriptor
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from project import embedded

__all__ = ["run"]

NODES = 3

WORKER = """
import sys, time
import django
django.setup()
from blobcache.services import get_provider
from benchmarks.data import REPOSITORY, digests
repository, known = get_provider().repository_scoped(REPOSITORY), digests(100)
for each in known:
    repository.stat(each)
print("ready", flush=True)
sys.stdin.readline()
calls, end = 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for each in known:
        repository.stat(each)
    calls += len(known)
print(calls / float(sys.argv[1]))
"""


def run(bench: Bench) -> Iterator[Section]:
    """Measure both."""
    yield _workers(bench)
    yield _cluster(bench)


def _workers(bench: Bench) -> Section:
    bench.client.flushall(asynchronous=True)
    original.fill(bench.client, REPOSITORY, digests(100))
    counts = (1, 2) if bench.is_short else (1, 2, 4, 8)
    found: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(bench.scaled(5, 1)):
        for count in counts:
            found[count].append(_together(bench, count))
    rates = [
        Figure(f"scoped stats, {count} processes", "stats/s", tuple(values))
        for count, values in found.items()
    ]
    first, *more = rates
    return Section(
        "worker processes",
        rates,
        [ratio(f"{each.name} / one", each, first) for each in more],
        [f"{os.cpu_count()} cores for them and for the server"],
    )


def _together(bench: Bench, count: int) -> float:
    """Return the stats a second of all processes together."""
    seconds = "0.2" if bench.is_short else "1.5"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER, seconds],
                    cwd=Path(__file__).parent.parent,
                    env=bench.environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(count)
        ]
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError("A worker did not start.")
        # All at once.
        for process in processes:
            if process.stdin is not None:
                process.stdin.write("\n")
                process.stdin.flush()
        return sum(float(process.communicate()[0]) for process in processes)


def _cluster(bench: Bench) -> Section:
    known, size = digests(bench.scaled(1000, 50)), bench.scaled(300, 10)
    with ExitStack() as stack:
        nodes = stack.enter_context(embedded.cluster(NODES, binary=program()))
        cache = {
            **settings.CACHES[ALIAS],
            "LOCATION": nodes.url,
            "OPTIONS": {
                "CONNECTION_FACTORY": "blobcache.redis.cluster.ClusterConnectionFactory",
            },
        }
        stack.enter_context(override_settings(CACHES={**settings.CACHES, "cluster": cache}))
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(cache_alias="cluster"))
        repository = provider.repository_scoped(REPOSITORY)
        alone = get_provider().repository_scoped(REPOSITORY)
        client = stack.enter_context(closing(nodes.client()))
        for service in (repository, alone):
            for each in known:
                service.set_descriptor(each, Descriptor(each, SIZE, OCTETS))

        def every(call: Callable[[str], object]) -> Case:
            return Case("", size, lambda: partial(_each, call, known[:size]))

        def set_(digest: str) -> None:
            repository.set_descriptor(digest, Descriptor(digest, SIZE, OCTETS))

        named = {
            "scoped stat, one server": every(alone.stat),
            "scoped stat": every(repository.stat),
            "scoped set": every(set_),
            f"stat_many of {len(known):,}, a digest": Case(
                "", len(known), lambda: lambda: repository.stat_many(known)
            ),
            "PING of one node": every(lambda _: client.ping(target_nodes=client.get_random_node())),
        }
        cases = [Case(name, case.calls, case.prepare) for name, case in named.items()]
        found = figures(interleaved(cases, bench.scaled(7, 1)))
    return Section(
        f"a cluster of {NODES} nodes",
        list(found.values()),
        [ratio("scoped stat / on one server", found["scoped stat"], found[cases[0].name])],
        [f"path taken: redis-py pipeline; all nodes share {os.cpu_count()} cores with the client"],
    )


def _each(call: Callable[[str], object], values: list[str]) -> None:
    for value in values:
        call(value)
