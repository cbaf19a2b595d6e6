"""The connection of one event loop to one server, opened when it is needed and again if it breaks.

redis-py opens it, in a thread, with the options of the pool that django-redis keeps: the address,
TLS, the user, the database and the limits of time are those of the synchronous calls. It is not one
of the pool's own connections, and does not count for ``max_connections``.

Whatever breaks the connection fails all who wait for a reply with `CacheUnavailable`. Nothing is
sent twice. The next call opens a new connection.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, finalize, ref

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from blobcache.transport import private
from blobcache.transport.aio.link import Link, Request
from blobcache.transport.aio.threads import in_thread
from blobcache.transport.clients import FAILURES, cache_unavailable, registry
from blobcache.transport.guarded import guard
from blobcache.transport.sentinel import PrimaryWatch, limit_sentinels

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from blobcache.transport.packing import Reply
    from blobcache.transport.shapes import Expected

__all__ = ["MAX_BYTES", "MAX_REQUESTS", "Multiplexer", "multiplexer_of", "once"]

MAX_REQUESTS = 8192
"""Requests of one event loop that one server has not answered yet; other callers wait."""

MAX_BYTES = 8 * 1024 * 1024
"""Bytes of these requests, after which other callers wait."""

_MAX_SERVERS = 128
"""Servers to which an event loop has connections: nodes of clusters come and go."""


class _Opened(NamedTuple):
    """A connection that redis-py has opened."""

    connection: Any
    socket: Any
    timeout: float | None
    primary: Any
    """Its address, if Sentinels named it."""


class Multiplexer:
    """Sends the requests of an event loop's callers to the server of a pool, all over one `Link`.

    All methods are called in the thread of that loop.
    """

    def __init__(self, pool: Any) -> None:
        guard(pool)
        limit_sentinels(pool)
        self._pool = pool
        self._watch = PrimaryWatch.of(pool)
        self._primary: Any = None
        self._link: Link | None = None
        self._is_connecting = self._is_closed = False
        self._opened: list[_Opened] = []
        """What a thread has opened for an event loop that may be closed before it gets it."""

        self._early: list[Request] = []
        """The requests that wait for a connection."""

        self._early_size = 0
        self._timeout: float | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._admitted = 0
        """Callers that have waited, and whose requests are about to begin."""

    def exchange(self, packed: bytes, expected: Expected) -> Awaitable[list[Reply]]:
        """Send packed commands once, and return the replies, an error in place of its reply.

        They follow each other without another caller's command between them. The awaitable raises
        `CacheUnavailable` if the replies do not come in time.
        """
        link = self._link
        if (
            link is not None
            and link.takes_requests
            and link.count < MAX_REQUESTS
            and link.size < MAX_BYTES
            and not self._waiting
            and not self._admitted
            and (self._watch is None or not self._watch.is_due)
        ):  # Usually: a future, since another coroutine would take some of a stat's time.
            return link.begin(packed, expected)
        return self._exchange_later(packed, expected)

    async def _exchange_later(self, packed: bytes, expected: Expected) -> list[Reply]:
        if self._watch is not None and self._watch.is_due:
            await self._look_for_primary(self._watch)
        if self._waiting or self._is_full:
            await self._wait_for_room()
        link = self._link
        if link is not None and link.takes_requests:
            return await link.begin(packed, expected)
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self._early.append(Request(packed, expected, future))
        self._early_size += len(packed)
        if not self._is_connecting:
            self._connect()
        return await future

    def retire(self) -> None:
        """Let the next call open a new connection; this one is closed when it has answered."""
        link, self._link = self._link, None
        if link is not None:
            link.end()

    def close(self) -> None:
        """Close the connection when it has answered, or when it is open and has done so."""
        self._is_closed = True
        self.retire()

    def discard(self) -> None:
        """Close the connection of an event loop that is closed or gone."""
        link, self._link = self._link, None
        self._early = []
        while self._opened:
            _disconnect(self._opened.pop())
        if link is not None:
            link.discard()

    # Connecting

    def _connect(self) -> None:
        self._is_connecting = True
        try:
            opening = in_thread(self._open, _disconnect)
        except RuntimeError:  # no thread could be started
            self._fail_early(RedisConnectionError("No thread could be started to connect."))
        else:
            opening.add_done_callback(self._connected)

    def _open(self) -> _Opened:
        opened = _open(self._pool)
        self._opened.append(opened)
        return opened

    def _connected(self, opening: asyncio.Future[_Opened]) -> None:
        if opening.cancelled():
            self._fail_early(RedisConnectionError("Connecting was cancelled."))
            return
        error = opening.exception()
        if error is not None:
            cause = error if isinstance(error, FAILURES) else RedisConnectionError(repr(error))
            self._fail_early(cause)
            return
        opened = opening.result()
        self._opened.clear()
        self._is_connecting = False
        self._timeout, self._primary = opened.timeout, opened.primary
        try:
            link = Link(opened.connection, opened.socket, opened.timeout, self._admit)
        except (NotImplementedError, OSError, ValueError):  # the first by the loop of Windows
            _disconnect(opened)
            self._fail_early(RedisConnectionError("This event loop cannot watch a socket."))
            return
        self._link = link
        early, self._early, self._early_size = self._early, [], 0
        link.begin_all(early)
        if self._is_closed:
            self.retire()

    def _fail_early(self, error: Exception) -> None:
        self._is_connecting = False
        early, self._early, self._early_size = self._early, [], 0
        for request in early:
            request.fail(error)
        self._admit()

    async def _look_for_primary(self, watch: PrimaryWatch) -> None:
        """Ask the Sentinels; connect anew if they name another primary than before."""
        await in_thread(watch.look)
        primary = private.primary_of(self._pool)
        if self._primary is not None and primary is not None and primary != self._primary:
            self.retire()

    # Not too many at once

    @property
    def _is_full(self) -> bool:
        link = self._link
        count, size = len(self._early) + self._admitted, self._early_size
        if link is not None:
            count, size = count + link.count, size + link.size
        return count >= MAX_REQUESTS or size >= MAX_BYTES

    async def _wait_for_room(self) -> None:
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(room)
        try:
            async with asyncio.timeout(self._timeout):
                await room
        except BaseException as error:
            if room.done() and not room.cancelled():  # another one may have its place
                self._admitted -= 1
                self._admit()
            if isinstance(error, TimeoutError):
                raise cache_unavailable(RedisTimeoutError("Too many calls.")) from error
            raise
        self._admitted -= 1

    def _admit(self) -> None:
        """Let the callers that have waited longest send their requests, if there is room."""
        while self._waiting and not self._is_full:
            room = self._waiting.popleft()
            if not room.done():
                self._admitted += 1
                room.set_result(None)


def _open(pool: Any) -> _Opened:
    options = private.listening_options(pool)
    connection = pool.connection_class(**options, retry=Retry(NoBackoff(), 0))
    try:
        connection.connect()
        sock = private.socket_of(connection)
        timeout = sock.gettimeout()
        sock.settimeout(0)
    except BaseException:
        connection.disconnect()
        raise
    return _Opened(connection, sock, timeout, private.primary_of(pool))


def _disconnect(opened: _Opened) -> None:
    opened.connection.disconnect()


# Event loops


class _LoopState:
    """The multiplexers of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = ref(loop)
        self.version = registry.version
        self.by_pool: dict[Any, Multiplexer] = {}
        self.running: dict[Hashable, asyncio.Future[None]] = {}
        """What threads do for several callers."""


class _States(WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState]):
    """The states of all event loops."""

    latest: _LoopState | None = None
    """That of the event loop that has asked last. Usually there is only one, and to find it here
    takes a fifth of the time."""


_states = _States()
_changing = Lock()


def multiplexer_of(pool: Any) -> Multiplexer:
    """Return the multiplexer of the running event loop for the server of a pool."""
    loop, state = asyncio.get_running_loop(), _states.latest
    if state is None or state.loop() is not loop:
        state = _states.latest = _states.get(loop)
    if state is None or state.version != registry.version:
        state = _states.latest = _begin(loop)
    known = state.by_pool.get(pool)
    if known is None:
        if len(state.by_pool) >= _MAX_SERVERS:
            _close_all(state)
        known = state.by_pool[pool] = Multiplexer(pool)
    return known


def once(key: Hashable, call: Callable[[], None]) -> asyncio.Future[None]:
    """Run the call in a thread, unless the event loop waits for one with that key already.

    A caller that is cancelled must not cancel it for the others: `asyncio.wait` does not.
    """
    loop = asyncio.get_running_loop()
    state = _states.get(loop) or _begin(loop)
    running = state.running.get(key)
    if running is None:
        running = state.running[key] = in_thread(call)

        def forget(done: asyncio.Future[None]) -> None:
            state.running.pop(key, None)
            if not done.cancelled():
                done.exception()  # else asyncio would report that nobody asked for it

        running.add_done_callback(forget)
    return running


def _begin(loop: asyncio.AbstractEventLoop) -> _LoopState:
    """Return a new state for the loop, and close the connections of loops that are closed."""
    with _changing:
        before = _states.pop(loop, None)
        closed = [each for each in list(_states) if each.is_closed()]
        gone = [state for each in closed if (state := _states.pop(each, None)) is not None]
        state = _states[loop] = _LoopState(loop)
    finalize(loop, _discard_all, state).atexit = False
    for each in gone:
        _discard_all(each)
    if before is not None:
        _close_all(before)
    return state


def _discard_all(state: _LoopState) -> None:
    """Close the connections of an event loop that is closed or gone."""
    multiplexers, state.by_pool = state.by_pool, {}
    for multiplexer in multiplexers.values():
        multiplexer.discard()


def _close_all(state: _LoopState) -> None:
    multiplexers, state.by_pool = state.by_pool, {}
    for multiplexer in multiplexers.values():
        multiplexer.close()


_of_parents: list[object] = []
"""What event loops of the parents of this process have, which must stay as it is."""


def _begin_anew_in_child() -> None:
    """After a fork: leave the parent's sockets and event loops alone, and use none of them."""
    global _states, _changing
    _of_parents.append(_states)
    _states, _changing = _States(), Lock()


os.register_at_fork(after_in_child=_begin_anew_in_child)
