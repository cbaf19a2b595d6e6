"""Delete damaged data, but only if it is unchanged since it was read. See `Removals`.

Between a read and a removal another client may have repaired the data. So a removal passes the
fingerprint of what was read to a script, which does nothing if the data has another one. On a
cluster no script spans a blob's keys: each is removed by itself, if that key is unchanged, in the
order of a clear; a blob that is repaired just then may end as a miss, never as a wrong answer. What
an interrupted removal leaves is reported as a finding again, and a clear deletes it too.

Each removal is a change like any other: refused if the registry is read-only, written to the audit
log, and announced by a signal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.digest import Digest, digest_text
from blobcache.redis import keys
from blobcache.redis.fingerprints import FINGERPRINT, fingerprint, fingerprint_of_reply
from blobcache.redis.wrong_types import UNLINK_UNLESS
from blobcache.reference import RepositoryName, repository_text
from blobcache.services.audit import Change, announce
from blobcache.services.records import WRONG_TYPE
from blobcache.transport.packing import Decision, Script, Watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.services.records import Record
    from blobcache.services.rules import Rules
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["RedisRemovals"]


_BLOB_ALONE = b"2"
"""In the place of ``takes_blob``: the hash is deleted, and the repository keeps the blob."""


def _hash_reads(found: Sequence[bytes], operands: Sequence[bytes]) -> list[Command]:
    return [("WATCH", *found), ("HMGET", *found, *operands[1:]), ("EXISTS", *found)]


def _remove_hash(
    found: Sequence[bytes], operands: Sequence[bytes], replies: Sequence[Reply]
) -> Decision:
    fields, exists = replies
    if not exists or fingerprint_of_reply(fields) != operands[0]:
        return Decision([], 0)
    return Decision([("UNLINK", *found)], 1)


def _member_reads(found: Sequence[bytes], operands: Sequence[bytes]) -> list[Command]:
    members, blob, override = found
    member, _, _, _, media_type, *fields = operands
    return [
        ("WATCH", *found),
        ("SISMEMBER", members, member),
        ("HMGET", blob, *fields),
        ("HMGET", override, media_type),
    ]


def _remove_member(
    found: Sequence[bytes], operands: Sequence[bytes], replies: Sequence[Reply]
) -> Decision:
    members, blob, override = found
    member, of_blob, of_override, takes_blob, *_ = operands
    is_member, fields, media_type = replies
    states = fingerprint_of_reply(fields), fingerprint_of_reply(media_type)
    if is_member != 1 or states != (of_blob, of_override):
        return Decision([], 0)
    if takes_blob == _BLOB_ALONE:
        return Decision([("UNLINK", blob)], 1)
    writes: list[Command] = [("SREM", members, member), ("UNLINK", override)]
    return Decision([*writes, ("UNLINK", blob)] if takes_blob == b"1" else writes, 1)


def _orphan_reads(found: Sequence[bytes], digest: Sequence[bytes]) -> list[Command]:
    members, override = found
    return [("WATCH", *found), ("SISMEMBER", members, *digest), ("EXISTS", override)]


def _remove_orphan(
    found: Sequence[bytes], _: Sequence[bytes], replies: Sequence[Reply]
) -> Decision:
    is_member, exists = replies
    return Decision([], 0) if is_member == 1 or not exists else Decision([("UNLINK", found[1])], 1)


_REMOVE_HASH = Script(
    FINGERPRINT
    + """
if state(KEYS[1], unpack(ARGV, 2)) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
""",
    Watched(_hash_reads, _remove_hash),
)
"""Delete the key if its fields, named by the rest of ARGV, have the fingerprint ARGV[1]."""

_REMOVE_MEMBER = Script(
    FINGERPRINT
    + """
local member, blob, override, takes_blob, media_type = unpack(ARGV)
if redis.call('TYPE', KEYS[1])['ok'] ~= 'set' then return 0 end
if redis.call('SISMEMBER', KEYS[1], member) == 0 then return 0 end
if state(KEYS[2], unpack(ARGV, 6)) ~= blob or state(KEYS[3], media_type) ~= override then
    return 0
end
if takes_blob ~= '0' then redis.call('UNLINK', KEYS[2]) end
if takes_blob == '2' then return 1 end
redis.call('SREM', KEYS[1], member)
redis.call('UNLINK', KEYS[3])
return 1
""",
    Watched(_member_reads, _remove_member),
)
"""Remove ARGV[1] from the set, and delete its hash if ARGV[4] is 1, and its override.

If ARGV[4] is 2, delete the hash alone.
Only if the hash has the fingerprint ARGV[2] and the override ARGV[3]."""

_REMOVE_ORPHAN = Script(
    """
local is_set = redis.call('TYPE', KEYS[1])['ok'] == 'set'
if is_set and redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 0 end
return redis.call('UNLINK', KEYS[2])
""",
    Watched(_orphan_reads, _remove_orphan),
)
"""Delete an override unless the set has the digest."""


class RedisRemovals:
    """The removals from one registry's cache. See `blobcache.services.records.Removals`."""

    def __init__(self, server: Server, rules: Rules, sender: type) -> None:
        self._server = server
        self._rules = rules
        self._sender = sender

    def require_writable(self) -> None:
        """See `Removals.require_writable`; asks Redis nothing."""
        self._rules.require_writable()

    def remove_member(self, record: Record, *, with_blob: bool = False) -> bool:
        """See `Removals.remove_member`. One round trip; on a cluster two or three."""
        self.require_writable()
        takes_blob = with_blob or record.is_blob_damaged
        repository = (record.repository or "").encode()
        all_keys = [
            keys.members(repository),
            keys.blob(record.digest),
            keys.override(repository, record.digest),
        ]
        if self._server.is_cluster:
            is_done = self._remove_in_order(all_keys, record, takes_blob=takes_blob)
        else:
            is_done = self._remove_together(all_keys, record, b"1" if takes_blob else b"0")
        if is_done:
            self._announce(repository, record.digest, record.descriptor)
        return is_done

    def remove_blob_of_member(self, record: Record) -> bool:
        """See `Removals.remove_blob_of_member`. One round trip; on a cluster two."""
        self.require_writable()
        repository = (record.repository or "").encode()
        members, blob = keys.members(repository), keys.blob(record.digest)
        if self._server.is_cluster:
            (is_member,) = self._server.batch([("SISMEMBER", members, record.digest)])
            operands = [fingerprint(record.fields), *keys.FIELDS]
            is_done = is_member == 1 and self._server.script(_REMOVE_HASH, [blob], operands) == 1
        else:
            all_keys = [members, blob, keys.override(repository, record.digest)]
            is_done = self._remove_together(all_keys, record, _BLOB_ALONE)
        if is_done:
            self._announce(None, record.digest, record.global_descriptor)
        return is_done

    def _remove_together(self, all_keys: list[bytes], record: Record, takes_blob: bytes) -> bool:
        operands: list[bytes | str] = [
            record.digest.encode(),
            fingerprint(record.fields),
            _fingerprint_of_override(record),
            takes_blob,
            keys.MEDIA_TYPE,
            *keys.FIELDS,
        ]
        return self._server.script(_REMOVE_MEMBER, all_keys, operands) == 1

    def _remove_in_order(self, all_keys: list[bytes], record: Record, *, takes_blob: bool) -> bool:
        members, blob, override = all_keys
        if self._server.batch([("SREM", members, record.digest)]) != [1]:
            return False
        if takes_blob:
            self._server.script(_REMOVE_HASH, [blob], [fingerprint(record.fields), *keys.FIELDS])
        operands = [_fingerprint_of_override(record), keys.MEDIA_TYPE]
        self._server.script(_REMOVE_HASH, [override], operands)
        return True

    def remove_blob(self, record: Record) -> bool:
        """See `Removals.remove_blob`. One round trip."""
        self.require_writable()
        operands = [fingerprint(record.fields), *keys.FIELDS]
        is_done = self._server.script(_REMOVE_HASH, [keys.blob(record.digest)], operands) == 1
        if is_done:
            self._announce(None, record.digest, record.global_descriptor)
        return is_done

    def remove_orphan(self, repository: bytes, digest: bytes) -> bool:
        """See `Removals.remove_orphan`. One round trip; on a cluster two."""
        self.require_writable()
        members, override = keys.members(repository), keys.override(repository, digest)
        if self._server.is_cluster:
            is_member, *_ = self._server.batch([("SISMEMBER", members, digest)])
            is_done = is_member != 1 and self._server.batch([("UNLINK", override)]) == [1]
        else:
            is_done = self._server.script(_REMOVE_ORPHAN, [members, override], [digest]) == 1
        if is_done:
            self._announce(repository, digest)
        return is_done

    def remove_invalid_blob_key(self, digest: bytes) -> bool:
        """See `Removals.remove_invalid_blob_key`. One round trip."""
        return self._remove_key(keys.blob(digest), None, digest)

    def remove_invalid_member(self, repository: bytes, member: bytes) -> bool:
        """See `Removals.remove_invalid_member`. One round trip."""
        self.require_writable()
        is_done = self._server.batch([("SREM", keys.members(repository), member)]) == [1]
        if is_done:
            self._announce(repository, member)
        return is_done

    def remove_wrong_type_set(self, repository: bytes) -> bool:
        """See `Removals.remove_wrong_type_set`. One round trip."""
        self.require_writable()
        is_done = self._server.script(UNLINK_UNLESS, [keys.members(repository)], [b"set"]) == 1
        if is_done:
            self._announce(repository, None)
        return is_done

    def remove_invalid_repository(self, repository: bytes) -> bool:
        """See `Removals.remove_invalid_repository`. One round trip."""
        return self._remove_key(keys.members(repository), repository, None)

    def _remove_key(self, key: bytes, repository: bytes | None, digest: bytes | None) -> bool:
        self.require_writable()
        is_done = self._server.batch([("UNLINK", key)]) == [1]
        if is_done:
            self._announce(repository, digest)
        return is_done

    def _announce(
        self,
        repository: bytes | None,
        digest: str | bytes | None,
        before: Descriptor | None = None,
    ) -> None:
        """Announce the clear of a blob if it is one, else the removal of damaged data."""
        name = None if repository is None else repository_text(repository)
        blob = digest_text(digest) if isinstance(digest, bytes) else digest
        is_clear = isinstance(blob, Digest) and (name is None or isinstance(name, RepositoryName))
        announce(
            Change(
                "clear" if is_clear else "repair",
                self._rules.registry,
                name,
                blob,
                before,
            ),
            self._sender,
        )


def _fingerprint_of_override(record: Record) -> bytes:
    return fingerprint(WRONG_TYPE if record.override is WRONG_TYPE else [record.override])
