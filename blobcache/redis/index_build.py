"""Building the index of repository names: by a scan of the keyspace, a bounded piece a call.

The names that the scan finds go into a second sorted set, which takes the place of the index when
the scan is complete. The progress of a build is stored in Redis, beside the index, and a short lock
makes sure that only one process at a time builds.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple, cast
from uuid import uuid4

from blobcache.descriptor import parse_size
from blobcache.exceptions import CacheUnavailable, CursorInvalid, Reason
from blobcache.redis import keys
from blobcache.services.catalog import CHEAP, WATCHED, CatalogStatus
from blobcache.transport.packing import Decision, Script, Watched
from blobcache.transport.server import scan_refused_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.redis.keys import CatalogKeys
    from blobcache.services.catalog import Deadline
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["KEPT", "IndexBuilder"]

_MAX_MOMENT = 32
"""Characters of the longest stored time that is read."""

_MAX_SERIAL = 10**15 - 1
"""No build has a number this large. Up to here Lua counts exactly and writes no exponent."""

_MAX_CURSOR = 1024
"""Bytes of a cursor that are read to find out how far a build is."""

_MICRO = 1_000_000
"""Microseconds of a second."""

_LEASE = "10000"
"""Milliseconds after which a builder that has not renewed its lock is assumed dead."""

KEPT = 90 * 24 * 3600
"""Seconds that an index which is apart from the descriptors is kept: after its last build, or after
a watch has kept it current. Nobody reads it any more if the registry has moved to another Redis."""


def _begin_reads(own: Sequence[bytes], _: Sequence[bytes]) -> list[Command]:
    state, lock = own[2:]
    fields = ("begun", "indexed", "indexed_at", "cursor", "identity")
    return [("WATCH", state, lock), ("EXISTS", lock), ("PTTL", lock), ("HMGET", state, *fields)]


def _begin(own: Sequence[bytes], operands: Sequence[bytes], replies: Sequence[Reply]) -> Decision:
    _, build, state, lock = own
    token, lease, now, max_age, newer_than, identity, _ = operands
    is_locked, left, fields = replies
    if is_locked and 0 <= cast("int", left) <= 10 * int(lease):
        return Decision([], None)
    if isinstance(fields, Exception):
        raise fields
    begun, indexed, indexed_at, cursor, where = cast("list[bytes | None]", fields)
    take: Command = ("SET", lock, token, "PX", lease)
    if cursor is not None and where == identity and _CURSOR.fullmatch(cursor):
        return Decision([take], cursor)
    last, serial, wanted = _serial(begun), _serial(indexed), int(newer_than)
    dated = _moment(indexed_at)
    age = abs(float(now) - dated.timestamp()) if dated else float("inf")
    if cursor is None and age < float(max_age) and wanted < serial <= last and serial:
        return Decision([("DEL", lock)] if is_locked else [], None)
    started = ("begun", str(max(last, wanted) + 1), "cursor", "", "identity", identity)
    writes: list[Command] = [take, ("UNLINK", build)]
    return Decision([*writes, ("HSET", state, *started, "spent", "0", "started_at", now)], b"")


def _names_reads(own: Sequence[bytes], operands: Sequence[bytes]) -> list[Command]:
    names, build, state, lock, _ = own
    _, _, cursor, *_ = operands
    if cursor:
        return [("WATCH", lock, state), ("GET", lock), ("HMGET", state, "spent")]
    asked: list[Command] = [("EXISTS", names), ("EXISTS", build)]
    progress: Command = ("HMGET", state, "spent", "begun", "started_at")
    return [("WATCH", lock, names, build, state), ("GET", lock), progress, *asked]


def _add_names(
    own: Sequence[bytes], operands: Sequence[bytes], replies: Sequence[Reply]
) -> Decision:
    names, build, state, lock, old = own
    token, lease, cursor, pause, taken, *found = operands
    holder, progress, *asked = replies
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    if holder != token:
        return Decision([], 0)
    writes: list[Command] = [
        ("ZADD", build, *(word for name in found[first : first + 500] for word in ("0", name)))
        for first in range(0, len(found), 500)
    ]
    before, *dates = cast("list[bytes | None]", progress)
    spent = str(_serial(before) + int(taken))
    if cursor:
        writes.append(("HSET", state, "cursor", cursor, "spent", spent))
    else:
        had_names, had_build = asked
        begun, started_at = dates
        if had_names:
            writes.append(("RENAME", names, old))
        if had_build or found:
            writes.append(("RENAME", build, names))
        done = ("indexed", begun or b"", "indexed_at", started_at or b"", "took", spent)
        writes += [("UNLINK", old), ("HSET", state, *done)]
        writes.append(("HDEL", state, "cursor", "identity", "started_at", "spent"))
    is_over = not cursor or pause == b"1"
    writes.append(("DEL", lock) if is_over else ("PEXPIRE", lock, lease))
    return Decision(writes, 1)


_CURSOR = re.compile(rb"|[^=]*=[0-9]+")

_BEGIN = Script(
    """
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
    'cursor', '', 'identity', identity, 'spent', '0', 'started_at', now)
return ''
""",
    Watched(_begin_reads, _begin),
)
"""Take the lock and return the cursor to continue from; start a build if one is due. Return nil if
another process builds, or if there is nothing to do.

Values in the state or in the lock that another program wrote are ignored, by the rules of
`_status`. A new build is newer than what is asked for, even if the state was lost."""

_ADD_NAMES = Script(
    """
local names, build, state, lock, old = unpack(KEYS)
local token, lease, cursor, pause, taken = unpack(ARGV)
if redis.call('GET', lock) ~= token then return 0 end
local spent = redis.call('HGET', state, 'spent')
spent = spent and #spent < 16 and spent:match('^%d+$') and tonumber(spent) or 0
spent = string.format('%.0f', spent + tonumber(taken))
for first = 6, #ARGV, 500 do
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
    redis.call('HSET', state, 'indexed', begun, 'indexed_at', started_at, 'took', spent)
    redis.call('HDEL', state, 'cursor', 'identity', 'started_at', 'spent')
else
    redis.call('HSET', state, 'cursor', cursor, 'spent', spent)
end
if cursor == '' or pause == '1' then
    redis.call('DEL', lock)
else
    redis.call('PEXPIRE', lock, lease)
end
return 1
""",
    Watched(_names_reads, _add_names),
)
"""Add the names in ARGV to the index that is being built; at the end put it in the place of the old
one. Return 0, and do nothing, if the lock is lost.

`taken` is the time in microseconds since the last call. The sum of a build's, without the time
between its steps, is what it has taken."""


class IndexBuilder:
    """Builds the index that is stored under `own_keys` in `index`, from the keys in `server`."""

    def __init__(
        self,
        server: Server,
        index: Server,
        own_keys: CatalogKeys,
        former_keys: CatalogKeys | None = None,
        *,
        max_age: float,
    ) -> None:
        """`former_keys` are those of an index that does not say which Redis it is about.

        They are given if the index is apart from the descriptors. They are deleted.
        """
        self._server = server
        self._index = index
        self._keys = own_keys
        self._former = former_keys
        self._max_age = max_age

    def status(self, fresh: float) -> CatalogStatus:
        """Return how old and how complete the index is. One round trip.

        An index that is younger than `fresh` is not due, however fast it could be built.
        """
        (reply,) = self._index.batch([("HMGET", self._keys.state, *_STATUS)], own=True)
        state = _State(*cast("list[bytes | None]", reply))
        status = _status(state, fresh, self._max_age)
        if status.building:
            status = replace(status, progress=self._progress(state.cursor))
        return status if self._server.may_scan else replace(status, may_scan=False)

    def _progress(self, cursor: bytes | None) -> float:
        """The share of the build that is done."""
        if not cursor or not _CURSOR.fullmatch(cursor[:_MAX_CURSOR]):
            return 0.0
        try:
            return self._server.scan_share(cursor[:_MAX_CURSOR].decode("utf-8", "replace"))
        except CursorInvalid:
            return 0.0

    def step(self, deadline: Deadline, count: int, newer_than: int) -> None:
        """Build until the deadline, if the index is due and no other process builds it.

        It is due if a build is unfinished, or if it is not `newer_than` the build of that serial
        number. Each command of the scan looks at `count` keys. Three round trips at least, and one
        more at the end of a build whose index is apart from the descriptors.
        """
        if not self._server.may_scan:
            raise scan_refused_error()
        token, began = uuid4().hex.encode(), monotonic()
        cursor = self._index.script(
            _BEGIN,
            self._keys[:4],
            [
                token,
                _LEASE,
                repr(time()).encode(),
                repr(self._max_age).encode(),
                str(newer_than),
                self._server.identity().encode(),
                str(_MAX_SERIAL),
            ],
        )
        while cursor is not None:
            try:
                following, found = self._server.scan(
                    cast("bytes", cursor).decode("utf-8", "replace"), keys.REPOSITORIES, count
                )
            except CursorInvalid:  # of a node that has gone: the next step starts again
                self._index.batch([("HDEL", self._keys.state, "cursor"), ("DEL", self._keys.lock)])
                break
            except CacheUnavailable as error:
                if error.reason is Reason.NO_SCAN:
                    self._index.batch([("DEL", self._keys.lock)])
                raise
            pause, now = deadline.is_over, monotonic()
            began, taken = now, int((now - began) * _MICRO)
            held = self._index.script(
                _ADD_NAMES,
                self._keys[:5],
                [
                    token,
                    _LEASE,
                    following.encode(),
                    str(int(pause)),
                    str(taken),
                    *map(keys.repository_in, found),
                ],
            )
            if held and not following:
                self._tidy()
            cursor = following.encode() if following and held and not pause else None

    def _tidy(self) -> None:
        """Let an index that is apart expire some time after its last build."""
        former = self._former
        if former is not None:
            self._index.batch([*self.keeping(), ("UNLINK", former.build, *_lasting(former))])

    def keeping(self) -> list[Command]:
        """Return the commands that let an index which is apart live for `KEPT` from now on."""
        if self._former is None:
            return []
        return [("PEXPIRE", key, str(KEPT * 1000)) for key in _lasting(self._keys)]


def _lasting(own: CatalogKeys) -> tuple[bytes, ...]:
    """The keys that have no expiry of their own."""
    return own.names, own.state, own.figures, own.counting, own.by_count, own.by_bytes


class _State(NamedTuple):
    """Some fields of the state."""

    indexed_at: bytes | None
    indexed: bytes | None
    begun: bytes | None
    cursor: bytes | None
    took: bytes | None
    watched_at: bytes | None
    watched_from: bytes | None


_STATUS = _State._fields


def _status(state: _State, fresh: float, max_age: float) -> CatalogStatus:
    """Read the stored status of the index; ignore values that another program wrote."""
    dated, serial, last = _moment(state.indexed_at), _serial(state.indexed), _serial(state.begun)
    if dated is None or not 0 < serial <= last:
        return CatalogStatus(None, 0, last, bound=max_age)
    took = _serial(state.took) / _MICRO
    # An index of an earlier version does not say what its build has taken.
    bound = min(max_age, max(fresh, CHEAP * took)) if took else max_age
    watched = _moment(state.watched_at) if 0 < _serial(state.watched_from) <= serial else None
    if watched is not None and watched.timestamp() > time() + WATCHED:
        watched = None  # of another program, or of a clock that is wrong
    if watched is not None and watched > dated:
        dated, bound = watched, min(max_age, max(WATCHED, bound))
    return CatalogStatus(dated, serial, last, bound=bound, watched_at=watched)


def _serial(value: bytes | None) -> int:
    number = parse_size(value or b"") or 0
    return number if number < _MAX_SERIAL else 0


def _moment(seconds: bytes | None) -> datetime | None:
    if seconds is None or len(seconds) > _MAX_MOMENT:
        return None
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None
