"""A thousand stats in one call."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import original
from benchmarks.bench import Bench
from benchmarks.data import REPOSITORY, digests
from benchmarks.measuring import Case, Regime, figures, interleaved, pinned, regimes
from benchmarks.results import Ratio, Section, ratio
from blobcache.services import get_provider

__all__ = ["run"]


def run(bench: Bench) -> Iterator[Section]:
    """Measure in every regime that the machine allows."""
    for regime in regimes():
        with pinned(regime, bench.server.pid):
            yield _measured(bench, regime)


def _measured(bench: Bench, regime: Regime) -> Section:
    client, asked = bench.client, digests(bench.scaled(1000, 100))
    client.flushall(asynchronous=True)
    original.fill(client, REPOSITORY, asked)
    repository = get_provider().repository_scoped(REPOSITORY)

    def one_by_one() -> None:
        for each in asked:
            original.stat(client, REPOSITORY, each)

    def many(times: int) -> None:
        for _ in range(times):
            if len(repository.stat_many(asked)) != len(asked):
                raise AssertionError("A digest that is there was not found.")

    repeats = bench.scaled(20, 1)
    cases = [
        Case("stat_many", repeats * len(asked), lambda: lambda: many(repeats)),
        Case("original, call by call", len(asked), lambda: one_by_one),
        Case(
            "original's commands in one redis-py pipeline",
            len(asked),
            lambda: lambda: original.stat_pipeline(client, REPOSITORY, asked),
        ),
        Case(
            "our commands in one redis-py pipeline",
            len(asked),
            lambda: lambda: original.smart_pipeline(client, REPOSITORY, asked),
        ),
    ]
    found = figures(interleaved(cases, bench.scaled(11, 1)), "us a digest")
    ours, sequential, pipe, smart = (found[case.name] for case in cases)
    return Section(
        f"stat_many of {len(asked):,}, {regime.name}",
        list(found.values()),
        [
            Ratio("stat_many / 1 us a digest", ours.values, target=4.0),
            ratio(
                "original / stat_many",
                sequential,
                ours,
                target=25.0 if regime.is_one_core else 60.0,
                at_least=True,
            ),
            ratio("one pipeline / stat_many", pipe, ours, target=4.0, at_least=True),
            ratio("one pipeline of our commands / stat_many", smart, ours),
        ],
    )
