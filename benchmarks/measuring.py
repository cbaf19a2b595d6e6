"""Timing: interleaved, in rounds, and pinned to cores if the machine allows it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from benchmarks.results import Figure

__all__ = ["Case", "Regime", "figures", "interleaved", "numbered", "pinned", "regimes"]

MICRO = 1e6


@dataclass(frozen=True)
class Case:
    """Something to measure."""

    name: str
    calls: int
    """How many calls a round makes; figures are for one."""

    prepare: Callable[[], Callable[[], object]]
    """Make ready for a round, which is not timed, and return what makes its calls."""


def interleaved(cases: Sequence[Case], rounds: int) -> dict[str, tuple[float, ...]]:
    """Time all cases one after another, round after round; return seconds a call, by name.

    So other load on the machine affects all of them. Before several rounds there is one that is not
    counted. Everything runs in a thread of its own, as requests do.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_interleaved, cases, rounds).result()


def _interleaved(cases: Sequence[Case], rounds: int) -> dict[str, tuple[float, ...]]:
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in numbered(rounds):
        # Each time another one begins.
        start = number % len(cases)
        for case in (*cases[start:], *cases[:start]):
            run = case.prepare()
            begun = perf_counter()
            run()
            took = perf_counter() - begun
            if number:
                seconds[case.name].append(took / case.calls)
    return {name: tuple(values) for name, values in seconds.items()}


def numbered(rounds: int) -> range:
    """Return the numbers of the rounds, from 1; before several there is 0, which is not counted.

    A single round, as of a short run, only shows that everything runs.
    """
    return range(0 if rounds > 1 else 1, rounds + 1)


def figures(
    seconds: Mapping[str, tuple[float, ...]], unit: str = "us", factor: float = MICRO
) -> dict[str, Figure]:
    """Return the figures for those times, by name."""
    return {
        name: Figure(name, unit, tuple(each * factor for each in values))
        for name, values in seconds.items()
    }


@dataclass(frozen=True)
class Regime:
    """Which process runs on which core."""

    name: str
    client: int | None
    """The core of this process; None for no matter which."""

    server: int | None

    @property
    def is_one_core(self) -> bool:
        """Whether client and server share one core, so that only their work is measured."""
        return self.client is not None and self.client == self.server


def regimes() -> Iterator[Regime]:
    """Return the regimes that this machine allows."""
    if sys.platform != "linux":
        yield Regime("unpinned", None, None)
        return
    cores = sorted(os.sched_getaffinity(0))
    yield Regime("one core", cores[0], cores[0])
    if len(cores) > 1:
        yield Regime("two cores", cores[0], cores[1])


@contextmanager
def pinned(regime: Regime, server: int) -> Iterator[None]:
    """Pin this process and the process `server` to the cores of the regime, within the block."""
    if sys.platform != "linux" or regime.client is None or regime.server is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {regime.client})
    os.sched_setaffinity(server, {regime.server})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        os.sched_setaffinity(server, before)
