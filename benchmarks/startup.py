"""The time that the app adds to the start of a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.measuring import Case, figures, interleaved
from benchmarks.results import Figure, Section

__all__ = ["run"]

ROOT = Path(__file__).parent.parent
LOADED = (
    "import sys, blobcache.services; "
    "print(*(sys.modules.keys() & {'rest_framework', 'blobcache.admin', 'redis'}))"
)
CHECK = ("manage.py", "check")


def run(bench: Bench) -> Iterator[Section]:
    """Time Python with and without the app."""

    def python(*arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=bench.environment(**environment),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def case(name: str, *arguments: str, **environment: str) -> Case:
        return Case(name, 1, lambda: partial(python, *arguments, **environment))

    cases = [
        case("import django.core.signals", "-c", "import django.core.signals, django.conf"),
        case("import blobcache.services", "-c", "import blobcache.services"),
        case("manage.py check without the app", *CHECK, BENCHMARKS_WITHOUT_APP="1"),
        case("manage.py check with the app", *CHECK),
    ]
    found = figures(interleaved(cases, bench.scaled(9, 1)), "ms", 1e3)
    bare, services, without, with_app = found.values()
    yield Section(
        "start-up",
        [
            *found.values(),
            _added("added by blobcache.services to Django's", services, bare),
            _added("added by the app to manage.py check", with_app, without),
        ],
        [],
        [
            "importing blobcache.services pulls in of DRF, the admin and redis-py: "
            + (python("-c", LOADED) or "none")
        ],
    )


def _added(name: str, more: Figure, less: Figure) -> Figure:
    return Figure(
        name, more.unit, tuple(a - b for a, b in zip(more.values, less.values, strict=True))
    )
