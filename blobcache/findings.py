"""Findings: what can be wrong with a cache, and with which part of it.

A finding is a value. It can be told to somebody, kept, sent away as its `Finding.id` and come back
from that: a repair looks again anyway, so it needs no more than kind and subject.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias
from urllib.parse import quote_from_bytes, unquote_to_bytes

from blobcache.digest import digest_text
from blobcache.raw import EXCERPT
from blobcache.reference import RepositoryName, repository_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_KINDS",
    "SEVERITIES",
    "Facts",
    "Finding",
    "Kind",
    "Outcome",
    "Place",
    "Severity",
    "Subject",
]


class Kind(StrEnum):
    """What is wrong, in a word. These can be told from the cache alone."""

    CORRUPT = "corrupt"
    """Something does not parse, or a key is of the wrong type."""

    DIGEST_MISMATCH = "digest-mismatch"
    """The hash names another blob: a registry would serve the wrong bytes."""

    SIZE_MISMATCH = "size-mismatch"
    """``size`` and ``length`` differ, or a size is 0 and the content is not empty."""

    DANGLING_MEMBER = "dangling-member"
    """A member without a descriptor or without an override: a miss."""

    ORPHAN_OVERRIDE = "orphan-override"
    """A repository's own media type of a blob that is no member."""

    UNREFERENCED = "unreferenced"
    """A global descriptor of a blob that is in no repository."""

    HUSK = "husk"
    """A hash with nothing but leftover fields: a miss."""


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Somebody gets a wrong answer, or a failure."""

    INFO = "info"
    """A miss at most, which a registry fills; or memory that serves nobody."""


SEVERITIES: Mapping[Kind, Severity] = {
    Kind.CORRUPT: Severity.ERROR,
    Kind.DIGEST_MISMATCH: Severity.ERROR,
    Kind.SIZE_MISMATCH: Severity.ERROR,
    Kind.DANGLING_MEMBER: Severity.INFO,
    Kind.ORPHAN_OVERRIDE: Severity.INFO,
    Kind.UNREFERENCED: Severity.INFO,
    Kind.HUSK: Severity.INFO,
}

DEFAULT_KINDS = frozenset(Kind) - {Kind.UNREFERENCED}
"""What a diagnosis looks for unless it is told: not for what takes a question to each repository
about each blob."""

Facts: TypeAlias = "Mapping[str, str | int | None]"


class Place(StrEnum):
    """Which part of the cache something is about."""

    BLOB = "blob"
    """A blob in the global scope."""

    MEMBER = "member"
    """A digest among those that a repository may see, with all that a pull of it depends on. What
    is no repository's name has none."""

    OVERRIDE = "override"
    """A repository's own media type of a blob that it may not see."""

    REPOSITORY = "repository"
    """What lies where a repository's digests should."""


class Subject(NamedTuple):
    """What a finding is about, byte for byte: other writers may have left anything there."""

    place: Place
    raw_repository: bytes | None
    raw_digest: bytes | None

    @property
    def repository(self) -> str | None:
        """A `RepositoryName`, or what stands in the place of one, printable; None if global."""
        return None if self.raw_repository is None else repository_text(self.raw_repository)

    @property
    def digest(self) -> str | None:
        """A `Digest`, or what stands in the place of one, printable; None for a repository."""
        return None if self.raw_digest is None else digest_text(self.raw_digest)

    @property
    def is_long(self) -> bool:
        """Whether its text holds a hash in place of a long name or digest: `parse` refuses that."""
        return any(len(raw or b"") > EXCERPT for raw in self[1:])

    def __str__(self) -> str:
        return "/".join((self.place, *(_identity(raw or b"") for raw in self[1:])))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Undo `str`; raises `ValueError` for other text, and for a subject that `is_long`."""
        place, *raw = text.split("/")
        repository, digest = map(unquote_to_bytes, raw)
        subject = cls(
            Place(place),
            None if place == Place.BLOB else repository,
            None if place == Place.REPOSITORY else digest,
        )
        if subject.place is Place.MEMBER:
            RepositoryName(repository.decode())
        if str(subject) != text:
            raise ValueError(f"{text!a} is not how a subject reads.")
        return subject


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or was when it was found."""

    kind: Kind
    subject: Subject

    facts: Facts = field(default_factory=dict)
    """What is known of it beyond that: printable, without the names of any keys.

    ``part``: which part does not parse (``key``, ``digest``, ``size``, ``media-type``,
    ``override-key``, ``override``, ``name``, ``member``, ``set``), and ``stored``: what is there;
    ``size`` and ``length``; ``names``: the digest of another blob; ``missing``: ``descriptor`` or
    ``override``; ``mediaType``; ``left``: the names of the fields that a husk has."""

    is_repairable: bool = True
    """Whether a repair would do anything: not where it would lose what nobody can refill."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return SEVERITIES[self.kind]

    @property
    def place(self) -> Place:
        """Which part of the cache it is about."""
        return self.subject.place

    @property
    def repository(self) -> str | None:
        """See `Subject.repository`."""
        return self.subject.repository

    @property
    def digest(self) -> str | None:
        """See `Subject.digest`."""
        return self.subject.digest

    @property
    def id(self) -> str:
        """A unique id that fits into a form: ASCII without spaces, of bounded length.

        `parse` reads it back, unless `Subject.is_long`.
        """
        return f"{self.kind}/{self.subject}"

    @classmethod
    def parse(cls, identity: str) -> Self:
        """Return the finding of that `id`, without facts; raises `ValueError` if there is none."""
        kind, _, subject = identity.partition("/")
        return cls(Kind(kind), Subject.parse(subject))

    def as_json(self) -> dict[str, object]:
        """Return all of it as values of JSON."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "severity": self.severity.value,
            "place": self.place.value,
            "repository": None if self.repository is None else str(self.repository),
            "digest": None if self.digest is None else str(self.digest),
            "facts": dict(self.facts),
            "repairable": self.is_repairable,
        }


class Outcome(StrEnum):
    """What came of one repair."""

    REPAIRED = "repaired"
    """It was still wrong, and is taken away."""

    HEALED = "healed"
    """It is not wrong any more, or not there any more: left alone."""

    KEPT = "kept"
    """It is still wrong, but nobody could refill it: left alone."""


def _identity(raw: bytes) -> str:
    """Bytes as a part of an id: quoted, or if they are long, ``sha256=`` and their hash."""
    if len(raw) > EXCERPT:
        return f"sha256={sha256(raw).hexdigest()}"
    return quote_from_bytes(raw, safe=":")
