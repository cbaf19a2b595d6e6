"""Packed commands over the connections of redis-py's pools, through public methods alone.

The pool hands out a connection, with its limits, greeting, TLS, health checks and Sentinels. Packed
commands go out by `send_packed_command`, replies come in by `read_response`. Some connections are
kept between calls, since taking one from the pool takes a fifth of a call's time.

Three rules keep a reply from reaching another call, whatever is raised in between:

* A call that does not end with its last reply closes its connection.
* A kept connection with unread data is not used.
* If taking a connection from the pool is interrupted, all idle connections of the pool are closed.
"""

from __future__ import annotations

from os import getpid
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any

from redis import BlockingConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from blobcache.transport.shapes import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobcache.transport.shapes import Expected

__all__ = [
    "ASK_SECONDS",
    "CLOSED",
    "MAX_KEPT",
    "POOL_FRACTION",
    "SILENT_SECONDS",
    "Connections",
    "Deadline",
    "NoReconnect",
    "exchange",
    "exchange_watched",
    "read_reply",
]

CLOSED = (AttributeError, TypeError, ValueError)
"""What redis-py and the socket raise if another thread closes a connection that is in use."""

MAX_KEPT = 16
"""The maximum number of connections of a pool that are kept between calls."""

POOL_FRACTION = 4
"""One of this many connections of a pool may be kept; the others are for all users of the pool."""

ASK_SECONDS = 1.0
"""Seconds after which a process asks its Sentinels again which server is the primary."""

SILENT_SECONDS = 30.0
"""The same if no Sentinel answers: then a call waits for the timeout each time."""


class Connections:
    """The connections of a pool, for one call after another. Threads share it.

    Connections of some pools are not kept. In a Sentinel pool each call must check that the server
    is still the primary; a blocking pool has a queue of waiting threads; and a credential provider
    may have new credentials for the next call. A forked process starts without kept connections,
    because it must not use those of its parent.
    """

    __slots__ = (
        "_is_primary",
        "_kept",
        "_maximum",
        "_may_have_lost",
        "_next_look",
        "_pid",
        "_pool",
    )

    def __init__(self, pool: Any, *, keep: bool) -> None:
        self._pool = pool
        if isinstance(pool, SentinelConnectionPool | BlockingConnectionPool):
            keep = False
        if pool.connection_kwargs.get("credential_provider") is not None:
            keep = False
        self._maximum = min(MAX_KEPT, pool.max_connections // POOL_FRACTION) if keep else 0
        self._kept: list[Any] = []
        self._pid = getpid()
        self._may_have_lost = False
        """Whether the pool may count connections that nobody has, after an interruption."""

        self._is_primary = isinstance(pool, SentinelConnectionPool) and pool.is_master
        self._next_look = 0.0
        _ask_sentinels_once(pool)

    def take(self) -> Any:
        """Return a connection that is ready. Raises the pool's error if it has none."""
        if self._pid != getpid():  # this process is a fork
            self._kept, self._pid = [], getpid()
        connection = None
        try:
            while (connection := self._take_kept()) is not None:
                if _is_ready(connection):
                    return connection
                self.drop(connection)
            if self._is_primary:
                self._look_for_primary()
            connection = self._take_from_pool()
            if connection.can_read():
                # Nothing was asked yet: what is there belongs to an interrupted greeting.
                connection.disconnect()
                connection.connect()
        except BaseException:
            if connection is not None:
                self.drop(connection)
            raise
        return connection

    def note(self, error: BaseException) -> None:
        """Note what a call raised: after an interruption the pool may have lost a connection."""
        if not isinstance(error, RedisError):
            self._may_have_lost = True

    def _take_kept(self) -> Any:
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def _take_from_pool(self) -> Any:
        try:
            return self._pool.get_connection()
        except RedisError as error:
            if not (self._may_have_lost and _is_exhausted(error)):
                raise
            self._may_have_lost = False
            self._pool.reset()
            return self._pool.get_connection()
        except BaseException:
            # The pool may have put a connection back whose greeting was interrupted.
            self._pool.disconnect(inuse_connections=False)
            raise

    def give_back(self, connection: Any) -> None:
        """Take back a connection whose call has succeeded."""
        if len(self._kept) < self._maximum:
            self._kept.append(connection)
        else:
            self._pool.release(connection)

    def drop(self, connection: Any) -> None:
        """Close a connection after an error, and take it back."""
        try:
            connection.disconnect()
        finally:
            self._pool.release(connection)

    def _look_for_primary(self) -> None:
        """Ask the Sentinels once a second which server is the primary. Raises nothing of theirs.

        redis-py asks only when it opens a connection. After a partition, or a failover that
        somebody asked for, a former primary keeps its clients until the Sentinels make it a
        replica, some ten seconds later; the writes that it confirms until then are lost. If the
        answer is new, redis-py closes the idle connections, and the others when they come back.
        """
        now = monotonic()
        if now < self._next_look:
            return
        self._next_look = now + ASK_SECONDS  # first, so that other threads do not ask too
        try:
            self._pool.get_master_address()
        except (RedisError, OSError):
            self._next_look = now + SILENT_SECONDS


def _is_ready(connection: Any) -> bool:
    """Whether a kept connection is open, has no unread data, and need not be opened again."""
    try:
        # A later version of redis-py may have been told that the server moves.
        must_reconnect = getattr(connection, "should_reconnect", bool)
        return not (connection.can_read() or must_reconnect())
    except (RedisError, OSError, *CLOSED):
        return False


def _is_exhausted(error: RedisError) -> bool:
    """Whether a pool says that all its connections are in use."""
    return isinstance(error, MaxConnectionsError) or isinstance(error.__context__, Empty)


def _ask_sentinels_once(pool: Any) -> None:
    """Let a pool ask each of its Sentinels once, unless ``SENTINEL_KWARGS`` has a ``retry``.

    By itself, redis-py would wait for a silent one four times, with pauses of seconds, before it
    asks the next one.
    """
    if isinstance(pool, SentinelConnectionPool):
        manager = pool.sentinel_manager
        if "retry" not in manager.sentinel_kwargs:
            for sentinel in manager.sentinels:
                sentinel.set_retry(Retry(NoBackoff(), 0))


class Deadline:
    """The end of the time that all replies of a call may take together.

    It is the connection's ``socket_timeout``, which is also the limit of each single wait. A server
    that sends one byte after another within one reply is not stopped by it.
    """

    __slots__ = ("_until",)

    def __init__(self, connection: Any) -> None:
        seconds = getattr(connection, "socket_timeout", None)
        self._until = None if seconds is None else monotonic() + seconds

    def check(self) -> None:
        """Raise redis-py's `TimeoutError` if the time is over."""
        if self._until is not None and monotonic() > self._until:
            raise RedisTimeoutError("The replies took too long.")


def exchange(
    connections: Connections, packed: bytes, expected: Expected, *, repeatable: bool
) -> list[Any]:
    """Send packed commands and return the `expected` replies, an error in place of its reply.

    One round trip. Raises redis-py's errors if the replies do not arrive, or others. Commands that
    are not `repeatable` are sent once, whatever the retry policy says: retrying a write would
    report `created` wrongly.
    """

    def use(connection: Any) -> list[Any]:
        replies = _attempt(connection, packed, expected.count, repeatable=repeatable)
        check(replies, expected)
        return replies

    return _borrow(connections, use)


def exchange_watched(
    connections: Connections,
    packed: bytes,
    count: int,
    decide: Callable[[list[Any]], tuple[bytes, int]],
) -> list[Any]:
    """Exchange commands that begin with WATCH, then those that `decide` makes of their replies.

    Two round trips, both on one connection, which nobody else uses meanwhile. The second commands
    must end the watch. They are sent once, and only on the connection that watches.
    """

    def use(connection: Any) -> list[Any]:
        replies = _attempt(connection, packed, count, repeatable=True)
        watch = NoReconnect(connection)
        try:
            return _send_and_read(connection, *decide(replies))
        finally:
            watch.end()

    return _borrow(connections, use)


def _borrow(connections: Connections, use: Callable[[Any], list[Any]]) -> list[Any]:
    """Return the replies that `use` gets over a connection, which nobody else has meanwhile."""
    connection = None
    try:  # one block for all: the begin of an inner one is part of none (CPython 3.11)
        connection = connections.take()
        replies = use(connection)
        if ReadOnlyError in map(type, replies):
            # The server is a replica. By now the same address may lead to the new primary.
            connection.disconnect()
        used, connection = connection, None  # from here on another call may have it
        connections.give_back(used)
    except BaseException as error:
        connections.note(error)
        if connection is not None:
            connections.drop(connection)
        raise
    return replies


class NoReconnect:
    """Keeps a connection from being opened again, as long as this object exists.

    redis-py keeps a weak reference to the callback. So one that an interruption has left behind
    ends with its call.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        connection.register_connect_callback(self._refuse)

    def _refuse(self, _: object) -> None:
        """Raise an error, before redis-py sends anything over the new connection."""
        raise RedisConnectionError("The connection was closed.")

    def end(self) -> None:
        """Let the connection be opened again."""
        self._connection.deregister_connect_callback(self._refuse)


def read_reply(connection: Any) -> Any:
    """Return the next reply, which may be an error; it is never decoded."""
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def _attempt(connection: Any, packed: bytes, count: int, *, repeatable: bool) -> list[Any]:
    if not repeatable:
        return _send_and_read(connection, packed, count)
    replies: list[Any] = connection.retry.call_with_retry(
        lambda: _send_and_read(connection, packed, count), lambda _: connection.disconnect()
    )
    return replies


def _send_and_read(connection: Any, packed: bytes, count: int) -> list[Any]:
    deadline = Deadline(connection)
    connection.send_packed_command((packed,))
    replies = [read_reply(connection)]
    for _ in range(count - 1):
        deadline.check()
        replies.append(read_reply(connection))
    return replies
