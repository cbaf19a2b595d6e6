"""Lists of repositories sorted by name, number of blobs or bytes.

Names come from the catalog's index. Beside it are two sorted sets of the repositories that have
figures, one by blobs and one by bytes; the other repositories follow behind these, by name. The
cursor of a page is the position of its last name, with the score that it had: the next page begins
behind that, even if the repository has a new score by then, or is gone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from blobcache.exceptions import CursorInvalid
from blobcache.reference import name_cursor, raw_name, repository_text
from blobcache.services.figures import Order, OrderedPage, OrderedRepository
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobcache.figures.catalog import IndexedCatalog
    from blobcache.services.figures import Figures
    from blobcache.transport.packing import Command, Reply

__all__ = ["OrderedList"]


class OrderedList:
    """One list: its order, and which names it has."""

    def __init__(
        self,
        catalog: IndexedCatalog,
        get_figures: Callable[[Sequence[bytes]], Iterable[Figures | None]],
        order: Order,
        *,
        descending: bool,
        containing: str,
        prefix: str = "",
        visible: Visible,
    ) -> None:
        self._catalog = catalog
        self._get_figures = get_figures
        self._order = order
        self._descending = descending
        self._containing = containing
        self._prefix = prefix
        self._visible = visible
        self._scores = (
            catalog.index.keys.by_count if order is Order.BLOBS else catalog.index.keys.by_bytes
        )

    def page(self, cursor: str, limit: int) -> OrderedPage:
        """See `FigureStore.list_ordered`.

        Six round trips, and one more for each thousand names that are skipped. Where the ranges of
        `visible` have only a few thousand names, no other names are read, so neither the page nor
        the number of round trips depends on the others. Does not build the index.
        """
        position: _Position | None = _Position.parse(cursor, self._order)
        budgets = self._catalog.budgets
        deadline = budgets.deadline(budgets.page)
        rows: list[OrderedRepository] = []
        has_all = not (self._containing or self._prefix) and self._visible is ALL
        step = limit + 1 if has_all else budgets.step
        few = self._few()
        while position is not None:
            missing = limit - len(rows)
            found: list[_Position] = []
            # One more than the page takes: unwanted names must not affect `next`.
            while position is not None and len(found) <= missing:
                if few is not None:
                    names, position = self._behind(few, position), None
                else:
                    names, position = self._read(position, step)
                found += filter(self._is_wanted, names)
                if deadline.is_over:
                    break
            if len(found) > missing:
                position = found[missing - 1]
            rows += self._rows([each.name for each in found[:missing]])
            if len(rows) >= limit or deadline.is_over:
                break
        keys = self._catalog.index.keys
        counted, indexed = self._ask([("ZCARD", keys.by_bytes), ("ZCARD", keys.names)])
        return OrderedPage(
            tuple(rows),
            None if position is None else str(position),
            cast("int", counted),
            cast("int", indexed),
        )

    def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        return self._catalog.index.server.batch(commands, own=True)

    def _is_wanted(self, position: _Position) -> bool:
        name = repository_text(position.name)
        visible = self._visible
        is_named = self._containing in name and name.startswith(self._prefix)
        return is_named and visible.in_ranges(name) and visible.may_show(name)

    def _rows(self, names: Sequence[bytes]) -> Iterator[OrderedRepository]:
        """Those of the repositories that still exist: two round trips for all."""
        if not names:
            return
        figures = dict(zip(map(repository_text, names), self._get_figures(names), strict=True))
        for entry in self._catalog.entries(names):
            yield OrderedRepository(entry.name, entry.blobs, figures[entry.name])

    # Few names: all of them are read, and sorted here

    def _few(self) -> list[_Position] | None:
        """All names in the ranges of `visible`, in order; None if there are too many."""
        if self._visible.ranges is None:
            return None
        budgets = self._catalog.budgets
        names: list[bytes] = []
        more = True
        while more:
            after = names[-1] if names else b""
            found, more = self._catalog.index.names(after, budgets.step, visible=self._visible)
            names += found
            if len(names) > budgets.sorted_names:
                return None
        if self._order is Order.NAME:
            return [_Position(name) for name in sorted(names, reverse=self._descending)]
        scores = self._ask([("ZSCORE", self._scores, name) for name in names])
        positions = [
            _Position(name, None if score is None else _score(score))
            for name, score in zip(names, scores, strict=True)
        ]
        counted = [each for each in positions if each.score is not None]
        counted.sort(key=lambda each: each.rank, reverse=self._descending)
        return [*counted, *(each for each in positions if each.score is None)]

    def _behind(self, few: Iterable[_Position], last: _Position) -> list[_Position]:
        """Those behind a position, even if that repository has moved or gone."""
        is_backwards = self._descending and (self._order is Order.NAME or last.score is not None)
        if not last.name:
            return [each for each in few if last.score is not None or each.score is None]
        if last.score is None:
            return [
                each
                for each in few
                if each.score is None
                and (each.name < last.name if is_backwards else each.name > last.name)
            ]
        return [
            each
            for each in few
            if each.score is None
            or (each.rank < last.rank if is_backwards else each.rank > last.rank)
        ]

    # Many names: Redis has them in order

    def _read(self, last: _Position, limit: int) -> tuple[list[_Position], _Position | None]:
        """Names behind a position, in order, and the position to go on from."""
        if last.score is not None:
            return self._read_scored(last, limit)
        if self._order is Order.NAME and self._descending:
            names = self._read_backwards(last.name, limit)
            more = len(names) == limit
        else:
            names, more = self._catalog.index.names(last.name, limit)
        found = [_Position(name) for name in names]
        following = found[-1] if found and more else None
        return found if self._order is Order.NAME else self._without_score(found), following

    def _read_scored(self, last: _Position, limit: int) -> tuple[list[_Position], _Position]:
        first = self._rank_behind(last)
        command = "ZREVRANGE" if self._descending else "ZRANGE"
        ranks = (str(first), str(first + limit - 1))
        (reply,) = self._ask([(command, self._scores, *ranks, "WITHSCORES")])
        found = [_Position(name, score) for name, score in _pairs(reply)]
        return found, found[-1] if len(found) == limit else _Position(b"")

    def _read_backwards(self, before: bytes, limit: int) -> list[bytes]:
        high = b"(" + before if before else b"+"
        names = self._catalog.index.keys.names
        command: Command = ("ZREVRANGEBYLEX", names, high, b"-", "LIMIT", "0", str(limit))
        return cast("list[bytes]", self._ask([command])[0])

    def _without_score(self, found: list[_Position]) -> list[_Position]:
        by_bytes = self._catalog.index.keys.by_bytes
        scores = self._ask([("ZSCORE", by_bytes, each.name) for each in found])
        return [each for each, score in zip(found, scores, strict=True) if score is None]

    def _rank_behind(self, last: _Position) -> int:
        """The rank behind a position; if its repository has moved, behind its former neighbours."""
        if not last.name or last.score is None:
            return 0
        rank = "ZREVRANK" if self._descending else "ZRANK"
        bound = b"(" + last.score
        ahead = (bound, b"+inf") if self._descending else (b"-inf", bound)
        score, at, before = self._ask(
            [
                ("ZSCORE", self._scores, last.name),
                (rank, self._scores, last.name),
                ("ZCOUNT", self._scores, *ahead),
            ]
        )
        if score is not None and float(cast("bytes", score)) == float(last.score):
            return cast("int", at) + 1
        return cast("int", before)


class _Position(NamedTuple):
    """A position in a list: behind that name, or at the beginning of a part of the list."""

    name: bytes
    """Empty for the beginning."""

    score: bytes | None = None
    """None in the second part, of the repositories without a score, which is sorted by name."""

    @classmethod
    def parse(cls, cursor: str, order: Order) -> _Position:
        """Return the position of a cursor. Raises `CursorInvalid` if no list of `order` has it."""
        if not cursor:
            return cls(b"", None if order is Order.NAME else b"")
        score, separator, name = cursor.partition("/")
        if not separator or (score and (order is Order.NAME or not _is_score(score))):
            raise CursorInvalid("The cursor does not come from a list in this order.")
        return cls(raw_name(name), score.encode() or None)

    def __str__(self) -> str:
        return f"{(self.score or b'').decode()}/{name_cursor(self.name)}"

    @property
    def rank(self) -> tuple[float, bytes]:
        """What Redis sorts names with scores by."""
        return float(self.score or 0), self.name


# Our own scores are whole and not negative; another program's may be any that Redis can hold.
_SCORE = re.compile(r"-?(?:inf|[0-9]{1,32}(?:\.[0-9]{1,32})?(?:e[+-][0-9]{1,3})?)")
_MAX_SCORE = 71


def _is_score(text: str) -> bool:
    return len(text) <= _MAX_SCORE and _SCORE.fullmatch(text) is not None


def _pairs(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Members and scores: a flat list in RESP2, a list of pairs in RESP3."""
    flat: list[Any] = []
    for each in cast("list[Any]", reply):
        flat += each if isinstance(each, list) else [each]
    return list(zip(flat[::2], map(_score, flat[1::2]), strict=True))


def _score(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else repr(float(reply)).encode()
