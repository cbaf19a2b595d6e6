"""The values of figures, which are what a repository's blobs add up to; and where to get them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from time import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blobcache.findings import Kind
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


__all__ = [
    "FigureStore",
    "Figures",
    "FiguresStatus",
    "MediaTypeTotal",
    "Order",
    "OrderedPage",
    "OrderedRepository",
    "RefreshStep",
    "Shares",
    "SharesStatus",
    "Sharing",
    "SizedDigest",
    "Summary",
    "Sums",
]


class MediaTypeTotal(NamedTuple):
    """How many blobs have one media type, and their bytes."""

    media_type: str | None
    """As the repository sees it; None where the cache has none."""

    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Sums:
    """What some members of a repository add up to."""

    blobs: int
    """Members, aliases and damaged ones included."""

    bytes: int
    """Each blob counted once: an alias of a member adds no bytes."""

    media_types: Sequence[MediaTypeTotal]
    """The largest first, and only a limited number of them."""

    other_media_types: MediaTypeTotal | None
    """The total of all other media types; None if there are none."""

    states: Mapping[Kind, int]
    """How many members are in each state that occurs."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The sums of a whole repository, as they were when it was counted."""

    sums: Sums

    counted_at: datetime
    """When the count began."""

    @property
    def age(self) -> float:
        """Seconds since `counted_at`."""
        return time() - self.counted_at.timestamp()


class FiguresStatus(NamedTuple):
    """What is stored for a repository."""

    figures: Figures | None
    """None if it was never counted to the end."""

    progress: float | None
    """How far the current count is, from 0 to 1; None if there is no count in progress."""


class RefreshStep(NamedTuple):
    """The result of one step of counting all repositories."""

    next: str | None
    """The cursor of the next step; None at the end."""

    counted: int
    """Repositories whose count this step finished."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The sums of the members that one call counted."""

    sums: Sums

    count: int
    """How many members the whole set has."""

    next: str | None
    """The cursor of the next call, whose sums are to be added; None if no member is left."""


class Sharing(NamedTuple):
    """How many of a repository's bytes other repositories have too."""

    bytes: int

    of: int
    """The bytes of all blobs of the repository."""

    is_least: bool
    """Whether it may be more, because not all blobs or not all repositories were compared."""

    @property
    def percent(self) -> float:
        """The shared part of all bytes."""
        return 100 * self.bytes / self.of if self.of else 0.0


class SizedDigest(NamedTuple):
    """A blob and its size."""

    digest: str
    size: int
    """Bytes."""


class Shares(NamedTuple):
    """What a repository holds alone, and what others hold too."""

    exclusive_blobs: int
    exclusive_bytes: int
    shared_blobs: int
    shared_bytes: int

    counted_at: datetime
    """When the walk over the other repositories began."""

    largest: Sequence[SizedDigest]
    """The digests and the sizes of the largest of the exclusive blobs, the largest first."""

    @property
    def age(self) -> float:
        """Seconds since `counted_at`."""
        return max(0.0, time() - self.counted_at.timestamp())

    @property
    def percent(self) -> float:
        """The shared part of all bytes."""
        whole = self.exclusive_bytes + self.shared_bytes
        return 100 * self.shared_bytes / whole if whole else 0.0


class SharesStatus(NamedTuple):
    """What is stored about what a repository holds alone."""

    shares: Shares | None
    """None if it was never found out."""

    progress: float | None
    """How far the current walk is, from 0 to 1; None if there is no walk in progress."""


class Order(StrEnum):
    """What a list of repositories can be sorted by."""

    NAME = "name"
    BLOBS = "blobs"
    BYTES = "bytes"


class OrderedRepository(NamedTuple):
    """A repository in a sorted list."""

    name: str
    """A `RepositoryName`, or an invalid name of another program's, made printable."""

    blobs: int | None
    """How many members it has now; None if its key is not a set."""

    figures: Figures | None


@dataclass(frozen=True, slots=True)
class OrderedPage:
    """A page of a sorted list. Repositories without figures come last, by name."""

    rows: Sequence[OrderedRepository]
    next: str | None
    """The cursor of the next page; None at the end."""

    counted: int
    """How many of the indexed repositories have figures."""

    indexed: int
    """How many names the index has."""


class FigureStore(Protocol):
    """Counts repositories, and stores their figures with the time of the count.

    How long a call may take is set by `Budgets`. Every call may raise `CacheUnavailable`.
    """

    @property
    def may_keep(self) -> bool:
        """Whether figures can be stored: never in the Redis of a read-only registry."""
        ...

    def get(self, repository: str) -> FiguresStatus:
        """Return what is stored for a repository."""
        ...

    def get_many(self, names: Sequence[str]) -> list[Figures | None]:
        """Return the stored figures of each of some repositories."""
        ...

    def count_step(self, repository: str) -> FiguresStatus:
        """Start or continue the count of a repository, and return what is stored afterwards.

        Raises `DescriptorCorrupt` if the repository's key is not a set, and `OperationUnsupported`
        where figures cannot be stored. After a failover the count starts again.
        """
        ...

    def refresh(self, cursor: str = "", max_age: float | None = None) -> RefreshStep:
        """Count all indexed repositories, one after another.

        Skips damaged ones, and those whose figures are younger than `max_age` seconds.
        """
        ...

    def list_ordered(
        self,
        order: Order = Order.NAME,
        cursor: str = "",
        limit: int = 100,
        *,
        descending: bool = False,
        containing: str = "",
        prefix: str = "",
        visible: Visible = ALL,
    ) -> OrderedPage:
        """Return a page of the `visible` repositories whose names have `containing` in them.

        With a `prefix`, only those whose names begin with it.

        A page whose time is up is short. A repository that is counted again in the meantime may be
        listed twice, or not at all. The cursor may hold a name that is not `visible`.
        """
        ...

    def summarize(self, repository: str, cursor: str = "") -> Summary:
        """Add up members, without reading or storing figures.

        Raises `DescriptorCorrupt` if the repository's key is not a set. A member that the set shows
        twice is counted once within a call, but perhaps again in another call.
        """
        ...

    def shares(self, scope: str) -> SharesStatus:
        """Return what is stored about what a repository holds alone.

        `scope` is the name of a repository, or of a namespace with a slash behind it, such as
        ``team/``: all repositories whose names begin with it, and ``team`` itself.
        """
        ...

    def share_step(self, scope: str) -> SharesStatus:
        """Start or continue the walk that finds that out, and return what is stored afterwards.

        Without a complete index there is no result. Raises `DescriptorCorrupt` if the repository's
        key is not a set. Where nothing can be stored, a walk that needs more than one step has no
        result. After a failover the walk starts again.
        """
        ...

    def shared_bytes(self, repository: str) -> Sharing:
        """Compare a repository of up to some thousand blobs with all others in the index."""
        ...
