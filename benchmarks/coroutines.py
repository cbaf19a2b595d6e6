"""Stats of many callers of one event loop, over its one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any

from benchmarks import original
from benchmarks.bench import Bench
from benchmarks.data import REPOSITORY, digests
from benchmarks.measuring import Case, Regime, figures, interleaved, pinned, regimes
from benchmarks.processes import LOOP
from benchmarks.results import Ratio, Section, ratio
from blobcache.services import get_provider
from blobcache.services.aio import AsyncBlobDescriptorService

__all__ = ["run"]

CALLERS = (1, 32, 256, 1000)
"""How many callers ask at the same time, each of them again and again."""

TARGET = 100_000
"""Stats in a second of `MANY` callers, in one process against one Redis."""

MANY = 256
"""With fewer callers the process waits for Redis, and with many more their tasks take longer."""

NewLoop = Callable[[], asyncio.AbstractEventLoop]

LOOPS: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop}
"""What makes an event loop. Where the name of a case says nothing, it is asyncio's own."""

if LOOP == "uvloop":
    LOOPS[LOOP] = import_module(LOOP).new_event_loop


def run(bench: Bench) -> Iterator[Section]:
    """Measure in every regime that the machine allows."""
    for regime in regimes():
        with pinned(regime, bench.server.pid):
            yield from (_stats(bench, regime, name) for name in (None, REPOSITORY))


def _stats(bench: Bench, regime: Regime, name: str | None) -> Section:
    client, known = bench.client, digests(1000)
    client.flushall(asynchronous=True)
    original.fill(client, REPOSITORY, known)
    provider = get_provider()
    scope: Any = provider if name is None else provider.repository_scoped(name)
    number = bench.scaled(100_000, 1000)
    in_thread = bench.scaled(10_000, 100)
    with ExitStack() as stack:
        runners = {
            name: stack.enter_context(asyncio.Runner(loop_factory=new_loop))
            for name, new_loop in LOOPS.items()
        }
        for each in runners.values():
            each.run(scope.astat(known[0]))  # opens the connection
        runner = runners["asyncio"]

        def ask(callers: int, loop: str = "asyncio") -> Callable[[], object]:
            return lambda: runners[loop].run(_ask(scope, known, number, callers))

        def many() -> object:
            return runner.run(_ask_many(scope, known, number // len(known)))

        def threaded() -> None:
            for place in range(in_thread):
                scope.stat(known[place % len(known)])

        cases = [Case("stat, in a thread", in_thread, lambda: threaded)]
        cases += [Case(_title(each), number, partial(ask, each)) for each in CALLERS]
        cases += [
            Case(f"{_title(each)}, {loop}", number, partial(ask, each, loop))
            for loop in runners
            if loop != "asyncio"
            for each in CALLERS
        ]
        cases.append(Case("astat_many of 1,000, a digest", number, lambda: many))
        found = figures(interleaved(cases, bench.scaled(7, 1)))
        before = _reads(client)
        runner.run(_ask(scope, known, number, CALLERS[-1]))
        reads = _reads(client) - before
    judged = found[_title(MANY)]
    return Section(
        f"asyncio, {'global' if name is None else 'scoped'}, {regime.name}",
        list(found.values()),
        [
            Ratio(
                f"{TARGET:,} stats/s: astat / {1e6 / TARGET:g} us",
                tuple(each * TARGET / 1e6 for each in judged.values),
                target=None if regime.is_one_core else 1.0,
            ),
            ratio("stat / astat", found["stat, in a thread"], judged),
        ],
        [f"{number:,} stats of {CALLERS[-1]:,} callers: the server read {reads:,} times"],
    )


def _title(callers: int) -> str:
    return f"astat, {callers:,} caller{'s' if callers > 1 else ''}"


async def _ask(
    scope: AsyncBlobDescriptorService, known: Sequence[str], number: int, callers: int
) -> None:
    """Let so many callers share that number of stats."""
    places = iter(range(number))

    async def caller() -> None:
        for place in islice(places, number // callers):
            await scope.astat(known[place % len(known)])

    await asyncio.gather(*(caller() for _ in range(callers)))


async def _ask_many(scope: AsyncBlobDescriptorService, known: Sequence[str], times: int) -> None:
    for _ in range(times):
        if len(await scope.astat_many(known)) != len(known):
            raise AssertionError("A digest that is there was not found.")


def _reads(client: Any) -> int:
    """How often the server has read from a connection."""
    reads: int = client.info("stats")["total_reads_processed"]
    return reads
