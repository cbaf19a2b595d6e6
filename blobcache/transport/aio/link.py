"""One open connection, over which the callers of an event loop send requests at the same time.

Redis answers in the order of the requests. So each reply belongs to the oldest request that is not
answered yet, whether its caller still waits for it or not: the reply to a request that was
cancelled, or whose time is over, is read and dropped. What callers ask in one turn of the event
loop is sent by one write.

All methods are called in the thread of the event loop. Nothing here keeps the loop alive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from os import getpid
from ssl import SSLWantReadError, SSLWantWriteError
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from blobcache.transport.aio.reader import INCOMPLETE, make_reader
from blobcache.transport.clients import cache_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blobcache.transport.packing import Reply
    from blobcache.transport.shapes import Expected

__all__ = ["Link", "Request"]

_READ_SIZE = 256 * 1024
"""Bytes that are read at a time."""

_TICKS = 64
"""A caller whose time is over learns of it within this part of the timeout."""

_NOT_NOW = (BlockingIOError, InterruptedError, SSLWantReadError, SSLWantWriteError)


class Request:
    """Packed commands of one caller, and the future of their replies."""

    __slots__ = ("count", "expected", "future", "packed", "replies", "sent", "size")

    def __init__(
        self, packed: bytes, expected: Expected, future: asyncio.Future[list[Reply]]
    ) -> None:
        self.packed = packed
        self.size = len(packed)
        self.expected = expected
        self.count = expected.count
        self.future = future
        self.replies: list[Reply] = []
        self.sent = 0.0
        """When it was sent, by the clock of the event loop."""

    def fail(self, error: Exception) -> None:
        """Let the caller know, if one still waits. The error is redis-py's, or the socket's."""
        if not self.future.done():
            unavailable = cache_unavailable(error)
            unavailable.__cause__ = error
            self.future.set_exception(unavailable)


class Link:
    """An open connection of redis-py whose socket this object uses from now on."""

    def __init__(
        self, connection: Any, sock: Any, timeout: float | None, changed: Callable[[], object]
    ) -> None:
        """Calls `changed` whenever requests have left it, or it was closed."""
        self._connection = connection
        self._sock = sock
        self._fileno: int = sock.fileno()
        self._timeout = timeout or None
        self._changed = changed
        self._pid = getpid()
        self._reader = make_reader()
        self._buffer = bytearray(_READ_SIZE)
        self._outgoing: list[Request] = []
        """What is sent at the end of this turn of the event loop."""

        self._unsent = b""
        self._awaits_writing = False
        self._unanswered: deque[Request] = deque()
        self._is_timed = False
        """Whether a timer runs. A reference to it would keep the event loop alive."""

        self._last_reply = 0.0
        self.takes_requests = True
        """Whether requests may be sent over it: not if it is about to be closed, or is."""

        self.size = 0
        """Bytes of the requests that are not answered yet."""

        self.is_open = True
        asyncio.get_running_loop().add_reader(self._fileno, self._on_readable)

    @property
    def count(self) -> int:
        """How many requests are not answered yet."""
        return len(self._unanswered) + len(self._outgoing)

    def begin(self, request: Request) -> None:
        """Send the request at the end of this turn of the event loop."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._send_outgoing)
        self._outgoing.append(request)
        self.size += request.size

    def begin_all(self, requests: Iterable[Request]) -> None:
        """Send all of them, likewise."""
        for request in requests:
            self.begin(request)

    def end(self) -> None:
        """Close when all replies have come. No request may follow."""
        self.takes_requests = False
        if not self.count:
            self.close(RedisConnectionError("The connection has been replaced."))

    def close(self, error: Exception) -> None:
        """Close now. All who wait for a reply get an error of that cause."""
        if not self.is_open:
            return
        self.is_open = self.takes_requests = False
        if self._pid == getpid():
            self._forget_socket()
        failed = [*self._unanswered, *self._outgoing]
        self._unanswered.clear()
        self._outgoing, self._unsent, self.size = [], b"", 0
        with suppress(Exception):  # whatever is left of it
            self._connection.disconnect()
        for request in failed:
            with suppress(RuntimeError):  # the event loop is closed, and nobody waits
                request.fail(error)
        self._changed()

    def discard(self) -> None:
        """Close after the event loop was closed: nobody waits any more."""
        self.is_open = self.takes_requests = False
        if self._pid == getpid():
            with suppress(Exception):  # whatever is left of it
                self._connection.disconnect()

    def _forget_socket(self) -> None:
        """Let the event loop forget the socket, unless the loop is closed."""
        with suppress(RuntimeError, ValueError, OSError):
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fileno)
            loop.remove_writer(self._fileno)

    # Sending

    def _send_outgoing(self) -> None:
        if not self.is_open:
            return
        outgoing, self._outgoing = self._outgoing, []
        try:
            self._send_together(outgoing)
        except BaseException:  # of a signal handler: what was sent is unknown
            interrupted = RedisConnectionError("Sending was interrupted.")
            self.close(interrupted)
            for request in outgoing:
                request.fail(interrupted)
            raise

    def _send_together(self, outgoing: Sequence[Request]) -> None:
        now = asyncio.get_running_loop().time()
        packed = []
        for request in outgoing:
            if request.future.done():  # cancelled before anything was sent
                self.size -= request.size
                continue
            request.sent = now
            packed.append(request.packed)
            request.packed = b""
            self._unanswered.append(request)
        if packed:
            if not self._is_timed and self._timeout is not None:
                self._start_timer(self._timeout)
            self._unsent += b"".join(packed)
            if not self._awaits_writing:
                self._send()
        if len(packed) < len(outgoing):
            self._after_replies()

    def _send(self) -> None:
        """Send as much as the socket takes now; the rest when it is ready."""
        try:
            sent = self._sock.send(self._unsent)
        except SSLWantReadError:  # it continues when there is something to read
            self._wait_to_write(wanted=False)
            return
        except _NOT_NOW:
            sent = 0
        except (OSError, ValueError) as error:
            self.close(RedisConnectionError(f"Error at the socket: {error}."))
            return
        self._unsent = self._unsent[sent:]
        self._wait_to_write(wanted=bool(self._unsent))

    def _wait_to_write(self, *, wanted: bool) -> None:
        if wanted is not self._awaits_writing:
            loop = asyncio.get_running_loop()
            self._awaits_writing = wanted
            if wanted:
                loop.add_writer(self._fileno, self._send)
            else:
                loop.remove_writer(self._fileno)

    # Receiving

    def _on_readable(self) -> None:
        try:
            is_over = self._receive()
        except (OSError, ValueError, InvalidResponse) as error:
            self.close(error)
            return
        except BaseException:  # of a signal handler: a reply may be lost
            self.close(RedisConnectionError("Receiving was interrupted."))
            raise
        if is_over:
            self.close(RedisConnectionError("The server closed the connection."))
        elif self._unsent and not self._awaits_writing:
            self._send()

    def _receive(self) -> bool:
        """Read what has come; return whether the server has closed the connection."""
        try:
            while received := self._sock.recv_into(self._buffer):
                self._reader.feed(self._buffer, 0, received)
                self._hand_out()
                # An encrypted socket may have decrypted more than was asked for.
                if not self.is_open or not self._sock.pending():
                    return False
        except _NOT_NOW:
            return False
        return True

    def _hand_out(self) -> None:
        """Give the replies that have come to the oldest requests."""
        gets, unanswered = self._reader.gets, self._unanswered
        number = 0
        while (reply := gets()) is not INCOMPLETE:
            if not unanswered:
                raise InvalidResponse("The server sent a reply that nobody asked for.")
            request = unanswered[0]
            replies = request.replies
            replies.append(reply)
            if len(replies) < request.count:
                continue
            if not request.expected.fit(replies):
                raise InvalidResponse("The reply does not fit the command that was sent.")
            unanswered.popleft()
            number += 1
            self.size -= request.size
            if not request.future.done():
                request.future.set_result(replies)
            if ReadOnlyError in map(type, replies):
                # By now the same address may lead to the new primary.
                self.takes_requests = False
        if number:
            self._last_reply = asyncio.get_running_loop().time()
            self._after_replies()

    def _after_replies(self) -> None:
        if not self.takes_requests:
            self.end()
        self._changed()

    # The time

    def _start_timer(self, seconds: float) -> None:
        self._is_timed = True
        asyncio.get_running_loop().call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        """Fail the callers whose time is over; close the connection if no reply came meanwhile."""
        self._is_timed = False
        timeout = self._timeout
        if not self._unanswered or timeout is None:
            return
        now = asyncio.get_running_loop().time()
        error = RedisTimeoutError("Timeout at the socket.")
        oldest = self._unanswered[0]
        if now - max(oldest.sent, self._last_reply) >= timeout:
            self.close(error)
            return
        following = now + timeout
        for request in self._unanswered:
            due = request.sent + timeout
            if due > now:
                following = due
                break
            request.fail(error)
        # The oldest one may be late already: then the silence is what counts.
        following = min(following, max(oldest.sent, self._last_reply) + timeout)
        self._start_timer(max(following - now, timeout / _TICKS))
