"""Which of a repository's blobs a page shows and in what order, as its address says it.

The address holds all of it, so a link can be shared and the way back finds what was left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from blobcache.admin.labels import CATEGORIES, label
from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid
from blobcache.findings import RECORD_KINDS, SEVERITIES, Kind, Severity
from blobcache.media_types import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from django.http import QueryDict

    from blobcache.services.records import Record

__all__ = ["COLUMNS", "NONE", "PARAMETERS", "Selection"]

Column = Literal["digest", "type", "size", "state"]

COLUMNS: tuple[Column, ...] = ("digest", "type", "size", "state")
"""What a listing can be sorted by."""

NONE = "none"
"""What stands for blobs without a media type where one is filtered by."""

PARAMETERS = ("q", "type", "state", "o")
"""What an address says of a selection: search, filters, order."""

_CATEGORIES, _SEVERITIES = list(CATEGORIES), list(Severity)


class Selection(NamedTuple):
    """Search, filters and order."""

    query: str = ""
    """The beginning of a digest, with or without its algorithm."""

    media_type: str = ""
    """A media type, a `Category`, or `NONE`; empty for any."""

    state: Kind | None = None
    column: Column = "digest"
    is_descending: bool = False

    @classmethod
    def of(cls, parameters: QueryDict) -> Selection:
        """Read an address; what makes no sense counts as not said."""
        state, order = parameters.get("state", ""), parameters.get("o", "")
        column = order.removeprefix("-")
        known = column in COLUMNS
        return cls(
            parameters.get("q", "").strip(),
            parameters.get("type", "").strip(),
            Kind(state) if state in RECORD_KINDS else None,
            cast("Column", column) if known else "digest",
            known and order.startswith("-"),
        )

    @property
    def order(self) -> str:
        """The order as an address says it; empty for the one that needs no saying."""
        text = f"-{self.column}" if self.is_descending else self.column
        return "" if text == "digest" else text

    @property
    def exact(self) -> Digest | None:
        """The digest that is searched for, if it is a whole one."""
        try:
            return Digest(self.query, allow_tarsum=True)
        except DigestInvalid:
            return None

    @property
    def is_filtered(self) -> bool:
        """Whether blobs are left out by what they are, which only a look at each one tells."""
        return bool(self.media_type or self.state)

    @property
    def is_anything(self) -> bool:
        """Whether blobs are left out at all."""
        return bool(self.query) or self.is_filtered

    @property
    def needs_records(self) -> bool:
        """Whether every blob has to be looked at, and not only those on the page."""
        return self.is_filtered or self.column != "digest"

    @property
    def cursor_scope(self) -> tuple[str, str, str]:
        """What a cursor through this selection belongs to; no order, for a cursor has none."""
        return self.query, self.media_type, self.state or ""

    def names(self, member: str) -> bool:
        """Whether the member begins with what is searched for."""
        return member.startswith(self.query) or member.partition(":")[2].startswith(self.query)

    def admits(self, record: Record) -> bool:
        """Whether the filters leave the record in."""
        return (self.state is None or record.kind is self.state) and self._admits_type(record)

    def _admits_type(self, record: Record) -> bool:
        if not self.media_type:
            return True
        if record.descriptor is None:
            return False
        media_type = record.descriptor.media_type
        if self.media_type in _CATEGORIES:
            return describe(media_type).category == self.media_type
        return media_type == self.media_type or (media_type is None and self.media_type == NONE)

    def sorted(self, records: Iterable[Record]) -> list[Record]:
        """The records in order; those alike by digest."""
        by_digest = sorted(records, key=lambda record: record.digest)
        return sorted(by_digest, key=_KEYS[self.column], reverse=self.is_descending)


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
