"""The search, the filters and the order of a repository's page, which its address contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from blobcache.admin.labels import CATEGORIES, label
from blobcache.admin.sorting import order_param, parse_order
from blobcache.descriptor import MAX_SIZE
from blobcache.digest import Digest, has_prefix
from blobcache.exceptions import DigestInvalid
from blobcache.findings import RECORD_KINDS, SEVERITIES, Kind, Severity
from blobcache.media_types import Category, describe
from blobcache.parsing import whole_number
from blobcache.services.sorted_members import MemberColumn
from blobcache.services.sorted_members import MemberQuery as CopyQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from django.http import QueryDict

    from blobcache.services.records import Record

__all__ = ["COLUMNS", "NONE", "PARAMETERS", "MemberQuery", "parse_bytes"]

Column = Literal["digest", "type", "size", "state"]

COLUMNS: tuple[Column, ...] = ("digest", "type", "size", "state")
"""What the blobs can be sorted by; the first one is the default."""

NONE = "none"
"""The value of the filter by media type for blobs without one."""

PARAMETERS = ("q", "type", "state", "size_min", "size_max", "o")
"""The parameters of an address that make a `MemberQuery`: search, filters, order."""

_CATEGORIES, _SEVERITIES = list(CATEGORIES), list(Severity)


class MemberQuery(NamedTuple):
    """Search, filters and order."""

    query: str = ""
    """The beginning of a digest, with or without its algorithm."""

    media_type: str = ""
    """A media type, a `Category`, or `NONE`; empty for any."""

    state: Kind | None = None
    column: Column = "digest"
    is_descending: bool = False
    size_min: int | None = None
    size_max: int | None = None

    @classmethod
    def of(cls, parameters: QueryDict) -> MemberQuery:
        """Read the parameters of an address; invalid ones are ignored."""
        state = parameters.get("state", "")
        column, is_descending = parse_order(parameters.get("o", ""), COLUMNS)
        return cls(
            parameters.get("q", "").strip(),
            parameters.get("type", "").strip(),
            Kind(state) if state in RECORD_KINDS else None,
            column,
            is_descending,
            parse_bytes(parameters.get("size_min", "")),
            parse_bytes(parameters.get("size_max", "")),
        )

    @property
    def order_param(self) -> str:
        """The order as the parameter of an address; empty for the default."""
        return order_param(self.column, is_descending=self.is_descending, default=COLUMNS[0])

    @property
    def exact(self) -> Digest | None:
        """The digest that is searched for, if it is complete."""
        try:
            return Digest(self.query, allow_tarsum=True)
        except DigestInvalid:
            return None

    @property
    def is_filtered(self) -> bool:
        """Whether there is a filter that needs the record of each blob."""
        return bool(self.media_type or self.state) or self._has_range

    @property
    def _has_range(self) -> bool:
        return (self.size_min, self.size_max) != (None, None)

    @property
    def is_sorted(self) -> bool:
        """Whether there is an order other than the default."""
        return self.column != COLUMNS[0] or self.is_descending

    @property
    def is_narrowed(self) -> bool:
        """Whether there is a search or a filter."""
        return bool(self.query) or self.is_filtered

    @property
    def needs_records(self) -> bool:
        """Whether filters or order need the records of all blobs, not only of the page."""
        return self.is_filtered or self.column != "digest"

    @property
    def cursor_scope(self) -> tuple[str, ...]:
        """What a cursor is valid for. A list with a cursor has no order."""
        sizes = (f"{self.size_min}-{self.size_max}",) if self._has_range else ()
        return self.query, self.media_type, self.state or "", *sizes

    @property
    def of_copy(self) -> CopyQuery:
        """What a sorted copy must have for this list."""
        is_category = self.media_type in _CATEGORIES
        media_type = "" if self.media_type == NONE else self.media_type
        return CopyQuery(
            MemberColumn(self.column),
            self.query,
            self.state,
            media_type if self.media_type and not is_category else None,
            Category(self.media_type) if is_category else None,
            self.size_min,
            self.size_max,
        )

    def matches_digest(self, member: str) -> bool:
        """Whether the member begins with the query."""
        return has_prefix(member, self.query)

    def matches(self, record: Record) -> bool:
        """Whether the record passes the filters."""
        return (
            (self.state is None or record.kind is self.state)
            and self._matches_type(record)
            and self._matches_size(record)
        )

    def _matches_size(self, record: Record) -> bool:
        if not self._has_range:
            return True
        found = record.descriptor
        if found is None or found.size < (self.size_min or 0):
            return False
        return self.size_max is None or found.size <= self.size_max

    def _matches_type(self, record: Record) -> bool:
        if not self.media_type:
            return True
        if record.descriptor is None:
            return False
        media_type = record.descriptor.media_type
        if self.media_type in _CATEGORIES:
            return describe(media_type).category == self.media_type
        return media_type == self.media_type or (media_type is None and self.media_type == NONE)

    def sorted(self, records: Iterable[Record]) -> list[Record]:
        """Sort the records; equal ones by digest."""
        by_digest = sorted(records, key=lambda record: record.digest)
        return sorted(by_digest, key=_KEYS[self.column], reverse=self.is_descending)


def parse_bytes(text: str) -> int | None:
    """Return a number of bytes; None if there is none, or if it is not a size."""
    found = whole_number(text.strip(), max_digits=len(str(MAX_SIZE)))
    return found if found is not None and found <= MAX_SIZE else None


def _type_key(record: Record) -> tuple[int, str, str]:
    if record.descriptor is None:
        return len(_CATEGORIES), "", ""
    media_type = record.descriptor.media_type
    text, category = label(media_type)
    return _CATEGORIES.index(category), text, media_type or ""


_KEYS: Mapping[Column, Callable[[Record], str | int | tuple[int | str, ...]]] = {
    "digest": lambda record: record.digest,
    "type": _type_key,
    "size": lambda record: record.descriptor.size if record.descriptor else -1,
    "state": lambda record: (
        _SEVERITIES.index(SEVERITIES[record.kind]),
        RECORD_KINDS.index(record.kind),
    ),
}
