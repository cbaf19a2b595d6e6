"""How many problems the findings of a check are: one bad hash is found in all who hold the blob."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from blobcache.findings import SEVERITIES, Kind, Place, Severity

if TYPE_CHECKING:
    from blobcache.findings import Finding

__all__ = ["Problems", "errors_in"]

_REMEMBERED = 100_000
"""Problems whose ids are kept in memory."""


class Problems:
    """Counts findings, and the problems that they are places of, by kind."""

    def __init__(self, *, is_whole: bool) -> None:
        """A check of the whole cache also finds the hash itself, so it needs to remember none."""
        self._is_whole = is_whole
        self._seen: set[str] = set()
        self.counts: Counter[Kind] = Counter()
        """Problems by kind. If there are very many in some repositories, a few count twice."""

        self.places: Counter[Kind] = Counter()
        """Findings by kind."""

    def add(self, finding: Finding) -> None:
        """Count a finding."""
        self.places[finding.kind] += 1
        self.counts[finding.kind] += self._is_new(finding)

    def _is_new(self, finding: Finding) -> bool:
        if not finding.is_of_blob:
            return True
        if self._is_whole:
            return finding.place is Place.BLOB
        if finding.problem in self._seen:
            return False
        if len(self._seen) < _REMEMBERED:
            self._seen.add(finding.problem)
        return True


def errors_in(counts: Counter[Kind]) -> int:
    """Return how many of them are errors."""
    return sum(count for kind, count in counts.items() if SEVERITIES[kind] is Severity.ERROR)
