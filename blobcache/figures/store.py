"""Figures: what each repository's blobs come to, counted once and kept with the time of it.

A large repository takes longer to count than a page may take to open. So it is counted in steps, a
request each, whose sums lie beside the catalog's index, and in the end the figures do, by name and
in order of blobs and of bytes. They are never thrown away for their age: whoever shows them shows
that too, and counts anew when asked. What was counted of a repository goes when that is gone.

Two requests that count the same repository at once do not add up its blobs twice: the slower one's
step is lost.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from blobcache.exceptions import CursorInvalid, DescriptorCorrupt
from blobcache.figures.sums import MediaTypeTotal, Tally
from blobcache.redis.evidence import share_of_walk
from blobcache.redis.index import raw_name
from blobcache.reference import RepositoryName, repository_text
from blobcache.services.rules import read_only_error
from blobcache.transport.packing import Script
from blobcache.transport.server import scan_position
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blobcache.redis.inspection import State
    from blobcache.redis.service import RedisBlobDescriptorCacheProvider
    from blobcache.services.catalog import Deadline
    from blobcache.transport.packing import Command, Reply

__all__ = ["Count", "FigureStore", "Figures", "Order", "RankedRow", "Ranking", "Refresh"]

_MAX_KEPT = 256 * 1024
"""Bytes. The sums of one repository, with the most media types that are kept, need less."""

_STALE = 3600
"""Seconds after which a count that nobody went on with is begun anew."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a repository's blobs came to when they were counted."""

    blobs: int
    """Members, aliases and damaged ones included."""

    bytes: int
    """Each blob once."""

    media_types: tuple[MediaTypeTotal, ...]
    """As the repository sees them, the heaviest first; not more than some."""

    other_media_types: MediaTypeTotal | None
    """All further ones together, if there are any."""

    states: dict[State, int]
    """How many members are in each state that occurs."""

    counted_at: datetime
    """When the counting began."""

    @property
    def age(self) -> float:
        """Seconds since `counted_at`."""
        return time() - self.counted_at.timestamp()

    @classmethod
    def of(cls, tally: Tally, counted_at: datetime) -> Figures:
        """Return the sums as figures."""
        return cls(
            blobs=tally.counted,
            bytes=tally.bytes,
            media_types=tally.media_types,
            other_media_types=tally.other_media_types,
            states=dict(tally.states),
            counted_at=counted_at,
        )


class Count(NamedTuple):
    """What is kept of a repository."""

    figures: Figures | None
    """None if it was never counted to the end."""

    counting: float | None
    """How much of it is counted anew, from 0 to 1; None where no count is under way."""


class Order(StrEnum):
    """What repositories can be sorted by."""

    NAME = "name"
    BLOBS = "blobs"
    BYTES = "bytes"


class RankedRow(NamedTuple):
    """A repository in such an order."""

    name: str
    """A `RepositoryName`, or what another writer put in the place of one, made printable."""

    blobs: int | None
    """How many digests it may see now; None if its key is not a set."""

    figures: Figures | None

    @property
    def is_corrupt(self) -> bool:
        """Whether this is no repository, but something that lies where one should."""
        return self.blobs is None or not isinstance(self.name, RepositoryName)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Some repositories in order; those that were never counted come last, by name."""

    rows: tuple[RankedRow, ...]
    next: str | None
    """The cursor of the next page; None at the end."""

    counted: int
    """How many repositories there are figures of, of all in the index."""

    indexed: int
    """How many names the index has."""


class Refresh(NamedTuple):
    """How far the counting of all repositories has come."""

    next: str | None
    """The cursor to go on with; None at the end."""

    counted: int
    """Repositories that this call counted to the end."""


_SAVE = Script("""
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
""")
"""Keep how far a count is, if it still was where we took it up."""

_FINISH = Script("""
local counting, figures, by_count, by_bytes = unpack(KEYS)
local name, before, after, blobs, bytes = unpack(ARGV)
if (redis.call('HGET', counting, name) or '') ~= before then return 0 end
redis.call('HDEL', counting, name)
if blobs == '0' then
    redis.call('HDEL', figures, name)
    redis.call('ZREM', by_count, name)
    redis.call('ZREM', by_bytes, name)
    return 1
end
redis.call('HSET', figures, name, after)
redis.call('ZADD', by_count, blobs, name)
redis.call('ZADD', by_bytes, bytes, name)
return 1
""")
"""Keep the figures, likewise; of a repository that has nothing, none."""


class FigureStore:
    """The figures of one registry's repositories."""

    def __init__(self, provider: RedisBlobDescriptorCacheProvider) -> None:
        self._provider = provider
        self._catalog = provider.catalog
        self._index = provider.catalog.index
        self._keys = provider.catalog.keys

    @property
    def may_keep(self) -> bool:
        """Whether anything can be kept: not in the Redis of a read-only registry."""
        return self._catalog.may_write

    def of(self, names: Sequence[str]) -> list[Figures | None]:
        """Return what is kept of each of some repositories. One round trip."""
        if not names:
            return []
        (replies,) = self._ask([("HMGET", self._keys.figures, *map(raw_name, names))])
        return [_figures(reply) for reply in cast("list[bytes | None]", replies)]

    def look(self, repository: str) -> Count:
        """Return what is kept of a repository. One round trip, however many blobs it has."""
        name = RepositoryName(repository)
        figures, counting = self._ask(
            [("HGET", self._keys.figures, name), ("HGET", self._keys.counting, name)]
        )
        under_way = _UnderWay.parse(counting)
        return Count(
            _figures(figures),
            None if under_way is None or under_way.is_stale else share_of_walk(under_way.cursor),
        )

    def advance(self, repository: str, budget: float | None = None) -> Count:
        """Count on, or begin to count anew, and return what is kept then.

        It counts for `budget` seconds, by default `Budgets.count`.
        Raises `DescriptorCorrupt` if the repository's key is not a set, `OperationUnsupported`
        where nothing can be kept, and `CacheUnavailable`. A failover makes it begin anew.
        """
        if not self.may_keep:
            raise read_only_error(
                self._provider.rules.registry, "Its figures need a CATALOG_ALIAS on another Redis."
            )
        self._count(RepositoryName(repository), self._deadline(budget))
        return self.look(repository)

    def _deadline(self, budget: float | None) -> Deadline:
        budgets = self._catalog.budgets
        return budgets.deadline(budgets.count if budget is None else budget)

    def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        return self._index.batch(commands, own=True)

    def _count(self, name: RepositoryName, deadline: Deadline) -> bool:
        """Count on, and say whether that was the end of it."""
        (before,) = self._ask([("HGET", self._keys.counting, name)])
        identity = self._provider.server.identity()
        under_way = _UnderWay.parse(before)
        if under_way is None or under_way.is_stale or under_way.identity != identity:
            under_way = _UnderWay("", time(), identity, Tally())
        service, tally = self._provider.repository_scoped(name), under_way.tally
        cursor: str | None = under_way.cursor
        seen: set[str] = set()
        while cursor is not None:
            page = self._catalog.members(name, cursor, self._catalog.budgets.step)
            members = [member for member in page.members if member not in seen]
            seen.update(members)
            tally.add_members(service, name, members)
            cursor = page.next
            if deadline.is_over:
                break
        operands = [name.encode(), cast("bytes | None", before) or b""]
        if cursor is not None:
            after = under_way._replace(cursor=cursor)
            self._index.script(_SAVE, [self._keys.counting], [*operands, after.told()])
            return False
        figures = {"at": under_way.begun, **tally.as_json()}
        self._index.script(
            _FINISH,
            [self._keys.counting, self._keys.figures, self._keys.by_count, self._keys.by_bytes],
            [*operands, _json(figures), tally.counted, str(tally.bytes).encode()],
        )
        return True

    def refresh(
        self, cursor: str = "", budget: float | None = None, max_age: float | None = None
    ) -> Refresh:
        """Count all repositories one after another, for `budget` seconds a call.

        The default is `Budgets.count`.
        Those whose figures are younger than `max_age` are passed over. What is indexed by now is
        counted; damaged repositories are not.
        """
        deadline = self._deadline(budget)
        after, counted = raw_name(cursor), 0
        while True:
            names, more = self._catalog.names(after)
            kept = self.of([name.decode("utf-8", "surrogateescape") for name in names])
            for name, figures in zip(names, kept, strict=True):
                text = repository_text(name)
                is_due = figures is None or max_age is None or figures.age >= max_age
                if is_due and isinstance(text, RepositoryName):
                    if not self._is_counted(text, deadline):
                        return Refresh(_text(after), counted)
                    counted += 1
                after = name
                if deadline.is_over:
                    is_last = name == names[-1] and not more
                    return Refresh(None if is_last else _text(after), counted)
            if not more:
                return Refresh(None, counted)

    def _is_counted(self, name: RepositoryName, deadline: Deadline) -> bool:
        try:
            return self._count(name, deadline)
        except DescriptorCorrupt:
            return True

    def ranked(
        self,
        order: Order = Order.NAME,
        cursor: str = "",
        limit: int = 100,
        *,
        descending: bool = False,
        containing: str = "",
        visible: Visible = ALL,
    ) -> Ranking:
        """Return repositories in order, each with its figures: those with `containing` in the name.

        Six round trips, and one more for each thousand names that are passed over; a page that took
        too long is short. Where only a few thousand names are in the ranges of `visible`, no others
        are passed over, so that neither the page nor the round trips depend on these. A repository
        that is counted anew meanwhile may be met twice, or not. Builds no index. The cursor may
        hold a name that is not `visible`.
        """
        place: _Rank | None = _Rank.parse(cursor, order)
        budgets = self._catalog.budgets
        deadline = budgets.deadline(budgets.page)
        rows: list[RankedRow] = []
        is_wanted = _filter(containing, visible)
        step = limit + 1 if not containing and visible is ALL else budgets.step
        few = self._few(order, visible, descending=descending)
        while place is not None:
            missing = limit - len(rows)
            found: list[tuple[bytes, _Rank]] = []
            # One more than there is room for: a name that is not wanted has no say in `next`.
            while place is not None and len(found) <= missing:
                if few is not None:
                    names, place = _behind(few, place, order, descending=descending), None
                else:
                    names, place = self._ranked_names(place, order, step, descending=descending)
                found += [(name, at) for name, at in names if is_wanted(name)]
                if deadline.is_over:
                    break
            if len(found) > missing:
                place = found[missing - 1][1]
            rows += self._rows([name for name, _ in found[:missing]])
            if len(rows) >= limit or deadline.is_over:
                break
        counted, indexed = self._ask([("ZCARD", self._keys.by_bytes), ("ZCARD", self._keys.names)])
        return Ranking(
            tuple(rows),
            None if place is None else str(place),
            cast("int", counted),
            cast("int", indexed),
        )

    def _rows(self, names: Sequence[bytes]) -> Iterator[RankedRow]:
        """The repositories that are there, two round trips for all."""
        if not names:
            return
        (replies,) = self._ask([("HMGET", self._keys.figures, *names)])
        figures = {
            repository_text(name): _figures(reply)
            for name, reply in zip(names, cast("list[bytes | None]", replies), strict=True)
        }
        for entry in self._catalog.entries(names):
            yield RankedRow(entry.name, entry.blobs, figures[entry.name])

    def _few(
        self, order: Order, visible: Visible, *, descending: bool
    ) -> list[tuple[bytes, _Rank]] | None:
        """All names in the ranges, in order, each with the place behind it; None if too many."""
        if visible.ranges is None:
            return None
        names: list[bytes] = []
        more = True
        while more:
            found, more = self._catalog.names(
                names[-1] if names else b"", self._catalog.budgets.step, visible=visible
            )
            names += found
            if len(names) > self._catalog.budgets.sorted_names:
                return None
        if order is Order.NAME:
            return [(name, _Rank("name", name)) for name in sorted(names, reverse=descending)]
        key = self._keys.by_count if order is Order.BLOBS else self._keys.by_bytes
        scores = self._ask([("ZSCORE", key, name) for name in names])
        ranks = [
            _Rank("name", name) if score is None else _Rank("score", name, _score(score))
            for name, score in zip(names, scores, strict=True)
        ]
        counted = sorted(
            (rank for rank in ranks if rank.phase == "score"),
            key=lambda rank: (float(rank.score), rank.name),
            reverse=descending,
        )
        left = (rank for rank in ranks if rank.phase == "name")
        return [(rank.name, rank) for rank in (*counted, *left)]

    def _ranked_names(
        self, place: _Rank, order: Order, limit: int, *, descending: bool
    ) -> tuple[list[tuple[bytes, _Rank]], _Rank | None]:
        """Names in order, each with the place behind it, and the place to go on from."""
        if order is Order.NAME and descending:
            names = self._last_names(place.name, limit)
            found = [(name, _Rank("name", name)) for name in names]
            return found, found[-1][1] if len(names) == limit else None
        if place.phase == "name":
            names, more = self._catalog.names(place.name, limit)
            found = [(name, _Rank("name", name)) for name in names]
            following = found[-1][1] if found and more else None
            if order is not Order.NAME:
                found = self._uncounted(found)
            return found, following
        key = self._keys.by_count if order is Order.BLOBS else self._keys.by_bytes
        first = self._rank_behind(key, place, descending=descending)
        command = "ZREVRANGE" if descending else "ZRANGE"
        (reply,) = self._ask([(command, key, first, first + limit - 1, "WITHSCORES")])
        found = [(name, _Rank("score", name, score)) for name, score in _pairs(reply)]
        return found, found[-1][1] if len(found) == limit else _Rank("name", b"")

    def _last_names(self, before: bytes, limit: int) -> list[bytes]:
        high = b"(" + before if before else b"+"
        command: Command = (
            "ZREVRANGEBYLEX",
            self._keys.names,
            high,
            b"-",
            "LIMIT",
            0,
            limit,
        )
        return cast("list[bytes]", self._ask([command])[0])

    def _uncounted(self, found: list[tuple[bytes, _Rank]]) -> list[tuple[bytes, _Rank]]:
        scores = self._ask([("ZSCORE", self._keys.by_bytes, name) for name, _ in found])
        return [each for each, score in zip(found, scores, strict=True) if score is None]

    def _rank_behind(self, key: bytes, place: _Rank, *, descending: bool) -> int:
        """The rank that follows; where the last one has moved, that of its former neighbours."""
        if not place.name:
            return 0
        rank = "ZREVRANK" if descending else "ZRANK"
        beyond = (b"(" + place.score, b"+inf") if descending else (b"-inf", b"(" + place.score)
        score, at, ahead = self._ask(
            [("ZSCORE", key, place.name), (rank, key, place.name), ("ZCOUNT", key, *beyond)]
        )
        if score is not None and float(cast("bytes", score)) == float(place.score):
            return cast("int", at) + 1
        return cast("int", ahead)


class _UnderWay(NamedTuple):
    """How far a count is."""

    cursor: str
    begun: float
    identity: str
    """The server that the cursor is of."""
    tally: Tally

    @property
    def is_stale(self) -> bool:
        return time() - self.begun > _STALE

    @classmethod
    def parse(cls, kept: Reply) -> _UnderWay | None:
        """Undo `told`; None if another program wrote the value: then the count starts again."""
        facts = _facts(kept)
        try:
            scan_position(facts["cursor"])
            return cls(facts["cursor"], _seconds(facts["at"]), facts["of"], Tally.from_json(facts))
        except (CursorInvalid, *_NOT_OURS):
            return None

    def told(self) -> bytes:
        return _json(
            {
                "at": self.begun,
                "cursor": self.cursor,
                "of": self.identity,
                **self.tally.as_json(),
            }
        )


class _Rank(NamedTuple):
    """A place in an order: behind that name."""

    phase: str
    name: bytes
    score: bytes = b""

    @classmethod
    def parse(cls, cursor: str, order: Order) -> _Rank:
        if not cursor:
            return cls("name" if order is Order.NAME else "score", b"")
        score, separator, name = cursor.partition("/")
        if not separator or (score and (order is Order.NAME or not _is_score(score))):
            raise CursorInvalid("The cursor is not one that this order gave out.")
        return cls("score" if score else "name", raw_name(name), score.encode())

    def __str__(self) -> str:
        return f"{self.score.decode()}/{_text(self.name)}"


# Ours are whole and not negative; another writer's may be any that Redis can hold.
_SCORE = re.compile(r"-?(?:inf|[0-9]{1,32}(?:\.[0-9]{1,32})?(?:e[+-][0-9]{1,3})?)")
_MAX_SCORE = 71


def _is_score(text: str) -> bool:
    return len(text) <= _MAX_SCORE and _SCORE.fullmatch(text) is not None


def _filter(containing: str, visible: Visible) -> Callable[[bytes], bool]:
    def is_wanted(raw: bytes) -> bool:
        name = repository_text(raw)
        return containing in name and visible.covers(name) and visible.admits(name)

    return is_wanted


def _behind(
    few: Sequence[tuple[bytes, _Rank]], place: _Rank, order: Order, *, descending: bool
) -> list[tuple[bytes, _Rank]]:
    """Those behind a place, even if what was there has moved or gone."""
    if place.phase == "score":
        if not place.name:
            return list(few)
        last = (float(place.score), place.name)
        return [
            (name, at)
            for name, at in few
            if at.phase == "name"
            or ((float(at.score), name) < last if descending else (float(at.score), name) > last)
        ]
    is_backwards = descending and order is Order.NAME
    return [
        (name, at)
        for name, at in few
        if at.phase == "name"
        and (not place.name or (name < place.name if is_backwards else name > place.name))
    ]


def _pairs(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Members and scores: one list of both in RESP2, in RESP3 a list of pairs."""
    flat: list[Any] = []
    for each in cast("list[Any]", reply):
        flat += each if isinstance(each, list) else [each]
    return list(zip(flat[::2], map(_score, flat[1::2]), strict=True))


def _score(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else repr(float(reply)).encode()


def _figures(kept: Reply) -> Figures | None:
    """Read the stored figures; None if there are none, or another program wrote the value."""
    facts = _facts(kept)
    try:
        return Figures.of(
            Tally.from_json(facts), datetime.fromtimestamp(_seconds(facts["at"]), UTC)
        )
    except _NOT_OURS:
        return None


_NOT_OURS = (AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError)
"""What may be raised when reading a value that `FigureStore` did not write."""


def _facts(kept: Reply) -> dict[str, Any]:
    """The stored JSON object; empty if there is none, or the value is something else."""
    if not isinstance(kept, bytes) or len(kept) > _MAX_KEPT:
        return {}
    try:
        facts = json.loads(kept)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _seconds(value: object) -> float:
    if type(value) not in {float, int}:
        raise TypeError("not a time")
    return float(cast("float", value))


def _json(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
