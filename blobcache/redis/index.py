"""The index of repository names: what there is, in lexical order.

Redis can list keys only by walking all of them, so the names are kept in a sorted set beside them.
Our own writes keep it current; a registry's do not know of it, so it is built anew from time to
time: by a scan of the keyspace into a second set that then takes the first one's place. Every call
does a bounded piece of work and blocks Redis for no more than a millisecond at a time.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from time import sleep, time
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from blobcache.exceptions import CacheUnavailable, CursorInvalid
from blobcache.redis import keys
from blobcache.redis.keys import CatalogKeys
from blobcache.redis.replies import number_of_bytes
from blobcache.reference import raw_name
from blobcache.services.catalog import STEP, Budgets, CatalogStatus
from blobcache.transport.packing import Packed, Script
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobcache.reference import RepositoryName
    from blobcache.transport.packing import Call, Command, Reply
    from blobcache.transport.server import Server

__all__ = ["NameIndex"]

_log = logging.getLogger("blobcache.catalog")

_MAX_MOMENT = 32
"""Characters of the longest stored time that is read."""

_MAX_SERIAL = 10**15 - 1
"""No build comes as far. Lua counts so far exactly, and writes it without an exponent."""

_LEASE = 10_000
"""Milliseconds after which a builder that says nothing is taken to be gone."""


_BEGIN = Script("""
local names, build, state, lock = unpack(KEYS)
local token, lease, now, max_age, newer_than, identity, max_serial = unpack(ARGV)
local function serial(text)
    local number = text and #text < 16 and text:match('^%d+$') and tonumber(text)
    return number and number < tonumber(max_serial) and number or 0
end
if not redis.call('SET', lock, token, 'NX', 'PX', lease) then
    local left = redis.pcall('PTTL', lock)
    if type(left) ~= 'number' then return false end
    if left >= 0 and left <= 10 * tonumber(lease) then return false end
    redis.call('SET', lock, token, 'PX', lease)
end
local begun, indexed, started_at, cursor, where = unpack(redis.call('HMGET', state,
    'begun', 'indexed', 'indexed_at', 'cursor', 'identity'))
if cursor and where == identity and (cursor == '' or cursor:match('^[^=]*=%d+$')) then
    return cursor
end
begun, indexed, started_at = serial(begun), serial(indexed), tonumber(started_at)
newer_than = tonumber(newer_than)
if not cursor and started_at and 0 < indexed and indexed <= begun and indexed > newer_than
        and math.abs(tonumber(now) - started_at) < tonumber(max_age) then
    redis.call('DEL', lock)
    return false
end
redis.call('UNLINK', build)
redis.call('HSET', state, 'begun', string.format('%.0f', math.max(begun, newer_than) + 1),
    'cursor', '', 'identity', identity, 'started_at', now)
return ''
""")
"""Take the lock and return the cursor to go on from, beginning a build if one is due; nil if
another builder is at work or nothing is to be done.

What another writer left in the state or in the lock counts as nothing, by the rules of `_status`. A
new build is newer than what is asked for, even if the state was lost."""

_ADVANCE = Script("""
local names, build, state, lock, old = unpack(KEYS)
local token, lease, cursor, pause = unpack(ARGV)
if redis.call('GET', lock) ~= token then return 0 end
for first = 5, #ARGV, 500 do
    local members = {}
    for each = first, math.min(first + 499, #ARGV) do
        members[#members + 1] = 0
        members[#members + 1] = ARGV[each]
    end
    redis.call('ZADD', build, unpack(members))
end
if cursor == '' then
    if redis.call('EXISTS', names) == 1 then redis.call('RENAME', names, old) end
    if redis.call('EXISTS', build) == 1 then redis.call('RENAME', build, names) end
    redis.call('UNLINK', old)
    local begun, started_at = unpack(redis.call('HMGET', state, 'begun', 'started_at'))
    redis.call('HSET', state, 'indexed', begun, 'indexed_at', started_at)
    redis.call('HDEL', state, 'cursor', 'identity', 'started_at')
else
    redis.call('HSET', state, 'cursor', cursor)
end
if cursor == '' or pause == '1' then
    redis.call('DEL', lock)
else
    redis.call('PEXPIRE', lock, lease)
end
return 1
""")
"""Put the names in ARGV into the index that is being built; at the end swap it in. Does nothing,
and returns 0, for a builder that has lost the lock."""


class NameIndex:
    """The index of one registry.

    `server` holds the descriptors, `index` the names; one server may be both, and then a write to a
    repository takes its name along in the same round trip. A registry that is read-only is only
    indexed elsewhere, and nowhere on the servers that hold its descriptors, whatever their names.
    """

    def __init__(
        self,
        server: Server,
        index: Server | None = None,
        *,
        registry: str = "default",
        max_age: float = 300,
        read_only: bool = False,
        budgets: Budgets | None = None,
    ) -> None:
        self.budgets = budgets or Budgets()
        """How much one call may do. It can be replaced at any time."""
        self._server = server
        self._is_apart = index is not None and index.alias != server.alias
        self._index = index if index is not None and self._is_apart else server
        self._keys = CatalogKeys.of(registry if self._is_apart else "")
        self._max_age = max_age
        self._read_only = read_only

    @property
    def index(self) -> Server:
        """The Redis that holds the index."""
        return self._index

    @property
    def keys(self) -> CatalogKeys:
        """The keys that this registry has there."""
        return self._keys

    @property
    def may_write(self) -> bool:
        """Whether anything may be kept there. Two round trips at first, where that takes a look."""
        return self._is_elsewhere if self._read_only else True

    @cached_property
    def _is_elsewhere(self) -> bool:
        """Whether the index is on another server by what the servers say, if they tell."""
        if not self._is_apart:
            return False
        held = set(self._server.identity().split())
        return held.isdisjoint(self._index.identity().split())

    def status(self) -> CatalogStatus:
        """Return how far the index can be trusted. One round trip."""
        return _status(self._index.batch([self._status_command()], own=True)[0])

    def additions(self, repository: RepositoryName) -> list[Call]:
        """The calls that index a name, to go with the write of its set in one transaction.

        Empty where there is none over both; then `add` is the way.
        """
        return [] if self._takes_a_trip else [(self._additions(repository), ())]

    def add(self, repository: RepositoryName) -> None:
        """Index a name after the write of its set, unless `additions` did: one round trip.

        The set is written, whatever becomes of this: a failure is logged, and the next build finds
        the name.
        """
        if not self._takes_a_trip:
            return
        try:
            self._index.batch(self._additions(repository).commands())
        except CacheUnavailable:
            _log.warning("The name %s could not be indexed.", repository, exc_info=True)

    @property
    def _takes_a_trip(self) -> bool:
        return self._is_apart or self._server.is_cluster

    def advance(
        self, budget: float | None = None, *, newer_than: int | None = None
    ) -> CatalogStatus:
        """Build on for at most `budget` seconds, if the index is due, and return its status.

        The default is `Budgets.build`. The index is due when there is none, when it is older than
        its maximum age, or not `newer_than` the build of that serial number. Never waits for
        another builder. Four round trips at least.
        """
        if not self.may_write:
            return self.status()
        budgets = self.budgets
        deadline = budgets.deadline(budgets.build if budget is None else budget)
        token = uuid4().hex.encode()
        cursor = self._index.script(
            _BEGIN,
            self._keys[:4],
            [
                token,
                _LEASE,
                repr(time()).encode(),
                repr(self._max_age).encode(),
                -1 if newer_than is None else newer_than,
                self._server.identity().encode(),
                _MAX_SERIAL,
            ],
        )
        while cursor is not None:
            try:
                following, found = self._server.scan(
                    cast("bytes", cursor).decode("utf-8", "replace"),
                    keys.REPOSITORIES,
                    budgets.step,
                )
            except CursorInvalid:  # of a node that has gone: the next step begins anew
                self._index.batch([("HDEL", self._keys.state, "cursor"), ("DEL", self._keys.lock)])
                break
            pause = deadline.is_over
            held = self._index.script(
                _ADVANCE,
                self._keys[:5],
                [token, _LEASE, following.encode(), int(pause), *map(keys.repository_in, found)],
            )
            cursor = following.encode() if following and held and not pause else None
        return self.status()

    def reindex(self, progress: Callable[[CatalogStatus], None] | None = None) -> CatalogStatus:
        """Build the index from the keys that are there now, to the end, and return its status.

        Calls `progress` after each step. Where another builder is at work it waits for the lock.
        """
        status = self.status()
        begun = status.begun
        while status.indexed <= begun and self.may_write:
            before = status
            status = self.advance(newer_than=begun)
            if progress is not None:
                progress(status)
            if status == before:
                sleep(0.02)
        return status

    def _status_command(self) -> Command:
        return ("HMGET", self._keys.state, "indexed_at", "indexed", "begun")

    def _additions(self, repository: RepositoryName) -> Packed:
        """Into both indexes, so that nobody need know whether a build is under way."""
        return _zadd(repository, self._keys.names, self._keys.build)

    def _refreshed(self) -> CatalogStatus:
        status = self.status()
        return self.advance() if abs(status.age) >= self._max_age else status

    def _names(
        self, prefix: str, after: bytes, limit: int, status: CatalogStatus, visible: Visible
    ) -> tuple[list[bytes], bool]:
        """Up to `limit` indexed names behind `after`, and whether there are more.

        One round trip, or one for each batch of ranges that somebody may see.
        """
        indexes = [self._keys.names] if status.complete else [self._keys.names, self._keys.build]
        names: set[bytes] = set()
        for ranges in _batches(_ranges(prefix, after, visible), limit):
            replies = self._index.batch(
                [
                    ("ZRANGEBYLEX", key, low, high, "LIMIT", 0, limit + 1)
                    for low, high in ranges
                    for key in indexes
                ],
                own=True,
            )
            names.update(name for reply in replies for name in cast("list[bytes]", reply))
            if len(names) > limit:
                break
        return sorted(names)[:limit], len(names) > limit

    def names(
        self, after: bytes = b"", limit: int = STEP, prefix: str = "", visible: Visible = ALL
    ) -> tuple[list[bytes], bool]:
        """Return up to `limit` names behind `after`, raw, and whether there are more.

        As far as they are indexed by now: builds nothing. Two round trips.
        """
        return self._names(prefix, after, limit, self.status(), visible)

    def _count(self, prefix: str, visible: Visible) -> int:
        """How many names the finished index holds there: one round trip."""
        commands: list[Command] = [
            ("ZLEXCOUNT", self._keys.names, low, high)
            for low, high in _ranges(prefix, b"", visible)
        ]
        return sum(cast("list[int]", self._index.batch(commands, own=True))) if commands else 0

    def _drop(self, names: Sequence[bytes]) -> None:
        """Take names off the index, but for those that have a set again by now.

        Two round trips, or three. A writer indexes a name after it has written the set, so either
        its indexing comes after our removal, or we see its set.
        """
        removals: list[Command] = [("ZREM", self._keys.names, *names)]
        removals += _removals_of_figures(self._keys, names)
        self._index.batch(removals)
        exist = self._server.batch([("EXISTS", keys.members(name)) for name in names])
        back = [name for name, exists in zip(names, exist, strict=True) if exists]
        if back:
            self._index.batch([("ZADD", self._keys.names, 0, name) for name in back])


@lru_cache(4096)
def _zadd(name: RepositoryName, *indexes: bytes) -> Packed:
    return Packed([("ZADD", index, 0, name) for index in indexes])


def _removals_of_figures(its: CatalogKeys, names: Sequence[bytes]) -> Iterator[Command]:
    """What was counted of repositories goes with them."""
    for key in (its.by_count, its.by_bytes):
        yield ("ZREM", key, *names)
    for key in (its.figures, its.counting):
        yield ("HDEL", key, *names)


def _status(reply: Reply) -> CatalogStatus:
    """Read the stored status of the index; ignore values that another program wrote."""
    indexed_at, indexed, begun = cast("list[bytes | None]", reply)
    dated, serial, last = _moment(indexed_at), _serial(indexed), _serial(begun)
    if dated is None or not 0 < serial <= last:
        dated, serial = None, 0
    return CatalogStatus(dated, serial, last)


def _serial(value: bytes | None) -> int:
    number = number_of_bytes(value or b"") or 0
    return number if number < _MAX_SERIAL else 0


def _moment(seconds: bytes | None) -> datetime | None:
    if seconds is None or len(seconds) > _MAX_MOMENT:
        return None
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _ranges(prefix: str, after: bytes, visible: Visible) -> Iterator[tuple[bytes, bytes]]:
    """The lexical ranges behind `after` that have the prefix and may be seen."""
    for text, is_prefix in visible.within(prefix):
        raw = raw_name(text)
        if not is_prefix:
            if raw > after:
                yield b"[" + raw, b"[" + raw
        elif raw > after or not after:
            yield _range(raw)
        elif after.startswith(raw):
            yield b"(" + after, _range(raw)[1]


def _batches(
    ranges: Iterable[tuple[bytes, bytes]], limit: int
) -> Iterator[list[tuple[bytes, bytes]]]:
    """As many ranges at a time as bring no more than some thousands of names."""
    batch: list[tuple[bytes, bytes]] = []
    names = 0
    for low, high in ranges:
        batch.append((low, high))
        names += 1 if low == high else limit
        if names >= 2 * STEP:
            yield batch
            batch, names = [], 0
    if batch:
        yield batch


def _range(raw: bytes) -> tuple[bytes, bytes]:
    """The lexical range of what begins with the prefix."""
    low = b"[" + raw if raw else b"-"
    stem = raw.rstrip(b"\xff")
    return low, b"(" + stem[:-1] + bytes([stem[-1] + 1]) if stem else b"+"
