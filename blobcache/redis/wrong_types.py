"""What a write does with keys of the wrong type, and with media types that no stat can read.

Another program may have left them there. A write deletes them, since no other write would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.redis import keys, replies
from blobcache.transport.packing import Decision, Script, Watched, is_wrong_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blobcache.digest import Digest
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["UNLINK_UNLESS", "delete_wrong_types", "unreadable_media_type_deletes"]


def _reads(keys: Sequence[bytes], _: Sequence[bytes]) -> list[Command]:
    return [("WATCH", *keys), ("TYPE", *keys)]


def _unlink_unless(
    keys: Sequence[bytes], kinds: Sequence[bytes], replies: Sequence[Reply]
) -> Decision:
    return Decision([], 0) if replies[0] in {b"none", *kinds} else Decision([("UNLINK", *keys)], 1)


UNLINK_UNLESS = Script(
    """
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == ARGV[1] or kind == 'none' then return 0 end
return redis.call('UNLINK', KEYS[1])
""",
    Watched(_reads, _unlink_unless),
)
"""Delete the key unless it is of the type ARGV[1], which it should be."""

_KINDS = {"H": "hash", "S": "set", "Z": "zset"}


def delete_wrong_types(server: Server, sent: Sequence[Command], answers: Sequence[Reply]) -> None:
    """Delete the keys of the commands that found the wrong type, if they still have it.

    One round trip for each such key, of which there are few.
    """
    damaged = {
        command[1]: str(command[0])
        for command, answer in zip(sent, answers, strict=True)
        if is_wrong_type(answer)
    }
    for key, name in damaged.items():
        raw = key if isinstance(key, bytes) else key.encode()
        server.script(UNLINK_UNLESS, [raw], [_KINDS[name[0]]])


def unreadable_media_type_deletes(read: Mapping[Digest, Reply]) -> Iterator[Command]:
    """Delete global media types that no stat can read; a set keeps those that are there."""
    return (
        ("HDEL", keys.blob(target), keys.MEDIA_TYPE)
        for target, fields in read.items()
        if not replies.has_usable_media_type(fields)
    )
