"""How a cache does: counts of what it could answer."""

from __future__ import annotations

from threading import Lock

__all__ = ["CacheMetrics"]


class CacheMetrics:
    """Counts hits, misses and errors of one cache, safely between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.hits = 0
        self.misses = 0
        self.errors = 0

    @property
    def requests(self) -> int:
        """All stats that were counted."""
        return self.hits + self.misses + self.errors

    def hit(self) -> None:
        """The cache knew the blob."""
        with self._lock:
            self.hits += 1

    def miss(self) -> None:
        """The cache did not know the blob, or only something corrupt."""
        with self._lock:
            self.misses += 1

    def error(self) -> None:
        """The cache could not be asked."""
        with self._lock:
            self.errors += 1
