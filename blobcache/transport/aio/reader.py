"""Parse replies as they come: by hiredis if it is installed, else here.

Connections of this package speak RESP2, whatever ``protocol`` the entry of ``CACHES`` sets: the
replies to the commands of this app are the same, and there are no push messages between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse, ResponseError

from blobcache.transport import private

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from blobcache.transport.packing import Reply

__all__ = ["INCOMPLETE", "Reader", "make_reader"]

INCOMPLETE: Any = object()
"""What `Reader.gets` returns while a reply is incomplete."""

_parse_error: Callable[[str], ResponseError] = DefaultParser.parse_error
"""Makes redis-py's exception of the text of an error."""

_MAX_DEPTH = 8
"""Lists within lists; no command of this app has more than four."""


class Reader(Protocol):
    """A parser of replies. Raises `InvalidResponse` if the bytes are no replies."""

    def feed(self, data: Any, start: int, length: int, /) -> Any:
        """Take some more bytes: `length` of them, from `start` on."""

    def gets(self) -> Reply:
        """Return the next reply, bytes never decoded; an error is returned, not raised."""


def make_reader() -> Reader:
    """Return a parser for a new connection."""
    reader = private.hiredis_reader(InvalidResponse, _parse_error, INCOMPLETE)
    return PythonReader() if reader is None else reader


class PythonReader:
    """Parses RESP2 (Redis serialization protocol specification) without hiredis."""

    __slots__ = ("_buffer", "_parsing")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parsing: Generator[None, None, Reply] | None = None

    def feed(self, data: Any, start: int, length: int, /) -> None:
        """See `Reader`."""
        self._buffer += memoryview(data)[start : start + length]

    def gets(self) -> Reply:
        """See `Reader`."""
        if self._parsing is None:
            if not self._buffer:
                return INCOMPLETE  # type: ignore[no-any-return]
            self._parsing = self._parse(0)
        try:
            next(self._parsing)
        except StopIteration as done:
            self._parsing = None
            return done.value  # type: ignore[no-any-return]
        return INCOMPLETE  # type: ignore[no-any-return]

    def _parse(self, depth: int) -> Generator[None, None, Reply]:
        """Yield whenever bytes are missing; return the reply."""
        line = yield from self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return _parse_error(rest.decode("utf-8", "replace"))
        number = _number(rest)
        if kind == b":":
            return number
        if kind == b"$":
            return None if number < 0 else (yield from self._text(number))
        if kind == b"*" and depth < _MAX_DEPTH:
            if number < 0:
                return None
            replies: list[Reply] = []
            for _ in range(number):
                replies.append((yield from self._parse(depth + 1)))  # noqa: PERF401 - it yields
            return replies
        raise InvalidResponse("The server sent what is not a reply.")

    def _line(self) -> Generator[None, None, bytes]:
        searched = 0
        while (end := self._buffer.find(b"\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 1)
            yield
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _text(self, length: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < length + 2:
            yield
        text, end = bytes(self._buffer[:length]), self._buffer[length : length + 2]
        if end != b"\r\n":
            raise InvalidResponse("The server sent what is not a reply.")
        del self._buffer[: length + 2]
        return text


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidResponse("The server sent what is not a reply.") from None
