"""Records: what a cache holds for a digest, read once; and how records are found and removed.

Lists, sums, judgement and repair all take a `Record`: only the store itself knows keys and replies.
`KeyWalk` and `Removals` are for the doctor. It gets them from the provider, so it needs no store.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from blobcache.findings import SEVERITIES, Kind, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.findings import Part
    from blobcache.reference import RepositoryName

__all__ = [
    "WRONG_TYPE",
    "Fields",
    "KeyPage",
    "KeyWalk",
    "Membership",
    "OverrideKey",
    "Record",
    "RecordReader",
    "Removals",
    "WrongType",
]


class WrongType(Enum):
    """The type of `WRONG_TYPE`."""

    WRONG_TYPE = "wrong type"


WRONG_TYPE: Final = WrongType.WRONG_TYPE
"""In the place of a value: the key has another type than it should have."""


class Fields(NamedTuple):
    """A blob's hash as it is stored; None for a field that is missing."""

    digest: bytes | None = None
    size: bytes | None = None
    length: bytes | None = None
    media_type: bytes | None = None


Override: TypeAlias = "bytes | WrongType | None"


class Record(NamedTuple):
    """What the cache holds for a digest, in one scope."""

    digest: str
    """A `Digest`, or printable text for what another program put in the place of one."""

    kind: Kind
    """One of `RECORD_KINDS`."""

    descriptor: Descriptor | None
    """What a stat in that scope returns; None if the blob is unknown or corrupt."""

    global_descriptor: Descriptor | None = None
    """What a stat in the global scope returns; in that scope the same as `descriptor`."""

    global_kind: Kind = Kind.HUSK
    """The kind of the blob's hash alone, without the repository's override."""

    is_member: bool | None = None
    """Whether the digest is in the repository's set; None in the global scope, or if the
    repository's key is not a set. The other fields assume membership."""

    part: Part | None = None
    """The part that does not parse, if the kind is `Kind.CORRUPT`."""

    repository: RepositoryName | None = None
    """The repository whose scope this is; None in the global scope."""

    fields: Fields | WrongType = Fields()
    """The blob's hash."""

    override: Override = None
    """The repository's own media type as it is stored."""

    @property
    def global_media_type(self) -> str | None:
        """The media type in the global scope."""
        return self.global_descriptor.media_type if self.global_descriptor else None

    @property
    def exists_globally(self) -> bool:
        """Whether there is anything, damaged or not. Only for a record of the global scope."""
        return self.kind is not Kind.HUSK or self.fields != Fields()

    @property
    def is_blob_damaged(self) -> bool:
        """Whether the blob's hash itself is damaged, and not just incomplete."""
        return SEVERITIES[self.global_kind] is Severity.ERROR


class RecordReader(Protocol):
    """A scope that returns records."""

    def records(self, digests: Sequence[str]) -> list[Record]:
        """Return what the cache holds for each digest, in a repository's scope for its members.

        Takes what the catalog lists, valid digests or not. A digest that the registry does not
        accept is corrupt. One round trip for each chunk of a batch. Raises `CacheUnavailable`.
        """
        ...


class OverrideKey(NamedTuple):
    """The key of a repository's own media type, as raw bytes, valid or not."""

    repository: bytes
    digest: bytes


class Membership(NamedTuple):
    """A blob in a repository, which lets the repository read it."""

    repository: RepositoryName
    digest: Digest


class KeyPage(NamedTuple):
    """The keys that one step of a walk found, as raw bytes, sorted, each once."""

    next: str
    """The cursor of the next step; empty at the end."""

    blobs: Sequence[bytes] = ()
    """The digests in the names of blobs' keys."""

    repositories: Sequence[bytes] = ()
    """The names in the keys of repositories' sets."""

    overrides: Sequence[OverrideKey] = ()

    @property
    def key_count(self) -> int:
        """The number of keys."""
        return len(self.blobs) + len(self.repositories) + len(self.overrides)


class KeyWalk(Protocol):
    """A walk over everything a cache holds, in steps, on the primary server.

    With the same cursor, a step returns the same keys again, except for changes since then. Every
    call may raise `CacheUnavailable`, and `CursorInvalid` for a cursor that no step returned.
    """

    def scan(self, cursor: str, count: int) -> KeyPage:
        """Return the registry's keys among the next `count` or so."""
        ...

    def scan_blobs(self, cursor: str, count: int) -> KeyPage:
        """Return the blobs' keys among the next `count` or so."""
        ...

    def scan_repositories(self, cursor: str, count: int) -> KeyPage:
        """Return the keys of repositories' sets among the next `count` keys or so."""
        ...

    def identity(self) -> str:
        """Identify the server processes that are walked: a cursor is valid only there.

        Empty if Redis does not report it.
        """
        ...

    def scan_members(
        self, repository: bytes, cursor: str, count: int
    ) -> tuple[str, Sequence[bytes]] | None:
        """Return the next cursor and some members; None if the repository's key is not a set."""
        ...

    def progress(self, cursor: str) -> float | None:
        """Return the share of the keys before the cursor, from 0 to 1; None on a cluster."""
        ...

    def progress_of_members(self, cursor: str) -> float:
        """Return the share of a set's members before the cursor, from 0 to 1."""
        ...

    def read(self, repository: RepositoryName | None, digests: Sequence[Digest]) -> list[Record]:
        """Return a record for each digest, in one round trip.

        Accepts digests of the tarsum form whatever the registry's rule, as other registries may.
        """
        ...

    def read_existing(self, digests: Sequence[Digest]) -> list[Record]:
        """Return the global records of those digests whose keys exist.

        One round trip, and one more if some hash has none of its fields.
        """
        ...

    def are_members(self, pairs: Sequence[OverrideKey]) -> list[bool | None]:
        """Return for each pair whether the digest is in the repository's set; None if not a set.

        One round trip.
        """
        ...

    def holding(self, repositories: Sequence[bytes], digests: Sequence[Digest]) -> list[Membership]:
        """Return which of the repositories hold which of the digests.

        That includes what interrupted clears have left, so that a clear finishes them. Names that
        are not valid are skipped. One round trip, or two on a cluster.
        """
        ...


class Removals(Protocol):
    """Deletes damaged data, but only if it has not changed since it was read.

    Each method returns whether it deleted anything. It is a change like any other: it raises
    `OperationUnsupported` if the registry is read-only, and is logged and signalled. It takes one
    round trip, or a few on a cluster, and may raise `CacheUnavailable`.
    """

    def require_writable(self) -> None:
        """Raise `OperationUnsupported` if the registry is read-only."""
        ...

    def remove_member(self, record: Record, *, with_blob: bool = False) -> bool:
        """Remove a member and its override.

        Delete the blob's hash too if `Record.is_blob_damaged`, or `with_blob`.
        """
        ...

    def remove_blob_of_member(self, record: Record) -> bool:
        """Delete the hash of a member's blob; the repository keeps the blob.

        Nothing is deleted if the blob is not a member any more.
        """
        ...

    def remove_blob(self, record: Record) -> bool:
        """Delete a blob's hash with all its fields."""
        ...

    def remove_orphan(self, repository: bytes, digest: bytes) -> bool:
        """Delete an override unless its digest is a member."""
        ...

    def remove_invalid_blob_key(self, digest: bytes) -> bool:
        """Delete a blob's key whose digest is not valid."""
        ...

    def remove_invalid_member(self, repository: bytes, member: bytes) -> bool:
        """Remove a member that is not a valid digest."""
        ...

    def remove_wrong_type_set(self, repository: bytes) -> bool:
        """Delete a repository's key if it is not a set."""
        ...

    def remove_invalid_repository(self, repository: bytes) -> bool:
        """Delete the key of a repository whose name is not valid, whatever its type."""
        ...
