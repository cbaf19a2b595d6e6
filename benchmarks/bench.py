"""The environment of the benchmarks: their own server, and Django configured for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
from django.core.management import call_command
from django_redis import get_redis_connection
from redis import Redis

from benchmarks.results import Section
from project import embedded

__all__ = ["ALIAS", "Bench", "Benchmark", "ground", "program"]

ALIAS = "blobs"
"""The entry of CACHES that the portal keeps descriptors in."""


@dataclass(frozen=True)
class Bench:
    """The servers and options of a benchmark."""

    server: embedded.Server
    directory: Path
    """For whatever it has to write; goes afterwards."""

    socket: Path
    """Where the server listens too, besides its port."""

    is_short: bool
    """Whether only to show that everything runs."""

    against: str | None = None
    """Another commit, whose code is measured too."""

    @property
    def client(self) -> Redis:
        """Return the client that the app uses, with its pool."""
        client: Redis = get_redis_connection(ALIAS)
        return client

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment variables for another process with the same settings."""
        return {**os.environ, **more}

    def scaled(self, full: int, short: int) -> int:
        """Return `full`, or `short` for a short run."""
        return short if self.is_short else full


Benchmark = Callable[[Bench], Iterator[Section]]


def program() -> Path | None:
    """Return the system's redis-server, or None for the embedded Valkey."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


@contextmanager
def ground(*, is_short: bool, against: str | None = None) -> Iterator[Bench]:
    """Start the server and set up Django, within the block."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        directory = Path(name)
        (directory / "static").mkdir()
        socket = directory / "redis"
        with embedded.start("--unixsocket", str(socket), binary=program()) as server:
            for variable in [each for each in os.environ if each.startswith(("DJANGO_", "BLOBC"))]:
                del os.environ[variable]
            os.environ |= {
                "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
                "DJANGO_SECRET_KEY": "not a secret, but the same in every process of a run",
                "DJANGO_DATABASE_PATH": str(directory / "portal.sqlite3"),
                "DJANGO_STATIC_ROOT": str(directory / "static"),
                "BLOBCACHE_REDIS_URL": server.url,
                "BLOBCACHE_READ_ONLY": "0",
            }
            django.setup()
            call_command("migrate", verbosity=0)
            yield Bench(server, directory, socket, is_short, against)
