"""``watch``: what it writes, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis

from project import embedded
from tests.management.running import MEMORY, ROOT, environment, run

SETTING = "notify-keyspace-events"


@pytest.fixture
def told() -> Any:
    """A server that sends events."""
    with embedded.start(f"--{SETTING}", "Esg") as server:
        yield server


@pytest.mark.long(few=1)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(told: embedded.Server, end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "manage.py", "blobcache", "watch", "--json"],
        cwd=ROOT,
        env=environment(told),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        states = []
        for line in process.stdout:
            states.append(json.loads(line)["state"])
            if states[-1] == "watching":
                break
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
    assert states == ["starting", "watching"]
    assert (process.returncode, err) == (0, "")
    assert "Traceback" not in out


def test_it_says_what_is_missing_and_ends_after_a_while(default_cache: Redis) -> None:
    (found,) = run("watch", "--seconds", "1", "--json").objects
    assert found["state"] == "rebuilding"
    assert found["servers"] == 1
    assert found["reason"].endswith(f"CONFIG SET {SETTING} Esg")
    done = run("watch", "--seconds", "1")
    assert (done.code, done.err) == (0, "")
    assert f"CONFIG SET {SETTING} Esg" in done.out


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "1.5", "9" * 30])
def test_an_invalid_number_of_seconds_is_a_usage_error(seconds: str, default_cache: Redis) -> None:
    assert run("watch", "--seconds", seconds).code == 2


def test_where_no_index_may_be_kept_it_fails(default_cache: Redis) -> None:
    with override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}):
        done = run("watch", "--seconds", "1")
    assert done.code == 2
    assert "CATALOG_ALIAS" in done.err


def test_a_provider_without_an_index_cannot_be_watched(default_cache: Redis) -> None:
    with override_settings(BLOBCACHE={"default": MEMORY}):
        assert run("watch", "--seconds", "1").code == 2
