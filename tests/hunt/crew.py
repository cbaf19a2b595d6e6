"""The processes of the hunt."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

from tests.hunt.grounds import Ground
from tests.hunt.oracle import Blobs, Knowledge
from tests.hunt.worker import MARGIN, TIMEOUT, Order, Plan, Report, run

__all__ = ["Crew", "Size", "crew_on"]

_BLOBS_OF_A_THREAD = 60
_HOT_OF_A_THREAD = 2
_SHARED = 20

_READY_SECONDS = 60.0

_REPORT_SECONDS = 30.0
"""How long a process may take to report at the end: longer than it waits for its threads."""


@dataclass(frozen=True)
class Size:
    """How many callers there are."""

    processes: int = 8
    threads: int = 4
    margin: float = MARGIN
    """Seconds that a busy machine may add to a call."""


class Crew:
    """The processes, and what they know."""

    def __init__(self, ground: Ground, size: Size, seed: int, directory: Path) -> None:
        context = multiprocessing.get_context("spawn")
        callers = size.processes * size.threads
        blobs = _SHARED + callers * _BLOBS_OF_A_THREAD
        self.knowledge = Knowledge(context, Blobs(blobs, _SHARED))
        self.blobs = Blobs(blobs, _SHARED)
        self._failures: Any = context.RawArray("d", callers)
        self._stopping = context.RawValue("b", 0)
        self._processes: list[tuple[Any, Connection, Path]] = []
        for number in range(size.processes):
            url, options = ground.caches[number % len(ground.caches)]
            traces = directory / f"traces-{number}"
            plan = Plan(
                *(number, size.processes, size.threads, seed, url, options),
                *(blobs, _SHARED, _HOT_OF_A_THREAD),
                limit=(1 + ground.round_trips) * TIMEOUT + size.margin,
                traces=traces,
            )
            ours, theirs = context.Pipe()
            process = context.Process(
                target=run,
                args=(plan, theirs, self.knowledge, self._failures, self._stopping),
                daemon=True,
            )
            process.start()
            self._processes.append((process, ours, traces))

    def wait_until_ready(self) -> None:
        """Wait until all processes are calling."""
        for process, orders, _ in self._processes:
            if not orders.poll(_READY_SECONDS):
                raise RuntimeError(f"A process did not start; its exit code is {process.exitcode}.")
            orders.recv()

    def dead(self) -> list[str]:
        """Describe the processes that ended on their own."""
        return [
            f"A process ended with {process.exitcode}."
            for process, *_ in self._processes
            if process.exitcode is not None
        ]

    def last_failure(self) -> float:
        """Return when a call of any thread failed last, on the monotonic clock."""
        return float(max(self._failures))

    def disconnect(self) -> int:
        """Let a thread of each process disconnect its pools; return how many pools there are."""
        for _, orders, _ in self._processes:
            orders.send(Order.DISCONNECT)
        return sum(orders.recv() for _, orders, _ in self._processes if orders.poll(5))

    def interrupt(self, random: Random) -> None:
        """Send a signal to a process; its handler raises if a call is going on."""
        process, *_ = random.choice(self._processes)
        if process.is_alive():
            os.kill(process.pid, signal.SIGUSR1)

    @contextmanager
    def lossy(self) -> Iterator[None]:
        """Within the block the servers may lose writes that they have confirmed."""
        self.knowledge.epoch.value += 1
        try:
            yield
        finally:
            self.knowledge.epoch.value += 1

    def finish(self) -> Report:
        """Stop all threads, and return what they did."""
        total = Report()
        for dead in self.dead():
            total.find(dead)
        self._stopping.value = 1
        for process, orders, _ in self._processes:
            if process.exitcode is None:
                orders.send(Order.STOP)
        deadline = monotonic() + _REPORT_SECONDS
        for process, orders, traces in self._processes:
            if process.exitcode is None:
                self._add_report(total, process, orders, traces, deadline)
        return total

    @staticmethod
    def _add_report(
        total: Report, process: Any, orders: Connection, traces: Path, deadline: float
    ) -> None:
        report = None
        while report is None and orders.poll(max(0.0, deadline - monotonic())):
            received = orders.recv()  # an earlier answer may have come too late
            report = received if isinstance(received, Report) else None
        if report is not None:
            total.add(report)
        if report is None or report.hung:
            os.kill(process.pid, signal.SIGUSR2)
            sleep(1)
            total.find(f"Calls that do not end:\n{traces.read_text()}")

    def kill(self) -> None:
        """End all processes."""
        for process, *_ in self._processes:
            process.kill()
            process.join()


@contextmanager
def crew_on(ground: Ground, size: Size, seed: int) -> Iterator[Crew]:
    """Run the processes within the block."""
    with tempfile.TemporaryDirectory(prefix="hunt-") as name:
        crew = Crew(ground, size, seed, Path(name))
        try:
            yield crew
        finally:
            crew.kill()
