"""Sorted copies of repositories' blobs, beside the index. See `services.sorted_members`.

A copy is a sorted set. The first one of a repository has all its blobs by digest, each with its
facts; it is made by a walk through the members. The others are made of the first one: in another
order, or of those blobs only that a filter shows. An unfinished copy has a key of its own, and
takes the place of the one before when it is finished, by one write. Every step is bounded; no
command looks at more than a thousand entries, or adds more than 250.

All that is stored expires, and may be lost earlier, wholly or in part: a copy with fewer entries
than were added is not read. A copy decides only the order, and which blobs match.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple, cast
from uuid import uuid4

from blobcache.descriptor import MAX_SIZE, parse_size
from blobcache.exceptions import CacheUnavailable, CursorInvalid, Reason
from blobcache.findings import RECORD_KINDS, SEVERITIES, Severity
from blobcache.media_types import Category, describe
from blobcache.redis.sorted_entries import Facts, Prefix, pack, split
from blobcache.redis.sorted_pages import CopyPages
from blobcache.redis.work import RedisWork
from blobcache.reference import RepositoryName
from blobcache.services.catalog import CHEAP, STEP
from blobcache.services.rules import read_only_error
from blobcache.services.sorted_members import CopyStatus, MemberColumn, MemberQuery
from blobcache.transport.server import scan_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blobcache.redis.keys import CatalogKeys
    from blobcache.redis.listings import RedisCatalog
    from blobcache.redis.options import RedisOptions
    from blobcache.services.catalog import Deadline
    from blobcache.services.records import Record, RecordReader
    from blobcache.services.rules import Rules
    from blobcache.services.sorted_members import SortedMembers, SortedPage
    from blobcache.transport.packing import Command
    from blobcache.transport.server import Server

__all__ = ["RedisSortedMembers", "SortsMembers"]

_ADDED = 250
"""Entries that one command adds: under a millisecond of Redis's time."""

_MEDIA_TYPES = 200
"""Media types that a copy knows; blobs of the others come last in their order."""

_MAX_NOTE = 128 * 1024
"""The longest note that is read, in bytes. Notes with all their media types are shorter."""

_MICRO = 1_000_000

_WALK_SHARE = 0.8
"""The walk's share of the work for a copy that is made of the first one."""

_NOTES = (
    *("wanted", "at", "took", "serial", "count", "media_types"),
    *("building", "begun", "of", "cursor", "spent", "added", "found_types"),
)


@dataclass(frozen=True, slots=True)
class _State:
    """The notes of a copy."""

    wanted: float
    """The copy must be of this time, or later."""

    at: float
    """The time that the finished copy is of; 0 if there is none."""

    took: int
    """Microseconds that it took."""

    serial: str
    count: int
    media_types: list[str]

    building: str
    """The serial of the unfinished copy; empty if there is none."""

    begun: float
    of: str
    """What the cursor is of: the server of the walk, or the serial of the first copy."""

    cursor: str
    spent: int
    added: int
    found_types: list[str]

    @property
    def is_wanted(self) -> bool:
        """Whether a new copy is to be made, or is unfinished."""
        return self.wanted > self.at


@dataclass(frozen=True, slots=True)
class _Copy:
    """One copy: whose, in which order, of which blobs."""

    repository: RepositoryName
    query: MemberQuery

    @property
    def is_first(self) -> bool:
        return self.query == _ALL

    @property
    def name(self) -> str:
        """Its name in keys."""
        parts = [self.repository, *("" if part is None else str(part) for part in self.query)]
        return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


_ALL = MemberQuery()


class RedisSortedMembers:
    """The sorted copies of one registry."""

    def __init__(
        self,
        registry: str,
        server: Server,
        catalog: RedisCatalog,
        repository_scoped: Callable[[str], RecordReader],
        options: RedisOptions,
    ) -> None:
        """`server` holds the descriptors; the copies are where the index is."""
        self._registry = registry
        self._server = server
        self._catalog = catalog
        self._scoped = repository_scoped
        self._most = options.sorted_copies
        self._ttl = options.sorted_copy_ttl

    @property
    def may_keep(self) -> bool:
        """See `SortedMembers.may_keep`."""
        return self._most is not None and self._catalog.may_write

    def status(self, repository: str, query: MemberQuery) -> CopyStatus:
        """See `SortedMembers.status`. Two round trips; four for a copy that is made of another."""
        copy = self._copy(repository, query)
        return self._status(copy, self._read(copy))

    def refresh(self, repository: str, query: MemberQuery) -> CopyStatus:
        """See `SortedMembers.refresh`."""
        self._require_writable()
        copy = self._copy(repository, query)
        status = self._status(copy, self._read(copy))
        if status.complete and status.progress is None:
            return status
        if status.progress is None:
            first = self._first(copy)
            known = self._read(first)
            is_fresh = not copy.is_first and self._status(first, known).complete
            self._want(copy, known.at if is_fresh else time())
        return self._step(copy)

    def copy_again(self, repository: str, query: MemberQuery) -> CopyStatus:
        """See `SortedMembers.copy_again`."""
        self._require_writable()
        copy = self._copy(repository, query)
        if not self._read(copy).is_wanted:
            self._want(copy, time())
        return self._step(copy)

    def page(
        self,
        repository: str,
        query: MemberQuery,
        cursor: str = "",
        limit: int = 100,
        *,
        offset: int = 0,
        descending: bool = False,
    ) -> SortedPage | None:
        """See `SortedMembers.page`. Five round trips, however many blobs there are."""
        copy = self._copy(repository, query)
        state = self._read(copy)
        if not state.serial:
            return None
        pages = CopyPages(self._index, self._keys.copy(copy.name, state.serial), state.count, query)
        return pages.page(cursor, limit, offset=offset, descending=descending)

    # Which copy

    def _copy(self, repository: str, query: MemberQuery) -> _Copy:
        """The copy for the query. A condition that its order can find needs no copy of its own."""
        if query.column is MemberColumn.DIGEST:
            query = query._replace(prefix="")
        if query.column is MemberColumn.SIZE:
            query = query._replace(size_min=None, size_max=None)
        return _Copy(RepositoryName(repository), query)

    def _first(self, copy: _Copy) -> _Copy:
        return _Copy(copy.repository, _ALL)

    def _read(self, copy: _Copy) -> _State:
        """Read the notes; forget what another program wrote, and a copy that is not whole."""
        (found,) = self._index.batch([("HMGET", self._keys.copy(copy.name), *_NOTES)], own=True)
        values = dict(zip(_NOTES, map(_text, cast("list[bytes | None]", found)), strict=True))
        state = _State(
            wanted=_seconds(values["wanted"]),
            at=_seconds(values["at"]),
            took=_number(values["took"]),
            serial=_token(values["serial"]),
            count=_number(values["count"]),
            media_types=_texts(values["media_types"]),
            building=_token(values["building"]),
            begun=_seconds(values["begun"]),
            of=values["of"],
            cursor=values["cursor"],
            spent=_number(values["spent"]),
            added=_number(values["added"]),
            found_types=_texts(values["found_types"]),
        )
        if state.serial and self._size(copy, state.serial) != state.count:
            return replace(state, at=0.0, serial="", count=0)
        return state if state.serial else replace(state, at=0.0)

    def _size(self, copy: _Copy, serial: str) -> int:
        key = self._keys.copy(copy.name, serial)
        return cast("int", self._index.batch([("ZCARD", key)], own=True)[0])

    def _status(self, copy: _Copy, state: _State) -> CopyStatus:
        budgets = self._catalog.budgets
        bound = max(budgets.fresh, CHEAP * state.took / _MICRO)
        types = state.media_types
        if copy.is_first:
            progress = self._walked(state) if state.is_wanted else None
        else:
            first = self._read(self._first(copy))
            types = types or first.media_types
            progress = self._derived(state, first) if state.is_wanted else None
        copied_at = datetime.fromtimestamp(state.at, UTC) if state.at else None
        return CopyStatus(
            copied_at, min(self._catalog.index.max_age, bound), progress, tuple(types)
        )

    def _walked(self, state: _State) -> float:
        """The share of a walk that is done."""
        if not state.building or not state.cursor:
            return 0.0
        try:
            return scan_progress(state.cursor)
        except CursorInvalid:
            return 0.0

    def _derived(self, state: _State, first: _State) -> float:
        if first.at < state.wanted:
            return _WALK_SHARE * self._walked(first)
        done = _number(state.cursor) if state.of == first.serial else 0
        return _WALK_SHARE + (1 - _WALK_SHARE) * min(1.0, done / max(first.count, 1))

    # Making copies

    def _require_writable(self) -> None:
        if not self.may_keep:
            if self._most is None:
                raise read_only_error(self._registry, "SORTED_COPIES allows no sorted copies.")
            raise read_only_error(
                self._registry, "Its sorted copies need a CATALOG_ALIAS on another Redis."
            )

    def _want(self, copy: _Copy, moment: float) -> None:
        """Note that the copy must be of that time or later, and drop the oldest other copies."""
        key = self._keys.copy(copy.name)
        copies, now = self._keys.copy(), time()
        self._index.batch(
            [
                ("HSET", key, "wanted", repr(moment)),
                ("PEXPIRE", key, str(self._ttl * 1000)),
                ("ZADD", copies, repr(now), copy.name),
                ("PEXPIRE", copies, str(self._ttl * 1000)),
            ],
            own=True,
        )
        kept = {copy.name, self._first(copy).name}
        (names,) = self._index.batch([("ZRANGE", copies, "0", str(STEP - 1))], own=True)
        others = [each for each in map(_text, cast("list[bytes]", names)) if each not in kept]
        room = max(0, (self._most or 0) - len(kept))
        for name in others[: max(0, len(others) - room)]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        key = self._keys.copy(name)
        (found,) = self._index.batch([("HMGET", key, "serial", "building")], own=True)
        serials = filter(None, map(_token, map(_text, cast("list[bytes | None]", found))))
        entries = [self._keys.copy(name, each) for each in serials]
        self._index.batch([("UNLINK", key, *entries), ("ZREM", self._keys.copy(), name)], own=True)

    def _step(self, copy: _Copy) -> CopyStatus:
        budgets = self._catalog.budgets
        deadline = budgets.deadline(budgets.page)
        state = self._read(copy)
        if state.is_wanted:
            if copy.is_first:
                self._make(copy, state, self._walk, deadline)
            else:
                self._step_of_derived(copy, state, deadline)
        return self._status(copy, self._read(copy))

    def _step_of_derived(self, copy: _Copy, state: _State, deadline: Deadline) -> None:
        first = self._first(copy)
        known = self._read(first)
        if known.at < state.wanted:
            if known.wanted < state.wanted:
                self._want(first, state.wanted)
                known = replace(known, wanted=state.wanted)
            self._make(first, known, self._walk, deadline)
            if deadline.is_over:
                return
            known = self._read(first)
        if known.at >= state.wanted:
            rank = _Rank.of(copy.query, known.media_types)

            def read(_: _Copy, at: _State) -> Iterator[_Step]:
                return self._select(first, known, copy.query, rank, at)

            self._make(copy, state, read, deadline, of=known)

    def _make(
        self,
        copy: _Copy,
        state: _State,
        read: Callable[[_Copy, _State], Iterator[_Step]],
        deadline: Deadline,
        *,
        of: _State | None = None,
    ) -> None:
        """Add what the source has after the cursor, until the deadline or its end.

        `of` are the notes of the first copy, if that is the source.
        """
        key = self._keys.copy(copy.name)
        work = RedisWork(self._index, key, key + b"::lock", kept=self._ttl)
        is_ours = False
        try:
            is_ours = work.begin()
            if not is_ours:
                return
            source = of.serial if of else self._server.identity()
            if not state.building or state.of != source:
                self._forget_unfinished(copy, state)
                state = replace(
                    state,
                    building=uuid4().hex,
                    begun=of.at if of else max(time(), state.wanted),
                    of=source,
                    cursor="",
                    spent=of.took if of else 0,
                    added=0,
                    found_types=[],
                )
            self._add_all(copy, state, read, deadline, work)
        except CacheUnavailable as error:
            if error.reason is Reason.FULL:
                self._forget_unfinished(copy, state)
            raise
        finally:
            if is_ours:
                work.end()

    def _add_all(
        self,
        copy: _Copy,
        state: _State,
        read: Callable[[_Copy, _State], Iterator[_Step]],
        deadline: Deadline,
        work: RedisWork,
    ) -> None:
        key, began = self._keys.copy(copy.name, state.building), monotonic()
        for step in read(copy, state):
            types = list(dict.fromkeys([*state.found_types, *step.media_types]))[:_MEDIA_TYPES]
            now = monotonic()
            state = replace(
                state,
                added=state.added + self._add(key, step.entries),
                cursor=step.next or "",
                spent=state.spent + int((now - began) * _MICRO),
                found_types=types,
            )
            began = now
            if step.next is None:
                self._finish(copy, state, work)
                return
            if not work.note(_notes_of(state)) or deadline.is_over:
                return

    def _add(self, key: bytes, entries: Sequence[tuple[float, bytes]]) -> int:
        """Add entries; return how many were new."""
        commands: list[Command] = []
        for first in range(0, len(entries), _ADDED):
            words: list[bytes] = []
            for score, entry in entries[first : first + _ADDED]:
                words += (b"%d" % score, entry)
            commands.append(("ZADD", key, *words))
        if not commands:
            return 0
        replies = self._index.batch([*commands, ("PEXPIRE", key, str(self._ttl * 1000))], own=True)
        return sum(cast("list[int]", replies[:-1]))

    def _finish(self, copy: _Copy, state: _State, work: RedisWork) -> None:
        """Put the copy in the place of the one before, if it has all that was added."""
        if self._size(copy, state.building) != state.added:
            self._forget_unfinished(copy, state)
            return
        done = {
            "at": repr(state.begun),
            "took": str(state.spent),
            "serial": state.building,
            "count": str(state.added),
            "media_types": json.dumps(state.found_types),
        }
        forgotten = ("building", "begun", "of", "cursor", "spent", "added", "found_types")
        if work.note(done, forgotten) and state.serial:
            self._index.batch([("UNLINK", self._keys.copy(copy.name, state.serial))], own=True)

    def _forget_unfinished(self, copy: _Copy, state: _State) -> None:
        if state.building:
            self._index.batch(
                [
                    ("HDEL", self._keys.copy(copy.name), "building", "cursor"),
                    ("UNLINK", self._keys.copy(copy.name, state.building)),
                ],
                own=True,
            )

    # Sources

    def _walk(self, copy: _Copy, state: _State) -> Iterator[_Step]:
        """The members of the repository, a thousand at a time."""
        service = self._scoped(copy.repository)
        cursor: str | None = state.cursor
        while cursor is not None:
            page = self._catalog.members(copy.repository, cursor, STEP)
            records = service.records(page.members)
            entries = [(0.0, pack(record)) for record in records]
            yield _Step(entries, _types(records), page.next)
            cursor = page.next

    def _select(
        self, first: _Copy, known: _State, query: MemberQuery, rank: _Rank, state: _State
    ) -> Iterator[_Step]:
        """The wanted entries of the first copy, with their scores."""
        key, prefix = self._keys.copy(first.name, known.serial), Prefix(query.prefix)
        at = _number(state.cursor)
        while at < known.count:
            command: Command = ("ZRANGE", key, str(at), str(at + STEP - 1))
            found = cast("list[bytes]", self._index.batch([command], own=True)[0])
            if not found:  # the copy is gone: this one gets too few entries, and is not used
                return
            at += len(found)
            parts = [part for entry in found if (part := split(entry)) is not None]
            entries = [
                (rank.score(facts), packed)
                for packed, facts in parts
                if query.allows(*facts) and (not query.prefix or prefix.matches(packed))
            ]
            yield _Step(entries, (), str(at) if at < known.count else None)
        if not known.count:
            yield _Step((), (), None)

    @property
    def _index(self) -> Server:
        return self._catalog.index.server

    @property
    def _keys(self) -> CatalogKeys:
        return self._catalog.index.keys


class SortsMembers:
    """A part of the provider."""

    __slots__ = ()
    catalog: RedisCatalog
    rules: Rules
    repository_scoped: Callable[[str], RecordReader]
    _options: RedisOptions
    _server: Server

    @property
    def sorted_members(self) -> SortedMembers:
        """See `BrowsableProvider.sorted_members`."""
        return RedisSortedMembers(
            self.rules.registry, self._server, self.catalog, self.repository_scoped, self._options
        )


class _Step(NamedTuple):
    """What a source has found in one step."""

    entries: Sequence[tuple[float, bytes]]
    """Scores and entries."""

    media_types: Sequence[str]
    next: str | None
    """The cursor of the next step; None at the end."""


class _Rank(NamedTuple):
    """Where the blobs of a copy are in its order."""

    column: MemberColumn
    media_types: dict[str, int]

    @classmethod
    def of(cls, query: MemberQuery, media_types: Sequence[str]) -> _Rank:
        """Return the order of a query, for blobs of these types."""
        categories = list(Category)

        def place(media_type: str) -> tuple[int, str]:
            return categories.index(describe(media_type or None).category), media_type

        ordered = sorted({*media_types, ""}, key=place)
        return cls(query.column, {each: at for at, each in enumerate(ordered)})

    def score(self, facts: Facts) -> float:
        """Return the score of a blob: a whole number."""
        last = len(self.media_types)
        if self.column is MemberColumn.SIZE:
            return -1 if facts.size is None else min(facts.size, MAX_SIZE)
        if self.column is MemberColumn.STATE:
            kind = facts.state
            severity = list(Severity).index(SEVERITIES[kind])
            return severity * len(RECORD_KINDS) + RECORD_KINDS.index(kind)
        if self.column is MemberColumn.TYPE:
            if facts.size is None:
                return last + 1
            return self.media_types.get(facts.media_type or "", last)
        return 0


def _types(records: Sequence[Record]) -> list[str]:
    return list(
        dict.fromkeys(
            record.descriptor.media_type
            for record in records
            if record.descriptor and record.descriptor.media_type
        )
    )


def _notes_of(state: _State) -> dict[str, str]:
    return {
        "building": state.building,
        "begun": repr(state.begun),
        "of": state.of,
        "cursor": state.cursor,
        "spent": str(state.spent),
        "added": str(state.added),
        "found_types": json.dumps(state.found_types),
    }


# Notes may be another program's: what is not a note of ours counts as missing.


def _text(raw: bytes | None) -> str:
    return raw.decode("ascii", "replace") if raw and len(raw) <= _MAX_NOTE else ""


def _number(text: str) -> int:
    return parse_size(text.encode()) or 0


def _seconds(text: str) -> float:
    try:
        found = float(text) if len(text) <= 32 else 0.0  # noqa: PLR2004
        datetime.fromtimestamp(found, UTC)
    except (ValueError, OverflowError, OSError):
        return 0.0
    return max(0.0, found)


def _token(text: str) -> str:
    return text if text.isascii() and text.isalnum() and len(text) <= 32 else ""  # noqa: PLR2004


def _texts(text: str) -> list[str]:
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    texts = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    return texts[:_MEDIA_TYPES]
