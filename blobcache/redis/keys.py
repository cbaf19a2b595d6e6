"""Every Redis key and field there is, and how to read a key.

The registry's keys are those of CNCF distribution's Redis cache, byte for byte. The catalog's are
ours; their common hash tag keeps them in one slot of a cluster.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = [
    "BLOBS",
    "CACHE",
    "DIGEST",
    "FIELDS",
    "LENGTH",
    "LONGEST_NAME",
    "MEDIA_TYPE",
    "REPOSITORIES",
    "SIZE",
    "SIZES",
    "CatalogKeys",
    "Key",
    "KeyKind",
    "blob",
    "digest_in",
    "members",
    "override",
    "parse",
    "repository_in",
]

DIGEST, SIZE, LENGTH, MEDIA_TYPE = b"digest", b"size", b"length", b"mediatype"

SIZES = (SIZE, LENGTH)
"""The fields that may hold a size."""

FIELDS = (DIGEST, *SIZES, MEDIA_TYPE)
"""The fields of a blob's hash; an override's hash has `MEDIA_TYPE` alone."""

BLOBS = b"blobs::*"
"""The pattern that matches every blob's hash."""

REPOSITORIES = b"repository::*::blobs"
"""The pattern that matches every repository's set of digests."""

CACHE = b"[br]*"
"""The pattern that matches every key of a registry's, and few others."""

LONGEST_NAME = 1024
"""Bytes of a name that are indexed; a longer name is cut."""

_BLOB, _REPOSITORY, _MEMBERS, _OF_BLOB = b"blobs::", b"repository::", b"::blobs", b"::blobs::"


class KeyKind(Enum):
    """What a key of a registry's holds."""

    BLOB = "blob"
    MEMBERS = "members"
    OVERRIDE = "override"


class Key(NamedTuple):
    """A key of a registry's, taken apart; the parts are what stands there, valid or not."""

    kind: KeyKind
    repository: bytes
    """Empty for a blob's."""

    digest: bytes
    """Empty for a repository's set."""


def parse(key: bytes) -> Key | None:
    """Take a key apart; None if it is not a registry's. `blob`, `members`, `override` undo it."""
    if key.startswith(_BLOB):
        return Key(KeyKind.BLOB, b"", key.removeprefix(_BLOB))
    rest = key.removeprefix(_REPOSITORY)
    if rest == key:
        return None
    if rest.endswith(_MEMBERS):
        return Key(KeyKind.MEMBERS, rest.removesuffix(_MEMBERS), b"")
    repository, separator, digest = rest.partition(_OF_BLOB)
    return Key(KeyKind.OVERRIDE, repository, digest) if separator else None


def blob(digest: str | bytes) -> bytes:
    """The hash that holds the blob's global descriptor."""
    return b"blobs::%b" % _raw(digest)


def members(repository: str | bytes) -> bytes:
    """The set of the digests that the repository may see."""
    return b"repository::%b::blobs" % _raw(repository)


def override(repository: str | bytes, digest: str | bytes) -> bytes:
    """The hash that holds the repository's own media type of the blob."""
    return b"repository::%b::blobs::%b" % (_raw(repository), _raw(digest))


def digest_in(key: bytes) -> bytes:
    """What stands for the digest in a key that `BLOBS` matched."""
    return key.removeprefix(_BLOB)


def repository_in(key: bytes) -> bytes:
    """What stands for the name in a key that `REPOSITORIES` matched.

    Cut at `LONGEST_NAME` bytes. Valid names are shorter; invalid names that begin with the same
    `LONGEST_NAME` bytes become one entry of the index.
    """
    return key.removeprefix(_REPOSITORY).removesuffix(_MEMBERS)[:LONGEST_NAME]


class CatalogKeys(NamedTuple):
    """The keys of one registry's catalog."""

    names: bytes
    """A sorted set, all scores 0: repository names in lexical order."""

    build: bytes
    """The same, while it is being built."""

    state: bytes
    """A hash: how far the build is, and from when the finished one dates."""

    lock: bytes
    """A string with an expiry: who is building at this moment."""

    old: bytes
    """Where a replaced index waits to be freed in the background."""

    figures: bytes
    """A hash by name: what each repository's blobs come to, as it was counted."""

    counting: bytes
    """A hash by name: how far the counting of a repository is, and the sums so far."""

    by_count: bytes
    """A sorted set: names by the number of blobs that was counted."""

    by_bytes: bytes
    """The same by bytes."""

    @classmethod
    def of(cls, registry: str = "") -> CatalogKeys:
        """The keys beside the registry's own, or those of one `registry` in a Redis apart."""
        prefix = b"blobcache::{catalog%b}::" % (b":" + registry.encode() if registry else b"")
        return cls(*(prefix + name.encode() for name in cls._fields))


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
