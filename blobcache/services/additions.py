"""Additions: descriptors that are written in bulk, but only where the cache has none.

`plan` compares what the cache holds with what it should hold, and says what is missing. Nothing
that is there is ever changed, so a store writes only the missing parts, each only if it is still
missing then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from blobcache.findings import Kind
from blobcache.services.records import WRONG_TYPE

if TYPE_CHECKING:
    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.services.records import Record

__all__ = ["Addition", "Standing", "created_number", "plan"]


class Standing(StrEnum):
    """How what the cache holds compares with what should be added."""

    MISSING = "missing"
    """Something is missing, and nothing contradicts it."""

    KNOWN = "known"
    """All of it is there already."""

    DIFFERS = "differs"
    """The cache has something else, or something damaged."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A descriptor to add in one scope, and which of its parts."""

    digest: Digest
    """The digest to add it for: an alias, if the descriptor has another one."""

    descriptor: Descriptor
    """The media type is that of the repository. The blob's own hash, if it is missing, gets
    ``application/octet-stream``, as registries write it."""

    standing: Standing

    blob: bool = False
    """Whether the blob's hash is missing; in a result, whether it was created."""

    override: bool = False
    """The same for the repository's own media type."""

    member: bool = False
    """The same for the membership, which lets the repository read the blob."""

    @property
    def is_missing(self) -> bool:
        """Whether any part is missing; in a result, whether any was created."""
        return self.standing is Standing.MISSING


def plan(record: Record, digest: Digest, descriptor: Descriptor) -> Addition:
    """Say what is missing of a descriptor, by what the cache holds for its digest."""
    is_scoped = record.repository is not None
    found = record.global_descriptor
    if found is not None:
        is_as_wanted = record.global_kind is Kind.OK and (found.digest, found.size) == (
            descriptor.digest,
            descriptor.size,
        )
    else:  # Nothing usable. What is left of a former hash must not contradict the new one.
        is_as_wanted = record.global_kind is Kind.HUSK and _may_remain(record, descriptor)
    if is_scoped and (record.is_member is None or record.override is WRONG_TYPE):
        is_as_wanted = False
    is_damaged = is_scoped and record.kind in (Kind.CORRUPT, Kind.DIGEST_MISMATCH)
    if not is_as_wanted or is_damaged:
        return Addition(digest, descriptor, Standing.DIFFERS)
    blob = found is None
    override = is_scoped and record.override is None
    member = is_scoped and not record.is_member
    is_missing = blob or override or member
    standing = Standing.MISSING if is_missing else Standing.KNOWN
    return Addition(digest, descriptor, standing, blob, override, member)


def created_number(added: list[Addition]) -> int:
    """Return how many of the results of an addition created anything."""
    return sum(each.is_missing for each in added)


def _may_remain(record: Record, descriptor: Descriptor) -> bool:
    if record.fields is WRONG_TYPE:
        return False
    size = b"%d" % descriptor.size
    wanted = descriptor.digest.encode()
    return (
        record.fields.digest in (None, wanted)
        and record.fields.size in (None, size)
        and record.fields.length in (None, size)
    )
