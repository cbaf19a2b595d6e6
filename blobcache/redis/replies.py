"""Parse Redis's replies into descriptors: what each state of the keys means.

Another program may have stored anything. Data that does not parse raises `DescriptorCorrupt`;
incomplete data returns None (unknown).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, cast

from blobcache.descriptor import MAX_MEDIA_TYPE, Descriptor, parse_size, validate_media_type
from blobcache.digest import Digest, digest_text
from blobcache.exceptions import DescriptorCorrupt, MediaTypeInvalid
from blobcache.findings import Kind, Part
from blobcache.transport.packing import is_wrong_type

if TYPE_CHECKING:
    from blobcache.transport.packing import Reply

__all__ = [
    "global_descriptor",
    "has_usable_media_type",
    "media_type",
    "overridden",
    "override_media_type",
    "scoped_descriptor",
]

_OVERRIDE_OF_WRONG_TYPE = "the override's hash is a key of another type"


def global_descriptor(
    fields: Reply, digest: Digest, *, allow_tarsum: bool = False
) -> Descriptor | None:
    """Read a blob's hash, given as the reply to ``HMGET`` of `keys.FIELDS`."""
    return _descriptor(fields, None, digest, allow_tarsum)


def scoped_descriptor(
    member: Reply, fields: Reply, override: Reply, digest: Digest, *, allow_tarsum: bool = False
) -> Descriptor | None:
    """Read a blob as a repository sees it: ``SISMEMBER``, the blob's hash, the override."""
    if not member:
        return None
    if isinstance(member, Exception):
        raise _corrupt(digest, "the repository's set is a key of another type", Part.SET)
    descriptor = _descriptor(fields, override, digest, allow_tarsum)
    # Unknown without an override, unless the hash is damaged: that comes first.
    return None if override is None else descriptor


def overridden(found: Descriptor, override: Reply, digest: Digest) -> Descriptor:
    """Return a global descriptor with the repository's own media type, if that is not empty."""
    if not override:
        return found
    if type(override) is not bytes:
        raise _corrupt(digest, _OVERRIDE_OF_WRONG_TYPE, Part.OVERRIDE_KEY)
    own_type = _media_type(override, digest, Part.OVERRIDE)
    if own_type == found.media_type:
        return found
    return Descriptor.of_valid(found.digest, found.size, own_type)


def media_type(fields: Reply) -> str | None:
    """Read the media type alone of a blob's hash; None if it is missing or not valid."""
    value = None if is_wrong_type(fields) else cast("list[bytes | None]", fields)[-1]
    return _decoded(value) if value else None


def override_media_type(override: Reply) -> str | None:
    """Read a repository's own media type, which may be empty; None if there is no valid one."""
    if not isinstance(override, bytes):
        return None
    return _decoded(override) if override else ""


def has_usable_media_type(fields: Reply) -> bool:
    """Whether a blob's hash has no media type or a valid one, so that it need not change."""
    if is_wrong_type(fields):
        return True
    value = cast("list[bytes | None]", fields)[-1]
    return value is None or _decoded(value) is not None


def _descriptor(
    fields: Reply,
    override: Reply,
    digest: Digest,
    allow_tarsum: bool,  # noqa: FBT001 - by its place it is quicker
) -> Descriptor | None:
    """The hash's descriptor, with the override's media type if that is not empty."""
    if type(fields) is not list:
        raise _corrupt(digest, "the hash is a key of another type", Part.KEY)
    named, size, length, its_type = cast("list[bytes | None]", fields)
    if size is None:
        size = length
    if named is None or size is None:
        return None
    canonical = digest
    if named != digest.encode():
        canonical = _alias_target(named, digest, allow_tarsum=allow_tarsum)
    number = parse_size(size)
    if number is None:
        raise _corrupt(digest, "its size is not a number of bytes", Part.SIZE)
    own_type = _media_type(its_type, digest, Part.MEDIA_TYPE) if its_type else None
    if override and override != its_type:
        if type(override) is not bytes:
            raise _corrupt(digest, _OVERRIDE_OF_WRONG_TYPE, Part.OVERRIDE_KEY)
        own_type = _media_type(override, digest, Part.OVERRIDE)
    return Descriptor.of_valid(canonical, number, own_type)


def _alias_target(named: bytes, digest: Digest, *, allow_tarsum: bool) -> Digest:
    """The digest that a hash names where it differs from the digest of its key."""
    canonical = digest_text(named, allow_tarsum=allow_tarsum)
    if not isinstance(canonical, Digest):
        raise _corrupt(digest, "the digest in it is not valid", Part.DIGEST)
    if canonical.algorithm == digest.algorithm:
        raise DescriptorCorrupt(
            _damaged(digest, "it names another blob"),
            {"digest": str(digest)},
            kind=Kind.DIGEST_MISMATCH,
        )
    return canonical


def _media_type(value: bytes, digest: Digest, part: Part) -> str:
    decoded = _decoded(value)
    if decoded is None:
        raise _corrupt(digest, "its media type is too long or cannot be printed", part)
    return decoded


def _decoded(value: bytes) -> str | None:
    """The value as a media type; None if it cannot be one."""
    return _decode(value) if len(value) <= MAX_MEDIA_TYPE else None


@lru_cache(1024)  # registries use a handful of them, over and over
def _decode(value: bytes) -> str | None:
    try:
        text = value.decode()
        validate_media_type(text)
    except (MediaTypeInvalid, UnicodeDecodeError):
        return None
    return text


def _corrupt(digest: Digest, why: str, part: Part) -> DescriptorCorrupt:
    return DescriptorCorrupt(_damaged(digest, why), {"digest": str(digest)}, part=part)


def _damaged(digest: Digest, why: str) -> str:
    return f"What the cache holds for {digest} is damaged: {why}."
