"""What redis-py keeps to itself; where a version has no such thing, its public ways are gone."""

from __future__ import annotations

from typing import Any

from redis._parsers import hiredis as inside

__all__ = ["NOT_ENOUGH_DATA", "HiredisParser", "should_reconnect"]

NOT_ENOUGH_DATA: Any = getattr(inside, "NOT_ENOUGH_DATA", None)
"""What a reader of hiredis gives where there is no whole reply yet."""

HiredisParser: Any = getattr(inside, "_HiredisParser", None) if NOT_ENOUGH_DATA else None
"""The class of a connection's parser around such a reader."""


def should_reconnect(connection: Any) -> bool:
    """Whether the connection is about to be moved to another server."""
    asked = getattr(connection, "should_reconnect", None)  # since redis-py 7
    return asked is not None and bool(asked())
