"""What a repository comes to, as its page tells it: kept figures, and when they are due."""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from blobcache.admin.states import EXPLANATIONS
from blobcache.figures.store import FigureStore
from blobcache.figures.sums import summarize
from blobcache.redis.inspection import State
from blobcache.services.catalog import STEP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from blobcache.figures.store import Figures
    from blobcache.figures.sums import Summary
    from blobcache.redis.service import RedisBlobDescriptorCacheProvider
    from blobcache.reference import RepositoryName

__all__ = ["Totals", "totals_of"]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the members of a repository."""

    count: int
    """How many members there are now."""

    bytes: int | None = None
    """None where nobody has added them up yet."""

    media_types: Sequence[tuple[str | None, int, int]] = ()
    """Media type, blobs, bytes."""

    more_types: tuple[int, int] | None = None
    """Blobs and bytes of further media types, if there are any."""

    states: Mapping[State, int] | None = None

    at: datetime | None = None
    """When they were added up; None where that was just now."""

    counting: float | None = None
    """How much of it is being added up anew, from 0 to 1."""

    @property
    def age(self) -> float:
        """Seconds since `at`."""
        return time() - self.at.timestamp() if self.at else 0.0

    @property
    def anomalies(self) -> int:
        """Members that are not as they should be."""
        return sum(count for state, count in (self.states or {}).items() if state is not State.OK)

    @property
    def errors(self) -> int:
        """Members that somebody gets a wrong answer for."""
        return sum(
            count
            for state, count in (self.states or {}).items()
            if EXPLANATIONS[state].severity == "error"
        )


def totals_of(
    provider: RedisBlobDescriptorCacheProvider,
    name: RepositoryName,
    count: int,
    *,
    is_asked: bool,
    sort_limit: int,
) -> Totals:
    """Tell what `count` members come to, adding up for a bounded time where that is due.

    Small sets are added up at each look, those that can be sorted when they have changed, and
    larger ones only if that `is_asked` for.
    """
    store = FigureStore(provider)
    if not store.may_keep:
        summary = summarize(provider.repository_scoped(name), name)
        return Totals(count) if summary.next else _summed(count, summary)
    kept = store.look(name)
    is_changed = kept.figures is None or kept.figures.blobs != count
    is_live = count <= STEP
    if is_asked or is_live or (is_changed and count <= sort_limit):
        kept = store.advance(name)
    if kept.figures is None:
        return Totals(count, counting=kept.counting)
    return _kept(count, kept.figures, kept.counting, is_live=is_live)


def _kept(count: int, figures: Figures, counting: float | None, *, is_live: bool) -> Totals:
    more = figures.other_media_types
    return Totals(
        count,
        figures.bytes,
        [(each.media_type, each.blobs, each.bytes) for each in figures.media_types],
        (more.blobs, more.bytes) if more else None,
        figures.states,
        None if is_live else figures.counted_at,
        counting,
    )


def _summed(count: int, summary: Summary) -> Totals:
    more = summary.other_media_types
    return Totals(
        count,
        summary.bytes,
        [(each.media_type, each.blobs, each.bytes) for each in summary.media_types],
        (more.blobs, more.bytes) if more else None,
        summary.states,
    )
