"""Packed commands sent at once, over a connection of redis-py's own pool.

A pipeline of redis-py spends more time on a call than Redis does. This is the fast path for the
plain `redis.Redis` client; other clients use a pipeline (see `can_exchange`). The pool hands out
the connection, with its limits, health checks, greeting, TLS and Sentinel; some threads hold theirs
between calls; the connection's own retry policy decides about another attempt. Whatever goes wrong,
the connection is closed before it is given back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from blobcache.transport import private
from blobcache.transport.guarded import GuardedSocket, limit
from blobcache.transport.shapes import check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.transport.held import Connections
    from blobcache.transport.shapes import Expected

__all__ = [
    "CLOSED",
    "can_exchange",
    "exchange",
    "exchange_watched",
    "is_from_replica",
    "read_reply",
    "require_same_socket",
]

CLOSED = (AttributeError, TypeError, ValueError)
"""What redis-py and the socket raise if another thread closes a connection that is in use."""


def can_exchange(client: Any) -> bool:
    """Whether the client is redis-py's plain one, with neither a cache nor a connection of its own.

    A cache keeps account of every command, and a connection of its own is behind a lock.
    """
    return private.CAN_EXCHANGE and type(client) is Redis and private.uses_pool_alone(client)


def exchange(
    connections: Connections, packed: bytes, expected: Expected, *, repeatable: bool
) -> list[Any]:
    """Send packed commands and return the `expected` replies, an error in place of its reply.

    One round trip. Raises redis-py's errors if the replies do not arrive, or others. Commands
    that are not `repeatable` are sent once, whatever the retry policy says: retrying a write would
    report `created` wrongly.
    """
    connection = connections.take()
    try:
        try:
            replies = _attempt(connection, packed, expected.count)
        except Exception as error:
            if not repeatable:
                raise
            replies = _retry(connection, packed, expected.count, error)
        check(replies, expected)
    except BaseException:
        connections.drop(connection)
        raise
    if not repeatable and is_from_replica(replies):
        connections.drop(connection)
    else:
        connections.keep(connection)
    return replies


def is_from_replica(replies: Sequence[Any]) -> bool:
    """Whether a server refused a write because it is a replica.

    Then the connection must be closed: by now the same address may lead to the new primary.
    """
    return ReadOnlyError in map(type, replies)


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
    connection = connections.take()
    try:
        try:
            replies = _attempt(connection, packed, count)
        except Exception as error:  # noqa: BLE001 - the connection's policy decides
            replies = _retry(connection, packed, count, error)
        sock = private.socket_of(connection)
        packed, count = decide(replies)
        require_same_socket(connection, sock)
        limit(connection, together=True)
        sock.sendall(packed)
        replies = [read_reply(connection) for _ in range(count)]
        limit(connection, together=False)
    except BaseException:
        connections.drop(connection)
        raise
    if is_from_replica(replies):
        connections.drop(connection)
    else:
        connections.keep(connection)
    return replies


def require_same_socket(connection: Any, sock: Any) -> None:
    """Raise redis-py's error if the connection has been closed, and maybe opened again."""
    if sock is None or sock is not private.socket_of(connection):
        raise RedisConnectionError("The connection was closed.")


def _attempt(connection: Any, packed: bytes, count: int) -> list[Any]:
    """Send and receive once. Replies are never decoded.

    This does what redis-py's own methods do, without the 3 us and more that those take.
    """
    parser, sock = private.parser_and_socket(connection)
    try:
        if sock is None or connection.health_check_interval:
            connection.connect()
            connection.check_health()
            parser, sock = private.parser_and_socket(connection)
        if type(parser) is not private.HiredisParser or type(sock) is not GuardedSocket:
            limit(connection, together=True)
            connection.send_packed_command((packed,))
            replies = [read_reply(connection) for _ in range(count)]
            limit(connection, together=False)
            return replies
        sock.begin_with(packed)
        replies = _receive(connection, sock, parser, count)
        sock.finish()
    except TimeoutError as error:
        raise RedisTimeoutError("Timeout at the socket.") from error
    except (OSError, *CLOSED) as error:
        raise RedisConnectionError(f"Error at the socket: {error}.") from error
    return replies


def _receive(connection: Any, sock: Any, parser: Any, count: int) -> list[Any]:
    """Return the replies. A push message that comes between them goes to its handler."""
    reader, buffer = private.reader_and_buffer(parser)
    incomplete, push = private.NOT_ENOUGH_DATA, private.PushNotification
    if reader is None:
        raise RedisConnectionError("The connection was closed by another thread.")
    replies: list[Any] = []
    while count:
        reply = reader.gets(False)  # noqa: FBT003 - positional in hiredis
        if reply is incomplete:
            received = sock.recv_into(buffer)
            # If another thread closed an encrypted socket, its data is not even decrypted.
            if not received or private.socket_of(connection) is not sock:
                raise RedisConnectionError("The connection was closed.")
            reader.feed(buffer, 0, received)
        elif type(reply) is push:
            parser.handle_push_response(reply)
        else:
            replies.append(reply)
            count -= 1
    return replies


def _retry(connection: Any, packed: bytes, count: int, error: Exception) -> list[Any]:
    """Retry as the connection's policy says; `error` is what the first attempt raised."""
    errors = [error]

    def attempt() -> list[Any]:
        if errors:
            raise errors.pop()
        return _attempt(connection, packed, count)

    def disconnect(_: Exception) -> None:
        connection.disconnect()

    replies: list[Any] = connection.retry.call_with_retry(attempt, disconnect)
    return replies


def read_reply(connection: Any) -> Any:
    """Return the next reply, which may be an error; it is never decoded."""
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
