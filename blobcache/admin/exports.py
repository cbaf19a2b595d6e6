"""The lists of the admin as CSV and JSON lines: the rows of each, and the links to them.

The parameter ``export`` of a list's address asks for it. It changes nothing, so it is a GET. The
names of the columns are those of the API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext as _

from blobcache.admin.repository_list import list_repositories
from blobcache.doctor.exporting import every_finding
from blobcache.exceptions import CacheUnavailable
from blobcache.exports import Format
from blobcache.finding_texts import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from blobcache.admin.member_query import MemberQuery
    from blobcache.admin.repository_list import RepositoryQuery
    from blobcache.digest import Digest
    from blobcache.doctor.scan import Diagnosis
    from blobcache.findings import Finding
    from blobcache.services.base import BrowsableProvider, BrowsableService
    from blobcache.services.records import Record
    from blobcache.services.sorted_members import SortedMembers, SortedPage
    from blobcache.visibility import Visible

    Rows = Iterator[Mapping[str, object]]

__all__ = ["EXPORT", "Export", "blobs", "findings", "formats", "holders", "members", "repositories"]

EXPORT = "export"
"""The parameter."""

_STEP = 1000
"""Rows that are read at once."""


class Export(NamedTuple):
    """A list, not read yet."""

    name: str
    columns: tuple[str, ...]
    rows: Rows


def formats() -> list[tuple[Format, str]]:
    """Return the formats with their names."""
    return [(Format.CSV, _("CSV")), (Format.JSON_LINES, _("JSON lines"))]


def repositories(provider: BrowsableProvider, query: RepositoryQuery, visible: Visible) -> Export:
    """Return the list of repositories, in the order of its page."""

    def rows() -> Rows:
        cursor: str | None = ""
        while cursor is not None:
            page = list_repositories(provider, query, cursor, _STEP, visible)
            for each in page.rows:
                counted = each.figures
                yield {
                    "name": each.name,
                    "blobs": each.blobs,
                    "bytes": counted.sums.bytes if counted else None,
                    "counted_at": counted.counted_at if counted else None,
                }
            cursor = page.next

    return Export("repositories", ("name", "blobs", "bytes", "counted_at"), rows())


_OF_A_BLOB = ("digest", "size", "mediaType", "canonical", "state")


def blobs(provider: BrowsableProvider, prefix: str = "") -> Export:
    """Return the blobs of the global scope whose digests begin with `prefix`, in no order."""

    def rows() -> Rows:
        cursor: str | None = ""
        while cursor is not None:
            page = provider.catalog.blobs(cursor, _STEP, prefix)
            yield from map(_row, provider.records(page.blobs))
            cursor = page.next

    return Export("blobs", _OF_A_BLOB, rows())


def members(
    service: BrowsableService, copies: SortedMembers, query: MemberQuery, sort_limit: int
) -> Export:
    """Return the list of a repository's blobs that match.

    In order, unless there are many and no sorted copy.
    """
    name = service.repository or ""

    def read(cursor: str | None) -> Iterator[Record]:
        while cursor is not None:
            page = service.catalog.members(service.repository or "", cursor, _STEP)
            wanted = filter(query.matches_digest, page.members)
            yield from filter(query.matches, service.records(list(wanted)))
            cursor = page.next

    def read_copy(page: SortedPage | None) -> Iterator[Record]:
        while page is not None:
            records = service.records(page.members)
            yield from (record for record in records if record.is_member is not False)
            if page.next is None:
                return
            page = next_page(page.next)
        raise CacheUnavailable("The sorted copy of this list is gone. Export it again.")

    def next_page(cursor: str) -> SortedPage | None:
        descending = query.is_descending
        return copies.page(name, query.of_copy, cursor, _STEP, descending=descending)

    def rows() -> Rows:
        count = service.catalog.members(name, limit=1).count
        if count <= sort_limit:
            found = {record.digest: record for record in read("")}
            yield from map(_row, query.sorted(found.values()))
        elif query.is_sorted and copies.may_keep and (page := next_page("")) is not None:
            yield from map(_row, read_copy(page))
        else:
            yield from map(_row, read(""))

    return Export("blobs", _OF_A_BLOB, rows())


def holders(provider: BrowsableProvider, digest: Digest, visible: Visible) -> Export:
    """Return the list of the repositories that hold a blob, by name."""

    def rows() -> Rows:
        cursor: str | None = ""
        while cursor is not None:
            page = provider.catalog.holders(digest, cursor, _STEP, visible)
            yield from ({"name": each.name, "mediaType": each.media_type} for each in page.holders)
            cursor = page.next

    return Export("repositories", ("name", "mediaType"), rows())


_OF_A_FINDING = (
    *("id", "kind", "severity", "place", "repository"),
    *("digest", "details", "repairable"),
)


def findings(
    diagnosis: Diagnosis, may_view: Callable[[Finding], bool], *, shows_place: bool
) -> Export:
    """Return the findings of a check that the user may view; the first step is done at once.

    `shows_place` says whether the user may know of places in the storage.
    """
    found = every_finding(diagnosis)

    def rows() -> Rows:
        for finding in filter(may_view, found):
            yield {**finding.as_json(), "details": describe(finding, shows_place=shows_place)}

    return Export("findings", _OF_A_FINDING, rows())


def _row(record: Record) -> Mapping[str, object]:
    found = record.descriptor
    return {
        "digest": record.digest,
        "size": found.size if found else None,
        "mediaType": found.media_type if found else None,
        "canonical": found.digest if found and found.digest != record.digest else None,
        "state": record.kind,
    }
