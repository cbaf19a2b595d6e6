"""Read the journal: filters, pages, and who may see which entries.

Entries are listed newest first, by time and id. A page begins behind the last entry of the page
before, so it costs the same anywhere in the journal, and each list has its index.

Lists of a repository, of a digest or of a purge show the parts of purges; other lists show a purge
as one entry, unless they are asked for the parts as well.

Whoever may not view a repository sees none of its entries; see `blobcache.access`. Entries of the
global scope, such as purges, need the permission to view blobs. For users who may not view
everything, a page looks at `_MAX_LOOKED_AT` entries at the most, and asks for permissions for
`Budgets.page` at the most, so it may be empty although more entries follow. An entry's id is shown
to nobody: gaps would tell how many entries others have.
"""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import Q
from django.utils.timezone import get_current_timezone, is_naive, make_aware, make_naive

from blobcache.exceptions import CursorInvalid
from blobcache.models import JournalEntry
from blobcache.services.catalog import Budgets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from django.db.models import QuerySet

    from blobcache.access import Access

__all__ = [
    "ACTIONS",
    "COLUMNS",
    "Filters",
    "Journal",
    "JournalPage",
    "as_cells",
    "as_object",
    "parse_moment",
    "utc",
]

ACTIONS = ("set", "clear", "purge", "repair", "warm")

_CHUNK = 1000
_MAX_LOOKED_AT = 10_000
_MAX_RANGES = 100
"""The most names and prefixes that are part of a query."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What narrows a list; None does not."""

    since: datetime | None = None
    """The first moment, in UTC."""

    until: datetime | None = None
    """The first moment that is too late, in UTC."""

    actor: str | None = None
    action: str | None = None
    source: str | None = None
    repository: str | None = None
    digest: str | None = None

    operation: str | None = None
    """The purge whose entries are listed."""

    parts: bool = False
    """Whether the parts of purges are listed, where they are not anyway."""

    @property
    def scope(self) -> tuple[str, ...]:
        """What cursors are bound to.

        Not the times: an age such as ``12h`` is another moment for each page, and a position is
        right whatever they are.
        """
        names = (each.name for each in fields(self) if each.name not in {"since", "until"})
        values = ((name, getattr(self, name)) for name in names)
        return tuple(f"{name}={value}" for name, value in values if value)

    @property
    def shows_parts(self) -> bool:
        """Whether parts of purges are listed."""
        return self.parts or self._has_subject

    @property
    def _has_subject(self) -> bool:
        return not (self.repository is self.digest is self.operation is None)

    def querysets(self, registry: str) -> list[QuerySet[JournalEntry]]:
        """Return the querysets that have the entries together. Each of them uses one index."""
        texts = {
            name: value
            for name in ("actor", "action", "source", "repository", "digest", "operation")
            if (value := getattr(self, name)) is not None
        }
        rows = JournalEntry.objects.filter(registry=registry, **texts)
        if not all(value.isprintable() for value in texts.values()):
            return [rows.none()]  # no entry has such text, and not every database takes it
        if self.since is not None:
            rows = rows.filter(time__gte=_stored(self.since))
        if self.until is not None:
            rows = rows.filter(time__lt=_stored(self.until))
        if self._has_subject:
            return [rows]
        # SQLite uses no index for "NOT is_part", as Django writes `is_part=False`.
        kinds = (False, True) if self.parts else (False,)
        return [rows.filter(is_part__in=(kind,)) for kind in kinds]


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Some entries, newest first."""

    rows: Sequence[JournalEntry]
    next: str | None
    """The position of the next page; None at the end."""


class Journal:
    """The entries of one registry that match some filters and that a user may see."""

    def __init__(
        self,
        registry: str,
        filters: Filters | None = None,
        access: Access | None = None,
        *,
        budgets: Budgets | None = None,
    ) -> None:
        """Without `access` everything is visible, as for commands. Runs no query."""
        self._budgets = budgets or Budgets()
        self.registry = registry
        self.filters = filters or Filters()
        self._access = access
        self._querysets = self.filters.querysets(registry)
        self._may_see: Callable[[str | None], bool] | None = None
        """Whether the user may see the entries of a repository, or (None) of the global scope;
        None if the queries alone decide it."""

        if access is None:
            return
        sees_global = access.may_globally("view")
        if not sees_global:
            self._querysets = [each.exclude(repository=None) for each in self._querysets]
        if access.sees_all:
            return
        self._may_see = cache(access.may_view)
        ranges = access.visible.ranges
        if ranges is not None and len(ranges) <= _MAX_RANGES:
            # Only to read less: `_may_see` decides.
            visible = Q(repository=None) if sees_global else Q(pk__in=())
            for each in ranges:
                is_prefix = each.endswith("/")
                name = "repository__startswith" if is_prefix else "repository"
                visible |= Q(**{name: each})
            self._querysets = [each.filter(visible) for each in self._querysets]

    def page(self, position: str = "", limit: int = 100) -> JournalPage:
        """Return up to `limit` entries behind the position of another page.

        Raises `CursorInvalid` for a position that no page had.
        """
        after, looked_at = _parsed(position), 0
        deadline = self._budgets.deadline(self._budgets.page)
        rows: list[JournalEntry] = []
        while True:
            size = limit + 1 - len(rows) if self._may_see is None else _CHUNK
            chunk = self._chunk(after, size)
            for number, row in enumerate(chunk):
                # Each name may be a question to the portal's backend for permissions.
                if self._may_see is not None and number and deadline.is_over:
                    return JournalPage(rows, _position(chunk[number - 1]))
                if self._may_see is not None and not self._may_see(row.repository):
                    continue
                if len(rows) == limit:
                    return JournalPage(rows, _position(rows[-1]))
                rows.append(row)
            if len(chunk) < size:
                return JournalPage(rows, None)
            looked_at += len(chunk)
            after = chunk[-1].time, chunk[-1].pk
            is_over = looked_at >= _MAX_LOOKED_AT
            if is_over or (self._may_see is not None and deadline.is_over):
                return JournalPage(rows, _position(chunk[-1]))

    def entries(self, position: str = "") -> Iterator[JournalEntry]:
        """Yield all entries behind a position, a page for each query. Raises `CursorInvalid`."""
        following: str | None = position
        while following is not None:
            page = self.page(following, _CHUNK)
            yield from page.rows
            following = page.next

    def _chunk(self, after: tuple[datetime, int] | None, size: int) -> list[JournalEntry]:
        found = [list(_behind(each, after)[:size]) for each in self._querysets]
        if len(found) == 1:
            return found[0]
        merged = heapq.merge(*found, key=lambda row: (row.time, row.pk), reverse=True)
        return [row for row, _ in zip(merged, range(size), strict=False)]


def _behind(
    rows: QuerySet[JournalEntry], after: tuple[datetime, int] | None
) -> QuerySet[JournalEntry]:
    if after is None:
        return rows
    time, pk = after
    # The first condition is implied by the second, and lets the index find the place.
    return rows.filter(Q(time__lte=time) & (Q(time__lt=time) | Q(pk__lt=pk)))


def _position(row: JournalEntry) -> str:
    return f"{row.time.isoformat()}/{row.pk}"


def _parsed(position: str) -> tuple[datetime, int] | None:
    if not position:
        return None
    time, _, pk = position.rpartition("/")
    try:
        return datetime.fromisoformat(time), int(pk)
    except ValueError:
        raise CursorInvalid("The cursor does not come from the journal.") from None


# Time

_AGE = re.compile(r"([0-9]{1,4})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MAX_MOMENT = 40


def parse_moment(text: str) -> datetime:
    """Return the moment that a text stands for: an ISO time, or an age such as ``12h`` or ``2d``.

    A time without a zone is in the portal's zone. Raises `ValueError`, which says what would be
    right.
    """
    if found := _AGE.fullmatch(text):
        number, unit = found.groups()
        return datetime.now(UTC) - timedelta(**{_UNITS[unit]: int(number)})
    try:
        time = datetime.fromisoformat(text[: _MAX_MOMENT + 1])
        if is_naive(time):
            time = make_aware(time, get_current_timezone())
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            "A time is in ISO form, such as 2026-11-26T04:00:00Z, or an age, such as 12h or 2d."
        ) from None


def utc(time: datetime) -> datetime:
    """Return the time of an entry in UTC."""
    return (make_aware(time) if is_naive(time) else time).astimezone(UTC)


def _stored(time: datetime) -> datetime:
    """The moment as the project's database has it."""
    if settings.USE_TZ:
        return time
    try:
        return make_naive(time)
    except OverflowError:  # within a day of the first or the last moment that there is
        return time.replace(tzinfo=None)


# Entries for programs


def as_object(entry: JournalEntry) -> dict[str, object]:
    """Return an entry as it is in JSON."""
    return {
        "time": f"{utc(entry.time):%Y-%m-%dT%H:%M:%SZ}",
        "registry": entry.registry,
        "action": entry.action,
        "source": entry.source,
        "actor": entry.actor or None,
        "system_user": entry.system_user or None,
        "repository": entry.repository,
        "digest": entry.digest,
        "before": entry.before,
        "after": entry.after,
        "count": entry.count,
        "operation": entry.operation or None,
        "part": entry.is_part,
        "finished": entry.is_finished,
    }


COLUMNS = (
    *("time", "registry", "action", "source", "actor", "system_user", "repository", "digest"),
    *("before_size", "before_media_type", "before_digest"),
    *("after_size", "after_media_type", "after_digest"),
    *("count", "operation", "part", "finished"),
)
"""The columns of a CSV file."""


def as_cells(entry: JournalEntry) -> list[object]:
    """Return an entry as a row of a CSV file."""
    found = as_object(entry)
    for name in ("before", "after"):
        descriptor = found.pop(name)
        facts = descriptor if isinstance(descriptor, dict) else {}
        found[f"{name}_size"] = facts.get("size")
        found[f"{name}_media_type"] = facts.get("mediaType")
        found[f"{name}_digest"] = facts.get("digest")
    for name in ("part", "finished"):
        found[name] = str(found[name]).lower()
    return [found[name] for name in COLUMNS]
