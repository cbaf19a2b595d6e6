"""Connections of redis-py that are closed after an interruption, and that end in time.

If a signal handler raises while redis-py waits for a reply, as the time limits of task queues do,
or while it greets the server on a new connection (``HELLO``, ``AUTH``, ``SELECT``, ``CLIENT``),
redis-py may give the connection back to its pool: not authenticated, with the wrong database, or
with replies that are still on their way, which the next call would take for its own. And each time
that redis-py waits for bytes, it waits for up to the whole SOCKET_TIMEOUT. So a server that sends
its reply byte by byte can block a caller without limit.

hiredis 3.5 crashes the interpreter if a signal handler raises while it packs a number.

`guard` makes a pool use connections of a subclass of their class. Such a connection knows whether
it was greeted and whether its last command was answered; if not, it connects again. It limits the
time of each reply, of a greeting and of an exchange as a whole. It hands over numbers as text. For
other users of the pool nothing
else changes.
"""

from __future__ import annotations

import select
from time import monotonic
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from blobcache.transport import private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["GuardedSocket", "guard", "guarded_pools", "limit", "prepare"]

_NEARLY = 0.9
"""While more than this share of the timeout is left, a wait may take the whole timeout, because
each change of the socket's timeout costs a system call."""


class GuardedSocket:
    """A connection's socket, with what is known about its use and a limit for several waits.

    From `begin` to `end` all waits together take no longer than the socket's timeout. Everything
    else is passed on to the socket.
    """

    __slots__ = (
        *("_deadline", "_is_short", "_patience", "_sock", "_usual"),
        *("fileno", "is_answered", "is_greeted", "pending", "poll", "unanswered"),
    )

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._usual: float | None = sock.gettimeout()
        self._deadline: float | None = None
        self._patience = 0.0
        self._is_short = False
        self.is_greeted = False
        """Whether the greeting has ended, so that commands may follow."""

        self.is_answered = True
        """Whether nothing has been sent since the last reply was read."""

        self.unanswered = 0
        """How many of the commands that redis-py has sent have no reply yet."""

        self.fileno = sock.fileno
        self.pending: Callable[[], int] = getattr(sock, "pending", int)
        """How many bytes have been decrypted and not read yet."""

        self.poll: Callable[[int], object] | None = None
        """Whether there are bytes to read or the server has closed, within so many milliseconds.

        None if the system has no such call, or if bytes may be outside of the kernel, as with TLS.
        """

        if hasattr(select, "poll") and self.pending is int:
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            self.poll = poller.poll

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    @property
    def is_ready(self) -> bool:
        """Whether a command may be sent and its reply awaited.

        To look for data, redis-py 6 sets the timeout to 0; after an interruption it may stay 0.
        """
        return self.is_greeted and self.is_answered and self._usual != 0

    def begin(self) -> bool:
        """From now on limit all waits together; return False if they already are."""
        if self._deadline is not None:
            return False
        usual = self._usual
        if usual is not None:
            self._deadline = monotonic() + usual
            self._patience = usual * _NEARLY
        return True

    def begin_with(self, data: bytes) -> None:
        """Begin, and send all of the data."""
        self.is_answered = False
        self.begin()
        self._sock.sendall(data)

    def finish(self) -> None:
        """End, after all replies were read."""
        self.is_answered = True
        self.end()

    def answered(self) -> None:
        """Count a reply that redis-py has read."""
        if self.unanswered:
            self.unanswered -= 1
        self.is_answered = not self.unanswered

    def end(self) -> None:
        """Limit each wait alone again."""
        self._deadline = None
        if self._is_short:
            self._is_short = False
            self._sock.settimeout(self._usual)

    def recv_into(self, buffer: Any, *args: Any) -> int:
        """See `socket.socket.recv_into`."""
        if self._deadline is not None:
            self._shorten(self._deadline)
        received: int = self._sock.recv_into(buffer, *args)
        return received

    def recv(self, *args: Any) -> bytes:
        """See `socket.socket.recv`."""
        if self._deadline is not None:
            self._shorten(self._deadline)
        received: bytes = self._sock.recv(*args)
        return received

    def sendall(self, data: Any) -> None:
        """See `socket.socket.sendall`."""
        self.is_answered = False
        if self._deadline is not None:
            self._shorten(self._deadline)
        self._sock.sendall(data)

    def settimeout(self, seconds: float | None) -> None:
        """Set the timeout, as redis-py does during a server's maintenance; a limit starts again."""
        self._sock.settimeout(seconds)
        self._usual, self._is_short = seconds, False
        if self._deadline is not None:
            self._deadline = None
            self.begin()

    def _shorten(self, deadline: float) -> None:
        """Let the next wait take what is left of the time."""
        left = deadline - monotonic()
        if left < self._patience:
            if left <= 0:
                raise TimeoutError("timed out")
            self._is_short = True
            self._sock.settimeout(left)


class _Guarded:
    """A connection that connects again unless it is known to be ready for a command."""

    _is_limited = False
    _packed_count = 1

    def connect(self) -> None:
        # The pool calls this whenever it hands out a connection.
        sock = private.socket_of(self)
        if isinstance(sock, GuardedSocket):
            if sock.is_ready:
                return
            self.disconnect()
        super().connect()  # type: ignore[misc]
        self._greeted()

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
        self._greeted()

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        sock = private.socket_of(self)
        if isinstance(sock, GuardedSocket):
            sock.is_greeted = False
        super().disconnect(*args, **kwargs)  # type: ignore[misc]

    def send_command(self, *words: Any, **kwargs: Any) -> None:
        super().send_command(*_as_text(words), **kwargs)  # type: ignore[misc]

    def pack_command(self, *words: Any) -> Any:
        return super().pack_command(*_as_text(words))  # type: ignore[misc]

    def pack_commands(self, commands: Iterable[Any]) -> Any:
        # A pipeline packs its commands together, and reads a reply for each of them.
        packed = [_as_text(words) for words in commands]
        self._packed_count = len(packed)
        return super().pack_commands(packed)  # type: ignore[misc]

    def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        count, self._packed_count = self._packed_count, 1
        super().send_packed_command(*args, **kwargs)  # type: ignore[misc]
        sock = private.socket_of(self)
        if isinstance(sock, GuardedSocket):
            sock.unanswered += count

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        sock = private.socket_of(self)
        if not isinstance(sock, GuardedSocket):
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        is_alone = sock.begin()
        try:
            reply = super().read_response(*args, **kwargs)  # type: ignore[misc]
        except ResponseError:
            sock.answered()
            raise
        finally:
            if is_alone and private.socket_of(self) is sock:
                sock.end()
        sock.answered()
        return reply

    def has_unread(self) -> bool:
        """Whether there is data that is no reply to a command."""
        parser, sock = private.parser_and_socket(self)
        poll = getattr(sock, "poll", None)
        if poll is not None and type(parser) is private.HiredisParser:
            reader, _ = private.reader_and_buffer(parser)
            return bool(reader.has_data() or poll(0))
        return bool(self.can_read())  # type: ignore[attr-defined]

    def limit(self, *, together: bool) -> None:
        """Limit the time of all replies `together`, or of each alone."""
        self._is_limited = together
        sock = private.socket_of(self)
        if isinstance(sock, GuardedSocket):
            sock.end()
            if together:
                sock.begin()

    def _connect(self) -> GuardedSocket:
        sock = GuardedSocket(super()._connect())  # type: ignore[misc]
        sock.begin()
        return sock

    def _greeted(self) -> None:
        self.limit(together=self._is_limited)
        sock = private.socket_of(self)
        if isinstance(sock, GuardedSocket):
            sock.is_greeted = True


def _as_text(words: Iterable[Any]) -> list[Any]:
    """Return the words of a command with text in place of numbers, as hiredis would write them.

    redis-py greets a server with numbers (``HELLO 3``, ``SELECT 1``), and hiredis 3.5 crashes the
    interpreter if a signal handler raises while it packs one.
    """
    return [repr(word) if type(word) in _NUMBERS else word for word in words]


_NUMBERS = (int, float)


def guard(pool: Any) -> None:
    """Make the pool use guarded connections from now on."""
    plain = getattr(pool, "connection_class", None)
    if private.CAN_HOLD and isinstance(plain, type) and not issubclass(plain, _Guarded):
        pool.connection_class = _guarded_class(plain)


def guarded_pools(pool_class: Callable[..., Any]) -> Callable[..., Any]:
    """Return a factory of pools of that class, whose connections are guarded from the first one."""

    def make(*args: Any, **kwargs: Any) -> Any:
        pool = pool_class(*args, **kwargs)
        guard(pool)
        return pool

    return make


def prepare(pool: Any, connection: Any) -> None:
    """Make a connection ready that the pool has handed out: connect it again if necessary.

    That is necessary if the pool made it before `guard`, or if it has unread data, which a pool of
    redis-py 8 that expects push messages does not check.
    """
    plain, wanted = type(connection), getattr(pool, "connection_class", None)
    if plain is not wanted and wanted is _guarded_class(plain):
        connection.disconnect()
        connection.__class__ = wanted
        connection.connect()
    elif isinstance(connection, _Guarded) and connection.has_unread():
        connection.disconnect()
        connection.connect()


_guarded: dict[type, type] = {}


def _guarded_class(plain: type) -> type:
    """Return the guarded subclass of a class of connections, always the same one."""
    known = _guarded.get(plain)
    if known is None:
        made = type(f"Guarded{plain.__name__}", (_Guarded, plain), {"__module__": __name__})
        known = _guarded.setdefault(plain, made)
    return known


def limit(connection: Any, *, together: bool) -> None:
    """Limit the time of all replies that redis-py reads `together`, or of each alone."""
    if isinstance(connection, _Guarded):
        connection.limit(together=together)
