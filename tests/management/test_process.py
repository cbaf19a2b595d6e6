"""The command as a process: exit codes, signals, and what is written when the end comes early."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.management.commands.blobcache import Command
from blobcache.management.session import Session
from project import embedded
from tests.management.running import GONE, ROOT, environment, manage, run, write_sample
from tests.servers import cache_at


def test_it_prints_one_line_and_succeeds(default_cache: Redis, valkey: embedded.Server) -> None:
    # Django's own options may stand after the subcommand too.
    done = manage(valkey, "reindex", "--no-color", "--verbosity", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Indexed 0 repositories as of ")
    assert done.stderr == ""


def test_findings_are_exit_code_1(default_cache: Redis, valkey: embedded.Server) -> None:
    write_sample(default_cache)
    done = manage(valkey, "check", "--json")
    assert (done.returncode, done.stdout.count("\n")) == (1, 4), done.stderr


def test_it_fails_in_one_line_without_a_traceback_when_redis_is_down() -> None:
    done = manage(None, "reindex")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("CommandError: The cache is not available")
    assert done.stderr.count("\n") == 1


def test_without_a_subcommand_it_exits_with_a_usage_error() -> None:
    done = manage(None)
    assert done.returncode == 2
    assert "SUBCOMMAND" in done.stderr


def test_an_unexpected_error_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's own exit code would be 1, which means "no"."""

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Session, "__init__", fails)
    with pytest.raises(SystemExit) as end:
        Command().run_from_argv(["manage.py", "blobcache", "status", "--skip-checks"])
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert end.value.code == 2


def test_settings_that_are_wrong_are_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = override_settings(BLOBCACHE={"default": {"ROLE": "none"}})
    with wrong, pytest.raises(SystemExit) as end:
        Command().run_from_argv(["manage.py", "blobcache", "status"])
    assert "SystemCheckError" in capsys.readouterr().err
    assert end.value.code == 2


def test_it_ends_quietly_when_nobody_reads_its_output(
    default_cache: Redis, valkey: embedded.Server
) -> None:
    with default_cache.pipeline() as pipe:
        for number in range(1000):  # more than a pipe holds
            pipe.sadd("repository::team/app::blobs", f"sha256:{number:064x}")
        pipe.execute()
    command = "blobs --repository team/app"
    with subprocess.Popen(
        [sys.executable, "manage.py", "blobcache", *command.split()],
        cwd=ROOT,
        env=environment(valkey),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith(b"sha256:")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 2


def test_an_interrupt_ends_it_by_that_signal_in_one_line(valkey: embedded.Server) -> None:
    with subprocess.Popen(
        [sys.executable, "manage.py", "blobcache", "stat", "-"],
        cwd=ROOT,
        env=environment(valkey),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stderr
        # More than a pipe holds: when all is written, it is reading.
        process.stdin.write(b"sha256:%064x\n" % 1 * 3000)
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"Interrupted.\n"
        assert process.wait() == -signal.SIGINT


def test_help_works_without_redis(capsys: pytest.CaptureFixture[str]) -> None:
    with cache_at(GONE):
        assert run("reindex", "--help").code == 0
    assert "--registry" in capsys.readouterr().out
