"""A Redis of our own, on a free TCP port (a registry 2.x knows no sockets), nothing on disk."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from tests.interop.processes import Server, find_program, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["RedisServer", "running_redis"]

ATTEMPTS = 5


@dataclass(frozen=True)
class RedisServer:
    """Where a running Redis listens."""

    port: int

    @property
    def address(self) -> str:
        """`host:port`, as the registry's configuration wants it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The database that the registry uses, as a LOCATION for django-redis."""
        return f"redis://{self.address}/0"

    def client(self) -> redis.Redis:
        """A plain client that decodes replies to str; the caller closes it."""
        return redis.Redis.from_url(self.url, decode_responses=True)


@contextmanager
def running_redis(directory: Path, program: str = "redis-server") -> Iterator[RedisServer]:
    """Run Redis, or `valkey-server`, in `directory` for as long as the context lasts."""
    path = find_program(program)
    server, process = _start(path, directory)
    try:
        yield server
    finally:
        process.stop()


def _start(path: str, directory: Path) -> tuple[RedisServer, Server]:
    """Start on a free port, and on another one if somebody else was quicker to take it."""
    for _ in range(ATTEMPTS):
        server = RedisServer(free_port())
        process = Server(_command(path, directory, server.port), directory / "redis.log")
        if _becomes_ready(process):
            return server, process
    raise AssertionError(f"{path}: no free port in {ATTEMPTS} attempts")


def _becomes_ready(process: Server) -> bool:
    """Wait for it; False if the port was taken, any other failure is raised."""
    try:
        process.wait_until(lambda: "Ready to accept connections" in process.log)
    except AssertionError:
        if "already in use" in process.log:
            return False
        raise
    return True


def _command(path: str, directory: Path, port: int) -> list[str]:
    options = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--dir": str(directory),
        "--save": "",
        "--appendonly": "no",
    }
    return [path, *(word for option in options.items() for word in option)]
