"""Notes: short texts that a registry's portal remembers for a while, beside its index.

They are hints for work that goes on later or elsewhere, such as the events that were already seen.
Anybody who can write to the index's Redis can write notes, and any of them may be lost: nothing may
be deleted or granted because of a note alone.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["MAX_NOTE", "Notes"]

MAX_NOTE = 4096
"""Bytes of a note. A longer one, of another program, is treated as if it were not there."""


class Notes(Protocol):
    """The notes of one registry. Every call is one round trip, and may raise `CacheUnavailable`."""

    def get(self, name: str) -> str | None:
        """Return a note; None if there is none, or if it is no text of at most `MAX_NOTE` bytes."""
        ...

    def put(self, name: str, text: str, seconds: int) -> None:
        """Store a note for so many seconds, in the place of one with the same name."""
        ...

    def remove(self, name: str) -> None:
        """Remove a note, if there is one."""
        ...
