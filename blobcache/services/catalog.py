"""The values of a catalog: how much one call may do."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STEP", "Budgets", "Deadline"]

STEP = 1000
"""Keys, members or names that one command looks at: well under a millisecond of Redis's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """How much one call may do before it returns what it has, with a cursor for the rest.

    Times are in seconds.
    """

    step: int = STEP
    """Keys, members or names that one command looks at."""

    page: float = 0.2
    """A page of a list is returned after this time although it is not full."""

    build: float = 0.05
    """The time that a list spends on building the index when that is due."""

    purge: float = 0.5
    """The time of one step of a purge. It ends when its current page of repositories is done."""

    purged_repositories: int = 3000
    """Repositories after which such a step ends too: their names take less than a megabyte."""

    count: float = 0.2
    """The time of one step of counting what a repository holds."""

    summary: float = 0.25
    """The time of summing up members when the sums are not stored."""

    sharing: float = 0.1
    """The time of comparing a repository with the others."""

    sorted_names: int = 5000
    """Names that are sorted in this process rather than found among all names in Redis."""

    check: float = 0.2
    """The time of one step of a consistency check."""

    repair: float = 0.5
    """The time of repairing a list of findings."""

    preview: float = 0.5
    """The time of counting what a repair would change, before it is confirmed."""

    clear: float = 0.5
    """The time of one step of clearing whole repositories."""

    clock: Callable[[], float] = monotonic
    """The clock that measures these times, in seconds."""

    def deadline(self, seconds: float) -> Deadline:
        """Return the time limit of something that begins now and may take so long."""
        return Deadline(self.clock() + seconds, self.clock)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time limit."""

    at: float
    """The end, on `clock`."""

    clock: Callable[[], float]

    @property
    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self.at - self.clock()

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.clock() >= self.at
