"""Every Redis key and field, and how a key is parsed.

The registry's keys are those of CNCF distribution's Redis cache, byte for byte. The catalog's keys
are ours. Their common hash tag keeps them in one slot of a cluster.
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
"""SCAN pattern for the hashes of blobs."""

REPOSITORIES = b"repository::*::blobs"
"""SCAN pattern for the sets of repositories."""

CACHE = b"[br]*"
"""SCAN pattern for all keys of a registry; also matches other keys that start with b or r."""

LONGEST_NAME = 1024
"""Bytes of a name that are indexed; a longer name is cut."""

_BLOB, _REPOSITORY, _MEMBERS, _OF_BLOB = b"blobs::", b"repository::", b"::blobs", b"::blobs::"


class KeyKind(Enum):
    """What a key of a registry holds."""

    BLOB = "blob"
    MEMBERS = "members"
    OVERRIDE = "override"


class Key(NamedTuple):
    """The parts of a registry's key, valid or not."""

    kind: KeyKind
    repository: bytes
    """Empty for a blob's hash."""

    digest: bytes
    """Empty for a repository's set."""


def parse(key: bytes) -> Key | None:
    """Parse a key; None if it is not a registry's. `blob`, `members`, `override` do the reverse."""
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
    """Return the key of the hash with the blob's global descriptor."""
    return b"blobs::%b" % _raw(digest)


def members(repository: str | bytes) -> bytes:
    """Return the key of the set of digests that the repository may see."""
    return b"repository::%b::blobs" % _raw(repository)


def override(repository: str | bytes, digest: str | bytes) -> bytes:
    """Return the key of the hash with the repository's own media type of the blob."""
    return b"repository::%b::blobs::%b" % (_raw(repository), _raw(digest))


def digest_in(key: bytes) -> bytes:
    """Return the digest part of a key that `BLOBS` matched, valid or not."""
    return key.removeprefix(_BLOB)


def repository_in(key: bytes) -> bytes:
    """Return the name part of a key that `REPOSITORIES` matched, valid or not.

    Cut at `LONGEST_NAME` bytes. Valid names are shorter; invalid names that begin with the same
    `LONGEST_NAME` bytes become one entry of the index.
    """
    return key.removeprefix(_REPOSITORY).removesuffix(_MEMBERS)[:LONGEST_NAME]


class CatalogKeys(NamedTuple):
    """The keys of the catalog of one registry."""

    names: bytes
    """A sorted set, all scores 0: repository names in lexical order."""

    build: bytes
    """The same, for the index that is being built."""

    state: bytes
    """A hash: how far the build is, and when the finished build began."""

    lock: bytes
    """A string with an expiry: the token of the process that builds."""

    old: bytes
    """The replaced index, until Redis has freed it in the background."""

    figures: bytes
    """A hash by repository name: its figures."""

    counting: bytes
    """A hash by repository name: an unfinished count, with its sums so far."""

    by_count: bytes
    """A sorted set: names by their counted blobs."""

    by_bytes: bytes
    """A sorted set: names by their counted bytes."""

    warm: bytes
    """A hash: the notes of a warm, to go on where it stopped."""

    warm_lock: bytes
    """A string with an expiry: the token of the process that warms."""

    @classmethod
    def of(cls, registry: str = "", place: str = "") -> CatalogKeys:
        """Return the keys beside the registry's own, or in another Redis: then see `places`."""
        tag, place = registry and f":{registry}", place and f"{place}::"
        return cls(*(f"blobcache::{{catalog{tag}}}::{place}{key}".encode() for key in cls._fields))

    def note(self, name: str) -> bytes:
        """Return the key of a note: see `blobcache.services.notes`."""
        return self.names.removesuffix(b"names") + b"note::" + name.encode()

    def copy(self, *parts: str) -> bytes:
        """Return a key of the sorted copy that is named first; without parts, of their list."""
        return b"::".join([self.names.removesuffix(b"::names"), b"copy", *map(str.encode, parts)])


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
