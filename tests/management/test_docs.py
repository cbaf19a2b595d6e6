"""The commands of the documentation: each runs, and writes what the page shows."""

from __future__ import annotations

import re
import subprocess
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from redis import Redis

from blobcache.management.commands.blobcache import SUBCOMMANDS
from project import embedded
from tests.doctor.damage import contents, digest
from tests.management.running import (
    HELLO,
    ROOT,
    Terminal,
    run,
    run_line,
    second_registry,
    stored,
    write_sample,
)

PAGE = (ROOT / "docs" / "command-line.md").read_text()
SESSIONS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
VOLATILE = ("status", "reindex", "watch", "log")
"""Subcommands whose output has times and versions."""


def shown(output: str, command: str) -> list[str]:
    """The lines in an order of their own: lists have none. Some numbers are as good as others."""
    if command.split()[3] in VOLATILE:
        output = re.sub(r"\d[\d.:TZ-]*", "0", output)
    return sorted(output.splitlines())


@pytest.mark.django_db
@pytest.mark.parametrize("session", SESSIONS, ids=lambda text: text.split()[4])
def test_a_session_shows_what_a_terminal_shows(
    default_cache: Redis,
    session: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    valkey: embedded.Server,
) -> None:
    monkeypatch.setattr("blobcache.management.writing.find_spec", lambda _: None)
    write_sample(default_cache)
    User.objects.create(username="will")
    run("reindex")
    for part in session.split("$ ")[1:]:
        command, _, expected = part.partition("\n")
        needed: AbstractContextManager[object] = nullcontext()
        if "blobcache warm" in command:
            needed = stored(tmp_path)
        elif "--with staging" in command:
            needed = second_registry(valkey.url)
        with needed:
            done = run_line(command, out=Terminal())
        assert shown(done.out, command) == shown(expected, command)


def test_every_subcommand_has_a_section_with_a_session() -> None:
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)[1:]
    assert sections == [each.name for each in SUBCOMMANDS]
    assert [
        name
        for name in sections
        if f"$ python manage.py blobcache {name}" not in PAGE.partition(f"\n## {name}\n")[2]
    ] == []


def pipeline(page: str, word: str) -> list[str]:
    """The commands of the only pipeline on the page that has this word."""
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (block,) = [each for each in blocks if word in each and "|" in each]
    return [part.strip() for part in re.split(r" \|\s", block)]


def run_pipeline(commands: list[str], output: str = "") -> str:
    """Run ours in this process and the others in a shell; `output` is what comes in."""
    for command in commands:
        if command.startswith("python manage.py "):
            done = run_line(command, stdin=output)
            assert done.code == 0, done.err
            output = done.out
        else:
            output = subprocess.run(
                ["/bin/sh", "-c", command], input=output, capture_output=True, text=True, check=True
            ).stdout
    return output


def test_what_is_damaged_can_be_cleared_by_a_pipeline(default_cache: Redis) -> None:
    write_sample(default_cache)
    run_pipeline(pipeline("command-line.md", "awk"))
    kept = contents(default_cache)[b"repository::team/app::blobs"]
    assert kept == {HELLO.encode()}


@pytest.mark.parametrize("page", ["doctor.md", "command-line.md"])
def test_what_a_garbage_collection_deleted_can_be_purged(
    page: str, default_cache: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sample(default_cache)
    monkeypatch.chdir(tmp_path)
    tee = pipeline(page, "garbage-collect")[-1]
    tee, purge = tee.splitlines()
    printed = f"team/app\n2 blobs marked\nblob eligible for deletion: {HELLO}\n"
    run_pipeline([tee], printed)
    assert (tmp_path / "gc.log").read_text() == printed
    run_pipeline([purge])
    assert default_cache.keys(f"*{HELLO}*") == []
    assert default_cache.exists(f"blobs::{digest(1)}")
