"""Clears under a condition: what is cleared is what a guard has accepted.

As for a guarded set, everything that goes is read first and the guard decides; then a script clears
it, but only if it is unchanged. On a cluster no script spans a blob's keys: there the guard decides
by what was read just before, and a write in between is cleared too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.descriptor import Descriptor
from blobcache.exceptions import DescriptorCorrupt
from blobcache.redis import commands, keys, replies
from blobcache.redis.fingerprints import fingerprint_of_reply
from blobcache.redis.guarded_sets import (
    ATTEMPTS,
    ComparedHash,
    ComparedSet,
    SetsGuarded,
    compared_blob,
    kept_changing_error,
    membership_state,
    write_if_unchanged,
)
from blobcache.services.rules import blob_unknown_error
from blobcache.transport.packing import is_wrong_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.guards import Guard
    from blobcache.transport.packing import Command, Reply

__all__ = ["ChangesGuarded"]


class ChangesGuarded(SetsGuarded):
    """Implements a service's `set_guarded` and `clear_guarded`."""

    __slots__ = ()

    def _clear_guarded(self, digest: Digest, guard: Guard) -> Descriptor | None:
        """Clear it if the guard accepts what goes: two round trips, on a cluster five."""
        for _ in range(ATTEMPTS):
            if self.repository is None:
                is_cleared, before = self._clear_globally(digest, guard)
            else:
                is_cleared, before = self._clear_in(self.repository, digest, guard)
            if is_cleared:
                return before
        raise kept_changing_error()

    def _clear_globally(self, digest: Digest, guard: Guard) -> tuple[bool, Descriptor | None]:
        (fields,) = self._server.batch(commands.read_hashes(None, digest))
        is_damaged = is_wrong_type(fields)
        if not is_damaged and not any(value is not None for value in _values(fields)):
            raise blob_unknown_error(digest, None)
        before = self._global(fields, digest)
        guard(before, [] if before is None else [before])
        blob = keys.blob(digest)
        writes: list[Command] = [("UNLINK", blob) if is_damaged else ("HDEL", blob, *keys.FIELDS)]
        return write_if_unchanged(
            self._server, [compared_blob(digest, fields)], None, writes
        ), before

    def _clear_in(
        self, repository: RepositoryName, digest: Digest, guard: Guard
    ) -> tuple[bool, Descriptor | None]:
        members, override = keys.members(repository), keys.override(repository, digest)
        fields, media_type, member, has_override = self._server.batch(
            [
                *commands.read_hashes(repository, digest),
                ("SISMEMBER", members, digest),
                ("EXISTS", override),
            ]
        )
        if member == 0 and not has_override:
            raise blob_unknown_error(digest, repository)
        known = self._global(fields, digest)
        try:
            before = replies.scoped_descriptor(
                member, fields, media_type, digest, allow_tarsum=self.rules.allow_tarsum
            )
        except DescriptorCorrupt:
            before = None
        guard(before, [] if known is None else [known])
        if self._server.is_cluster:
            return True, self._clear(digest)
        stored = media_type if is_wrong_type(media_type) else [media_type]
        compared = [
            compared_blob(digest, fields),
            ComparedHash(override, [keys.MEDIA_TYPE], fingerprint_of_reply(stored)),
        ]
        is_member = ComparedSet(members, digest.encode(), membership_state(member))
        writes: list[Command] = []
        if is_wrong_type(member):
            writes.append(("UNLINK", members))
        elif member:
            writes.append(("SREM", members, digest))
        if self.rules.role == "cache":
            blob = keys.blob(digest)
            writes.append(
                ("UNLINK", blob) if is_wrong_type(fields) else ("HDEL", blob, *keys.FIELDS)
            )
        writes.append(("UNLINK", override))
        return write_if_unchanged(self._server, compared, is_member, writes), before

    def _global(self, fields: Reply, digest: Digest) -> Descriptor | None:
        try:
            return replies.global_descriptor(fields, digest, allow_tarsum=self.rules.allow_tarsum)
        except DescriptorCorrupt:
            return None


def _values(fields: Reply) -> Sequence[object]:
    return fields if isinstance(fields, list) else []
