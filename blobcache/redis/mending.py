"""Taking away what is damaged, if it is still what somebody has looked at.

Between a look and a removal another client may have healed what was damaged. So a removal says what
it saw, and a script that finds anything else does nothing. On a cluster no script spans a blob's
keys: each is removed by itself, membership first, if that key is still as it was; a blob that is
healed just then may end as a miss, never as a wrong answer.

Each removal is a change like any other: refused where the registry is read-only, written to the
audit log, and announced by a signal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blobcache.digest import Digest, digest_text
from blobcache.exceptions import DescriptorCorrupt
from blobcache.redis import keys, replies
from blobcache.reference import RepositoryName, repository_text
from blobcache.services.audit import Change, announce
from blobcache.transport.packing import Script, is_wrong_type

if TYPE_CHECKING:
    from blobcache.descriptor import Descriptor
    from blobcache.redis.evidence import Evidence
    from blobcache.redis.service import RedisBlobDescriptorCacheProvider
    from blobcache.transport.packing import Reply

__all__ = ["Mender"]

_STATE = """
local function state(key, ...)
    local kind = redis.call('TYPE', key)['ok']
    if kind == 'none' then kind = 'hash' end
    if kind ~= 'hash' then return 'another type' end
    local said = {}
    for place, field in ipairs({...}) do
        local stored = redis.call('HGET', key, field)
        said[place] = stored and ('+' .. #stored .. ':' .. stored) or '-'
    end
    return table.concat(said)
end
"""

_REMOVE_HASH = Script(
    _STATE
    + """
if state(KEYS[1], unpack(ARGV, 2)) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
"""
)
"""Delete the key if its fields, which the rest of ARGV names, are as ARGV[1] says."""

_REMOVE_MEMBER = Script(
    _STATE
    + """
local member, blob, override, takes_blob, media_type = unpack(ARGV)
if redis.call('TYPE', KEYS[1])['ok'] ~= 'set' then return 0 end
if redis.call('SISMEMBER', KEYS[1], member) == 0 then return 0 end
if state(KEYS[2], unpack(ARGV, 6)) ~= blob or state(KEYS[3], media_type) ~= override then
    return 0
end
redis.call('SREM', KEYS[1], member)
redis.call('UNLINK', KEYS[3])
if takes_blob == '1' then redis.call('UNLINK', KEYS[2]) end
return 1
"""
)
"""Take ARGV[1] out of the set, and delete its override and maybe its hash, if they are as said."""

_REMOVE_ORPHAN = Script("""
local is_set = redis.call('TYPE', KEYS[1])['ok'] == 'set'
if is_set and redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 0 end
return redis.call('UNLINK', KEYS[2])
""")
"""Delete an override unless the set has the digest."""

_REMOVE_OTHER_TYPE = Script("""
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == ARGV[1] or kind == 'none' then return 0 end
return redis.call('UNLINK', KEYS[1])
""")
"""Delete the key unless it is of the type that it should be."""


class Mender:
    """Removes damage from one registry's cache. Each method says whether it did anything."""

    def __init__(self, provider: RedisBlobDescriptorCacheProvider) -> None:
        self._provider = provider
        self._server = provider.server

    def remove_member(
        self, repository: bytes, digest: Digest, seen: Evidence, *, takes_blob: bool
    ) -> bool:
        """Take a member and its override away, and the blob's hash if that is the damage.

        One round trip; on a cluster two or three.
        """
        self.require_writable()
        blob = _told(seen.fields)
        is_foreign = is_wrong_type(seen.override)
        override = _told(seen.override if is_foreign else [seen.override])
        all_keys = [
            keys.members(repository),
            keys.blob(digest),
            keys.override(repository, digest),
        ]
        if self._server.is_cluster:
            done = self._remove_in_order(all_keys, digest, blob, override, takes_blob=takes_blob)
        else:
            told: list[bytes | int] = [digest.encode(), blob, override, int(takes_blob)]
            operands = [*told, keys.MEDIA_TYPE, *keys.FIELDS]
            done = self._server.script(_REMOVE_MEMBER, all_keys, operands) == 1
        if done:
            self._announce(repository, digest, _before(seen, digest, is_scoped=True))
        return done

    def _remove_in_order(
        self,
        all_keys: list[bytes],
        digest: Digest,
        blob: bytes,
        override: bytes,
        *,
        takes_blob: bool,
    ) -> bool:
        members, hash_key, override_key = all_keys
        if self._server.batch([("SREM", members, digest)]) != [1]:
            return False
        self._server.script(_REMOVE_HASH, [override_key], [override, keys.MEDIA_TYPE])
        if takes_blob:
            self._server.script(_REMOVE_HASH, [hash_key], [blob, *keys.FIELDS])
        return True

    def remove_blob(self, digest: Digest, seen: Evidence) -> bool:
        """Take a blob's hash away, whatever fields it has. One round trip."""
        self.require_writable()
        operands = [_told(seen.fields), *keys.FIELDS]
        done = self._server.script(_REMOVE_HASH, [keys.blob(digest)], operands) == 1
        if done:
            self._announce(None, digest, _before(seen, digest, is_scoped=False))
        return done

    def remove_orphan(self, repository: bytes, digest: bytes) -> bool:
        """Take an override away unless its digest is a member. One round trip; on a cluster two."""
        self.require_writable()
        members, override = keys.members(repository), keys.override(repository, digest)
        if self._server.is_cluster:
            is_member, *_ = self._server.batch([("SISMEMBER", members, digest)])
            done = is_member != 1 and self._server.batch([("UNLINK", override)]) == [1]
        else:
            done = self._server.script(_REMOVE_ORPHAN, [members, override], [digest]) == 1
        if done:
            self._announce(repository, digest)
        return done

    def remove_key_of_blob(self, digest: bytes) -> bool:
        """Take away what lies where a blob should, and is under no digest. One round trip."""
        return self._remove_key(keys.blob(digest), None, digest)

    def remove_foreign_member(self, repository: bytes, member: bytes) -> bool:
        """Take away a member that is no digest. One round trip."""
        self.require_writable()
        done = self._server.batch([("SREM", keys.members(repository), member)]) == [1]
        if done:
            self._announce(repository, member)
        return done

    def remove_foreign_set(self, repository: bytes) -> bool:
        """Take away what lies where a repository should, and is not a set. One round trip."""
        self.require_writable()
        done = self._server.script(_REMOVE_OTHER_TYPE, [keys.members(repository)], [b"set"]) == 1
        if done:
            self._announce(repository, None)
        return done

    def remove_foreign_name(self, repository: bytes) -> bool:
        """Take away what lies under a name that is none, of whatever type. One round trip."""
        return self._remove_key(keys.members(repository), repository, None)

    def _remove_key(self, key: bytes, repository: bytes | None, digest: bytes | None) -> bool:
        self.require_writable()
        done = self._server.batch([("UNLINK", key)]) == [1]
        if done:
            self._announce(repository, digest)
        return done

    def require_writable(self) -> None:
        """Raise `OperationUnsupported` where the registry is read-only; asks Redis nothing."""
        self._provider.rules.require_writable()

    def _announce(
        self,
        repository: bytes | None,
        digest: str | bytes | None,
        before: Descriptor | None = None,
    ) -> None:
        """As the clearing of a blob where that is what it was, else as damage that was removed."""
        name = None if repository is None else repository_text(repository)
        blob = digest_text(digest) if isinstance(digest, bytes) else digest
        is_clear = isinstance(blob, Digest) and (name is None or isinstance(name, RepositoryName))
        announce(
            Change(
                "clear" if is_clear else "repair",
                self._provider.rules.registry,
                name,
                blob,
                before,
            ),
            type(self._provider),
        )


_ANOTHER_TYPE = b"another type"


def _told(fields: Reply) -> bytes:
    """What `_STATE` says of a hash that gave this reply."""
    if is_wrong_type(fields):
        return _ANOTHER_TYPE
    return b"".join(
        b"-" if value is None else b"+%d:%b" % (len(value), value)
        for value in cast("list[bytes | None]", fields)
    )


def _before(seen: Evidence, digest: Digest, *, is_scoped: bool) -> Descriptor | None:
    """What a stat gave before."""
    try:
        if is_scoped:
            return replies.scoped_descriptor(
                seen.member, seen.fields, seen.override, digest, allow_tarsum=True
            )
        return replies.global_descriptor(seen.fields, digest, allow_tarsum=True)
    except DescriptorCorrupt:
        return None
