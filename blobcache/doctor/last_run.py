"""The last check of a whole cache: noted beside the index, for pages, programs and monitoring.

A check of some repositories or kinds alone is not noted: what it did not look at may be wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blobcache.findings import SEVERITIES, Kind, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobcache.services.base import BrowsableProvider

__all__ = ["KEPT", "LastRun"]

KEPT = 90 * 24 * 3600
"""Seconds that the result of a check is kept."""

_NAME = "last-check"


@dataclass(frozen=True, slots=True)
class LastRun:
    """What a check of the whole cache has shown."""

    at: datetime
    """When it ended."""

    is_compared: bool
    """Whether the cache was compared with what the registry really stores."""

    looked_at: int
    """Entries that it looked at."""

    doubtful: int
    """Entries that could not be judged, because the backend did not know."""

    uncached: int
    """Links in the storage whose blobs the cache did not have there."""

    counts: Mapping[Kind, int] = field(default_factory=dict)
    """Problems that were left at the end, by kind; kinds without any are left out."""

    places: Mapping[Kind, int] = field(default_factory=dict)
    """Findings of these problems: one bad hash has one in each repository that holds the blob."""

    @property
    def errors(self) -> int:
        """The number of problems that are errors."""
        return sum(
            count for kind, count in self.counts.items() if SEVERITIES[kind] is Severity.ERROR
        )

    @property
    def age(self) -> float:
        """Seconds since it ended."""
        return max(0.0, (datetime.now(UTC) - self.at).total_seconds())

    @classmethod
    def read(cls, provider: BrowsableProvider) -> LastRun | None:
        """Return what was noted; None if there is nothing. Raises `CacheUnavailable`."""
        notes = provider.notes()
        note = notes.read([_NAME])[0] if notes is not None else None
        try:
            at, is_compared, looked_at, doubtful, uncached, counts, *more = json.loads(note or "")
            places = more[0] if more else counts
            return cls(
                datetime.fromtimestamp(at, UTC),
                bool(is_compared),
                max(0, int(looked_at)),
                max(0, int(doubtful)),
                max(0, int(uncached)),
                {Kind(kind): max(0, int(count)) for kind, count in counts.items()},
                {Kind(kind): max(0, int(count)) for kind, count in places.items()},
            )
        except (ValueError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
            return None

    def write(self, provider: BrowsableProvider) -> None:
        """Note it, in the place of the one before. Raises `CacheUnavailable`."""
        notes = provider.notes()
        if notes is None:
            return
        counts, places = (
            {kind.value: count for kind, count in each.items() if count}
            for each in (self.counts, self.places or self.counts)
        )
        values = [self.at.timestamp(), self.is_compared, self.looked_at, self.doubtful]
        text = json.dumps([*values, self.uncached, counts, places], separators=(",", ":"))
        notes.write({_NAME: text}, KEPT)
