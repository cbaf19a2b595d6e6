"""The lists of the API. A listing stands where the framework's views have a queryset.

It is a value that knows where its rows are; only `Listing.page` asks Redis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from blobcache.api.cutting import Step, cut_page
from blobcache.api.exceptions import CopyUnfinished
from blobcache.services.sorted_members import CopyStatus, MemberColumn, MemberQuery
from blobcache.visibility import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.access import Access
    from blobcache.digest import Digest
    from blobcache.findings import Kind
    from blobcache.reference import RepositoryName
    from blobcache.services.base import BrowsableProvider, BrowsableService
    from blobcache.services.catalog import CatalogStatus
    from blobcache.services.figures import Order
    from blobcache.services.records import Record

__all__ = [
    "NO_MEDIA_TYPE",
    "BlobListing",
    "HolderListing",
    "Listing",
    "MemberListing",
    "Page",
    "RecordFilter",
    "RepositoryListing",
]

NO_MEDIA_TYPE = "none"
"""Stands for blobs without a media type."""


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

    copy: CopyStatus | None = None
    """The state of the sorted copy, for lists that come from one."""


class Listing(Protocol):
    """A list that can be read page by page."""

    @property
    def scope(self) -> tuple[str, ...]:
        """What cursors are bound to besides the registry: the list, and all that narrows it.

        The first part must not change, or cursors that clients hold become invalid. Here these are
        names that views once had.
        """

    def page(self, position: str, size: int) -> Page:
        """Return at most `size` rows from the position on. Raises `CacheUnavailable`."""


class RecordFilter(NamedTuple):
    """Which blobs of a list are wanted; None for all."""

    state: Kind | None = None
    media_type: str | None = None
    """A media type, or `NO_MEDIA_TYPE`."""

    size_min: int | None = None
    size_max: int | None = None

    @property
    def scope(self) -> tuple[str, ...]:
        """What cursors are bound to; empty if all blobs are wanted."""
        values = zip(self._fields, self, strict=True)
        return tuple(f"{name}={value}" for name, value in values if value is not None)

    def matches(self, record: Record) -> bool:
        """Whether the blob is wanted. One without a descriptor has neither a type nor a size."""
        if self.state is not None and record.kind is not self.state:
            return False
        if (self.media_type, self.size_min, self.size_max) == (None, None, None):
            return True
        found = record.descriptor
        if found is None:
            return False
        is_typed = self.media_type in (None, found.media_type or NO_MEDIA_TYPE)
        is_small = self.size_max is None or found.size <= self.size_max
        return is_typed and is_small and found.size >= (self.size_min or 0)


_ALL_RECORDS = RecordFilter()


@dataclass(frozen=True, slots=True)
class BlobListing:
    """The global descriptors, in no particular order."""

    provider: BrowsableProvider
    wanted: RecordFilter = _ALL_RECORDS
    prefix: str = ""

    def with_prefix(self, prefix: str) -> BlobListing:
        """Return the listing of those blobs only whose digests begin with the prefix."""
        return replace(self, prefix=prefix)

    def with_filter(self, wanted: RecordFilter) -> BlobListing:
        """Return the listing of those blobs only."""
        return replace(self, wanted=wanted)

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        begins = (f"prefix={self.prefix}",) if self.prefix else ()
        return ("BlobListView", *begins, *self.wanted.scope)

    def page(self, position: str, size: int) -> Page:
        """Return a page of records."""
        catalog = self.provider.catalog

        def read(at: str, count: int) -> Step[str]:
            page = catalog.blobs(at, count, self.prefix)
            return Step(page.blobs, page.next)

        rows, following = _records(self.provider, read, position, size, self.wanted)
        return Page(rows, following)


@dataclass(frozen=True, slots=True)
class MemberListing:
    """The blobs of a repository: in no particular order, or as a sorted copy has them."""

    provider: BrowsableProvider
    repository: RepositoryName
    prefix: str = ""
    wanted: RecordFilter = _ALL_RECORDS
    order: MemberColumn | None = None
    """None for the list in no order, which needs no copy."""

    descending: bool = False

    def with_prefix(self, prefix: str) -> MemberListing:
        """Return the listing of those members only whose digests begin with the prefix."""
        return replace(self, prefix=prefix)

    def with_filter(self, wanted: RecordFilter) -> MemberListing:
        """Return the listing of those blobs only."""
        return replace(self, wanted=wanted)

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        begins = (f"prefix={self.prefix}",) if self.prefix else ()
        sign = "-" if self.descending else ""
        sorted_by = () if self.order is None else (f"ordering={sign}{self.order}",)
        return ("RepositoryBlobListView", self.repository, *begins, *self.wanted.scope, *sorted_by)

    def ordered(self, order: MemberColumn, *, descending: bool) -> MemberListing:
        """Return the sorted listing."""
        return replace(self, order=order, descending=descending)

    @property
    def query(self) -> MemberQuery:
        """What the sorted copy must have."""
        wanted, order = self.wanted, self.order or MemberColumn.DIGEST
        media_type = "" if wanted.media_type == NO_MEDIA_TYPE else wanted.media_type
        return MemberQuery(
            order,
            self.prefix,
            wanted.state,
            media_type,
            size_min=wanted.size_min,
            size_max=wanted.size_max,
        )

    def copy_again(self) -> None:
        """Do a step of a new sorted copy. Raises `OperationUnsupported` if none can be made."""
        self.provider.sorted_members.copy_again(self.repository, self.query)

    def page(self, position: str, size: int) -> Page:
        """Return a page of records. Raises `DescriptorCorrupt` if the key is not a set."""
        if self.order is not None:
            return self._sorted_page(position, size)
        catalog = self.provider.catalog
        counts: list[int] = []

        def read(at: str, count: int) -> Step[str]:
            page = catalog.members(self.repository, at, count, self.prefix)
            counts.append(page.count)
            return Step(page.members, page.next)

        scoped = self.provider.repository_scoped(self.repository)
        rows, following = _records(scoped, read, position, size, self.wanted)
        return Page(rows, following, counts[-1])

    def _sorted_page(self, position: str, size: int) -> Page:
        """A page of the sorted copy, of the blobs that still are members.

        The first page does a step of the copy, if there is none or if it is too old. Without a
        copy it has no rows; a later one raises `CopyUnfinished`, after a step.
        """
        copies, query = self.provider.sorted_members, self.query
        count = self.provider.catalog.members(self.repository, limit=1).count
        status = copies.status(self.repository, query)
        if not position or not status.is_made:
            status = copies.refresh(self.repository, query)
        page = copies.page(self.repository, query, position, size, descending=self.descending)
        if page is None and position:
            raise CopyUnfinished
        if page is None:
            return Page((), None, count, copy=CopyStatus(progress=status.progress or 0.0))
        records = self.provider.repository_scoped(self.repository).records(page.members)
        members = [record for record in records if record.is_member is not False]
        return Page(members, page.next, count, copy=status)


def _records(
    service: BrowsableService,
    read: Callable[[str, int], Step[str]],
    position: str,
    size: int,
    wanted: RecordFilter,
) -> tuple[Sequence[Record], str | None]:
    """Return at most `size` wanted records from a position on, and the next position."""
    budgets = service.catalog.budgets
    deadline = budgets.deadline(budgets.page)
    if wanted == _ALL_RECORDS:
        digests, following = cut_page(read, position, size, deadline, lambda digest: digest)
        return service.records(digests), following

    def read_wanted(at: str, count: int) -> Step[Record]:
        step = read(at, count)
        return Step(list(filter(wanted.matches, service.records(step.rows))), step.next)

    return cut_page(read_wanted, position, size, deadline, lambda record: record.digest)


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
    order: Order | None = None
    """None for the list by name, without figures."""

    descending: bool = False
    search: str = ""

    def with_prefix(self, prefix: str) -> RepositoryListing:
        """Return the listing of those names only that begin with the prefix."""
        return replace(self, prefix=prefix)

    def ordered(self, order: Order, *, descending: bool, search: str) -> RepositoryListing:
        """Return the sorted listing, with figures, of those names only that contain the text."""
        return replace(self, order=order, descending=descending, search=search)

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        if self.order is None:
            return ("RepositoryListView", self.prefix)
        sign = "-" if self.descending else ""
        return ("RepositoryListView", self.prefix, f"{sign}{self.order}", self.search)

    def page(self, position: str, size: int) -> Page:
        """Return a page of repositories with the number of their blobs."""
        if self.order is not None:
            return self._ordered_page(position, size, self.order)
        page = self.provider.catalog.repositories(
            self.prefix, position, size, visible=self.access.listable
        )
        rows = page.repositories
        if self.access.listable is not self.access.visible:  # some by name only
            visible = self.access.visible
            rows = tuple(
                each if visible.in_ranges(each.name) else each._replace(blobs=None) for each in rows
            )
        return Page(rows, page.next, page.count, page.status)

    def _ordered_page(self, position: str, size: int, order: Order) -> Page:
        status = self.provider.catalog.build_step()
        page = self.provider.figures.list_ordered(
            order,
            position,
            size,
            descending=self.descending,
            containing=self.search,
            prefix=self.prefix,
            visible=self.access.visible,
        )
        has_all = self.access.visible == ALL and not (self.search or self.prefix)
        count = page.indexed if status.complete and has_all else None
        return Page(page.rows, page.next, count, status)
