"""Which cases of each test run.

Many tests run once for each kind of store, user or route, and often for each combination of these.
``make test`` runs a few cases of each test, which are spread evenly over all of them. ``make
test-all`` runs all, and so does ``.ci/run``, which divides them among two versions of Python.

A test with the mark ``long`` does something very often, or starts many programs: none of its cases
are among the few, or only so many as ``long(few=…)`` says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import pytest

__all__ = ["FEW", "Cases", "few_of", "kept"]

FEW = 3
"""The cases of a test that are "few"."""


class Cases(StrEnum):
    """What runs of each test."""

    ALL = "all"
    FEW = "few"
    REST = "rest"
    """The cases that `FEW` leaves out, and all cases of the tests that have no more than a few."""


def few_of(number: int, few: int = FEW) -> set[int]:
    """Return the places of `few` among so many cases: the first, the last, and between."""
    if number <= few:
        return set(range(number))
    return {round(place * (number - 1) / max(few - 1, 1)) for place in range(few)}


def kept(
    tests: Sequence[Hashable], cases: Cases, long: Mapping[Hashable, int] | None = None
) -> list[bool]:
    """Return for each case whether it runs.

    Cases of the same test have equal values in `tests`. `long` has the tests of which fewer cases
    are few, and how many.
    """
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, test in enumerate(tests):
        places[test].append(place)
    found = [cases is Cases.ALL] * len(tests)
    if cases is not Cases.ALL:
        for test, own in places.items():
            few = few_of(len(own), (long or {}).get(test, FEW))
            for number, place in enumerate(own):
                is_few = number in few
                found[place] = is_few if cases is Cases.FEW else not is_few or len(own) <= FEW
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption(
        "--cases",
        choices=[*Cases],
        default=Cases.ALL,
        help=f"run all cases of each test (all); at most {FEW} (few); or those that few leaves "
        "out, and all cases of the tests that have no more than a few (rest)",
    )
    parser.addoption(
        "--once",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="with --cases=rest: run nothing below this path that --cases=few runs",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the cases that the options leave out."""
    cases = Cases(config.getoption("cases"))
    if cases is Cases.ALL:
        return
    tests = [(item.parent, getattr(item, "originalname", item.name)) for item in items]
    long: dict[Hashable, int] = {
        test: mark.kwargs.get("few", 0)
        for item, test in zip(items, tests, strict=True)
        if (mark := item.get_closest_marker("long"))
    }
    runs = kept(tests, cases, long)
    if cases is Cases.REST:
        once = [path.resolve() for path in config.getoption("once")]
        ran = kept(tests, Cases.FEW, long)
        for place, item in enumerate(items):
            if ran[place] and any(item.path.is_relative_to(path) for path in once):
                runs[place] = False
    left_out = [item for item, is_kept in zip(items, runs, strict=True) if not is_kept]
    items[:] = [item for item, is_kept in zip(items, runs, strict=True) if is_kept]
    config.hook.pytest_deselected(items=left_out)
