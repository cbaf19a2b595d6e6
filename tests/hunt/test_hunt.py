"""The hunt itself: it finds no fault in right answers, and it finds planted wrong answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def hunt(mode: str, *faults: str) -> subprocess.CompletedProcess[str]:
    """Hunt for a second with these faults; the margin is for a busy machine."""
    arguments = ["--minutes", "0.02", "--seed", "1", "--processes", "2", "--threads", "2"]
    arguments += ["--pause", "0.3", "--margin", "20", "--faults", ",".join(faults)]
    return subprocess.run(
        [sys.executable, "-m", "tests.hunt", mode, *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def number(table: str, name: str) -> int:
    (found,) = re.findall(rf"^\| {name}.* \| ([\d,]+) \|$", table, re.MULTILINE)
    return int(found.replace(",", ""))


@pytest.mark.long
@pytest.mark.parametrize(
    ("mode", "faults"),
    [
        ("one", ["cut", "lost reply", "delay", "stop", "client kill"]),
        ("sentinel", ["stop", "client kill"]),
        ("cluster", ["cut", "lost reply", "slot moved"]),
    ],
)
def test_a_hunt_finds_nothing(mode: str, faults: list[str]) -> None:
    done = hunt(mode, *faults)
    assert done.returncode == 0, done.stdout + done.stderr
    assert number(done.stdout, "calls") > 0
    assert sum(number(done.stdout, f"fault: {fault} ") for fault in faults) > 0
    assert number(done.stdout, "findings") == 0
    assert done.stdout.startswith("seed 1\n")


@pytest.mark.long
def test_a_hunt_finds_planted_wrong_answers() -> None:
    done = hunt("one", "planted")
    assert done.returncode == 1, done.stdout + done.stderr
    assert number(done.stdout, "wrong answers") > 0
    assert "never granted" in done.stdout
