"""Keep the notes of long work in Redis, beside the index. See `blobcache.services.work`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from uuid import uuid4

from blobcache.services.work import KEPT, LEASE
from blobcache.transport.packing import Decision, Script, Watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["RedisWork"]


def _reads(own: Sequence[bytes], _: Sequence[bytes]) -> list[Command]:
    lock, _notes = own
    return [("WATCH", *own), ("GET", lock)]


def _decide(own: Sequence[bytes], operands: Sequence[bytes], replies: Sequence[Reply]) -> Decision:
    lock, notes = own
    token, kept, lease, count, *words = operands
    if replies[0] != token:
        return Decision([], 0)
    pairs, forgotten = words[: int(count)], words[int(count) :]
    writes: list[Command] = [("HSET", notes, *pairs)] if pairs else []
    if forgotten:
        writes.append(("HDEL", notes, *forgotten))
    return Decision([*writes, ("PEXPIRE", notes, kept), ("PEXPIRE", lock, lease)], 1)


_NOTE = Script(
    """
local token, kept, lease, count = unpack(ARGV, 1, 4)
if redis.call('GET', KEYS[1]) ~= token then return 0 end
local last = 4 + tonumber(count)
if last > 4 then redis.call('HSET', KEYS[2], unpack(ARGV, 5, last)) end
if #ARGV > last then redis.call('HDEL', KEYS[2], unpack(ARGV, last + 1)) end
redis.call('PEXPIRE', KEYS[2], kept)
redis.call('PEXPIRE', KEYS[1], lease)
return 1
""",
    Watched(_reads, _decide),
)
"""If the lock KEYS[1] has the token ARGV[1], write the next ARGV[4] words, which are names and
values, to the hash KEYS[2], and delete the fields that the rest names. The hash then lives for
ARGV[2] milliseconds, and the lock for ARGV[3]."""


class RedisWork:
    """The notes are a hash, and who has the work is a string that expires."""

    def __init__(self, server: Server, notes: bytes, lock: bytes, *, kept: int = KEPT) -> None:
        """`kept` is the number of seconds that the notes are kept."""
        self._server = server
        self._notes = notes
        self._lock = lock
        self._kept = kept
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
        """See `Work.note`. One round trip; nothing is written if the work is not ours any more."""
        pairs = [word for pair in notes.items() for word in pair]
        lives = (str(self._kept * 1000), str(LEASE * 1000), str(len(pairs)))
        operands = [self._token, *lives, *pairs, *forget]
        return self._server.script(_NOTE, [self._lock, self._notes], operands) == 1

    def end(self) -> None:
        """See `Work.end`. Two round trips."""
        if self._server.batch([("GET", self._lock)], own=True) == [self._token]:
            self._server.batch([("DEL", self._lock)], own=True)
