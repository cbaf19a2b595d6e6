"""Connections that threads hold between calls.

Taking a connection from redis-py's pool and returning it takes a fifth of the time of a call. So
some threads hold their connection between calls, as Django does with database connections. Each
call checks, as the pool does, whether the connection is still usable. A connection that fails is
returned to the pool; so is a thread's connection when the thread ends.
"""

from __future__ import annotations

from contextlib import suppress
from os import getpid
from threading import local
from typing import TYPE_CHECKING, Any, NamedTuple

from redis import ConnectionPool
from redis.exceptions import RedisError

from blobcache.transport import private
from blobcache.transport.guarded import guard, limit, prepare
from blobcache.transport.sentinel import PrimaryWatch, limit_sentinels

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_HELD", "POOL_FRACTION", "Connections"]

MAX_HELD = 16
"""The maximum number of threads of a process that hold a connection."""

POOL_FRACTION = 4
"""One of this many connections of a pool may be held; all threads share the others."""


class Connections:
    """The connections of a pool, for one call after another.

    Connections of some pools are not held. In a Sentinel pool each call must check that the server
    is still the primary; a blocking pool has a queue of waiting threads; and a credential provider
    may have new credentials for the next call. A forked process starts without held connections,
    because it must not use those of its parent.
    """

    __slots__ = ("_free_slots", "_own", "_pid", "_pool", "_primary", "_slot_count")

    def __init__(self, pool: Any, *, hold: bool) -> None:
        self._pool = pool
        self._primary = PrimaryWatch.of(pool)
        guard(pool)
        limit_sentinels(pool)
        self._slot_count = 0
        if hold and private.CAN_HOLD and type(pool) is ConnectionPool:
            options = private.connection_options(pool)
            if options is not None and options.get("credential_provider") is None:
                limit = private.connection_limit(pool)
                self._slot_count = min(MAX_HELD, limit // POOL_FRACTION)
        self._begin()

    def _begin(self) -> None:
        self._own = _ThreadLocal()
        # One for each further thread that may hold a connection. pop and append need no lock.
        self._free_slots = [None] * self._slot_count
        self._pid = getpid()

    @property
    def may_be_held(self) -> bool:
        """Whether threads hold some of them."""
        return self._slot_count > 0

    @property
    def held(self) -> Any:
        """The connection that this thread holds; None if it holds none."""
        slot = self._own.slot
        return None if slot is None else slot.connection

    def take(self) -> Any:
        """Return a connection that is ready. Raises the pool's error if it has none."""
        if self._pid != getpid():  # this process is a fork
            self._begin()
        slot = self._own.slot
        if slot is not None:
            # Detach it first, so that a re-entrant signal handler cannot use the same connection.
            connection, slot.connection = slot.connection, None
            if connection is not None:
                try:
                    if slot.is_ready(connection):
                        return connection
                except BaseException:  # such as a time limit's, from a signal handler
                    self.drop(connection)
                    raise
                self.drop(connection)
        if self._primary is not None:
            self._primary.look()
        connection = self._pool.get_connection()
        try:
            prepare(self._pool, connection)
        except BaseException:
            self.drop(connection)
            raise
        return connection

    def keep(self, connection: Any) -> None:
        """Take back a connection whose call has succeeded."""
        slot = self._own.slot
        if slot is None and self._free_slots:
            with suppress(IndexError):
                self._free_slots.pop()
                slot = self._own.slot = _Slot(self._pool, self._free_slots)
        if slot is None:
            self._pool.release(connection)
        elif slot.connection is None:
            slot.connection = connection
        else:
            self._pool.release(connection)

    def drop(self, connection: Any) -> None:
        """Close a connection after an error, and take it back."""
        connection.disconnect()
        limit(connection, together=False)
        self._pool.release(connection)

    def release_held(self) -> None:
        """Give the pool what this thread holds, for a call that asks the pool itself."""
        slot = self._own.slot
        if slot is None or self._pid != getpid():
            return
        connection, slot.connection = slot.connection, None
        if connection is not None:
            self._pool.release(connection)


class _Slot:
    """Keeps a thread's connection between calls, until the thread ends."""

    __slots__ = ("_free_slots", "_pid", "_pool", "_watched", "connection")

    def __init__(self, pool: ConnectionPool, free_slots: list[None]) -> None:
        self._pool = pool
        self._free_slots = free_slots
        self._pid = getpid()
        self._watched = _NOTHING
        self.connection: Any = None

    def is_ready(self, connection: Any) -> bool:
        """Whether the held connection is open and has no unread data."""
        sock = private.socket_of(connection)
        if sock is None:
            return False  # else can_read() would connect, and if that fails the pool once more
        try:
            watched = self._watched
            if watched.socket is sock:
                # What can_read() does below, at a third of its cost.
                return not (watched.has_data() or watched.poll(0) or watched.must_reconnect())
            if connection.can_read() or private.reconnect_check(connection)():
                return False
            self._watched = _Watched.of(connection)
        except (RedisError, OSError, AttributeError, TypeError, ValueError):
            # The last three are raised if another thread closes the connection at that moment.
            return False
        return True

    def __del__(self) -> None:
        if self._pid != getpid():
            # After a fork the parent's thread may hold the pool's lock: do not touch the pool.
            return
        self._free_slots.append(None)
        if self.connection is not None:
            with suppress(Exception):  # whatever is left of the pool as the process ends
                self._pool.release(self.connection)


class _Watched(NamedTuple):
    """The socket of a held connection, and the functions that show whether it is ready."""

    socket: Any
    has_data: Callable[[], bool]
    poll: Callable[[int], object]
    must_reconnect: Callable[[], bool]

    @classmethod
    def of(cls, connection: Any) -> _Watched:
        """Return it for a connection; `_NOTHING` if only redis-py can check it, as with TLS."""
        parser, sock = private.parser_and_socket(connection)
        poll = getattr(sock, "poll", None)
        if type(parser) is not private.HiredisParser or poll is None:
            return _NOTHING
        reader, _ = private.reader_and_buffer(parser)
        return cls(sock, reader.has_data, poll, private.reconnect_check(connection))


_NOTHING = _Watched(None, bool, bool, bool)


class _ThreadLocal(local):
    """The slot of this thread; None if it has none."""

    slot: _Slot | None = None
