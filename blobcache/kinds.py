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
    "DEFAULT_KINDS",
    "FINDING_KINDS",
    "RECORD_KINDS",
    "SEVERITIES",
    "Kind",
    "Part",
    "Severity",
]


class Kind(StrEnum):
    """The state of a blob in the cache, as far as the cache alone can tell."""

    OK = "ok"
    """A stat gives the descriptor, and nothing contradicts it."""

    CORRUPT = "corrupt"
    """Something does not parse, or a key is of the wrong type."""

    DIGEST_MISMATCH = "digest-mismatch"
    """The hash names another blob: a registry would serve the wrong bytes."""

    SIZE_MISMATCH = "size-mismatch"
    """``size`` and ``length`` differ, or a size is 0 and the content is not empty."""

    DANGLING_MEMBER = "dangling-member"
    """A member without a descriptor or without an override: a miss."""

    ORPHAN_OVERRIDE = "orphan-override"
    """A repository's own media type of a blob that is not a member."""

    UNREFERENCED = "unreferenced"
    """A global descriptor of a blob that is in no repository."""

    HUSK = "husk"
    """A hash without a usable descriptor, with leftover fields at most: a miss."""


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
