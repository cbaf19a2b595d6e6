"""Which repository names a user may see."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Self

from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["ALL", "Visible"]


@dataclass(frozen=True, slots=True)
class Visible:
    """Names that are in one of some ranges, and that somebody is allowed to know of."""

    ranges: tuple[str, ...] | None = None
    """Names, and prefixes that end in ``/``, sorted, none of them inside another; None for all."""

    allows: Callable[[str], bool] | None = None
    """Asked for each name, before Redis is asked anything about it; None where all are allowed."""

    @classmethod
    def of(cls, names: Iterable[str] | None, allows: Callable[[str], bool] | None = None) -> Self:
        """Take names and prefixes in any order; ``""`` is the prefix of all, as None is."""
        if names is None:
            return cls(None, allows)
        ranges: list[str] = []
        for name in sorted(set(names)):
            if not name:
                return cls(None, allows)
            if not (ranges and _is_inside(name, ranges[-1])):
                ranges.append(name)
        return cls(tuple(ranges), allows)

    def covers(self, name: str) -> bool:
        """Whether the name is in one of the ranges."""
        if self.ranges is None:
            return True
        place = bisect_right(self.ranges, name)
        return place > 0 and _is_inside(name, self.ranges[place - 1])

    def admits(self, name: str) -> bool:
        """Whether a name that lies in a range may be shown.

        What is no `RepositoryName` can be granted to nobody, and is shown to who may see all.
        """
        return self.allows is None or (isinstance(name, RepositoryName) and self.allows(name))

    def within(self, prefix: str) -> Iterator[tuple[str, bool]]:
        """What the ranges have in common with a prefix, in order: names, and (True) prefixes."""
        if self.ranges is None:
            yield prefix, True
            return
        place = bisect_right(self.ranges, prefix)
        before = self.ranges[place - 1] if place else ""
        if before.endswith("/") and before != prefix and prefix.startswith(before):
            yield prefix, True
            return
        for each in islice(self.ranges, place - (before == prefix != ""), None):
            if not each.startswith(prefix):
                break
            yield each, each.endswith("/")


ALL = Visible()
"""Everything that is there."""


def _is_inside(name: str, range_: str) -> bool:
    return name == range_ or (range_.endswith("/") and name.startswith(range_))
