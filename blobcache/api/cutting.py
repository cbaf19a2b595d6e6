"""Pages of an exact size, from steps whose size only Redis decides.

A scan returns what one step finds, which may be more than the page has room for: a small set comes
whole. The rest must neither be shown nor be lost. So the cursor of the next page names that same
step, and how far this page came in it: rows of such a step are taken in the order of their hashes,
and the next page reads the step again and goes on behind the last hash.

That is only right if what was taken is still there, and nothing else: Redis may have rebuilt its
table in the meantime, and the step may have other members. So the cursor also has a fingerprint of
the rows that were taken. If it does not match, the step is taken from its beginning: rows are
repeated then, and never lost. If one step is the whole set, this does not matter: what is there
all the time is in that step each time.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from blobcache.exceptions import CursorInvalid
from blobcache.parsing import whole_number
from blobcache.services.catalog import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.services.catalog import Deadline

__all__ = ["Step", "cut_page"]

_T = TypeVar("_T")

_SLACK = 8
"""How many rows more than asked for a step has in most cases: one bucket of a table."""

_WHOLE = "-"
"""In the place of a fingerprint: the step was the whole set."""


class Step(NamedTuple, Generic[_T]):
    """What one step has found."""

    rows: Sequence[_T]
    next: str | None
    """The cursor of the next step; None at the end."""


class _Cut(NamedTuple):
    """How far a page came in a step."""

    asked: int
    """How many rows the step was asked for."""

    after: str
    """The hash of the last row that was taken."""

    taken: str
    """The fingerprint of all rows that were taken, or `_WHOLE`."""


def cut_page(
    read: Callable[[str, int], Step[_T]],
    cursor: str,
    limit: int,
    deadline: Deadline,
    key: Callable[[_T], str],
) -> tuple[list[_T], str | None]:
    """Return at most `limit` rows, and the cursor of the next page.

    `read` takes the cursor of a step and how many rows it should look at, and `key` identifies a
    row. A page whose time is up is short. Raises `CursorInvalid`.
    """
    position, cut = _parse(cursor)
    count = cut.asked if cut else _near(limit)
    rows: dict[str, _T] = {}
    while True:
        step = read(position, count)
        fresh = {each: row for row in step.rows if (each := key(row)) not in rows}
        missing = limit - len(rows)
        if cut is None and len(fresh) <= missing:
            rows |= fresh
        else:
            cut = _take(step, rows, limit, key, position=position, count=count, cut=cut)
            if cut is not None:
                return list(rows.values()), " ".join((position, *map(str, cut)))
        if step.next is None or len(rows) >= limit or deadline.is_over:
            return list(rows.values()), step.next
        position = step.next
        # The fewer of the rows are wanted, the more are looked at.
        per_row = count // max(len(step.rows), 1)
        count = min(_near(limit - len(rows)) * max(per_row, 1), STEP)


def _take(
    step: Step[_T],
    rows: dict[str, _T],
    limit: int,
    key: Callable[[_T], str],
    *,
    position: str,
    count: int,
    cut: _Cut | None,
) -> _Cut | None:
    """Add rows of the step, in the order of their hashes; return where it was cut, if it was."""
    named = {key(row): row for row in step.rows}
    hashed = sorted((_hash(name), name) for name in named)
    hashes = [each for each, _ in hashed]
    is_whole = not position and step.next is None
    begin = 0
    if cut is not None:
        behind = sum(each <= cut.after for each in hashes)
        is_same = is_whole if cut.taken == _WHOLE else _print(hashes[:behind]) == cut.taken
        begin = behind if is_same else 0
    for place in range(begin, len(hashed)):
        _, name = hashed[place]
        if name not in rows and len(rows) == limit:
            taken = _WHOLE if is_whole else _print(hashes[:place])
            return _Cut(count, hashes[place - 1] if place else "", taken)
        rows[name] = named[name]
    return None


def _near(missing: int) -> int:
    """How many rows to ask for, so that a step seldom has more than are missing."""
    return missing - _SLACK if missing > 2 * _SLACK else max(missing // 2, 1)


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _print(hashes: Sequence[str]) -> str:
    return blake2b("".join(hashes).encode(), digest_size=8).hexdigest()


def _parse(cursor: str) -> tuple[str, _Cut | None]:
    position, *parts = cursor.split(" ")
    if not parts:
        return position, None
    count = whole_number(parts[0], max_digits=len(str(STEP)))
    if len(parts) != len(_Cut._fields) or not count:
        raise CursorInvalid("The cursor does not come from this list.")
    return position, _Cut(count, *parts[1:])
