"""The write of read-through: a blob's hash with an expiry, only if there is no usable one.

A hash that a stat can read stays exactly as it is, with its expiry or without one. What is missing,
incomplete or damaged is replaced as a whole, if it is unchanged since it was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blobcache.descriptor import OCTET_STREAM
from blobcache.exceptions import CacheUnavailable, DescriptorCorrupt
from blobcache.redis import keys, replies
from blobcache.redis.fingerprints import FINGERPRINT, fingerprint, fingerprint_of_reply
from blobcache.services.records import WRONG_TYPE, Fields
from blobcache.transport.packing import Decision, Script, Watched
from blobcache.transport.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["FILL", "fill"]

_ATTEMPTS = 3
"""How often a damaged hash is replaced, if other programs change it each time."""

_WIDTH = len(keys.FIELDS)


def _reads(found: Sequence[bytes], _: Sequence[bytes]) -> list[Command]:
    return [("WATCH", *found), ("HMGET", *found, *keys.FIELDS)]


def _decide(
    found: Sequence[bytes], operands: Sequence[bytes], answers: Sequence[Reply]
) -> Decision:
    expected, seconds, *words = operands
    (fields,) = answers
    state = fingerprint_of_reply(fields)
    if state != expected:
        return Decision([], 0 if state == fingerprint(WRONG_TYPE) else fields)
    pairs = words[_WIDTH:]
    writes: list[Command] = [
        ("UNLINK", *found),
        ("HSET", *found, *pairs),
        ("EXPIRE", *found, seconds),
    ]
    return Decision(writes, 1)


FILL = Script(
    FINGERPRINT
    + f"""
local found = state(KEYS[1], unpack(ARGV, 3, {2 + _WIDTH}))
if found == ARGV[1] then
    redis.call('UNLINK', KEYS[1])
    redis.call('HSET', KEYS[1], unpack(ARGV, {3 + _WIDTH}))
    local expiry = redis.pcall('EXPIRE', KEYS[1], ARGV[2])
    if type(expiry) == 'table' and expiry.err then
        redis.call('UNLINK', KEYS[1])
        return redis.error_reply(expiry.err)
    end
    return 1
end
if found == 'another type' then return 0 end
return redis.call('HMGET', KEYS[1], unpack(ARGV, 3, {2 + _WIDTH}))
""",
    Watched(_reads, _decide),
    Shape(int, list, elements=(bytes, str, type(None)), length=_WIDTH),
)
"""Replace the hash KEYS[1], if its fields have the fingerprint ARGV[1]; it expires after ARGV[2]
seconds. The names of the fields follow, and then what to write. Return 1 if it was replaced, 0 if
the key has another type and that was not expected, else the fields that are there."""


def fill(
    server: Server,
    digest: Digest,
    descriptor: Descriptor,
    *,
    size_fields: Sequence[str],
    seconds: int,
    allow_tarsum: bool,
) -> bool:
    """Write the blob's hash; return False if there is a usable one. See the module's docstring.

    One round trip, and one more to replace a damaged hash.
    """
    operands: list[bytes | str] = [str(seconds), *keys.FIELDS, keys.DIGEST, descriptor.digest]
    for field in size_fields:
        operands += [field, str(descriptor.size)]
    operands += [keys.MEDIA_TYPE, descriptor.media_type or OCTET_STREAM]
    expected = fingerprint(Fields())
    for _ in range(_ATTEMPTS):
        reply = server.script(FILL, [keys.blob(digest)], [expected, *operands])
        if reply == 1:
            return True
        if _is_usable(reply, digest, allow_tarsum=allow_tarsum):
            return False
        expected = fingerprint(
            cast("list[bytes | None]", reply) if isinstance(reply, list) else WRONG_TYPE
        )
    raise CacheUnavailable("Another program keeps changing this blob's hash.")


def _is_usable(fields: Reply, digest: Digest, *, allow_tarsum: bool) -> bool:
    try:
        return replies.global_descriptor(fields, digest, allow_tarsum=allow_tarsum) is not None
    except DescriptorCorrupt:
        return False
