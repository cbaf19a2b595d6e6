"""Which repository names a user may see."""

from __future__ import annotations

import inspect
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Self

from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["ALL", "NONE", "Visible", "takes_registry"]


@dataclass(frozen=True, slots=True)
class Visible:
    """The names in some ranges for which a predicate is true."""

    ranges: tuple[str, ...] | None = None
    """Names, and prefixes that end in ``/``, sorted, none inside another; None for all names."""

    predicate: Callable[[str], bool] | None = None
    """Whether the user may see a name. It is called before Redis is asked about the name; None if
    the user may see all names."""

    @classmethod
    def of(
        cls, names: Iterable[str] | None, predicate: Callable[[str], bool] | None = None
    ) -> Self:
        """Take names and prefixes in any order; ``""`` and None stand for all names."""
        if names is None:
            return cls(None, predicate)
        ranges: list[str] = []
        for name in sorted(set(names)):
            if not name:
                return cls(None, predicate)
            if not (ranges and _is_inside(name, ranges[-1])):
                ranges.append(name)
        return cls(tuple(ranges), predicate)

    def in_ranges(self, name: str) -> bool:
        """Whether the name is in one of the ranges."""
        if self.ranges is None:
            return True
        place = bisect_right(self.ranges, name)
        return place > 0 and _is_inside(name, self.ranges[place - 1])

    def may_show(self, name: str) -> bool:
        """Whether a name in the ranges may be shown.

        An invalid name is shown only to users who may see all names.
        """
        return self.predicate is None or (isinstance(name, RepositoryName) and self.predicate(name))

    def within(self, prefix: str) -> Iterator[tuple[str, bool]]:
        """Intersect the ranges with a prefix: yield names, and (with True) prefixes, in order."""
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
"""All names."""

NONE = Visible(())
"""No name."""


def takes_registry(function: Callable[..., object]) -> bool:
    """Whether a function of the setting ``VISIBLE_REPOSITORIES`` takes the alias of the registry.

    It is the second argument, after the user. One that the function can do without, such as
    ``request=None`` or ``*args``, is something else, unless its name is ``registry``.
    """
    try:
        signature = inspect.signature(function)
        bound = signature.bind(None, "default")
    except (TypeError, ValueError):
        return False
    if list(bound.arguments)[1:2] == ["registry"]:
        return True
    try:
        signature.bind(None)
    except TypeError:
        return True
    return False


def _is_inside(name: str, range_: str) -> bool:
    return name == range_ or (range_.endswith("/") and name.startswith(range_))
