"""Findings: what is wrong with a cache, and where; and what became of a repair.

A finding is a value; ``Finding.parse(finding.id)`` restores its kind and subject, and that is all
that a repair needs, since it reads the keys again. Texts for people: `blobcache.finding_texts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias
from urllib.parse import quote_from_bytes, unquote_to_bytes

from blobcache.digest import digest_text
from blobcache.kinds import (
    CONTENT_KINDS,
    DEFAULT_KINDS,
    FINDING_KINDS,
    RECORD_KINDS,
    REPORT_ONLY_KINDS,
    SEVERITIES,
    TRUTH_KINDS,
    Kind,
    Part,
    Severity,
)
from blobcache.raw import EXCERPT
from blobcache.reference import RepositoryName, repository_text

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
    "Facts",
    "Finding",
    "Kind",
    "Outcome",
    "Part",
    "Place",
    "Severity",
    "Subject",
]


Facts: TypeAlias = "Mapping[str, str | int | None]"


class Place(StrEnum):
    """What kind of key a finding is about."""

    BLOB = "blob"
    """A blob in the global scope."""

    MEMBER = "member"
    """A digest in a repository's set, with all that a pull of it depends on. The repository's name
    is always valid here."""

    OVERRIDE = "override"
    """A repository's own media type of a blob that is not a member."""

    REPOSITORY = "repository"
    """A key in the place of a repository's set."""


class Subject(NamedTuple):
    """What a finding is about, as raw bytes: other programs may have stored anything."""

    place: Place
    raw_repository: bytes | None
    raw_digest: bytes | None

    @classmethod
    def of_blob(cls, repository: str | None, digest: str) -> Self:
        """Return the subject that is a blob: as a member of a repository, or (None) globally."""
        if repository is None:
            return cls(Place.BLOB, None, digest.encode())
        return cls(Place.MEMBER, repository.encode(), digest.encode())

    @property
    def repository(self) -> str | None:
        """A `RepositoryName`, or printable text if it is not valid; None in the global scope."""
        return None if self.raw_repository is None else repository_text(self.raw_repository)

    @property
    def digest(self) -> str | None:
        """A `Digest`, or printable text if it is not valid; None for a repository."""
        return None if self.raw_digest is None else digest_text(self.raw_digest)

    @property
    def is_long(self) -> bool:
        """Whether a name or digest is so long that `str` gives its hash: `parse` refuses that."""
        return any(len(raw or b"") > EXCERPT for raw in self[1:])

    def __str__(self) -> str:
        return "/".join((self.place, *(_identity(raw or b"") for raw in self[1:])))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives; raises `ValueError` for any other text, or if it `is_long`."""
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
            raise ValueError(f"{text!a} is not the text of a subject.")
        return subject


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was wrong when it was found."""

    kind: Kind
    """One of `FINDING_KINDS`."""

    subject: Subject

    facts: Facts = field(default_factory=dict)
    """Details: printable, without the names of any keys.

    ``part``: the `Part` that does not parse, and ``stored``: its value; ``size`` and ``length``;
    ``names``: the digest of another blob, or what a manifest says; ``missing``: ``descriptor`` or
    ``override``; ``mediaType``; ``left``: the names of a husk's fields; ``data``: the size of the
    stored data; ``evidence``: where the backend looked, and what it found; ``version``: that of the
    registry, if what was found is normal with it."""

    is_repairable: bool = True
    """Whether a repair would change anything: not if the data lost could not be filled again."""

    is_of_blob: bool = False
    """Whether it is the blob's global hash that is wrong. Every repository that holds the blob then
    has a finding too: they are the places of one problem."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return SEVERITIES[self.kind]

    @property
    def place(self) -> Place:
        """What the finding is about."""
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
        """A unique id for forms and addresses: ASCII without spaces, of bounded length.

        `parse` reads it, unless `Subject.is_long`.
        """
        return f"{self.kind}/{self.subject}"

    @property
    def problem(self) -> str:
        """The id of the problem that it is, or is a place of: the same for all of these."""
        if not self.is_of_blob:
            return self.id
        return f"{self.kind}/{self.subject._replace(place=Place.BLOB, raw_repository=None)}"

    @classmethod
    def parse(cls, identity: str) -> Self:
        """Return the finding with that `id`, without facts; raises `ValueError` for other text."""
        text, _, subject = identity.partition("/")
        kind = Kind(text)
        if kind not in FINDING_KINDS:
            raise ValueError(f"{text!a} is not a kind of finding.")
        return cls(kind, Subject.parse(subject))

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
            "problem": self.problem,
        }


class Outcome(StrEnum):
    """The result of one repair."""

    REPAIRED = "repaired"
    """The finding was confirmed, and the damaged data deleted."""

    HEALED = "healed"
    """It was already resolved: nothing changed."""

    KEPT = "kept"
    """It was confirmed, but the data could not be filled again, or it is the storage that is
    damaged: nothing changed."""

    DOUBTFUL = "doubtful"
    """The storage could not be asked again: nothing changed."""


def _identity(raw: bytes) -> str:
    """Bytes as a part of an id: quoted, or ``sha256=`` and their hash if they are long."""
    if len(raw) > EXCERPT:
        return f"sha256={sha256(raw).hexdigest()}"
    return quote_from_bytes(raw, safe=":")
