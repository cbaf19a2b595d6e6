"""What redis-py keeps to itself; where a version has no such thing, its public ways are gone."""

from __future__ import annotations

from typing import Any

from redis._parsers import hiredis as inside

__all__ = ["NOT_ENOUGH_DATA", "hiredis_parser", "should_reconnect"]

NOT_ENOUGH_DATA: Any = getattr(inside, "NOT_ENOUGH_DATA", None)
"""What a reader of hiredis gives where there is no whole reply yet."""

_HiredisParser: Any = getattr(inside, "_HiredisParser", None) if NOT_ENOUGH_DATA else None


def hiredis_parser(connection: Any) -> Any:
    """Return the connection's parser, if that is one around hiredis; else None."""
    parser = connection._parser  # noqa: SLF001
    return parser if type(parser) is _HiredisParser else None


def should_reconnect(connection: Any) -> bool:
    """Whether the connection is about to be moved to another server."""
    asked = getattr(connection, "should_reconnect", None)  # since redis-py 7
    return asked is not None and bool(asked())
