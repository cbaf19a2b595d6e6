"""Prometheus metrics of the journal, with the extra ``metrics``.

| metric | labels |
|---|---|
| ``blobcache_journal_entries_total``: entries of the journal | outcome: ``written``, ``lost`` |

An entry is lost if the database fails. The change itself was made, and the log ``blobcache.audit``
has it.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, Literal

__all__ = ["count"]

_entries: Any = None
with suppress(ImportError):  # without the extra
    _entries = import_module("prometheus_client").Counter(
        "blobcache_journal_entries_total",
        "Entries of the journal, by what became of them.",
        ["outcome"],
    )


def count(outcome: Literal["written", "lost"], number: int) -> None:
    """Count entries."""
    if _entries is not None:
        _entries.labels(outcome).inc(number)
