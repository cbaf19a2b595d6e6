"""Run benchmarks and report.

    python -m benchmarks [NAME ...] [--short] [--json FILE] [--against COMMIT]

Without a name it runs all benchmarks. Targets are reported, not enforced: the exit code only shows
whether everything ran.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.bench import Benchmark, ground
from benchmarks.machine import description
from benchmarks.results import Section

BENCHMARKS = (
    *("operations", "batch", "metrics", "catalog", "purge", "unreferenced", "growth", "memory"),
    *("truth", "check", "coroutines", "registries"),
    *("http", "bodies", "hostile", "startup", "scaling", "alternatives"),
    "sorting",
)
"""Each a module here with a function `run`. Imported late: they need Django to be set up."""


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = ArgumentParser(prog="python -m benchmarks", description="Measure blobcache.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--short", action="store_true", help="only show that everything runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument(
        "--against", metavar="COMMIT", help="for bodies: measure the code of that commit too"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    names = options.names or list(BENCHMARKS)
    sections: list[Section] = []
    with ground(is_short=options.short, against=options.against) as bench:
        facts = description(bench.client)
        say("; ".join(f"{name} {value}" for name, value in facts.items()))
        if options.short:
            say("Short: this run shows that everything works; its figures mean nothing.")
        for name in names:
            for section in benchmark(name)(bench):
                sections.append(section)
                say(*section.lines())
    say(*summary(sections))
    if options.json:
        options.json.write_text(json.dumps(report(facts, sections, short=options.short), indent=1))


def benchmark(name: str) -> Benchmark:
    """Return the benchmark of that name."""
    run: Benchmark = import_module(f"benchmarks.{name}").run
    return run


def summary(sections: list[Section]) -> list[str]:
    """Say how many targets were reached, and which were missed."""
    held = [
        (section, each)
        for section in sections
        for each in section.ratios
        if each.passed is not None
    ]
    missed = [f"  {section.title}: {each.name}" for section, each in held if not each.passed]
    return ["", f"{len(held) - len(missed)} of {len(held)} targets reached.", *missed]


def report(facts: dict[str, Any], sections: list[Section], *, short: bool) -> dict[str, Any]:
    """Return the report as JSON."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "short": short,
        "machine": facts,
        "sections": [section.as_json() for section in sections],
    }


def say(*lines: str) -> None:
    """Write a line to standard output, and flush it."""
    for line in lines:
        sys.stdout.write(f"{line.rstrip()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
