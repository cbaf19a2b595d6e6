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
from itertools import groupby, islice
from operator import attrgetter
from os import getpid
from socket import SO_ERROR, SOL_SOCKET
from ssl import SSLWantReadError, SSLWantWriteError
from typing import TYPE_CHECKING, Any
from weakref import proxy

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from blobcache.transport.aio.reader import INCOMPLETE, make_reader
from blobcache.transport.clients import cache_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.transport.packing import Reply
    from blobcache.transport.shapes import Expected

__all__ = ["Link", "Request"]

_READ_SIZE = 256 * 1024
"""Bytes that are read at a time."""

_TICKS = 64
"""A caller whose time is over learns of it within this part of the timeout."""

_EXPECTED = attrgetter("expected")
_NOT_NOW = (BlockingIOError, InterruptedError, SSLWantReadError, SSLWantWriteError)


class Request:
    """Packed commands of one caller, and the future of their replies."""

    __slots__ = ("expected", "future", "packed", "sent")

    def __init__(
        self, packed: bytes, expected: Expected, future: asyncio.Future[list[Reply]]
    ) -> None:
        self.packed = packed
        self.expected = expected
        self.future = future
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
        self._loop: asyncio.AbstractEventLoop = proxy(asyncio.get_running_loop())
        """A real reference to it would keep the event loop alive."""

        self._reader = make_reader()
        self._buffer = bytearray(_READ_SIZE)
        self._outgoing: list[Request] = []
        """What is sent at the end of this turn of the event loop."""

        self._unsent = b""
        self._awaits_writing = False
        self._unanswered: deque[Request] = deque()
        self._replies: list[Reply] = []
        """Those that have come for the oldest of these requests, if some are missing."""

        self._is_timed = False
        """Whether a timer runs. A reference to it would keep the event loop alive, too."""

        self._last_reply = 0.0
        self.takes_requests = True
        """Whether requests may be sent over it: not if it is about to be closed, or is."""

        self.count = self.size = 0
        """How many requests are not answered yet, and their bytes."""

        self.is_open = True
        self._error: Callable[[int, int], int] | None = None
        if not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
            self._error = sock.getsockopt
        """How to look for an error of the socket after a reply; None if the loop does it.

        asyncio's own event loops call a reader again and again while a socket has an error, but
        uvloop (libuv) does so only once. If a reply comes before a reset, that call is for both.
        """

        self._loop.add_reader(self._fileno, self._on_readable)

    def begin(self, packed: bytes, expected: Expected) -> asyncio.Future[list[Reply]]:
        """Send packed commands at the end of this turn of the event loop."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        if not self._outgoing:
            self._loop.call_soon(self._send_outgoing)
        self._outgoing.append(Request(packed, expected, future))
        self.count += 1
        self.size += len(packed)
        return future

    def begin_all(self, requests: list[Request]) -> None:
        """Send the requests that have waited for this connection, likewise."""
        self._loop.call_soon(self._send_outgoing)
        self._outgoing = requests
        self.count = len(requests)
        self.size = sum(len(each.packed) for each in requests)

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
        self._outgoing, self._unsent, self.count, self.size = [], b"", 0, 0
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
        with suppress(ReferenceError, RuntimeError, ValueError, OSError):
            self._loop.remove_reader(self._fileno)
            self._loop.remove_writer(self._fileno)

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
        now = self._loop.time()
        packed = []
        for request in outgoing:
            if request.future.done():  # cancelled before anything was sent
                self.count -= 1
                self.size -= len(request.packed)
                continue
            request.sent = now
            packed.append(request.packed)
            self._unanswered.append(request)
        if packed:
            if not self._is_timed and self._timeout is not None:
                self._start_timer(self._timeout)
            self._unsent += b"".join(packed)
            if not self._awaits_writing:
                self._send()
        if len(packed) < len(outgoing):
            self._after_leaving()

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
            self._awaits_writing = wanted
            if wanted:
                self._loop.add_writer(self._fileno, self._send)
            else:
                self._loop.remove_writer(self._fileno)

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
        is_over = False
        try:
            while received := self._sock.recv_into(self._buffer):
                self._reader.feed(self._buffer, 0, received)
                try:
                    self._replies.extend(iter(self._reader.gets, INCOMPLETE))
                finally:  # what has come before something that is no reply is handed out
                    self._hand_out()
                if not self.is_open:
                    return False
                # An encrypted socket may have decrypted more than was asked for.
                if is_over or self._sock.pending():
                    continue
                if self._error is None or not self._error(SOL_SOCKET, SO_ERROR):
                    return False
                is_over = True  # and more replies may have come before the error
        except _NOT_NOW:
            return is_over
        return True

    def _hand_out(self) -> None:
        """Give the replies that have come to the oldest requests."""
        replies = self._replies
        start = number = 0
        for expected, alike in groupby(self._unanswered, _EXPECTED):
            # What expects the same is checked together: usually all of it, since all are stats.
            count = expected.count
            complete = (len(replies) - start) // count
            waiting = [*islice(alike, complete + 1)]
            requests = waiting[:complete]
            if not expected.fit_all(replies[start : start + len(requests) * count]):
                raise InvalidResponse("A reply does not fit the command that was sent.")
            for request in requests:
                if not request.future.done():
                    request.future.set_result(replies[start : start + count])
                start += count
                self.size -= len(request.packed)
            number += len(requests)
            if len(waiting) > complete:  # its replies have not all come
                break
        else:
            if start < len(replies):
                raise InvalidResponse("The server sent a reply that nobody asked for.")
        if not number:
            return
        for _ in range(number):
            self._unanswered.popleft()
        self.count -= number
        if ReadOnlyError in map(type, replies):
            # By now the same address may lead to the new primary.
            self.takes_requests = False
        del replies[:start]
        self._last_reply = self._loop.time()
        self._after_leaving()

    def _after_leaving(self) -> None:
        if not self.takes_requests:
            self.end()
        self._changed()

    # The time

    def _start_timer(self, seconds: float) -> None:
        self._is_timed = True
        self._loop.call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        """Fail the callers whose time is over; close the connection if no reply came meanwhile."""
        self._is_timed = False
        timeout = self._timeout
        if not self._unanswered or timeout is None:
            return
        now = self._loop.time()
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
