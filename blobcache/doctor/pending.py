"""Findings that wait for their second look, each once, in a temporary file of SQLite.

A storage that is not the registry's contradicts every entry, so there may be as many as entries.
The file has no name, and goes when it is closed or the process ends.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import finalize

from blobcache.exceptions import BlobCacheError
from blobcache.findings import Finding

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

__all__ = ["Pending", "RepairRefused"]

_SCHEMA = "CREATE TABLE findings (id TEXT UNIQUE, facts TEXT, repairable INTEGER)"


class RepairRefused(BlobCacheError):
    """A repair that would not be safe. What it has done before that stays done."""

    code = "REPAIR_REFUSED"
    status = 409


class Pending:
    """Findings with valid names and digests, in the order in which they came."""

    def __init__(self) -> None:
        self.by_repository: Counter[str | None] = Counter()
        """How many of them are to be cleared, by repository; None is the global scope."""

        self._count = 0
        self._database: sqlite3.Connection | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, finding: Finding, *, is_cleared: bool) -> None:
        """Add a finding, unless it is there. Raises `RepairRefused` if it cannot be kept."""
        row = (finding.id, json.dumps(finding.facts), finding.is_repairable)
        with _refusing():
            added = self._open().execute("INSERT OR IGNORE INTO findings VALUES (?, ?, ?)", row)
        if added.rowcount == 1:
            self._count += 1
            if is_cleared:
                self.by_repository[finding.repository] += 1

    def batches(self, size: int) -> Iterator[list[Finding]]:
        """Iterate over the findings, so many at a time. Raises `RepairRefused`."""
        last = 0
        while self._count:
            with _refusing():
                rows = self._open().execute(
                    "SELECT rowid, id, facts, repairable FROM findings WHERE rowid > ?"
                    " ORDER BY rowid LIMIT ?",
                    (last, size),
                )
                found = rows.fetchall()
            if not found:
                return
            last = found[-1][0]
            yield [_finding(*row) for _, *row in found]

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            import sqlite3  # noqa: PLC0415 - some systems ship it as a separate package

            # Its own name for a temporary file. It may be collected in another thread.
            self._database = sqlite3.connect("", check_same_thread=False)
            self._close = finalize(self, self._database.close)
            self._database.execute(_SCHEMA)
        return self._database

    def close(self) -> None:
        """Forget the findings, and delete the file. It is also done when this is collected."""
        if self._database is not None:
            self._close()
            self._database, self._count = None, 0


def _finding(identity: str, facts: str, is_repairable: int) -> Finding:
    found = Finding.parse(identity)
    return Finding(found.kind, found.subject, json.loads(facts), is_repairable=bool(is_repairable))


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # no SQLite, a full disk: nothing was cleared
        raise RepairRefused(f"The findings cannot be kept for a second look: {error}.") from error
