"""Where an interrupted check was: noted beside the index, for a later one with the same options."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from blobcache.findings import Kind
from blobcache.services.notes import MAX_NOTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobcache.doctor.problems import Problems
    from blobcache.doctor.scan import Diagnosis

__all__ = ["KEPT", "SavedCheck"]

KEPT = 24 * 3600
"""Seconds that the position of a check is kept."""


class SavedCheck:
    """The position of a check, and how many findings of each kind there were before it."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        self._notes = diagnosis.provider.notes()
        options = (
            diagnosis.repositories,
            sorted(diagnosis.kinds),
            diagnosis.deep,
            diagnosis.is_quick,
        )
        self._name = f"check:{sha256(repr(options).encode()).hexdigest()}"

    def read(self, found: Problems) -> str:
        """Return the cursor to go on from, and add the numbers; empty if there is nothing noted."""
        note = self._notes.read([self._name])[0] if self._notes is not None else None
        try:
            cursor, places, *more = json.loads(note or "")
            both = [
                {Kind(kind): max(0, int(count)) for kind, count in each.items()}
                for each in (places, more[0] if more else places)
            ]
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return ""
        found.places.update(both[0])
        found.counts.update(both[1])
        return str(cursor)

    def write(
        self,
        cursor: str | None,
        places: Mapping[Kind, int],
        problems: Mapping[Kind, int] | None = None,
    ) -> None:
        """Note where the check is, or None at its end, and what it has found so far."""
        if self._notes is None:
            return
        found = dict(places), dict(places if problems is None else problems)
        text = json.dumps([cursor or "", *found], separators=(",", ":"))
        if cursor is None or len(text) > MAX_NOTE:
            text = ""
        self._notes.write({self._name: text}, KEPT)
