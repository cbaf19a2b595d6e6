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

from blobcache.redis.internals import NOT_ENOUGH_DATA, HiredisParser

if TYPE_CHECKING:
    from blobcache.redis.held import Connections

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
    parser = connection._parser  # noqa: SLF001
    if type(parser) is not HiredisParser:
        connection.send_packed_command((packed,))
        return [_read_one(connection) for _ in range(count)]
    if connection.health_check_interval:
        connection.check_health()
    sock, reader, buffer = connection._sock, parser._reader, parser._buffer  # noqa: SLF001
    push = getattr(parser, "_hiredis_PushNotificationType", None)
    if sock is None or reader is None:
        raise RedisConnectionError("The connection was closed by another thread.")
    replies: list[Any] = []
    try:
        sock.sendall(packed)
        while count:
            reply = reader.gets(False)  # noqa: FBT003 - positional in hiredis
            if reply is NOT_ENOUGH_DATA:
                received = sock.recv_into(buffer)
                if not received:
                    raise RedisConnectionError("The connection was closed by the server.")
                reader.feed(buffer, 0, received)
            elif type(reply) is push:
                parser.handle_push_response(reply)
            else:
                replies.append(reply)
                count -= 1
    except (TimeoutError, BlockingIOError) as error:  # Python's, and the kernel's
        raise RedisTimeoutError("Timeout at the socket.") from error
    except OSError as error:
        raise RedisConnectionError(f"Error at the socket: {error}.") from error
    return replies


def _retry(connection: Any, packed: bytes, count: int, error: Exception) -> list[Any]:
    """Do as the connection's retry policy says, for which `error` came of the first attempt."""
    errors = [error]

    def attempt() -> list[Any]:
        if errors:
            raise errors.pop()
        connection.connect()
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
