"""Requests and responses with long bodies: a batch stat, and a page of a repository's blobs.

Measured is the CPU time of a process that answers them through WSGI, without a server. With
``--against COMMIT`` another process, with the code of that commit, does the same in turn, and must
give the same answers: run it in a clone that has the commit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import original
from benchmarks.bench import Bench
from benchmarks.data import REPOSITORY, digests
from benchmarks.measuring import figures
from benchmarks.results import Section, ratio

__all__ = ["run"]

ROOT = Path(__file__).parent.parent
STORED = 5_000
BATCH, PAGE = 100, 1_000
TARGETS = {"batch stat": 1.25, "page": 1.4}
"""How many times as many requests there must be as at the commit of `BASIS`."""

BASIS = "dbac395"
"""The commit before bodies were read and written by code of our own."""

PATH = f"/api/repositories/{REPOSITORY}/blobs/"


def run(bench: Bench) -> Iterator[Section]:
    """Measure each request in turn, with each version of the code."""
    stored = digests(STORED)
    bench.client.flushall(asynchronous=True)
    original.fill(bench.client, REPOSITORY, stored)
    requests = {
        "batch stat": _request("POST", f"{PATH}stat/", json.dumps({"digests": stored[:BATCH]})),
        "page": _request("GET", f"{PATH}?page_size={PAGE}"),
    }
    with ExitStack() as stack:
        versions = {"": stack.enter_context(_answering(bench, ROOT))}
        if bench.against:
            tree = stack.enter_context(_tree(bench, bench.against))
            versions[bench.against] = stack.enter_context(_answering(bench, tree))
        for what, request in requests.items():
            yield _measured(bench, what, request, versions)


def _request(method: str, path: str, body: str = "") -> dict[str, Any]:
    return {"method": method, "path": path, "headers": {}, "body": body}


def _measured(
    bench: Bench, what: str, request: dict[str, Any], versions: dict[str, subprocess.Popen[str]]
) -> Section:
    calls = bench.scaled(200 if what == "batch stat" else 20, 1)
    names = {version: f"{what}, {version}" if version else what for version in versions}
    seconds: dict[str, list[float]] = {name: [] for name in names.values()}
    for number in range(bench.scaled(15, 1) + 1):
        bodies = []
        for version, process in versions.items():
            said = _ask(process, request | {"calls": calls})
            bodies.append(_comparable(said["body"]))
            if number:  # the first round is not counted
                seconds[names[version]].append(said["seconds"])
        if bodies != bodies[:1] * len(bodies):
            raise AssertionError(f"Two versions of the code answer different bodies: {what}.")
    found = figures({name: tuple(values) for name, values in seconds.items()}, "us of CPU")
    ours = found[what]
    return Section(
        f"bodies: {what} of {BATCH if what == 'batch stat' else PAGE:,}",
        list(found.values()),
        [
            ratio(
                f"{version} / this one",
                found[names[version]],
                ours,
                target=TARGETS[what] if version == BASIS else None,
                at_least=True,
            )
            for version in versions
            if version
        ],
    )


def _ask(process: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None  # noqa: S101 - for the types
    assert process.stdout is not None  # noqa: S101
    process.stdin.write(f"{json.dumps(request)}\n")
    process.stdin.flush()
    said: dict[str, Any] = json.loads(process.stdout.readline())
    if said["status"] != "200 OK":
        raise AssertionError(f"The portal answered {said['status']}: {said['body']}")
    return said


def _comparable(body: str) -> dict[str, Any]:
    """What every version of the code must answer.

    Cursors are encrypted anew each time. The rows of a page have no order, and `found` is new.
    """
    read: dict[str, Any] = json.loads(body)
    rows = sorted(map(str, read.pop("results", ())))
    return {name: value for name, value in read.items() if name not in {"found", "next"}} | {
        "rows": rows
    }


@contextmanager
def _answering(bench: Bench, tree: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process with the code of that tree within the block; see `benchmarks.answering`."""
    script = str(Path(__file__).with_name("answering.py"))
    with subprocess.Popen(
        [sys.executable, "-P", script],
        env=bench.environment(PYTHONPATH=str(tree)),
        cwd=tree,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin  # noqa: S101 - for the types
        process.stdin.close()


@contextmanager
def _tree(bench: Bench, commit: str) -> Iterator[Path]:
    """Check the commit out into a directory that is there within the block."""
    tree = bench.directory / "tree"
    subprocess.run([_git(), "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True)
    try:
        yield tree
    finally:
        subprocess.run([_git(), "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def _git() -> str:
    return shutil.which("git") or "git"
