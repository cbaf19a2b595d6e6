"""A repository's blobs as its page lists them: the whole set in order, or a walk through it.

If a set has up to ``ADMIN_SORT_LIMIT`` members, all their digests are read, a thousand in each
round trip, and search, filters, order and page numbers apply to the whole set. Records are read
only for the rows of the page, or for all members if a filter or the order needs them. A page of a
larger set comes from its sorted copy, if there is one; otherwise the set is walked by cursor, for
a limited time per page. A copy gives the order and the matches; all that is shown is read anew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator

from blobcache.exceptions import BlobUnknown, CacheUnavailable, DescriptorCorrupt
from blobcache.findings import Kind
from blobcache.services.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.paginator import Page as Slice

    from blobcache.admin.member_query import MemberQuery
    from blobcache.services.base import BrowsableService
    from blobcache.services.catalog import MemberPage
    from blobcache.services.sorted_members import CopyStatus, SortedMembers

__all__ = ["MemberListing", "list_members"]

_log = logging.getLogger("blobcache.admin")


@dataclass(frozen=True, slots=True)
class MemberListing:
    """Some members of a repository."""

    records: Sequence[Record] = ()
    count: int | None = None
    """The number of all members; None if they were not counted."""

    is_whole: bool = False
    """Whether search, filters and order were applied to the whole set."""

    next: str | None = None
    """The cursor of the next page of a walk; None at its end."""

    slice: Slice[Any] | None = None
    """The page and the number of pages; None in a walk."""

    looked_at: Sequence[Record] = ()
    """All the records that were read on the way."""

    copy: CopyStatus | None = None
    """The state of the sorted copy; None if the list needs none, or if none can be made."""

    gone: int = 0
    """Rows of the copy that are no longer members: they are not shown."""


def list_members(
    service: BrowsableService,
    copies: SortedMembers,
    query: MemberQuery,
    *,
    cursor: str,
    number: str,
    size: int,
    sort_limit: int,
) -> MemberListing:
    """List some members of the repository in whose scope `service` is.

    `size` rows a page, beginning with page `number`, or where `cursor` says if there is one. Raises
    `DescriptorCorrupt` if the key is not a set.
    """
    if cursor:
        return _walk(service, query, cursor, size)
    first = _page(service, "", size)
    if first.count <= sort_limit:
        return _sort(service, query, first, number, size)
    copy = _copy_of(service, copies, query)
    if copy is not None and copy.is_made:
        listing = _read_copy(service, copies, query, number, size)
        if listing is not None:
            return replace(listing, count=first.count, copy=copy)
    if query.is_narrowed:
        return replace(_walk(service, query, "", size), copy=copy)
    records = service.records(first.members)
    return MemberListing(records, first.count, next=first.next, looked_at=records, copy=copy)


def _copy_of(
    service: BrowsableService, copies: SortedMembers, query: MemberQuery
) -> CopyStatus | None:
    """The state of the sorted copy; None if none can be made, or if its Redis does not answer."""
    try:
        if copies.may_keep:
            return copies.status(service.repository or "", query.of_copy)
    except CacheUnavailable:
        _log.warning("The sorted copy cannot be read.", exc_info=True)
    return None


def _read_copy(
    service: BrowsableService,
    copies: SortedMembers,
    query: MemberQuery,
    number: str,
    size: int,
) -> MemberListing | None:
    """Return a page of the sorted copy; None if the copy has gone in the meantime."""
    wanted = query.of_copy
    name, descending = service.repository or "", query.is_descending
    head = copies.page(name, wanted, limit=size, descending=descending)
    if head is None:
        return None
    part = Paginator(range(head.count), size).get_page(number)
    if part.number > 1:
        offset = (part.number - 1) * size
        head = copies.page(name, wanted, limit=size, offset=offset, descending=descending)
        if head is None:
            return None
    records = service.records(head.members)
    members = [record for record in records if record.is_member is not False]
    return MemberListing(
        members,
        is_whole=True,
        slice=part,
        looked_at=members,
        gone=len(records) - len(members),
    )


def _page(service: BrowsableService, cursor: str, limit: int) -> MemberPage:
    return service.catalog.members(service.repository or "", cursor, limit)


def _sort(
    service: BrowsableService, query: MemberQuery, page: MemberPage, number: str, size: int
) -> MemberListing:
    """Return a page of the whole set; `page` has its first members."""
    count, found = page.count, dict.fromkeys(page.members)
    while page.next:
        page = _page(service, page.next, service.catalog.budgets.step)
        found |= dict.fromkeys(page.members)
    names = sorted(filter(query.matches_digest, found), reverse=query.is_descending)
    records: Sequence[Record] = ()
    if query.needs_records:
        records = service.records(names)
        wanted = query.sorted(filter(query.matches, records))
        part = Paginator(wanted, size).get_page(number)
        return MemberListing(list(part), count, is_whole=True, slice=part, looked_at=records)
    part_of_names = Paginator(names, size).get_page(number)
    records = service.records(list(part_of_names))
    return MemberListing(records, count, is_whole=True, slice=part_of_names, looked_at=records)


def _walk(service: BrowsableService, query: MemberQuery, cursor: str, size: int) -> MemberListing:
    """Search the members after the cursor, until `size` are found or the time is up.

    If the query is a complete digest, a stat is enough in most cases.
    """
    if not cursor and (exact := query.exact):
        known = _exact(service, exact)
        if known is not None:
            return MemberListing([record for record in known if query.matches(record)])
    found: list[Record] = []
    looked_at: list[Record] = []
    budgets = service.catalog.budgets
    deadline = budgets.deadline(budgets.page)
    step = budgets.step if query.is_narrowed else size
    while True:
        page = _page(service, cursor, step)
        records = service.records(list(filter(query.matches_digest, page.members)))
        looked_at += records
        found += filter(query.matches, records)
        cursor = page.next or ""
        if not cursor or len(found) >= size or deadline.is_over:
            return MemberListing(found, page.count, next=cursor or None, looked_at=looked_at)


def _exact(service: BrowsableService, digest: str) -> list[Record] | None:
    """Return the digest's record if it is a member; None if only a walk can find out."""
    (record,) = service.records([digest])
    try:
        service.stat(digest)
    except DescriptorCorrupt:
        _page(service, "", 1)  # raises if the set is damaged
        return [record]
    except BlobUnknown:
        # With a descriptor and an override, only the membership can be missing.
        return None if record.kind is Kind.DANGLING_MEMBER else []
    return [record]
