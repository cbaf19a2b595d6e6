"""Notes: short texts that a registry's portal remembers for a while, beside its index.

They are hints for work that goes on later or elsewhere, such as the events that were already seen.
Anybody who can write to the index's Redis can write notes, and any of them may be lost: nothing may
be deleted or granted because of a note alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MAX_NOTE", "Notes"]

MAX_NOTE = 4096
"""Bytes of a note. A longer one, of another program, is treated as if it were not there."""


class Notes(Protocol):
    """The notes of one registry. Every call is one round trip, and may raise `CacheUnavailable`."""

    def read(self, names: Sequence[str]) -> list[str | None]:
        """Return notes; None for one that is missing, or no text of at most `MAX_NOTE` bytes."""
        ...

    def write(self, notes: Mapping[str, str], seconds: int) -> None:
        """Store notes by name for so many seconds, in the place of those with the same names."""
        ...
