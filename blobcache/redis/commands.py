"""What each call of the service says to Redis."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

from blobcache.redis import keys
from blobcache.redis.wire import Script, Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.redis.wire import Command
    from blobcache.reference import RepositoryName

__all__ = [
    "CLEAR_GLOBAL",
    "CLEAR_SCOPED",
    "are_members",
    "hashes",
    "look",
    "look_templates",
    "memberships",
    "stat",
    "stat_templates",
    "unlink_wrong_type",
]

_TEMPLATES = 4096
"""Repositories whose templates are kept, a kilobyte or two each."""


def look(repository: RepositoryName | None, digest: Digest) -> list[Command]:
    """Read the blob's hash and, in a repository, its override; not whether it is a member."""
    fields: Command = ("HMGET", keys.blob(digest), *keys.FIELDS)
    if repository is None:
        return [fields]
    return [fields, ("HGET", keys.override(repository, digest), keys.MEDIA_TYPE)]


def stat(repository: RepositoryName | None, digest: Digest) -> list[Command]:
    """Read all that a stat depends on; in a repository membership comes first."""
    if repository is None:
        return look(None, digest)
    return [("SISMEMBER", keys.members(repository), digest), *look(repository, digest)]


def are_members(repository: RepositoryName, digests: Sequence[Digest]) -> Command:
    """Ask which of the digests the repository may see."""
    return ("SMISMEMBER", keys.members(repository), *digests)


@lru_cache(_TEMPLATES)
def stat_templates(repository: RepositoryName | None) -> Template:
    """`stat`, packed."""
    return Template(partial(stat, repository))


@lru_cache(_TEMPLATES)
def look_templates(repository: RepositoryName | None) -> Template:
    """`look`, packed."""
    return Template(partial(look, repository))


def hashes(
    repository: RepositoryName | None,
    target: Digest,
    descriptor: Descriptor,
    *,
    size_fields: Sequence[bytes],
    ttl: int | None,
) -> Iterator[Command]:
    """Make the target's hash, and in a repository its override, say what the descriptor says.

    But for the global media type, which the first writer sets.
    """
    blob, media_type = keys.blob(target), descriptor.media_type or ""
    size = str(descriptor.size).encode()
    sizes = [word for field in size_fields for word in (field, size)]
    yield ("HSET", blob, keys.DIGEST, descriptor.digest, *sizes)
    if len(size_fields) < len(keys.SIZES):
        yield ("HDEL", blob, *(field for field in keys.SIZES if field not in size_fields))
    yield ("HSETNX", blob, keys.MEDIA_TYPE, media_type)
    if ttl is not None:
        yield ("EXPIRE", blob, ttl)
    if repository is not None:
        override = keys.override(repository, target)
        yield ("HSET", override, keys.MEDIA_TYPE, media_type)
        if ttl is not None:
            yield ("EXPIRE", override, ttl)


def memberships(
    repository: RepositoryName, targets: Sequence[Digest], *, ttl: int | None
) -> Iterator[Command]:
    """Let the repository see the targets; the first reply tells whether it saw the first before."""
    members = keys.members(repository)
    for target in targets:
        yield ("SADD", members, target)
    if ttl is not None:
        yield ("EXPIRE", members, ttl)


_UNLINK_UNLESS = Script("""
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= ARGV[1] and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
""")

_KINDS = {"H": "hash", "S": "set", "Z": "zset"}


def unlink_wrong_type(command: Command) -> Command:
    """Delete the key of a command that found it to be of the wrong type, if it still is.

    Somebody else may have mended it since.
    """
    name, key = str(command[0]), command[1]
    return ("EVAL", _UNLINK_UNLESS.body, 1, key, _KINDS[name[0]])


CLEAR_GLOBAL = Script("""
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == 'none' then return false end
if kind ~= 'hash' then
    redis.call('UNLINK', KEYS[1])
    return {false}
end
local fields = redis.call('HMGET', KEYS[1], unpack(ARGV))
if redis.call('HDEL', KEYS[1], unpack(ARGV)) == 0 then return false end
return {fields}
""")
"""Delete the fields in ARGV from the hash. Nil if there was nothing, else what a stat had read."""

CLEAR_SCOPED = Script("""
local function kind(key) return redis.call('TYPE', key)['ok'] end
local members = kind(KEYS[1])
if members == 'set' then
    if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return false end
elseif members == 'none' then
    return false
else
    redis.call('UNLINK', KEYS[1])
end
local fields, media_type = false, false
local blob = kind(KEYS[2])
if blob == 'hash' then fields = redis.call('HMGET', KEYS[2], unpack(ARGV, 3)) end
if kind(KEYS[3]) == 'hash' then media_type = redis.call('HGET', KEYS[3], ARGV[6]) end
redis.call('UNLINK', KEYS[3])
if ARGV[2] == '1' then
    if blob == 'hash' then
        redis.call('HDEL', KEYS[2], unpack(ARGV, 3))
    elseif blob ~= 'none' then
        redis.call('UNLINK', KEYS[2])
    end
end
return {members == 'set' and fields, media_type}
""")
"""Take the digest ARGV[1] out of the set KEYS[1], delete the override KEYS[3] and, if ARGV[2] is
1, the fields in the rest of ARGV from the hash KEYS[2]; a key of the wrong type goes as a whole.
Nil if the digest was no member, else what a stat had read."""
