"""What a write does with keys of the wrong type, and with media types that no stat can read.

Another program may have left them there. A write deletes them, since no other write would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.redis import keys, replies
from blobcache.transport.packing import Script, is_wrong_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blobcache.digest import Digest
    from blobcache.transport.packing import Command, Reply

__all__ = ["unreadable_media_type_deletes", "wrong_type_deletes"]

_UNLINK_UNLESS = Script("""
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= ARGV[1] and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
""")

_KINDS = {"H": "hash", "S": "set", "Z": "zset"}


def _unlink(command: Command) -> Command:
    """Delete the key of a command that found the wrong type, if it still has the wrong type."""
    name, key = str(command[0]), command[1]
    return ("EVAL", _UNLINK_UNLESS.body, "1", key, _KINDS[name[0]])


def wrong_type_deletes(sent: Sequence[Command], answers: Sequence[Reply]) -> Iterator[Command]:
    """Delete the keys of the commands that found the wrong type."""
    damaged = {
        command[1]: command
        for command, answer in zip(sent, answers, strict=True)
        if is_wrong_type(answer)
    }
    return map(_unlink, damaged.values())


def unreadable_media_type_deletes(read: Mapping[Digest, Reply]) -> Iterator[Command]:
    """Delete global media types that no stat can read; a set keeps those that are there."""
    return (
        ("HDEL", keys.blob(target), keys.MEDIA_TYPE)
        for target, fields in read.items()
        if not replies.has_usable_media_type(fields)
    )
