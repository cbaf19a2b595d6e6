"""The scripts of a clear, and the commands that replace them if the server refuses scripts.

A script is carried out as a whole, and no other client sees a part of it. Without scripts, the keys
are watched from the reads to the writes; see `blobcache.transport.packing.Watched`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.redis.keys import FIELDS
from blobcache.transport.packing import Decision, Script, Watched, is_wrong_type
from blobcache.transport.shapes import Read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.transport.packing import Command, Reply

__all__ = ["CLEAR_GLOBAL", "CLEAR_SCOPED"]


def _global_reads(keys: Sequence[bytes], fields: Sequence[bytes]) -> list[Command]:
    return [("WATCH", *keys), ("HMGET", *keys, *fields)]


def _clear_global(
    keys: Sequence[bytes], fields: Sequence[bytes], replies: Sequence[Reply]
) -> Decision:
    (found,) = replies
    if is_wrong_type(found):
        return Decision([("UNLINK", *keys)], [None])
    if not isinstance(found, list) or not any(value is not None for value in found):
        return Decision([], None)
    return Decision([("HDEL", *keys, *fields)], [found])


def _scoped_reads(keys: Sequence[bytes], operands: Sequence[bytes]) -> list[Command]:
    members, blob, override = keys
    digest, _, *fields = operands
    return [
        ("WATCH", *keys),
        ("SISMEMBER", members, digest),
        ("EXISTS", override),
        ("HMGET", blob, *fields),
        ("HGET", override, fields[-1]),
    ]


def _clear_scoped(
    keys: Sequence[bytes], operands: Sequence[bytes], replies: Sequence[Reply]
) -> Decision:
    members, blob, override = keys
    digest, takes_blob, *fields = operands
    member, has_override, found, media_type = replies
    if member == 0 and not has_override:
        return Decision([], None)
    writes: list[Command] = []
    if is_wrong_type(member):
        writes.append(("UNLINK", members))
    elif member:
        writes.append(("SREM", members, digest))
    if takes_blob == b"1":
        writes.append(("UNLINK", blob) if is_wrong_type(found) else ("HDEL", blob, *fields))
    writes.append(("UNLINK", override))
    was_readable = member == 1 and not is_wrong_type(found)
    return Decision(
        writes,
        [found if was_readable else None, None if is_wrong_type(media_type) else media_type],
    )


# To handle WRONGTYPE costs Redis less than to ask for the type of each key first.
_TRY = """
local function try(...)
    local reply = redis.pcall(...)
    if type(reply) ~= 'table' or not reply.err then return reply, false end
    if string.find(reply.err, 'WRONGTYPE', 1, true) then return false, true end
    return redis.call(...)
end
"""

CLEAR_GLOBAL = Script(
    _TRY
    + """
local fields, is_foreign = try('HMGET', KEYS[1], unpack(ARGV))
if is_foreign then
    redis.call('UNLINK', KEYS[1])
    return {false}
end
if redis.call('HDEL', KEYS[1], unpack(ARGV)) == 0 then return false end
return {fields}
""",
    Watched(_global_reads, _clear_global),
    Read(1, width=len(FIELDS)),
)
"""Delete the fields in ARGV from the hash KEYS[1]. Return nil if there were none, else the values
that a stat would have read."""

CLEAR_SCOPED = Script(
    _TRY
    + """
local removed, is_foreign = try('SREM', KEYS[1], ARGV[1])
if removed == 0 and redis.call('EXISTS', KEYS[3]) == 0 then return false end
if is_foreign then redis.call('UNLINK', KEYS[1]) end
local fields, is_damaged = try('HMGET', KEYS[2], unpack(ARGV, 3))
local media_type = try('HGET', KEYS[3], ARGV[6])
if ARGV[2] == '1' then
    if is_damaged then
        redis.call('UNLINK', KEYS[2])
    else
        redis.call('HDEL', KEYS[2], unpack(ARGV, 3))
    end
end
redis.call('UNLINK', KEYS[3])
return {removed == 1 and fields, media_type}
""",
    Watched(_scoped_reads, _clear_scoped),
    Read(2, width=len(FIELDS)),
)
"""Remove the digest ARGV[1] from the set KEYS[1]; if ARGV[2] is 1, delete the fields in the rest of
ARGV from the hash KEYS[2]; delete the override KEYS[3]. A key of the wrong type is deleted whole.
Return nil if the digest was not a member and no override was left of an interrupted clear, else the
values that a stat would have read."""
