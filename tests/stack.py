"""Room for many calls within each other.

CPython keeps the frames of calls in pieces of 16 KB. If calls go back and forth over the end of a
piece, as those of a template's nodes do, each of them allocates a piece and frees it again. That
took a tenth of the time of many tests. A larger frame gets a larger piece, and the calls within it
use what is left of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["with_a_large_stack"]

_T = TypeVar("_T")

_VALUES = 40_000
"""The values for which the frame has room: 320 KB, in a piece of 512 KB. They are never written,
so they take no memory."""


def with_a_large_stack(call: Callable[[], _T]) -> _T:
    """Return what the call returns."""
    return call()


with_a_large_stack.__code__ = with_a_large_stack.__code__.replace(co_stacksize=_VALUES)
