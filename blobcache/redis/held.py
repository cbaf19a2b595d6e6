"""Connections that threads hold from call to call.

To take a connection from redis-py's pool and to give it back is a fifth of what a call costs. So
some threads hold theirs, as they do those to Django's databases. Each call finds out, as the pool
does, whether the connection is still good; what fails is given back, and so is what a thread holds
when it ends. While it is held, its timeouts are the kernel's where they can be.
"""

from __future__ import annotations

import select
from contextlib import suppress
from threading import local
from typing import Any

from redis import ConnectionPool
from redis.exceptions import RedisError

from blobcache.redis.forks import Mark, mark
from blobcache.redis.internals import HiredisParser
from blobcache.redis.sockets import let_kernel_time, let_python_time

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

    __slots__ = (
        "_is_ours",
        "_poll",
        "_pool",
        "_should_reconnect",
        "_socket",
        "_vacancies",
        "connection",
    )

    def __init__(self, pool: ConnectionPool, vacancies: list[None], is_ours: Mark) -> None:
        self._pool = pool
        self._vacancies = vacancies
        self._is_ours = is_ours
        self._socket: Any = None
        self._poll: Any = None
        self._should_reconnect: Any = None
        self.connection: Any = None

    def is_ready(self, connection: Any) -> bool:
        """Whether the connection, which was here, is open and has nothing to read."""
        sock, parser = connection._sock, connection._parser  # noqa: SLF001
        if sock is None:
            return False  # else can_read() would connect, and if that fails the pool once more
        if sock is self._socket and sock.gettimeout() is None:
            # What can_read() looks at, at less cost.
            reader = parser._reader  # noqa: SLF001 - hiredis's; none if somebody just closed it
            return reader is not None and not (
                reader.has_data() or self._poll(0) or self._should_reconnect()
            )
        should_reconnect = getattr(connection, "should_reconnect", _no)  # since redis-py 7
        try:
            if connection.can_read() or should_reconnect():
                return False
            usual = connection.socket_timeout
            if type(parser) is HiredisParser and let_kernel_time(sock, usual):
                looks = select.poll()
                looks.register(sock, select.POLLIN)
                self._socket, self._poll = sock, looks.poll
                self._should_reconnect = should_reconnect
        except (RedisError, OSError, ValueError):  # the last of a socket that somebody just closed
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


def _no() -> bool:
    return False


def _give_back(pool: Any, connection: Any) -> None:
    """Give the pool a connection, as the pool knows it."""
    sock = connection._sock  # noqa: SLF001 - as above
    if sock is not None:
        with suppress(OSError):  # closed by somebody else
            let_python_time(sock, connection.socket_timeout)
    pool.release(connection)


class _Own(local):
    """What is a thread's own."""

    place: _Place | None = None
