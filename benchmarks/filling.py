"""Fill a server with millions of keys, by packed commands as ``redis-cli --pipe`` sends them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.data import OCTETS, SIZE

__all__ = ["Filler", "filler"]

_BATCH = 1 << 20
"""Bytes that are sent before the replies are read: a server keeps that many for a client."""


class Filler:
    """Writes keys as a registry does."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._replies = connection.makefile("rb")
        self._packed = bytearray()
        self._count = 0

    def blob(self, digest: str) -> None:
        """Write the global descriptor."""
        self.send(
            "HSET", f"blobs::{digest}", "digest", digest, "size", str(SIZE), "mediatype", OCTETS
        )

    def members(self, repository: str, digests: list[str], *, overrides: bool = True) -> None:
        """Write some members of a repository, with their overrides."""
        key = f"repository::{repository}::blobs"
        for start in range(0, len(digests), 1000):
            self.send("SADD", key, *digests[start : start + 1000])
        for digest in digests if overrides else ():
            self.send("HSET", f"{key}::{digest}", "mediatype", OCTETS)

    def send(self, *words: str) -> None:
        """Send a command."""
        self._packed += b"*%d\r\n" % len(words)
        for word in words:
            raw = word.encode()
            self._packed += b"$%d\r\n%b\r\n" % (len(raw), raw)
        self._count += 1
        if len(self._packed) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Wait until all commands are done; each replies with a number."""
        self._connection.sendall(self._packed)
        for _ in range(self._count):
            if not self._replies.readline().startswith(b":"):
                raise RuntimeError("A write failed.")
        self._packed, self._count = bytearray(), 0


@contextmanager
def filler(bench: Bench) -> Iterator[Filler]:
    """Empty the server of the benchmarks, and return a writer for it."""
    bench.client.flushall()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(bench.socket))
        writer = Filler(connection)
        yield writer
        writer.flush()
