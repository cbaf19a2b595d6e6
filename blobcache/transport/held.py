"""Connections that threads hold from call to call.

To take a connection from redis-py's pool and to give it back is a fifth of what a call costs. So
some threads hold theirs, as they do those to Django's databases. Each call finds out, as the pool
does, whether the connection is still good; what fails is given back, and so is what a thread holds
when it ends. While it is held, its timeouts are the kernel's where they can be.
"""

from __future__ import annotations

import select
from contextlib import suppress
from threading import get_ident, local, main_thread
from typing import Any, Self

from redis import ConnectionPool
from redis.exceptions import RedisError

from blobcache.transport.forks import Mark, mark
from blobcache.transport.private import HiredisParser
from blobcache.transport.sockets import let_kernel_time, let_python_time

__all__ = ["Connections"]

MOST = 16
"""Threads of a process that hold a connection."""

SHARE = 4
"""A pool's connections, for each of which one may be held; the rest is for everybody."""


class Connections:
    """The connections of a pool, for one call after another.

    Some pools get each back after its call: those of another class than redis-py's plain one, for
    Sentinel must see whether it is still the primary's, and before one that blocks there is a
    queue; and those with a credential provider, which may have new credentials by then. A forked
    process, which must not use what its parent holds, begins with nothing.
    """

    __slots__ = ("_is_ours", "_own", "_places", "_pool", "_vacancies")

    def __init__(self, pool: Any, *, hold: bool) -> None:
        self._pool = pool
        self._places = 0
        if (
            hold
            and type(pool) is ConnectionPool
            and pool.connection_kwargs.get("credential_provider") is None
        ):
            self._places = min(MOST, pool.max_connections // SHARE)
        self._begin()

    def _begin(self) -> None:
        self._own = _Own()
        # One for each thread that may hold yet one. To pop and to append needs no lock.
        self._vacancies = [None] * self._places
        self._is_ours = mark()

    @property
    def may_be_held(self) -> bool:
        """Whether threads hold some of them."""
        return self._places > 0

    def take(self) -> Any:
        """Return a connection that is ready. Raises what keeps the pool from giving one."""
        if not self._is_ours[0]:  # but a parent's
            self._begin()
        place = self._own.place
        if place is not None:
            # Meanwhile it is nobody's, not even a signal handler's in this thread.
            connection, place.connection = place.connection, None
            if connection is not None:
                try:
                    if place.is_ready(connection):
                        return connection
                except BaseException:  # such as a time limit's, from a signal handler
                    self.drop(connection)
                    raise
                self.drop(connection)
        return self._pool.get_connection()

    def keep(self, connection: Any) -> None:
        """Take back a connection that has done what it was taken for."""
        place = self._own.place
        if place is None and self._vacancies:
            with suppress(IndexError):
                self._vacancies.pop()
                place = self._own.place = _Place(self._pool, self._vacancies, self._is_ours)
        if place is None:
            self._pool.release(connection)
        elif place.connection is None:
            place.connection = connection
        else:
            _give_back(self._pool, connection)

    def drop(self, connection: Any) -> None:
        """Close a connection on which something went wrong, and take it back."""
        connection.disconnect()
        self._pool.release(connection)

    def rest(self) -> None:
        """Give the pool what this thread holds, for a call that asks the pool itself."""
        place = self._own.place
        if place is not None and place.connection is not None and self._is_ours[0]:
            connection, place.connection = place.connection, None
            _give_back(self._pool, connection)


class _Place:
    """Where a thread's connection waits for its next call; goes when the thread does."""

    __slots__ = ("_is_ours", "_may_be_timed", "_pool", "_timed", "_vacancies", "connection")

    def __init__(self, pool: ConnectionPool, vacancies: list[None], is_ours: Mark) -> None:
        self._pool = pool
        self._vacancies = vacancies
        self._is_ours = is_ours
        self._may_be_timed = get_ident() != main_thread().ident
        self._timed: _Timed | None = None
        self.connection: Any = None

    def is_ready(self, connection: Any) -> bool:
        """Whether the connection, which was here, is open and has nothing to read."""
        sock = connection._sock  # noqa: SLF001 - redis-py 6 has no is_connected
        if sock is None:
            return False  # else can_read() would connect, and if that fails the pool once more
        try:
            timed = self._timed
            if timed is not None and timed.socket is sock and sock.gettimeout() is None:
                return timed.is_ready()
            if connection.can_read() or _should_reconnect(connection):
                return False
            if self._may_be_timed:
                self._timed = _Timed.of(connection)
        except (RedisError, OSError, AttributeError, TypeError, ValueError):
            # The last three come where another thread closes the connection at that moment.
            return False
        return True

    def __del__(self) -> None:
        if not self._is_ours[0]:
            # A thread of the parent's: it may have had the pool's lock, and the pool begins anew.
            return
        self._vacancies.append(None)
        if self.connection is not None:
            with suppress(Exception):  # whatever is left of the pool as the process ends
                _give_back(self._pool, self.connection)


class _Timed:
    """A held connection whose timeout the kernel keeps."""

    __slots__ = ("_poll", "_reader", "_should_reconnect", "socket")

    def __init__(self, connection: Any) -> None:
        self.socket = connection._sock  # noqa: SLF001 - as above
        self._reader = connection._parser._reader  # noqa: SLF001 - known to be hiredis's
        self._should_reconnect = getattr(connection, "should_reconnect", _no)
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        self._poll = poll.poll

    @classmethod
    def of(cls, connection: Any) -> Self | None:
        """Leave the connection's timeout to the kernel, if that can be."""
        if (
            type(connection._parser) is not HiredisParser  # noqa: SLF001 - as above
            or connection.health_check_interval  # which redis-py makes by Python's time
            or not let_kernel_time(connection._sock, _usual_timeout(connection))  # noqa: SLF001
        ):
            return None
        return cls(connection)

    def is_ready(self) -> bool:
        """What `can_read` and `_should_reconnect` look at, at less cost."""
        return not (self._reader.has_data() or self._poll(0) or self._should_reconnect())


def _no() -> bool:
    return False


def _should_reconnect(connection: Any) -> bool:
    """Whether the connection is about to be moved to another server."""
    return bool(getattr(connection, "should_reconnect", _no)())  # since redis-py 7


def _usual_timeout(connection: Any) -> float | None:
    """The connection's timeout, but for the time that its server is maintained."""
    usual: float | None = getattr(connection, "orig_socket_timeout", connection.socket_timeout)
    return usual


def _give_back(pool: Any, connection: Any) -> None:
    """Give the pool a connection, as the pool knows it."""
    sock = connection._sock  # noqa: SLF001 - as above
    if sock is not None:
        with suppress(OSError):  # closed by somebody else
            let_python_time(sock, _usual_timeout(connection))
    pool.release(connection)


class _Own(local):
    """What is a thread's own."""

    place: _Place | None = None
