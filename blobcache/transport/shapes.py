"""What the reply to each command looks like.

A reply of another shape is not the reply to that command: it belongs to another command, or it does
not come from Redis. So it shows nothing about the data, and the connection must be closed. An error
of the server fits any command.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import InvalidResponse, ResponseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ANY",
    "Expected",
    "Read",
    "Repeated",
    "Shape",
    "Shapes",
    "check",
    "expect",
    "remember_script",
    "shape_of",
]

_NONE = type(None)
_TEXT = (bytes, str)
"""Clients may decode replies; those are encoded again later."""


class Shape:
    """The types that a reply may have and, if it is a list, its length and its elements."""

    __slots__ = ("elements", "length", "types")

    def __init__(
        self, *types: type, elements: Iterable[type] | None = None, length: int | None = None
    ) -> None:
        self.types = frozenset(types)
        self.elements = None if elements is None else frozenset(elements)
        self.length = length

    @property
    def is_simple(self) -> bool:
        """Whether any reply of one of the types fits, without a look at its elements."""
        return self.elements is None

    def fits(self, reply: Any) -> bool:
        """Whether it may be the reply."""
        if type(reply) not in self.types:
            return isinstance(reply, ResponseError)
        return type(reply) is not list or self.fits_inside(reply)

    def fits_inside(self, reply: list[Any]) -> bool:
        """Whether the elements may be those of the reply."""
        if self.length is not None and len(reply) != self.length:
            return False
        return self.elements is None or self.elements.issuperset(map(type, reply))

    def fits_all(self, replies: Sequence[Any]) -> bool:
        """Whether each of them fits; quick for a thousand."""
        if not self.types.issuperset(map(type, replies)):
            return all(map(self.fits, replies))
        if self.elements is None:
            return True
        if type(self) is not Shape or self.length is None or self.types != {list}:
            return all(map(self.fits, replies))
        return set(map(len, replies)) <= {self.length} and self.elements.issuperset(
            map(type, chain.from_iterable(replies))
        )


class _Scanned(Shape):
    """A cursor, which is a number, and a list."""

    __slots__ = ()

    def fits_inside(self, reply: list[Any]) -> bool:
        if len(reply) != 2:  # noqa: PLR2004
            return False
        cursor, found = reply
        return (
            isinstance(cursor, _TEXT)
            and cursor.isdigit()
            and type(found) is list
            and {*_TEXT}.issuperset(map(type, found))
        )


class Read(Shape):
    """What a script has read: nil, or `length` elements, each a value or a list of `width` values.

    A value may be nil.
    """

    __slots__ = ("_width",)

    def __init__(self, length: int, *, width: int) -> None:
        super().__init__(list, _NONE, elements=(), length=length)
        self._width = width

    def fits_inside(self, reply: list[Any]) -> bool:
        """See `Shape.fits_inside`."""
        values = {*_TEXT, _NONE}
        return len(reply) == self.length and all(
            type(each) in values
            or (
                type(each) is list
                and len(each) == self._width
                and values.issuperset(map(type, each))
            )
            for each in reply
        )


class _Done(Shape):
    """The replies to the commands of a transaction."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Shapes) -> None:
        super().__init__(list, elements=(), length=inner.count)
        self._inner = inner

    def fits_inside(self, reply: list[Any]) -> bool:
        return len(reply) == self._inner.count and self._inner.fit(reply)


class Expected(Protocol):
    """The shapes of all replies of an exchange."""

    count: int

    def fit(self, replies: Sequence[Any]) -> bool:
        """Whether the replies, of which there are `count`, have those shapes."""


class Shapes:
    """One shape after another."""

    __slots__ = ("_found", "_inside", "_types", "count", "shapes")

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.shapes = shapes
        self.count = len(shapes)
        self._types = [shape.types for shape in shapes]
        self._found: list[type] | None = None
        """The types of the last replies that fitted; the next replies usually have the same."""

        self._inside = [(place, each) for place, each in enumerate(shapes) if not each.is_simple]

    def fit(self, replies: Sequence[Any]) -> bool:
        """See `Expected.fit`."""
        found = [*map(type, replies)]
        if found != self._found:
            for reply, types in zip(replies, self._types, strict=True):
                if type(reply) not in types and not isinstance(reply, ResponseError):
                    return False
            self._found = found
        for place, shape in self._inside:
            reply = replies[place]
            if type(reply) is list and not shape.fits_inside(reply):
                return False
        return True

    def fit_all(self, replies: Sequence[Any]) -> bool:
        """Whether replies to any number of such exchanges have them; quick for a thousand."""
        if len(replies) == self.count:
            return self.fit(replies)
        return all(
            shape.fits_all(replies[place :: self.count]) for place, shape in enumerate(self.shapes)
        )


class Repeated:
    """Some shapes, then others again and again."""

    __slots__ = ("_each", "_first", "count")

    def __init__(self, first: Shapes, each: Shapes, times: int) -> None:
        self._first, self._each = first, each
        self.count = first.count + times * each.count

    def fit(self, replies: Sequence[Any]) -> bool:
        """See `Expected.fit`."""
        start = self._first.count
        return self._first.fit(replies[:start]) and self._each.fit_all(replies[start:])


def check(replies: Sequence[Any], expected: Expected) -> None:
    """Raise redis-py's `InvalidResponse` if the replies are not what the commands ask for."""
    if not expected.fit(replies):
        raise InvalidResponse("The reply does not fit the command that was sent.")


ANY = Shape(int, float, bool, *_TEXT, list, dict, set, _NONE)
_NUMBER = Shape(int)
_STATUS = Shape(*_TEXT)
_MULTI, _EXEC = Shape(*_TEXT), Shape(list)
_VALUE = Shape(*_TEXT, _NONE)
_RANK = Shape(int, _NONE)
_SCORE = Shape(int, float, *_TEXT, _NONE)
_WORDS = Shape(list, elements=_TEXT)
_SCORED = Shape(list, elements=(*_TEXT, int, float, list))
_SCANNED = _Scanned(list, elements=())

_SHAPES = {
    "MULTI": _MULTI,
    "EXEC": _EXEC,
    **dict.fromkeys(("ASKING", "TYPE"), _STATUS),
    **dict.fromkeys(("DEL", "EXISTS", "EXPIRE", "HDEL", "HSET", "HSETNX", "UNLINK"), _NUMBER),
    **dict.fromkeys(("SADD", "SCARD", "SISMEMBER", "SREM"), _NUMBER),
    **dict.fromkeys(("ZADD", "ZCARD", "ZCOUNT", "ZLEXCOUNT", "ZREM"), _NUMBER),
    **dict.fromkeys(("GET", "HGET"), _VALUE),
    **dict.fromkeys(("ZRANK", "ZREVRANK"), _RANK),
    "ZSCORE": _SCORE,
    **dict.fromkeys(("ZRANGEBYLEX", "ZREVRANGEBYLEX"), _WORDS),
    **dict.fromkeys(("ZRANGE", "ZREVRANGE"), _SCORED),
    **dict.fromkeys(("SCAN", "SSCAN"), _SCANNED),
}


_scripts: dict[str, Shape] = {}


def remember_script(body: str, sha: str, shape: Shape) -> None:
    """Remember the shape of a script's reply, for `shape_of`."""
    _scripts[body] = _scripts[sha] = shape


def shape_of(command: Sequence[bytes | str]) -> Shape:
    """Return the shape of the command's reply; `ANY` if the command is not known here."""
    name = command[0]
    if name in {"HMGET", "SMISMEMBER"}:
        return _list_of(str(name), len(command) - 2)
    if name in {"EVAL", "EVALSHA"}:
        return _scripts.get(str(command[1]), ANY)
    return _SHAPES.get(str(name), ANY)


@lru_cache
def _list_of(name: str, length: int) -> Shape:
    elements = (int,) if name == "SMISMEMBER" else (*_TEXT, _NONE)
    return Shape(list, elements=elements, length=length)


def expect(shapes: Iterable[Shape]) -> Shapes:
    """Return what to expect of commands whose replies have these shapes outside of a transaction.

    In a transaction the reply to each of them is a status, and their replies follow at the end, all
    together.
    """
    return _expect(tuple(shapes))


@lru_cache(1024)
def _expect(shapes: tuple[Shape, ...]) -> Shapes:
    if not shapes or shapes[0] is not _MULTI:
        return Shapes(shapes)
    inner = shapes[1:-1]
    return Shapes((_STATUS, *[_STATUS] * len(inner), _Done(Shapes(inner))))
