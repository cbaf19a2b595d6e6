"""The protocols: what a descriptor service is, whatever keeps its descriptors.

They compose by wrapping, as their models in CNCF distribution do (``BlobStatter``,
``BlobDescriptorService``, ``BlobDescriptorCacheProvider``). A digest may be given as `Digest` or as
`str`, which is parsed at once and raises `DigestInvalid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.redis.inspection import Record
    from blobcache.reference import RepositoryName
    from blobcache.services.catalog import Catalog
    from blobcache.services.figures import FigureStore
    from blobcache.services.rules import Rules
    from blobcache.services.status import ServerStatus

__all__ = [
    "BlobDescriptorCacheProvider",
    "BlobDescriptorService",
    "BlobStatter",
    "BrowsableProvider",
    "BrowsableService",
    "PurgeResult",
    "SetResult",
]


@dataclass(frozen=True, slots=True)
class SetResult:
    """What came of one `BlobDescriptorService.set_descriptor`."""

    created: bool
    """Whether the digest was unknown in that scope before."""

    descriptor: Descriptor
    """What a stat in that scope now gives."""

    before: Descriptor | None
    """What a stat in that scope gave before; None where it was unknown."""


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """How far one step of `BlobDescriptorCacheProvider.purge` came."""

    cleared: tuple[RepositoryName, ...]
    """The repositories that could read the blob until this step."""

    next: str | None
    """The cursor to call again with; None at the end."""


@runtime_checkable
class BlobStatter(Protocol):
    """Whatever can say what a blob is: a cache, a registry's storage, a registry over HTTP."""

    def stat(self, digest: str) -> Descriptor:
        """Return the blob's descriptor.

        Its digest is the canonical one, of another algorithm than `digest` where that is an alias.
        Raises `BlobUnknown` if this scope does not know the blob, its kind `DescriptorCorrupt` if
        what is stored does not parse, and `CacheUnavailable` if nobody could be asked.
        """
        ...


@runtime_checkable
class BlobDescriptorService(BlobStatter, Protocol):
    """A store of descriptors in one scope: global, or a repository's."""

    def stat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """Return the descriptors of those digests that this scope knows, each digest once.

        Unknown and corrupt ones are left out; one that is no digest raises `DigestInvalid`.
        """
        ...

    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """Store what the blob is, and in a repository's scope let that repository read it.

        The descriptor needs a media type (`MediaTypeInvalid`), and its digest must be `digest` or
        of another algorithm (`DigestMismatch`). A repository's scope takes only names that the
        OCI distribution-spec allows (`RepositoryNameInvalid`). Raises `OperationUnsupported` where
        the registry is configured as read-only, and `CacheUnavailable`.
        """
        ...

    def clear(self, digest: str) -> Descriptor | None:
        """Forget the blob in this scope; return what a stat gave before, None if that was corrupt.

        Raises `BlobUnknown` if there was nothing to forget, `OperationUnsupported` where the
        registry is configured as read-only, and `CacheUnavailable`.
        """
        ...


@runtime_checkable
class BlobDescriptorCacheProvider(BlobDescriptorService, Protocol):
    """The global scope, and the way to each repository's."""

    def repository_scoped(self, name: str) -> BlobDescriptorService:
        """Return the service of one repository's scope. Raises `RepositoryNameInvalid`."""
        ...

    def purge(self, digest: str, cursor: str = "") -> PurgeResult:
        """Clear the blob in every repository and globally, one bounded step a call.

        Begin with no cursor and go on with the `PurgeResult.next` of each step until that is None.
        From the end of the first step on the global descriptor is gone; a repository loses the
        blob in the step that reaches it. A blob that nobody knows is not an error.
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

    def inspect(self, digests: Sequence[str]) -> list[Record]:
        """Return what the cache holds for each digest, in a repository's scope for members of it.

        Takes what the catalog lists, digests or not. One round trip for each chunk of a batch.
        """
        ...


class BrowsableProvider(BrowsableService, BlobDescriptorCacheProvider, Protocol):
    """A provider that can list what it holds."""

    @property
    def figures(self) -> FigureStore:
        """What the repositories' blobs add up to."""
        ...

    def repository_scoped(self, name: str) -> BrowsableService:
        """Return the service of one repository's scope. Raises `RepositoryNameInvalid`."""
        ...

    def server_status(self) -> ServerStatus:
        """Return what the server says of itself. Raises `CacheUnavailable`."""
        ...
