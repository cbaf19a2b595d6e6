"""The benchmarks run, and report all their figures. The values are not asserted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from math import isfinite
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent

FIGURES = {
    "stat": [
        "PING by redis-py",
        "scoped stat",
        "global stat",
        "scoped stat, nothing kept",
        "original, call by call",
        "original, in a redis-py pipeline",
    ],
    "set and clear": [
        "scoped set",
        "scoped set with an alias",
        "scoped clear",
        "original set, call by call",
    ],
    "stat_many of 100": ["stat_many", "original, call by call"],
    "metrics": ["in one process", "in files that processes share"],
    "pages": [
        "repositories, 1,000",
        "blobs of a repository, 3,000",
        "admin's page of a repository, 3,000",
    ],
    "unreferenced among few": ["with its file: seconds", "with its file: MB", "without: seconds"],
    "growth": ["repositories", "holders, everywhere", "admin: a repository, search"],
    "sorted copies of": ["making it by size", "a page by size", "the admin's page of a search"],
    "purge among": [
        "one blob: until the repositories in the index are cleared",
        "one blob: the walk",
        "100 blobs: until complete",
    ],
    "memory": ["a blobs:: hash; hash-max-listpack-value 160"],
    "truth: one blob": ["stat of a link", "stat of nothing", "bare: read, stat"],
    "truth: read-through": ["miss in a repository", "its steps there", "hit"],
    "truth: lists": ["a link in a list", "bare: scandir and read", "memory of both lists"],
    "truth: a warm": ["a new descriptor", "a known one", "memory of a warm"],
    "check of": ["an entry", "bare: SSCAN, HMGET, read and stat", "findings"],
    "asyncio, ": [
        *("stat, in a thread", "astat, 1,000 callers", "astat, 256 callers, uvloop"),
        "astat_many of 1,000, a digest",
    ],
    "one of five registries": ["stat, one does not answer", "admin's overview, one does not"],
    "HTTP: GET": [
        "bare view, anonymous",
        "scoped stat, session, superuser",
        "scoped stat, token, ordinary user",
    ],
    "HTTP: HEAD": ["scoped stat"],
    "HTTP: ahead": ["entrance, WSGI", "entrance, ASGI", "entrance, WSGI, session, superuser"],
    "HTTP: registry tokens": ["ES256, kept", "RS256, verified"],
    "HTTP: 256": ["entrance: 99th percentile", "async_entrance: 503"],
    "HTTP: batch": ["batch stat, one connection"],
    "bodies: batch stat": ["batch stat"],
    "bodies: page": ["page"],
    "hostile requests": [],
    "worker processes": ["scoped stats, 1 processes"],
    "a cluster": ["scoped stat", "scoped set"],
    "redis-py's client-side cache": ["three cached commands, nothing written since"],
    "coherence": ["stat: reads", "stat: too old"],
    "start-up": ["import blobcache.services", "added by the app to manage.py check"],
}
"""By the beginning of a part's title: some of its figures."""

if shutil.which("docker-registry"):
    FIGURES["truth: one blob over HTTP"] = ["stat", "bare: HEAD by http.client"]

RATIOS = {
    "stat,": ["scoped stat / PING", "global stat / PING", "original / scoped stat"],
    "set and clear": [
        "scoped set / PING",
        "scoped set with an alias / PING",
        "scoped clear / PING",
    ],
    "stat_many": ["original / stat_many", "one pipeline / stat_many"],
    "pages": ["repositories: time", "blobs of a repository: commands"],
    "unreferenced among few": ["without / with its file", "memory / 64 MB"],
    "growth": ["members: largest command or reply / 10,000"],
    "purge among": ["index / 300 ms", "walk / 300,000 keys/s", "longest command / 1 ms"],
    "memory": ["ours / the registry's"],
    "truth: one blob": ["stat of a link / bare"],
    "truth: read-through": ["miss / its steps"],
    "truth: lists": ["a link / bare", "links / 15,000 a second", "memory / 32 MB"],
    "truth: a warm": ["descriptors / 5,000 a second", "memory / 200 MB"],
    "check of": ["entries / 10,000 a second", "memory / 200 MB"],
    "asyncio, ": ["100,000 stats/s: astat / 10 us", "stat / astat"],
    "one of five registries": ["stat beside it / stat alone", "admin's overview / 1 s"],
    "HTTP: GET": ["scoped stat / bare view, anonymous"],
    "HTTP: HEAD": ["scoped stat / bare view"],
    "HTTP: ahead": ["entrance, WSGI / bare view", "token, superuser / anonymous, kept 5 s"],
    "HTTP: registry tokens": [
        "ES256, verified / anonymous",
        "RS256, verified, Django / anonymous, Django",
    ],
    "hostile requests": ["the slowest / 50 ms"],
}
"""Likewise some of its ratios that have a target or are the point."""


HEADS = """
from importlib import import_module
from benchmarks import __main__ as program

program.benchmark = lambda name: lambda bench: [import_module(f"benchmarks.{name}").heads(bench)]
program.main()
"""
"""Runs the only part of the benchmark of HTTP that depends on which programs are installed."""


LIMIT = 800
"""Seconds that a run may take: some five times as long as beside other tests on two cores."""


def run(
    *arguments: str, script: str = "", limit: float = LIMIT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks, or this script instead.

    One that comes to a standstill fails, and says where each thread is.
    """
    what = ["-c", script] if script else ["-m", "benchmarks"]
    command = [sys.executable, "-X", "faulthandler", *what, *arguments]
    with (
        TemporaryFile("w+") as output,
        TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            code = process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(command, code, output.read(), errors.read())


class Report:
    """The report of one short run of all benchmarks, as text and as JSON."""

    def __init__(self, directory: Path) -> None:
        path = directory / "results.json"
        done = run("--short", "--json", str(path))
        assert done.returncode == 0, done.stderr
        self.text = done.stdout
        self.results: dict[str, Any] = json.loads(path.read_text())

    def sections(self, title: str) -> list[dict[str, Any]]:
        found = [each for each in self.results["sections"] if each["title"].startswith(title)]
        assert found, f"There is no part {title}."
        return found

    def values(self, title: str, kind: str) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for section in self.sections(title) for each in section[kind]}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return Report(tmp_path_factory.mktemp("benchmarks"))


@pytest.mark.parametrize("title", FIGURES)
def test_every_figure_is_reported(report: Report, title: str) -> None:
    figures = report.values(title, "figures")
    assert set(FIGURES[title]) <= figures.keys()
    for name in figures:
        assert name in report.text


@pytest.mark.parametrize("title", RATIOS)
def test_every_ratio_is_reported_and_positive(report: Report, title: str) -> None:
    ratios = report.values(title, "ratios")
    assert set(RATIOS[title]) <= ratios.keys()
    for name, each in ratios.items():
        assert name in report.text
        assert isfinite(each["median"])
        assert each["median"] > 0
        assert each["min"] <= each["median"] <= each["max"]
        assert each["passed"] is (
            None
            if each["target"] is None
            else each["median"] >= each["target"]
            if each["at_least"]
            else each["median"] <= each["target"]
        )


@pytest.mark.parametrize("title", ["HTTP: ahead", "HTTP: 256"])
def test_the_event_loop_under_asgi_is_reported(report: Report, title: str) -> None:
    (section,) = report.sections(title)
    assert "event loop under ASGI: uvloop" in section["notes"]


def test_every_bar_is_reported_as_cleared_or_not(report: Report) -> None:
    held = [
        each
        for section in report.results["sections"]
        for each in section["ratios"]
        if each["target"] is not None
    ]
    cleared = sum(each["passed"] for each in held)
    assert f"{cleared} of {len(held)} targets reached." in report.text
    assert report.results["short"] is True


def test_growth_is_reported_as_a_table(report: Report) -> None:
    (section,) = report.sections("growth")
    _, head, line, *rows = section["notes"]
    assert {head.count("|"), line.count("|"), *(row.count("|") for row in rows)} == {8}
    assert len(rows) == len(section["figures"])


def test_importing_the_services_imports_nothing_of_the_upper_layers(report: Report) -> None:
    (section,) = report.sections("start-up")
    assert section["notes"][0].endswith(": none")


def test_the_environment_is_reported(report: Report) -> None:
    assert {"cores", "python", "server", "load", "Django", "redis"} <= (
        report.results["machine"].keys()
    )


def test_a_single_benchmark_can_be_chosen() -> None:
    done = run("--short", "batch")
    assert done.returncode == 0, done.stderr
    assert "stat_many of" in done.stdout
    assert "HTTP" not in done.stdout


def test_an_unknown_name_is_refused() -> None:
    done = run("--short", "nothing")
    assert done.returncode == 2
    assert "no such benchmark: nothing" in done.stderr


def test_a_run_that_comes_to_a_standstill_says_where() -> None:
    done = run("--short", "startup", limit=0.5)
    assert done.returncode == -signal.SIGABRT
    assert "most recent call first" in done.stderr


def test_programs_that_are_not_installed_are_reported(tmp_path: Path) -> None:
    """Without redis-server the embedded Valkey is used, without wrk our own load generator."""
    done = run("--short", "http", script=HEADS, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "server valkey" in done.stdout
    assert "wrk is not installed" in done.stdout
    assert "docker-registry is not installed" in done.stdout
