"""The protocols of descriptor services, wherever the descriptors are stored.

They compose by wrapping, as their models in CNCF distribution do (``BlobStatter``,
``BlobDescriptorService``, ``BlobDescriptorCacheProvider``). A digest may be given as `Digest` or as
`str`, which is parsed at once and raises `DigestInvalid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from django.core.checks import CheckMessage

    from blobcache.conf import RegistrySettings
    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.additions import Addition
    from blobcache.services.catalog import Catalog
    from blobcache.services.figures import FigureStore
    from blobcache.services.notes import Notes
    from blobcache.services.raw_keys import RawKey
    from blobcache.services.records import KeyWalk, Record, Removals
    from blobcache.services.rules import Rules
    from blobcache.services.sorted_members import SortedMembers
    from blobcache.services.status import ServerStatus
    from blobcache.services.truth import Answer, Reachable, StoredLink, Unknown, Witness
    from blobcache.services.work import Work

__all__ = [
    "Backend",
    "BlobDescriptorCacheProvider",
    "BlobDescriptorService",
    "BlobStatter",
    "BrowsableProvider",
    "BrowsableService",
    "Certainty",
    "Looks",
    "PurgeManyResult",
    "PurgeResult",
    "SetResult",
]


@dataclass(frozen=True, slots=True)
class SetResult:
    """The result of `BlobDescriptorService.set_descriptor`."""

    created: bool
    """Whether the digest was unknown in that scope before."""

    descriptor: Descriptor
    """What a stat in that scope now gives."""

    before: Descriptor | None
    """What a stat in that scope gave before; None if the digest was unknown."""


class Certainty(StrEnum):
    """Where the blobs of a purge have certainly been cleared after one of its steps.

    Each value includes those before it. None of them covers what is written after the clear: a push
    or a pull through a registry adds a blob to its repository again. Start the purge again when the
    registry no longer serves the blob.
    """

    NOTHING = "nothing"
    """Not even all global descriptors are cleared; only if there are thousands of digests."""

    GLOBAL = "global"
    """The global descriptors are cleared. Without one no repository can read the blob."""

    INDEXED = "indexed"
    """So is the blob in every repository that the index knew when the purge read it."""

    EVERYWHERE = "everywhere"
    """So is the blob in every repository that held it when the walk over all keys began, and whose
    key has existed since. The purge is complete."""


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """The result of one step of `BlobDescriptorCacheProvider.purge`."""

    cleared: tuple[RepositoryName, ...]
    """The repositories that held the blob until this step."""

    next: str | None
    """The cursor to call again with; None at the end."""

    certain: Certainty
    """Where the blob has certainly been cleared."""


@dataclass(frozen=True, slots=True)
class PurgeManyResult:
    """The result of one step of `BlobDescriptorCacheProvider.purge_many`."""

    digests: tuple[Digest, ...]
    """The digests of the purge, each once, sorted."""

    cleared: Mapping[Digest, tuple[RepositoryName, ...]]
    """By digest: the repositories that held the blob until this step. Digests without any are left
    out."""

    next: str | None
    """The cursor to call again with; None at the end."""

    certain: Certainty
    """Where all these blobs have certainly been cleared."""

    def of(self, digest: Digest) -> PurgeResult:
        """Return the part of the result that is about one digest."""
        return PurgeResult(self.cleared.get(digest, ()), self.next, self.certain)


@runtime_checkable
class BlobStatter(Protocol):
    """Anything that knows descriptors: a cache, a registry's storage, a registry over HTTP."""

    def stat(self, digest: str) -> Descriptor:
        """Return the blob's descriptor.

        If `digest` is an alias, the descriptor has the canonical digest, of another algorithm.
        Raises `BlobUnknown` if this scope does not know the blob, `DescriptorCorrupt`, which is a
        `BlobUnknown`, if what is stored does not parse, and `CacheUnavailable`.
        """
        ...


@runtime_checkable
class BlobDescriptorService(BlobStatter, Protocol):
    """A store of descriptors in one scope: global, or a repository's."""

    def stat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """Return the descriptors by digest, without the unknown and the corrupt ones.

        Raises `DigestInvalid` if one of the texts is not a digest.
        """
        ...

    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """Store the descriptor. In a repository's scope this lets the repository read the blob.

        Raises `MediaTypeInvalid` if the descriptor has no media type, `DigestMismatch` if its
        digest is another one of the same algorithm, `RepositoryNameInvalid` if the OCI
        distribution-spec does not allow the repository's name, `OperationUnsupported` if the
        registry is read-only, and `CacheUnavailable`.
        """
        ...

    def clear(self, digest: str) -> Descriptor | None:
        """Clear the blob in this scope; return what a stat gave before.

        Returns None if that was corrupt, or if there was only the rest of an interrupted clear,
        which this one finishes. Raises `BlobUnknown` if there was nothing to clear,
        `OperationUnsupported` if the registry is read-only, and `CacheUnavailable`.
        """
        ...


@runtime_checkable
class BlobDescriptorCacheProvider(BlobDescriptorService, Protocol):
    """The service of the global scope, which also returns those of the repositories."""

    def repository_scoped(self, name: str) -> BlobDescriptorService:
        """Return the service of one repository's scope. Raises `RepositoryNameInvalid`."""
        ...

    def fill(self, digest: str, descriptor: Descriptor, seconds: int) -> bool:
        """Store a global descriptor that expires after so many seconds, if there is none.

        The write of read-through. A descriptor that a stat can read stays as it is, with its expiry
        or without one; a damaged one is replaced. No repository can read the blob because of it.
        The media type is ``application/octet-stream``, and `Rules.ttl` applies if it is shorter.
        Returns whether it was stored. Raises `DigestMismatch`, `OperationUnsupported` if the
        registry is read-only, and `CacheUnavailable`.
        """
        ...

    def purge(self, digest: str, cursor: str = "") -> PurgeResult:
        """Clear the blob in every repository and globally: `purge_many` of one digest."""
        ...

    def purge_many(self, digests: Iterable[str], cursor: str = "") -> PurgeManyResult:
        """Clear the blobs in every repository and globally, one bounded step a call.

        Start without a cursor, and call again with the same digests and `PurgeManyResult.next`
        until that is None. First the global descriptors are cleared, then the repositories that the
        index knows, then those that a walk over all keys finds, then the global descriptors again.
        There is one walk, however many digests there are. An unknown blob is not an error.

        Raises `DigestInvalid` if one of the texts is not a digest, `CursorInvalid` if the cursor
        does not come from a purge of these digests, `OperationUnsupported` if the registry is
        read-only, and `CacheUnavailable` if Redis fails before the step has done anything. After
        that, use the last cursor again, or start the purge again from the beginning.
        """
        ...


class BrowsableService(BlobDescriptorService, Protocol):
    """A scope whose blobs can be listed."""

    @property
    def rules(self) -> Rules:
        """How the registry's descriptors are kept."""
        ...

    @property
    def repository(self) -> RepositoryName | None:
        """The repository whose scope this is; None in the global scope."""
        ...

    @property
    def catalog(self) -> Catalog:
        """The registry's catalog, which is the same in each scope."""
        ...

    def records(self, digests: Sequence[str]) -> list[Record]:
        """See `RecordReader.records`."""
        ...

    def add_many(self, additions: Sequence[Addition]) -> list[Addition]:
        """Write the missing parts of descriptors, each only if it is still missing.

        `services.additions.plan` says what is missing. Returns for each addition what was created.
        An addition for an alias adds nothing for its canonical digest. One round trip; on a cluster
        up to four, with the membership last.

        Raises `DigestMismatch`, `RepositoryNameInvalid`, `OperationUnsupported` and
        `CacheUnavailable` as `set_descriptor` does.
        """
        ...


class BrowsableProvider(BrowsableService, BlobDescriptorCacheProvider, Protocol):
    """A provider that can list what it holds."""

    @property
    def figures(self) -> FigureStore:
        """What the repositories' blobs add up to."""
        ...

    @property
    def sorted_members(self) -> SortedMembers:
        """The sorted copies of repositories' blobs."""
        ...

    def repository_scoped(self, name: str) -> BrowsableService:
        """Return the service of one repository's scope. Raises `RepositoryNameInvalid`."""
        ...

    def walk(self) -> KeyWalk:
        """Return the walk over everything that the cache holds, for checks."""
        ...

    def removals(self) -> Removals:
        """Return the guarded removals of damaged data, for repairs."""
        ...

    def warm_work(self) -> Work:
        """Return the notes of a warm of this registry."""
        ...

    def notes(self) -> Notes | None:
        """Return the registry's notes; None if nothing may be written beside its index."""
        ...

    def raw_keys(self, digest: str, repository: str | None = None) -> list[RawKey]:
        """Return the keys of a blob as they are: its hash, and a repository's set and override.

        Three round trips at most, whatever is in the keys. Raises `DigestInvalid`,
        `RepositoryNameInvalid` and `CacheUnavailable`.
        """
        ...

    def server_status(self) -> ServerStatus:
        """Return what the server reports about itself. Raises `CacheUnavailable`."""
        ...


class Looks(Protocol):
    """What can look for a blob: a `Backend`, or the part of it that read-through needs."""

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        """See `Backend.stat`."""
        ...


class Backend(Looks, Protocol):
    """What the registry really stores, read from its storage or asked over HTTP.

    No method writes. An answer is `Present`, `Absent` or `Unknown`, and `stat` and `root` raise
    nothing but `DigestInvalid` and `RepositoryNameInvalid`: whatever fails is an `Unknown`. The
    iterators and `open` raise `BackendUnavailable` where something could not be read, so that a
    list which ends has named everything. Methods may be called by several threads at once.
    """

    is_complete: ClassVar[bool]
    """Whether the iterators name everything that is stored. Over HTTP they cannot."""

    @property
    def concurrency(self) -> int:
        """How many questions may be asked at once; 1 if more would gain nothing."""
        ...

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return the backend that ``TRUTH`` in one entry of the settings describes."""
        ...

    @classmethod
    def check(cls, settings: RegistrySettings) -> Iterable[CheckMessage]:
        """Return the system checks' messages about ``TRUTH["OPTIONS"]``. Connects to nothing."""
        ...

    def root(self) -> Reachable | Unknown:
        """Look whether the storage or the registry is there and not empty."""
        ...

    def witness(self, cache: BlobDescriptorCacheProvider) -> Witness:
        """Find out whether this backend is independent of the cache that it shall judge."""
        ...

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        """Look for a blob: for its data alone, or for what a repository may read.

        In a repository it is present if a link of that repository leads to the data. Which links
        count depends on ``REGISTRY_VERSION``; `Present.link` says which one was found.
        """
        ...

    def open(
        self,
        digest: str,
        repository: str | None = None,
        *,
        start: int = 0,
        length: int | None = None,
    ) -> BinaryIO:
        """Return the blob's bytes from `start` on, at most `length` of them, as a file to close.

        The bytes are not compared with the digest. Raises `BlobUnknown` if the blob is absent,
        `BackendUnavailable` if it cannot be read, also while the file is read.
        """
        ...

    def repositories(self, after: str = "") -> Iterator[RepositoryName]:
        """Iterate over the repositories in a fixed order, from the one that follows `after`."""
        ...

    def members(self, repository: str, after: str = "") -> Iterator[StoredLink]:
        """Iterate over a repository's links in a fixed order: layers first, then manifests.

        `after` is the `StoredLink.position` of the last link that was seen. The links are read; the
        data that they lead to is not looked at. A repository that is not there has no links.
        """
        ...

    def blobs(self, after: str = "") -> Iterator[Descriptor]:
        """Iterate over the stored blobs in a fixed order, from the one that follows `after`.

        The media type of each is ``application/octet-stream``.
        """
        ...
