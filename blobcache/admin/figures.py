"""What a repository comes to, as its page tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from blobcache.admin.states import EXPLANATIONS
from blobcache.redis.inspection import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from blobcache.redis.summary import Summary

__all__ = ["Figures"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over the members of a repository, or over those that were counted so far."""

    count: int
    """How many members there are."""

    counted: int
    bytes: int
    media_types: Sequence[tuple[str | None, int, int]]
    """Media type, blobs, bytes."""

    states: Mapping[State, int]
    is_complete: bool
    at: datetime | None = None

    @classmethod
    def of(cls, summary: Summary) -> Self:
        """Take what one call has summed up."""
        return cls(
            summary.count,
            summary.counted,
            summary.bytes,
            [(each.media_type, each.blobs, each.bytes) for each in summary.media_types],
            summary.states,
            summary.next is None,
        )

    @property
    def anomalies(self) -> int:
        """Members that are not as they should be."""
        return sum(count for state, count in self.states.items() if state is not State.OK)

    @property
    def errors(self) -> int:
        """Members that somebody gets a wrong answer for."""
        return sum(
            count for state, count in self.states.items() if EXPLANATIONS[state].severity == "error"
        )
