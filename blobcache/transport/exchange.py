"""Packed commands sent at once, on a connection of redis-py's own pool.

A pipeline of redis-py's spends more time on a call than Redis does. This is the short way, for its
plain client alone: the pool hands out the connection, with its limits, health checks, greeting, TLS
and Sentinel, and some threads hold theirs from call to call; the connection's own retry policy
decides about another attempt; whatever goes wrong, the connection is closed before it is given
back. `can_exchange` tells which clients it is for; every other one keeps its pipeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from blobcache.transport.private import NOT_ENOUGH_DATA, HiredisParser
from blobcache.transport.sockets import is_plain, let_python_time, send_at_once

if TYPE_CHECKING:
    from blobcache.transport.held import Connections

__all__ = ["can_exchange", "exchange"]


def can_exchange(client: Any) -> bool:
    """Whether the client is redis-py's plain one, with neither a cache nor a connection of its own.

    A cache keeps account of every command, and a connection of its own is behind a lock.
    """
    return (
        type(client) is Redis
        and client.connection is None
        and getattr(client.connection_pool, "cache", None) is None
    )


def exchange(connections: Connections, packed: bytes, count: int, *, repeatable: bool) -> list[Any]:
    """Send packed commands and return their `count` replies, an error in place of its reply.

    One round trip. Raises redis-py's errors for whatever keeps the replies from coming. What is not
    `repeatable` is sent once, whatever the retry policy says: a second time it would find what the
    first one did, and tell that instead.
    """
    connection = connections.take()
    try:
        try:
            replies = _attempt(connection, packed, count)
        except Exception as error:
            if not repeatable:
                raise
            replies = _retry(connection, packed, count, error)
    except BaseException:
        connections.drop(connection)
        raise
    connections.keep(connection)
    return replies


def _attempt(connection: Any, packed: bytes, count: int) -> list[Any]:
    """Send and receive once. Replies are never decoded.

    What redis-py's own methods do, by their own parts, without the 3 us and more that these take.
    """
    parser, sock = connection._parser, connection._sock  # noqa: SLF001
    if type(parser) is not HiredisParser:
        connection.send_packed_command((packed,))
        return [_read_one(connection) for _ in range(count)]
    try:
        if sock is None or connection.health_check_interval:
            connection.send_packed_command((packed,))  # which connects, and looks after its health
            sock = connection._sock  # noqa: SLF001
        else:
            _send(connection, sock, packed)
        return _receive(connection, sock, parser, count)
    except (TimeoutError, BlockingIOError) as error:  # Python's, and the kernel's
        raise RedisTimeoutError("Timeout at the socket.") from error
    except (OSError, ValueError) as error:  # the latter of an encrypted socket that was closed
        raise RedisConnectionError(f"Error at the socket: {error}.") from error


def _send(connection: Any, sock: Any, packed: bytes) -> None:
    """Send all of it within the timeout.

    What the kernel does not take at once is sent by Python's time, which holds for all of it: the
    kernel's would begin anew with each part.
    """
    sent = 0
    if sock.gettimeout() is None and is_plain(sock):
        sent = send_at_once(sock, packed)
        if sent == len(packed):
            return
        let_python_time(sock, connection.socket_timeout)
    sock.sendall(memoryview(packed)[sent:])


def _receive(connection: Any, sock: Any, parser: Any, count: int) -> list[Any]:
    """The replies. A push that comes between them goes to its handler."""
    reader, buffer = parser._reader, parser._buffer  # noqa: SLF001
    push = getattr(parser, "_hiredis_PushNotificationType", None)
    if reader is None:
        raise RedisConnectionError("The connection was closed by another thread.")
    replies: list[Any] = []
    while count:
        reply = reader.gets(False)  # noqa: FBT003 - positional in hiredis
        if reply is NOT_ENOUGH_DATA:
            received = sock.recv_into(buffer)
            # Of an encrypted socket that another thread closed, what comes is not even decrypted.
            if not received or connection._sock is not sock:  # noqa: SLF001
                raise RedisConnectionError("The connection was closed.")
            reader.feed(buffer, 0, received)
        elif type(reply) is push:
            parser.handle_push_response(reply)
        else:
            replies.append(reply)
            count -= 1
    return replies


def _retry(connection: Any, packed: bytes, count: int, error: Exception) -> list[Any]:
    """Do as the connection's retry policy says, for which `error` came of the first attempt."""
    errors = [error]

    def attempt() -> list[Any]:
        if errors:
            raise errors.pop()
        return _attempt(connection, packed, count)

    def disconnect(_: Exception) -> None:
        connection.disconnect()

    replies: list[Any] = connection.retry.call_with_retry(attempt, disconnect)
    return replies


def _read_one(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
