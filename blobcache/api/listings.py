"""The lists of the API. A listing stands where the framework's views have a queryset.

It is a value that knows where its rows are; only `Listing.page` asks Redis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.access import Access
    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.base import BrowsableProvider
    from blobcache.services.catalog import CatalogStatus

__all__ = [
    "BlobListing",
    "HolderListing",
    "Listing",
    "MemberListing",
    "Page",
    "RepositoryListing",
]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a listing."""

    rows: Sequence[Any]
    next: str | None
    """The position of the next page; None at the end."""

    count: int | None = None
    """How many rows the whole listing has; None if only a scan could find out."""

    status: CatalogStatus | None = None
    """The state of the index, for lists that come from it."""


class Listing(Protocol):
    """A list that can be read page by page."""

    @property
    def scope(self) -> tuple[str, ...]:
        """What cursors are bound to besides the registry: the list, and all that narrows it.

        The first part must not change, or cursors that clients hold become invalid. Here these are
        names that views once had.
        """

    def page(self, position: str, size: int) -> Page:
        """Return some `size` rows from the position on. Raises `CacheUnavailable`."""


@dataclass(frozen=True, slots=True)
class BlobListing:
    """The global descriptors, in no particular order."""

    provider: BrowsableProvider

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        return ("BlobListView",)

    def page(self, position: str, size: int) -> Page:
        """Return a page of records."""
        page = self.provider.catalog.blobs(position, size)
        return Page(self.provider.records(page.blobs), page.next)


@dataclass(frozen=True, slots=True)
class MemberListing:
    """The blobs of a repository, in no particular order."""

    provider: BrowsableProvider
    repository: RepositoryName

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        return ("RepositoryBlobListView", self.repository)

    def page(self, position: str, size: int) -> Page:
        """Return a page of records. Raises `DescriptorCorrupt` if the key is not a set."""
        page = self.provider.catalog.members(self.repository, position, size)
        records = self.provider.repository_scoped(self.repository).records(page.members)
        return Page(records, page.next, page.count)


@dataclass(frozen=True, slots=True)
class HolderListing:
    """The repositories that hold a blob and that the user may view, by name."""

    provider: BrowsableProvider
    access: Access
    digest: Digest

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        return ("HolderListView", self.digest)

    def page(self, position: str, size: int) -> Page:
        """Return a page of holders."""
        page = self.provider.catalog.holders(
            self.digest, position, size, visible=self.access.visible
        )
        return Page(page.holders, page.next, status=page.status)


@dataclass(frozen=True, slots=True)
class RepositoryListing:
    """The repositories that the user may view, by name."""

    provider: BrowsableProvider
    access: Access
    prefix: str = ""

    def with_prefix(self, prefix: str) -> RepositoryListing:
        """Return the listing of those names only that begin with the prefix."""
        return replace(self, prefix=prefix)

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        return ("RepositoryListView", self.prefix)

    def page(self, position: str, size: int) -> Page:
        """Return a page of repositories with the number of their blobs."""
        page = self.provider.catalog.repositories(
            self.prefix, position, size, visible=self.access.visible
        )
        return Page(page.repositories, page.next, page.count, page.status)
