"""The main process of the hunt: `python -m tests.hunt [MODE ...] [--minutes 60] [--seed N]`.

The modes share the time equally. The exit code is 1 if an answer was wrong, or if a call raised an
exception that is not documented, took longer than its limit or did not end.
"""

from __future__ import annotations

import secrets
import sys
from argparse import ArgumentParser
from collections import Counter
from random import Random
from time import monotonic, sleep

from tests.hunt.crew import Size, crew_on
from tests.hunt.faults import FAULTS, Scene
from tests.hunt.grounds import MODES
from tests.hunt.report import table
from tests.hunt.worker import MARGIN, Report

_PAUSE = 1.0
"""Seconds from the beginning of one fault to that of the next, if the servers work by then."""


def main() -> int:
    """Run the hunt of the command line, and return the exit code."""
    parser = ArgumentParser(prog="python -m tests.hunt", description="Hunt for wrong answers.")
    parser.add_argument("modes", nargs="*", metavar="MODE", help=", ".join(MODES))
    parser.add_argument("--minutes", type=float, default=60.0, help="of all modes together")
    parser.add_argument("--seed", type=int, help="of an earlier hunt, to make the same choices")
    parser.add_argument("--processes", type=int, default=Size.processes)
    parser.add_argument("--threads", type=int, default=Size.threads, help="of each process")
    parser.add_argument("--pause", type=float, default=_PAUSE, help="seconds between faults")
    parser.add_argument("--margin", type=float, default=MARGIN, help="seconds to add to limits")
    parser.add_argument("--faults", help=f"only these, with commas: {', '.join(FAULTS)}")
    options = parser.parse_args()
    modes = options.modes or [*MODES]
    chosen = options.faults.split(",") if options.faults else []
    if unknown := {*modes} - {*MODES} | {*chosen} - {*FAULTS}:
        parser.error(f"no such mode or fault: {', '.join(sorted(unknown))}")
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    _say(f"seed {seed}")
    size = Size(options.processes, options.threads, options.margin)
    found = 0
    for mode in modes:
        kinds = chosen or [name for name, kind in FAULTS.items() if mode in kind.modes]
        seconds = options.minutes * 60 / len(modes)
        found += _hunt(mode, size, seed, kinds, seconds=seconds, pause=options.pause)
    return min(found, 1)


def _hunt(
    mode: str, size: Size, seed: int, kinds: list[str], *, seconds: float, pause: float
) -> int:
    """Run the hunt in one mode; return the number of findings."""
    faults = Counter(dict.fromkeys(kinds, 0))
    notes = []
    with MODES[mode]() as ground, crew_on(ground, size, seed) as crew:
        crew.wait_until_ready()
        scene = Scene(ground, crew, Random(seed))  # noqa: S311
        end = monotonic() + seconds
        unplanned = 0
        given_up: Counter[str] = Counter()
        while monotonic() < end and not crew.dead():
            began = monotonic()
            unplanned += ground.has_changed_roles()
            kind = scene.random.choice(kinds)
            try:
                faults[kind] += FAULTS[kind].cause(scene)
            except TimeoutError:
                given_up[kind] += 1
            sleep(max(0.0, min(began + pause, end) - monotonic()))
        report: Report = crew.finish()
        if mode == "one":
            executed = ground.executed()
            notes.append(f"| memberships sent | {report.sent_members:,} |")
            notes.append(f"| memberships executed, by the server | {executed:,} |")
            if executed > report.sent_members:
                report.find("The server executed more writes than were sent.")
        notes += [
            f"| faults from which the servers did not recover: {kind} | {count} |"
            for kind, count in given_up.items()
        ]
        if mode != "one":
            notes.append(f"| failovers that no fault caused | {unplanned:,} |")
    if "signal" in faults:
        faults["signal"] = report.raised
    _say(*table(f"{mode}, {seconds / 60:g} minutes", report, faults, scene.recoveries, notes))
    return report.findings


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
