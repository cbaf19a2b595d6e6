"""What redis-py keeps to itself. Where a version has none of it, its public ways do."""

from __future__ import annotations

from typing import Any

from redis._parsers import hiredis as inside

__all__ = ["NOT_ENOUGH_DATA", "HiredisParser"]

NOT_ENOUGH_DATA: Any = getattr(inside, "NOT_ENOUGH_DATA", None)
"""What a reader of hiredis gives where there is no whole reply yet."""

HiredisParser: Any = getattr(inside, "_HiredisParser", None) if NOT_ENOUGH_DATA else None
"""The class of a connection's parser around such a reader."""
