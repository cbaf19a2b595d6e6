"""Keep the notes of long work in Redis, beside the index. See `blobcache.services.work`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from uuid import uuid4

from blobcache.services.work import KEPT, LEASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from blobcache.transport.packing import Command
    from blobcache.transport.server import Server

__all__ = ["RedisWork"]


class RedisWork:
    """The notes are a hash, and who has the work is a string that expires."""

    def __init__(self, server: Server, notes: bytes, lock: bytes) -> None:
        self._server = server
        self._notes = notes
        self._lock = lock
        self._token = uuid4().hex.encode()

    def begin(self) -> bool:
        """See `Work.begin`. One round trip."""
        taken: Command = ("SET", self._lock, self._token, "NX", "EX", str(LEASE))
        return self._server.batch([taken], own=True) != [None]

    def read(self, names: Iterable[str]) -> list[bytes | None]:
        """See `Work.read`. One round trip."""
        (found,) = self._server.batch([("HMGET", self._notes, *names)], own=True)
        return cast("list[bytes | None]", found)

    def note(self, notes: Mapping[str, str | bytes], forget: Iterable[str] = ()) -> bool:
        """See `Work.note`. One round trip.

        Whether the work is still ours is read in the same trip, so one note may be written too
        many: names must not depend on that.
        """
        forgotten = list(forget)
        batch: list[Command] = [("GET", self._lock)]
        if notes:
            pairs = [word for pair in notes.items() for word in pair]
            batch.append(("HSET", self._notes, *pairs))
        if forgotten:
            batch.append(("HDEL", self._notes, *forgotten))
        batch += [
            ("PEXPIRE", self._notes, str(KEPT * 1000)),
            ("PEXPIRE", self._lock, str(LEASE * 1000)),
        ]
        holder, *_ = self._server.batch(batch, own=True)
        return holder == self._token

    def end(self) -> None:
        """See `Work.end`. Two round trips."""
        if self._server.batch([("GET", self._lock)], own=True) == [self._token]:
            self._server.batch([("DEL", self._lock)], own=True)
