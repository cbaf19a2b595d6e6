"""A closer look at what Redis holds for a digest: what a stat gives, and what is odd about it.

The service answers unknown to whatever is not whole; an operator wants to see why. What is told
here is what the cache alone can tell, in the words of the doctor's findings.
"""

from __future__ import annotations

from hashlib import new as new_hash
from typing import TYPE_CHECKING, NamedTuple, cast

from blobcache.digest import ALGORITHMS
from blobcache.exceptions import DescriptorCorrupt
from blobcache.findings import Kind
from blobcache.redis import replies
from blobcache.transport.packing import is_wrong_type

if TYPE_CHECKING:
    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.findings import Part
    from blobcache.transport.packing import Reply

__all__ = ["Record", "inspect_blob", "inspect_member"]


class Record(NamedTuple):
    """What the cache holds for a digest, in one scope."""

    digest: str
    """A `Digest`, or what another writer put in the place of one, made printable."""

    kind: Kind

    descriptor: Descriptor | None
    """What a stat in that scope gives; None if it is unknown or corrupt."""

    global_media_type: str | None
    """The media type of the global scope; in the global scope that of `descriptor`."""

    is_member: bool | None = None
    """Whether the repository may see the digest; None in the global scope, and where the
    repository's set is a key of another type. The other fields assume membership."""

    part: Part | None = None
    """The part that does not parse, where the kind is `Kind.CORRUPT`."""


def inspect_blob(digest: Digest, fields: Reply, *, allow_tarsum: bool = True) -> Record:
    """Read a blob's hash, given as the reply to ``HMGET`` of `keys.FIELDS`.

    With the registry's rule for `allow_tarsum` the record is what its stat gives; without it, what
    any registry's might.
    """
    if not (allow_tarsum or digest.algorithm in ALGORITHMS):
        return Record(digest, Kind.CORRUPT, None, None)
    try:
        descriptor = replies.global_descriptor(fields, digest, allow_tarsum=allow_tarsum)
    except DescriptorCorrupt as error:
        return Record(digest, error.kind, None, None, part=error.part)
    return _record(digest, fields, descriptor, descriptor, unknown=Kind.HUSK)


def inspect_member(
    digest: Digest,
    fields: Reply,
    override: Reply,
    member: Reply = 1,
    *,
    allow_tarsum: bool = True,
) -> Record:
    """Read a member's hash and its override, given as the reply to ``HGET`` of its media type.

    `member` is the reply to ``SISMEMBER``; for `allow_tarsum` see `inspect_blob`.
    """
    is_member = None if is_wrong_type(member) else bool(member)
    if not (allow_tarsum or digest.algorithm in ALGORITHMS):
        return Record(digest, Kind.CORRUPT, None, None, is_member)
    try:
        found = replies.global_descriptor(fields, digest, allow_tarsum=allow_tarsum)
        seen = replies.scoped_descriptor(1, fields, override, digest, allow_tarsum=allow_tarsum)
    except DescriptorCorrupt as error:
        return Record(digest, error.kind, None, None, is_member, error.part)
    record = _record(digest, fields, found, seen, unknown=Kind.DANGLING_MEMBER)
    return record._replace(is_member=is_member)


def _record(
    digest: Digest,
    fields: Reply,
    found: Descriptor | None,
    seen: Descriptor | None,
    *,
    unknown: Kind,
) -> Record:
    media_type = found.media_type if found else None
    if seen is None:
        return Record(digest, unknown, None, media_type)
    contradict = _sizes_contradict(cast("list[bytes | None]", fields), seen)
    return Record(digest, Kind.SIZE_MISMATCH if contradict else Kind.OK, seen, media_type)


def _sizes_contradict(fields: list[bytes | None], descriptor: Descriptor) -> bool:
    _, size, length, _ = fields
    if size is not None and length is not None and size != length:
        return True
    algorithm = descriptor.digest.algorithm
    return (
        descriptor.size == 0
        and algorithm in ALGORITHMS
        and descriptor.digest.encoded != new_hash(algorithm).hexdigest()
    )
