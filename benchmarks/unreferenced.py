"""A check for blobs that are in no repository: with its file of candidates and without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.data import digests
from benchmarks.filling import filler
from benchmarks.results import Figure, Ratio, Section

__all__ = ["run"]

MEMORY_MB = 64
"""The most memory that a check may add to that of the process."""

UNREFERENCED = 1000
"""One blob in so many is in no repository."""

SHARED = 3
"""The repositories of each other blob."""

CHECK = """
import json, sys, tempfile, time
from resource import RUSAGE_SELF, getrusage
import django
django.setup()
from blobcache.doctor.scan import Diagnosis
from blobcache.kinds import Kind
from blobcache.services import get_browsable
if sys.argv[1] == "without":
    tempfile.tempdir = "/nowhere"
provider = get_browsable()
provider.catalog.repositories()
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
before, peak_before = getrusage(RUSAGE_SELF), peak()
begun = time.perf_counter()
found, looked_at = 0, 0
for step in Diagnosis(provider, kinds=[Kind.UNREFERENCED]).run():
    found, looked_at = found + len(step.findings), step.progress.looked_at
after = getrusage(RUSAGE_SELF)
print(json.dumps({
    "found": found,
    "looked at": looked_at,
    "seconds": time.perf_counter() - begun,
    "work": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
    "MB": max(peak() - peak_before, 0.001),
}))
"""
"""Run in a process of its own, whose memory nothing else has used; the peak is Linux's."""

COUNTED = ("scan", "sscan", "hmget", "smismember")


def run(bench: Bench) -> Iterator[Section]:
    """Compare the check with its file and without it; with many blobs measure only the former."""
    few = bench.scaled(10_000, 200), bench.scaled(100, 10)
    many = 1_000_000, 10_000
    _fill(bench, *few)
    without, with_file = _checked(bench, "without"), _checked(bench, "with")
    yield _section("unreferenced among few", few, {"with its file": with_file, "without": without})
    if not bench.is_short:
        _fill(bench, *many)
        yield _section("unreferenced among many", many, {"with its file": _checked(bench, "with")})
    bench.client.flushall(asynchronous=True)


def _section(title: str, size: tuple[int, int], results: dict[str, dict[str, Any]]) -> Section:
    blobs, repositories = size
    figures = [
        Figure(f"{name}: {what}", unit, (found[what],))
        for name, found in results.items()
        for what, unit in (("seconds", "s"), ("work", "s"), ("server", "s"), ("MB", "MB"))
    ]
    own = results["with its file"]
    ratios = [Ratio(f"memory / {MEMORY_MB} MB", (own["MB"] / MEMORY_MB,), target=1)]
    if "without" in results:
        ratios.append(
            Ratio("without / with its file", (results["without"]["seconds"] / own["seconds"],))
        )
    return Section(
        f"{title}: {blobs:,} blobs x {repositories:,} repositories",
        figures,
        ratios,
        [
            f"{name}: {found['found']:,} found, {found['looked at']:,} keys and members looked at; "
            + ", ".join(f"{found['calls'][each]:,} {each.upper()}" for each in COUNTED)
            + f"; longest command {found['longest']}"
            for name, found in results.items()
        ],
    )


def _checked(bench: Bench, way: str) -> dict[str, Any]:
    with bench.server.client() as observer:
        observer.config_resetstat()
        observer.config_set("slowlog-max-len", 1000)
        observer.config_set("slowlog-log-slower-than", 500)
        observer.slowlog_reset()
        used = observer.info("cpu")
        done = subprocess.run(
            [sys.executable, "-c", CHECK, way],
            cwd=Path(__file__).parent.parent,
            env=bench.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        now = observer.info("cpu")
        found["server"] = sum(now[each] - used[each] for each in ("used_cpu_user", "used_cpu_sys"))
        stats = observer.info("commandstats")
        found["calls"] = {
            each: stats.get(f"cmdstat_{each}", {"calls": 0})["calls"] for each in COUNTED
        }
        slow = observer.slowlog_get(1000)
        observer.config_set("slowlog-log-slower-than", -1)
    longest = max(slow, key=lambda each: each["duration"], default=None)
    found["longest"] = (
        f"{longest['duration']:,} us, {longest['command'].decode().split()[0]}"
        if longest
        else "below 500 us"
    )
    return found


def _fill(bench: Bench, blobs: int, repositories: int) -> None:
    """Write blobs and repositories; overrides do not matter here."""
    known = digests(blobs)
    held = [each for number, each in enumerate(known) if number % UNREFERENCED]
    with filler(bench) as keys:
        for each in known:
            keys.blob(each)
        size = len(held) // repositories
        for number in range(repositories):
            for turn in range(SHARED):
                start = (number + turn * 7) % repositories * size
                is_last = start // size == repositories - 1
                keys.members(
                    f"team-{number % 50}/app-{number:05}",
                    held[start : None if is_last else start + size],
                    overrides=False,
                )
