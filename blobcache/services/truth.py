"""What a backend answers: present, absent, or unknown, and where it looked.

A backend knows what the registry really stores: its storage, or the registry itself over HTTP. See
`services.base.Backend`. Only an `Absent` may ever lead to a removal. Everything that leaves a doubt
is `Unknown`: a missing mount, no permission, a server's error, a link that does not parse.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalidFormat
from blobcache.raw import quoted

if TYPE_CHECKING:
    from blobcache.descriptor import Descriptor

__all__ = [
    "Absent",
    "Answer",
    "Damage",
    "Doubt",
    "LinkKind",
    "Present",
    "Reachable",
    "StoredLink",
    "Unknown",
    "Witness",
    "parse_position",
]


class LinkKind(StrEnum):
    """The kinds of links from a repository to a blob."""

    LAYER = "layer"
    """Below ``_layers``: the repository may read the content as a blob."""

    MANIFEST = "manifest"
    """Below ``_manifests/revisions``: the repository may read the content as a manifest."""


class Damage(StrEnum):
    """What is wrong in the storage itself. It is reported, and never repaired by this app."""

    CORRUPT_LINK = "corrupt-link"
    """A link that is no digest, or that names another blob of the same algorithm."""

    STORAGE_DAMAGE = "storage-damage"
    """Data that cannot be what its digest says: a directory, or nothing where something must be."""


class Doubt(StrEnum):
    """Why a backend cannot say whether a blob is there."""

    NO_ROOT = "no root"
    """The storage is missing or empty: not mounted, a wrong bucket, a wrong prefix."""

    DENIED = "denied"
    """No permission, or wrong credentials."""

    THROTTLED = "throttled"
    """The server asked us to wait."""

    TIMEOUT = "timeout"
    """No answer in time."""

    LINK = "link"
    """The link was read, but it cannot be followed."""

    SCOPE = "scope"
    """This backend can answer for one repository only."""

    FAILED = "failed"
    """Any other failure, or an answer that proves nothing."""


@dataclass(frozen=True, slots=True)
class Present:
    """The blob is stored, and in a repository's scope that repository may read it."""

    descriptor: Descriptor
    """The size is that of the data. The digest is the canonical one if an alias was asked for. The
    media type is a manifest's own where the backend read it, else ``application/octet-stream``."""

    evidence: str
    """The path or the address that was looked at."""

    link: LinkKind | None = None
    """The link that lets the repository read the blob; None in the global scope."""

    damage: Damage | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """The blob is not there, and the storage or registry that says so certainly is."""

    evidence: str
    """The path or the address that was looked at, and what was found instead."""

    damage: Damage | None = None

    other_link: LinkKind | None = None
    """A link that does lead to the data, but makes no member of the blob in this version of the
    registry: on version 2 that of a manifest, which the repository may read by other means."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The backend cannot say whether the blob is there. Nothing may be concluded from that."""

    doubt: Doubt
    reason: str
    """What happened, in one sentence, with the path or the address."""

    damage: Damage | None = None


Answer: TypeAlias = Present | Absent | Unknown


@dataclass(frozen=True, slots=True)
class Reachable:
    """The storage or the registry is there, and holds something."""

    evidence: str


@dataclass(frozen=True, slots=True)
class Witness:
    """Whether what a backend says may be used against the cache."""

    is_independent: bool
    """False if the backend reads this very cache, or if nobody could find out."""

    reason: str
    """One sentence for operators: how that was found out, or why it could not be."""


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A link of a repository, as it was read."""

    kind: LinkKind
    digest: Digest
    """The digest that the link is filed under: an alias, if `target` is of another algorithm."""

    target: Digest | None
    """The digest that the link contains; None if it cannot be followed."""

    evidence: str
    """The path that was looked at."""

    damage: Damage | None = None

    @property
    def position(self) -> str:
        """Where the link is in the list of its repository's links: see `Backend.members`."""
        return f"{self.kind}/{self.digest}"


def parse_position(position: str) -> tuple[LinkKind, Digest]:
    """Parse a `StoredLink.position`. Raises `DigestInvalid`."""
    kind, _, digest = position.partition("/")
    if kind not in set(LinkKind):
        raise DigestInvalidFormat(f"{quoted(position)} does not have the form 'layer/sha256:…'.")
    return LinkKind(kind), Digest(digest)
