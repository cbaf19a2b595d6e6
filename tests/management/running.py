"""Run a command in this process, and see what a caller of the process would see."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings
from redis import Redis

from project import embedded
from tests.backends.truth import storage_as_truth
from tests.doctor.damage import digest, write_blob, write_member
from tests.servers import cache_at
from tests.warming.worlds import Clock, World

__all__ = [
    "GONE",
    "HELLO",
    "MEMORY",
    "ROOT",
    "Done",
    "Terminal",
    "manage",
    "run",
    "run_line",
    "second_registry",
    "stored",
    "write_sample",
]

ROOT = Path(__file__).parents[2]
# If the portal cannot run here, use the settings of this test run.
HAS_PORTAL = settings.ROOT_URLCONF == "project.urls"
SETTINGS = "project.settings" if HAS_PORTAL else settings.SETTINGS_MODULE
GONE = "redis://127.0.0.1:1/0"
MEMORY = {"PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"}
HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class Terminal(StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The columns of each line."""
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON of each line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The same of a check, without the sums in its last line."""
        found = self.objects
        assert list(found.pop()) == ["summary"]
        return found


def run(
    *arguments: str,
    stdin: object = "",
    out: StringIO | None = None,
    err: StringIO | None = None,
) -> Done:
    """Run ``blobcache`` in this process. `stdin` is a stream, or what is in such a file."""
    out, err = out or StringIO(), err or StringIO()
    if isinstance(stdin, str | bytes):
        raw = stdin.encode() if isinstance(stdin, str) else stdin
        stdin = TextIOWrapper(BytesIO(raw))
    code = 0
    try:
        call_command("blobcache", *arguments, stdin=stdin, stdout=out, stderr=err)
    except SystemExit as end:
        code = int(end.code or 0)
    except CommandError as error:
        code = error.returncode
        err.write(f"CommandError: {error}\n")
    return Done(code, out.getvalue(), err.getvalue())


def run_line(line: str, *, out: StringIO | None = None, stdin: str = "") -> Done:
    """Run a line of a shell that begins with ``manage.py blobcache``; ``<`` is standard input."""
    words = shlex.split(line.removeprefix("python "))
    assert words[:2] == ["manage.py", "blobcache"], line
    command, _, _file = " ".join(map(shlex.quote, words[2:])).partition(" '<' ")
    return run(*shlex.split(command), out=out, stdin=stdin)


def manage(server: embedded.Server | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py blobcache as an operator does."""
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "blobcache", *arguments],
        cwd=ROOT,
        env=environment(server),
        capture_output=True,
        text=True,
        check=False,
    )


def environment(server: embedded.Server | None) -> dict[str, str]:
    """The environment of such a process; without a server nothing answers there."""
    return {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "BLOBCACHE_REDIS_URL": server.url if server else GONE,
        "BLOBCACHE_READ_ONLY": "0",
        "DJANGO_LOG_LEVEL": "ERROR",
    }


@contextmanager
def stored(directory: Path, **settings: Any) -> Iterator[World]:
    """Let the default registry's storage be there, with what the examples expect in it."""
    world = World(directory)
    for name in ("team/app", "team/web"):
        world.layer(b"hello", name)
    world.layer(b"world", "team/app")
    clock = Clock()
    with (
        storage_as_truth(directory, **settings),
        patch("blobcache.warming.warm.monotonic", clock),
        patch("blobcache.warming.warm.sleep", clock.pause),
    ):
        yield world


@contextmanager
def second_registry(url: str) -> Iterator[Redis]:
    """Let there be `staging` beside `default`, in database 1, with one of its blobs."""
    entries = {"default": {}, "staging": {"CACHE_ALIAS": "staging"}}
    with (
        cache_at(url.removesuffix("0") + "1", "staging") as client,
        override_settings(BLOBCACHE=entries),
    ):
        client.flushdb()
        write_member(client, "team/app", digest(1), "size 0")
        yield client


def write_sample(client: Redis) -> None:
    """The blobs of the examples in the help and in the docs."""
    for name in ("team/app", "team/web"):
        client.hset(f"blobs::{HELLO}", mapping={"digest": HELLO, "size": 5, "mediatype": "a/b"})
        client.hset(f"repository::{name}::blobs::{HELLO}", "mediatype", "text/plain")
        client.sadd(f"repository::{name}::blobs", HELLO)
    write_member(client, "team/app", digest(1), "size 0")
    write_blob(client, digest(2), "leftover")
