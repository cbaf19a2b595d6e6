"""Keyspace notifications: what a server says about its keys when they change.

They come over a connection that nobody else uses meanwhile, since one that is subscribed can do
nothing else. A server says only what it does itself, so there is one for each primary. What is said
while a connection is broken is lost: a `Listener` never connects again by itself.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from blobcache.transport.connections import NoReconnect
from blobcache.transport.packing import pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobcache.transport.connections import Connections

__all__ = ["KeyEvent", "Listener", "wait_for_events"]

_MOST = 10_000
"""Messages that are read at a time."""

_SLICE = 0.05
"""Seconds to wait for one connection before another is looked at."""

_MAX_TEXT = 64
"""Bytes of a run id or of a token; longer ones are of another program."""


class KeyEvent(NamedTuple):
    """A change of a key."""

    name: str
    """The event, such as ``sadd``."""

    key: bytes


class Listener:
    """A connection to the primary of a pool that is subscribed to events of its database.

    Raises redis-py's errors, from `__init__` as well: `ResponseError` if the server refuses.
    """

    def __init__(self, connections: Connections, events: Sequence[str]) -> None:
        self._connections = connections
        self._connection = connections.take()
        database = self._connection.db
        self._names = {f"__keyevent@{database}__:{event}".encode(): event for event in events}
        self.answered = b""
        """The token of the last ping that was answered."""

        try:
            self._no_reconnect = NoReconnect(self._connection)
            self.server = self._ask_for_server()
            """The run id of the server process; empty if it does not say."""

            self._subscribe()
        except BaseException:
            self.close()
            raise

    def _ask_for_server(self) -> str:
        self._send("INFO", "server")
        try:
            text = self._read()
        except ResponseError:
            return ""
        for line in bytes(text).splitlines():
            if line.startswith(b"run_id:"):
                return line[len(b"run_id:") :][:_MAX_TEXT].decode("ascii", "replace")
        return ""

    def _subscribe(self) -> None:
        """Subscribe, and wait until all channels are confirmed."""
        self._send("SUBSCRIBE", *self._names)
        left = set(self._names)
        while left:
            match self._read():
                case [b"subscribe", bytes(channel), *_]:
                    left.discard(channel)

    def ping(self, token: bytes) -> None:
        """Ask for an answer, which comes after all events that the server has sent before."""
        self._send("PING", token)

    def receive(self) -> Iterator[KeyEvent]:
        """Yield the events that have arrived, some thousands at most. Waits for none."""
        for _ in range(_MOST):
            if not self.has_news():
                return
            match self._read():
                case [b"message", bytes(channel), bytes(key)] if channel in self._names:
                    yield KeyEvent(self._names[channel], key)
                case [b"pong", bytes(token)] | bytes(token):  # the second with RESP3
                    self.answered = token[:_MAX_TEXT]

    def has_news(self, seconds: float = 0) -> bool:
        """Whether something arrives within so many seconds."""
        return bool(self._connection.can_read(seconds))

    def _send(self, *words: bytes | str) -> None:
        # A health check would take the next event for its answer.
        self._connection.send_packed_command((pack([words]),), check_health=False)

    def _read(self) -> Any:
        return self._connection.read_response(disable_decoding=True, push_request=True)

    def close(self) -> None:
        """Close the connection, and give it back to the pool."""
        with suppress(Exception):  # whatever is left of a connection that has failed
            self._no_reconnect.end()
        with suppress(Exception):
            self._connections.drop(self._connection)


def wait_for_events(listeners: Sequence[Listener], seconds: float) -> None:
    """Wait until something arrives, for so many seconds at most."""
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0:
        for listener in listeners:
            try:
                if listener.has_news(min(left, seconds if len(listeners) == 1 else _SLICE)):
                    return
            except Exception:  # noqa: BLE001 - the next receive() raises it
                return
