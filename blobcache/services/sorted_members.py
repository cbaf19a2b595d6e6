"""Sorted copies: the blobs of a large repository in order, searched and filtered as a whole.

Redis keeps the members of a repository in no order, and a page cannot read a million of them. So a
copy of their order is made beside the index, in bounded steps, and pages are read from that. A copy
gives the order of the blobs and which of them match; what a list shows of a blob must be read from
the cache again, and so must whether it still is a member. A copy is a snapshot: it says how old it
is, and may be lost at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from time import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blobcache.digest import has_prefix
from blobcache.media_types import describe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from blobcache.findings import Kind
    from blobcache.media_types import Category
    from blobcache.services.records import Record

__all__ = ["CopyStatus", "MemberColumn", "MemberQuery", "SortedMembers", "SortedPage"]


class MemberColumn(StrEnum):
    """What the blobs of a repository can be sorted by; equal ones by digest."""

    DIGEST = "digest"
    TYPE = "type"
    """Their media types, by category."""

    SIZE = "size"
    STATE = "state"


class MemberQuery(NamedTuple):
    """Which blobs of a repository are wanted, and their order. None or empty: no condition."""

    column: MemberColumn = MemberColumn.DIGEST
    prefix: str = ""
    """The beginning of the digest, with or without its algorithm."""

    state: Kind | None = None
    media_type: str | None = None
    """A media type; empty for blobs without one."""

    category: Category | None = None
    size_min: int | None = None
    size_max: int | None = None

    def matches(self, record: Record) -> bool:
        """Whether the blob is wanted. One without a descriptor has neither a type nor a size."""
        found = record.descriptor
        return has_prefix(record.digest, self.prefix) and self.allows(
            record.kind, found.size if found else None, found.media_type if found else None
        )

    def allows(self, state: Kind, size: int | None, media_type: str | None) -> bool:
        """Whether a blob with this state, size and type is wanted; `size` is None for no blob."""
        if self.state is not None and state is not self.state:
            return False
        if size is None:
            rest = (self.media_type, self.category, self.size_min, self.size_max)
            return rest == (None, None, None, None)
        if self.media_type is not None and (media_type or "") != self.media_type:
            return False
        if self.category is not None and describe(media_type).category != self.category:
            return False
        is_small = self.size_max is None or size <= self.size_max
        return is_small and size >= (self.size_min or 0)


class CopyStatus(NamedTuple):
    """How old and how complete a sorted copy is."""

    copied_at: datetime | None = None
    """The copy has every blob that was a member at that time and still is. None: no copy yet."""

    bound: float = float("inf")
    """The age in seconds at which a list of the API makes the copy again."""

    progress: float | None = None
    """Which share of an unfinished copy is made, from 0 to 1; None if none is unfinished."""

    media_types: Sequence[str] = ()
    """Media types of the blobs; only some of them if there are hundreds."""

    @property
    def is_made(self) -> bool:
        """Whether there is a copy to read from."""
        return self.copied_at is not None

    @property
    def age(self) -> float:
        """Seconds since `copied_at`; infinite without a copy."""
        return time() - self.copied_at.timestamp() if self.copied_at else float("inf")

    @property
    def complete(self) -> bool:
        """Whether there is a copy, younger than its bound."""
        return abs(self.age) < self.bound


@dataclass(frozen=True, slots=True)
class SortedPage:
    """A page of a sorted copy."""

    members: tuple[str, ...]
    """Each a `Digest`, or printable text for an invalid one of another program."""

    next: str | None
    """The cursor of the next page; None at the end."""

    count: int
    """How many blobs of the copy match. Some may no longer be members."""


class SortedMembers(Protocol):
    """The sorted copies of one registry. Every call may raise `CacheUnavailable`."""

    @property
    def may_keep(self) -> bool:
        """Whether copies can be made: not in the Redis of a read-only registry, for example."""
        ...

    def status(self, repository: str, query: MemberQuery) -> CopyStatus:
        """Return the status of the copy that has the order and the matches of the query."""
        ...

    def refresh(self, repository: str, query: MemberQuery) -> CopyStatus:
        """Do a step of the copy if there is none, if it is too old, or if it is unfinished."""
        ...

    def copy_again(self, repository: str, query: MemberQuery) -> CopyStatus:
        """Do a step of a new copy, or of the unfinished one, and return the status.

        Call it again until `CopyStatus.progress` is None. Both take `Budgets.page` at most. Raise
        `OperationUnsupported` if no copy can be made, and `DescriptorCorrupt` if the repository's
        key is not a set.
        """
        ...

    def page(
        self,
        repository: str,
        query: MemberQuery,
        cursor: str = "",
        limit: int = 100,
        *,
        offset: int = 0,
        descending: bool = False,
    ) -> SortedPage | None:
        """Return a page after the cursor, or after `offset` blobs; None if there is no copy.

        The cursor is the position of a blob: the next page begins behind it even if the copy was
        made again in the meantime. Raises `CursorInvalid`.
        """
        ...
