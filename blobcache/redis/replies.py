"""From Redis's replies to descriptors: what each state of the keys means.

Another writer may have left anything there. Whatever does not parse raises `DescriptorCorrupt`;
whatever is not all there is unknown, and comes back as None.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, cast

from blobcache.descriptor import MAX_SIZE, Descriptor, validate_media_type
from blobcache.digest import Digest
from blobcache.exceptions import DescriptorCorrupt, DigestInvalid, MediaTypeInvalid
from blobcache.redis.connection import is_wrong_type

if TYPE_CHECKING:
    from blobcache.redis.connection import Reply

__all__ = ["global_descriptor", "has_usable_media_type", "is_member", "scoped_descriptor"]

_SIZE = re.compile(rb"[0-9]{1,19}")


def global_descriptor(
    fields: Reply, digest: Digest, *, allow_tarsum: bool = False
) -> Descriptor | None:
    """Read a blob's hash, given as the reply to ``HMGET`` of `keys.FIELDS`."""
    _require_type(fields, digest, "hash")
    named, size, length, media_type = cast("list[bytes | None]", fields)
    if size is None:
        size = length
    if named is None or size is None:
        return None
    return Descriptor(
        _canonical(named, digest, allow_tarsum=allow_tarsum),
        _bytes(size, digest),
        _media_type(media_type, digest),
    )


def scoped_descriptor(
    member: Reply, fields: Reply, override: Reply, digest: Digest, *, allow_tarsum: bool = False
) -> Descriptor | None:
    """Read a blob as a repository sees it: ``SISMEMBER``, the blob's hash, the override."""
    if not is_member(member, digest):
        return None
    descriptor = global_descriptor(fields, digest, allow_tarsum=allow_tarsum)
    if descriptor is None:
        return None
    _require_type(override, digest, "override's hash")
    if override is None:
        return None
    media_type = _media_type(cast("bytes", override), digest)
    if media_type is None or media_type == descriptor.media_type:
        return descriptor
    return Descriptor(descriptor.digest, descriptor.size, media_type)


def is_member(member: Reply, digest: Digest) -> bool:
    """Read the reply to ``SISMEMBER`` in a repository's set."""
    _require_type(member, digest, "repository's set")
    return bool(member)


def has_usable_media_type(value: Reply) -> bool:
    """Whether a stored media type, None where there is none, can stay as it is."""
    try:
        return value is None or bool(value and _text(cast("bytes", value)))
    except (MediaTypeInvalid, UnicodeDecodeError):
        return False


def _require_type(reply: Reply, digest: Digest, what: str) -> None:
    if is_wrong_type(reply):
        raise _corrupt(digest, f"the {what} is a key of another type")


def _canonical(named: bytes, digest: Digest, *, allow_tarsum: bool) -> Digest:
    text = named.decode("utf-8", "replace")
    if text == digest:
        return digest
    try:
        canonical = Digest(text, allow_tarsum=allow_tarsum)
    except DigestInvalid:
        raise _corrupt(digest, "the digest it names is none") from None
    if canonical.algorithm == digest.algorithm:
        raise _corrupt(digest, "it names another blob", "digest-mismatch")
    return canonical


def _bytes(size: bytes, digest: Digest) -> int:
    if not _SIZE.fullmatch(size) or (value := int(size)) > MAX_SIZE:
        raise _corrupt(digest, "its size is not a number of bytes")
    return value


def _media_type(value: bytes | None, digest: Digest) -> str | None:
    try:
        return _text(value) if value else None
    except (MediaTypeInvalid, UnicodeDecodeError):
        raise _corrupt(digest, "its media type cannot be printed") from None


def _text(value: bytes) -> str:
    media_type = value.decode()
    validate_media_type(media_type)
    return media_type


def _corrupt(
    digest: Digest, why: str, kind: Literal["corrupt", "digest-mismatch"] = "corrupt"
) -> DescriptorCorrupt:
    return DescriptorCorrupt(
        f"What the cache holds for {digest} is damaged: {why}.", {"digest": str(digest)}, kind
    )
