"""The figures on a repository's page, and when they are calculated."""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import Kind
from blobcache.services.catalog import STEP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from blobcache.reference import RepositoryName
    from blobcache.services.base import BrowsableProvider
    from blobcache.services.figures import Sums

__all__ = ["Totals", "totals_of"]


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures of a whole repository, and their age."""

    count: int
    """How many members there are now."""

    sums: Sums | None = None
    """None if they were never calculated."""

    at: datetime | None = None
    """When they were calculated; None if that was just now."""

    progress: float | None = None
    """How far the current calculation is, from 0 to 1; None if there is none."""

    @property
    def age(self) -> float:
        """Seconds since `at`."""
        return time() - self.at.timestamp() if self.at else 0.0

    @property
    def _states(self) -> Mapping[Kind, int]:
        return self.sums.states if self.sums else {}

    @property
    def anomalies(self) -> int:
        """Members with a finding."""
        return sum(count for state, count in self._states.items() if state is not Kind.OK)

    @property
    def errors(self) -> int:
        """Members whose state gives clients a wrong answer or a failure."""
        return sum(
            count
            for state, count in self._states.items()
            if EXPLANATIONS[state].severity == "error"
        )


def totals_of(
    provider: BrowsableProvider,
    name: RepositoryName,
    count: int,
    *,
    is_asked: bool,
    sort_limit: int,
) -> Totals:
    """Return the totals of a repository with `count` members, calculating if that is due.

    A small repository is counted at each call, one that can be sorted when its number of members
    has changed, and a larger one only if the user has asked for it. Takes a bounded time.
    """
    store = provider.figures
    if not store.may_keep:
        summary = store.summarize(name)
        return Totals(count, None if summary.next else summary.sums)
    figures, progress = store.get(name)
    is_changed = figures is None or figures.sums.blobs != count
    is_small = count <= STEP
    if is_asked or is_small or (is_changed and count <= sort_limit):
        figures, progress = store.count_step(name)
    if figures is None:
        return Totals(count, progress=progress)
    return Totals(count, figures.sums, None if is_small else figures.counted_at, progress)
