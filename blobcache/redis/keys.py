"""Every Redis key and field there is, and how to read a key.

The registry's keys are those of CNCF distribution's Redis cache, byte for byte. The catalog's are
ours; their common hash tag keeps them in one slot of a cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from blobcache.digest import Digest

__all__ = [
    "BLOBS",
    "DIGEST",
    "FIELDS",
    "LENGTH",
    "MEDIA_TYPE",
    "REPOSITORIES",
    "SIZE",
    "SIZES",
    "CatalogKeys",
    "blob",
    "digest_in",
    "members",
    "override",
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

_BLOB, _REPOSITORY, _MEMBERS = b"blobs::", b"repository::", b"::blobs"


def blob(digest: Digest) -> bytes:
    """The hash that holds the blob's global descriptor."""
    return b"blobs::%b" % digest.encode()


def members(repository: str | bytes) -> bytes:
    """The set of the digests that the repository may see."""
    return b"repository::%b::blobs" % _raw(repository)


def override(repository: str, digest: Digest) -> bytes:
    """The hash that holds the repository's own media type of the blob."""
    return b"repository::%b::blobs::%b" % (repository.encode(), digest.encode())


def digest_in(key: bytes) -> bytes:
    """What stands for the digest in a key that `BLOBS` matched."""
    return key.removeprefix(_BLOB)


def repository_in(key: bytes) -> bytes:
    """What stands for the name in a key that `REPOSITORIES` matched."""
    return key.removeprefix(_REPOSITORY).removesuffix(_MEMBERS)


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

    @classmethod
    def of(cls, registry: str = "") -> CatalogKeys:
        """The keys beside the registry's own, or those of one `registry` in a Redis apart."""
        prefix = b"blobcache::{catalog%b}::" % (b":" + registry.encode() if registry else b"")
        return cls(*(prefix + name.encode() for name in cls._fields))


def _raw(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode()
