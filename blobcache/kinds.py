"""Kinds: the state of a blob in the cache, how severe that is, and which part is corrupt.

Plain values that import nothing, so that exceptions can carry them. `blobcache.findings` exports
them all: import them from there.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CONTENT_KINDS",
    "DEFAULT_KINDS",
    "FINDING_KINDS",
    "RECORD_KINDS",
    "REPORT_ONLY_KINDS",
    "SEVERITIES",
    "TRUTH_KINDS",
    "Kind",
    "Part",
    "Severity",
]


class Kind(StrEnum):
    """The state of a blob in the cache.

    The first ones can be told from the cache alone, those from `UNLINKED_MEMBER` on only by a
    comparison with what the registry really stores.
    """

    OK = "ok"
    """A stat gives the descriptor, and nothing contradicts it."""

    CORRUPT = "corrupt"
    """Something does not parse, or a key is of the wrong type."""

    DIGEST_MISMATCH = "digest-mismatch"
    """The hash names another blob: a registry would serve the wrong bytes."""

    SIZE_MISMATCH = "size-mismatch"
    """``size`` and ``length`` differ, a size is 0 and the content is not empty, or the size is not
    that of the stored data."""

    DANGLING_MEMBER = "dangling-member"
    """A member without a descriptor or without an override: a miss."""

    ORPHAN_OVERRIDE = "orphan-override"
    """A repository's own media type of a blob that is not a member."""

    UNREFERENCED = "unreferenced"
    """A global descriptor of a blob that is in no repository."""

    HUSK = "husk"
    """A hash without a usable descriptor, with leftover fields at most: a miss."""

    UNLINKED_MEMBER = "unlinked-member"
    """A member, although no link of the repository leads to the blob: the cache alone lets the
    repository read it."""

    MISSING_DATA = "missing-data"
    """The blob's data is not stored."""

    STALE_MANIFEST = "stale-manifest"
    """The data is not stored, and no repository has the blob as a member, as it is with manifests
    that were deleted: the registry does not store the content when it is pushed again."""

    UNSAFE_MEDIA_TYPE = "unsafe-media-type"
    """A media type that a browser could run or display as a page."""

    CORRUPT_LINK = "corrupt-link"
    """The repository's link in the storage is no digest, or leads to another blob."""

    STORAGE_DAMAGE = "storage-damage"
    """The stored data cannot be what its digest says."""

    MISSING_CONTENT = "missing-content"
    """A stored manifest names a blob or a manifest that its repository does not have."""

    MEDIA_TYPE_DRIFT = "media-type-drift"
    """The cached media type says what the content is, and a manifest says otherwise."""


TRUTH_KINDS: frozenset[Kind] = frozenset(
    {
        Kind.UNLINKED_MEMBER,
        Kind.MISSING_DATA,
        Kind.STALE_MANIFEST,
        Kind.UNSAFE_MEDIA_TYPE,
        Kind.CORRUPT_LINK,
        Kind.STORAGE_DAMAGE,
        Kind.MISSING_CONTENT,
        Kind.MEDIA_TYPE_DRIFT,
    }
)
"""The kinds that only a comparison with what the registry really stores can find."""

CONTENT_KINDS: frozenset[Kind] = frozenset({Kind.MISSING_CONTENT, Kind.MEDIA_TYPE_DRIFT})
"""Of these, the kinds for which the stored manifests must be read."""

REPORT_ONLY_KINDS: frozenset[Kind] = frozenset(
    {Kind.CORRUPT_LINK, Kind.STORAGE_DAMAGE, Kind.MISSING_CONTENT}
)
"""The kinds that are wrong in the storage, which nothing here repairs."""

RECORD_KINDS: tuple[Kind, ...] = (
    Kind.OK,
    Kind.CORRUPT,
    Kind.DIGEST_MISMATCH,
    Kind.SIZE_MISMATCH,
    Kind.DANGLING_MEMBER,
    Kind.HUSK,
)
"""The kinds that a `Record` can have: those that its own keys show. The API calls them states."""

FINDING_KINDS: tuple[Kind, ...] = tuple(kind for kind in Kind if kind is not Kind.OK)
"""The kinds that a `Finding` can have."""

DEFAULT_KINDS: frozenset[Kind] = frozenset(FINDING_KINDS) - {Kind.UNREFERENCED}
"""What a diagnosis looks for by default: not ``unreferenced``, for which it must walk over all
members of all repositories, and more than once over all keys."""


class Severity(StrEnum):
    """How bad a kind is; the worst first."""

    ERROR = "error"
    """A client gets a wrong answer, or a failure."""

    INFO = "info"
    """A miss at most, which a registry fills; or memory that is used for nothing."""

    OK = "ok"


SEVERITIES: Mapping[Kind, Severity] = {
    Kind.OK: Severity.OK,
    Kind.CORRUPT: Severity.ERROR,
    Kind.DIGEST_MISMATCH: Severity.ERROR,
    Kind.SIZE_MISMATCH: Severity.ERROR,
    Kind.DANGLING_MEMBER: Severity.INFO,
    Kind.ORPHAN_OVERRIDE: Severity.INFO,
    Kind.UNREFERENCED: Severity.INFO,
    Kind.HUSK: Severity.INFO,
    Kind.UNLINKED_MEMBER: Severity.ERROR,
    Kind.MISSING_DATA: Severity.ERROR,
    Kind.STALE_MANIFEST: Severity.ERROR,
    Kind.UNSAFE_MEDIA_TYPE: Severity.ERROR,
    Kind.CORRUPT_LINK: Severity.ERROR,
    Kind.STORAGE_DAMAGE: Severity.ERROR,
    Kind.MISSING_CONTENT: Severity.ERROR,
    Kind.MEDIA_TYPE_DRIFT: Severity.INFO,
}


class Part(StrEnum):
    """The part that does not parse, where something is corrupt."""

    KEY = "key"
    """The blob's key has the wrong type."""

    DIGEST = "digest"
    """The digest in the hash, or in the name of a blob's key."""

    SIZE = "size"
    MEDIA_TYPE = "media-type"
    """The global media type."""

    OVERRIDE_KEY = "override-key"
    """The key of the repository's own media type has the wrong type."""

    OVERRIDE = "override"
    """The repository's own media type."""

    NAME = "name"
    """The repository's name."""

    MEMBER = "member"
    """A member of a repository's set."""

    SET = "set"
    """The repository's key is not a set."""
