"""Work: what long work has done so far, kept so that it can go on after its process has ended.

One process at a time has the work. What it notes is bounded, and is kept beside the index for
`KEPT` seconds after the last note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["KEPT", "LEASE", "Work"]

LEASE = 30
"""Seconds after which a process that has noted nothing is assumed dead."""

KEPT = 7 * 24 * 3600
"""Seconds that notes are kept."""


class Work(Protocol):
    """The notes of one kind of work on one registry. Calls may raise `CacheUnavailable`."""

    def begin(self) -> bool:
        """Take the work; return False if another process has it."""
        ...

    def read(self, names: Iterable[str]) -> list[bytes | None]:
        """Return notes by their names; None for one that is missing. Anybody may read."""
        ...

    def note(self, notes: Mapping[str, str | bytes], forget: Iterable[str] = ()) -> bool:
        """Write some notes and delete others; return False if another process has taken the work.

        Then nothing is written. Call it more often than every `LEASE` seconds, and with at most
        some thousands of names.
        """
        ...

    def end(self) -> None:
        """Give the work up. The notes are kept."""
        ...
