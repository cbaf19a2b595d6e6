"""Commands in a pipeline of redis-py, for the clients that `exchange` does not know.

Such a client may override how a command is sent, so all commands go through its own methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from blobcache.transport import private
from blobcache.transport.exchange import is_from_replica, require_same_socket
from blobcache.transport.guarded import limit
from blobcache.transport.shapes import check, expect, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.transport.held import Connections
    from blobcache.transport.packing import Command

__all__ = ["send_in_pipeline", "watch_in_pipeline"]

_ONCE = Retry(NoBackoff(), 0)


def send_in_pipeline(
    client: Any,
    commands: Sequence[Command],
    connections_of: Callable[[Any], Connections],
    *,
    repeatable: bool,
) -> list[Any]:
    """Send commands and return their replies, an error in place of its reply.

    One round trip. Raises redis-py's errors if the replies do not arrive. Commands that are not
    `repeatable` are sent once, whatever the retry policy says.
    """
    with client.pipeline(transaction=False) as pipe:
        pool = _LendingPool(pipe.connection_pool, connections_of, may_retry=repeatable)
        pipe.connection_pool = pool
        # A callback would try to parse a QUEUED.
        sends_names = private.disable_callbacks(pipe)
        for name, *operands in commands:
            word = name if sends_names else str(name).encode()
            pipe.execute_command(word, *operands, **private.raw_option())
        try:
            replies = pipe.execute(raise_on_error=False)
            check(replies, expect(map(shape_of, commands)))
        except BaseException:
            pool.take_back(is_clean=False)
            raise
        pool.take_back(is_clean=repeatable or not is_from_replica(replies))
    return private.encode_decoded(client, replies)


def watch_in_pipeline(
    client: Any,
    reads: Sequence[Command],
    decide: Callable[[list[Any]], Sequence[Command]],
    connections_of: Callable[[Any], Connections],
) -> list[Any]:
    """Send commands that begin with WATCH, then those that `decide` makes of their replies.

    One round trip for each command: a pipeline that watches sends them one by one. They must end
    the watch.
    """
    is_clean = False
    pipe = client.pipeline(transaction=False)
    pool = _LendingPool(pipe.connection_pool, connections_of, may_retry=False)
    pipe.connection_pool = pool
    sends_names = private.disable_callbacks(pipe)

    def ask(command: Command) -> Any:
        name, *operands = command
        # The pipeline knows a WATCH, and what ends it, by names that are text.
        word = name if sends_names or name in _WATCHING else str(name).encode()
        try:
            reply = pipe.execute_command(word, *operands, **private.raw_option())
        except ResponseError as error:
            return error
        return private.encode_decoded(client, [reply])[0]

    try:
        replies = [ask(command) for command in reads]
        sock = private.socket_of(pipe.connection)
        writes, replies = decide(replies), []
        for command in writes:
            if sock is not None:  # else this version of redis-py does not show it
                require_same_socket(pipe.connection, sock)
            replies.append(ask(command))
        is_clean = not is_from_replica(replies)
    finally:
        if not is_clean:
            pipe.watching = False  # else it would send an UNWATCH
        pipe.reset()
        pool.take_back(is_clean=is_clean)
    return replies


_WATCHING = {"WATCH", "UNWATCH", "EXEC"}


class _LendingPool:
    """Stands in for a pipeline's pool until its replies have been read.

    Unless it `may_retry`, it sends its commands once, whatever the retry policy says. A connection
    whose replies may not all be read is closed before the real pool gets it back.
    """

    def __init__(
        self, pool: Any, connections_of: Callable[[Any], Connections], *, may_retry: bool
    ) -> None:
        self._pool = pool
        self._connections = connections_of(pool)
        self._may_retry = may_retry
        self._lent: Any = None
        self._policy: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def get_connection(self, *_: object, **__: object) -> Any:
        """Lend a connection that is ready."""
        self._lent = connection = self._connections.take()
        if not self._may_retry:
            connection.check_health()  # which may connect again, as the policy says
            self._policy, connection.retry = connection.retry, _ONCE
        limit(connection, together=True)
        return connection

    def release(self, connection: Any) -> None:
        """Do nothing: a pipeline releases its connection whatever happened to it."""

    def take_back(self, *, is_clean: bool) -> None:
        """Give the connection to the real pool."""
        connection, self._lent = self._lent, None
        if connection is None:
            return
        if self._policy is not None:
            connection.retry = self._policy
        if is_clean:
            limit(connection, together=False)
            self._connections.keep(connection)
        else:
            self._connections.drop(connection)
