"""Write entries into the database. A change was made, whatever becomes of its entry.

An entry is not written within a transaction of the host, such as that of ``ATOMIC_REQUESTS``: if
that is rolled back, the change stays, so its entry must stay too. So it is written as soon as the
transaction has ended: after a commit at once, after a rollback at the end of the request, or with
the next change. The transaction of a test case does not count as one of the host's.

A connection that the server has closed, such as one that a long command has not used for hours, is
replaced, and the entry is written with the new one. If the database fails, the entry is lost, which
is logged and counted. A database that takes long to
fail is left alone for `PAUSE` seconds, so that not every change has to wait for it.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from django.core.signals import request_finished
from django.db import connections, router, transaction

from blobcache.journal.metrics import count
from blobcache.models import JournalEntry

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["LOG_EVERY", "PAUSE", "Failures", "failures", "write", "write_after_rollback"]

_log = logging.getLogger("blobcache.journal")

PAUSE = 10
"""Seconds for which nothing is written, after a failure that took longer than `_SLOW`."""

LOG_EVERY = 60
"""Seconds between two messages about failures."""

_SLOW = 1
"""Seconds."""

_BATCH = 1000
_MAX_WAITING = 10_000
"""The most entries that wait for the end of a transaction. More are written within it."""


class Failures:
    """What one process knows about failures of the database."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._paused_until = 0.0
        self._silent_until = 0.0
        self._lost = 0

    @property
    def is_pausing(self) -> bool:
        """Whether the database is left alone."""
        return monotonic() < self._paused_until

    def lost(self, number: int, seconds: float = 0) -> None:
        """Count entries that could not be written, and log it, but not too often.

        `seconds` is how long the failure took. Within an `except` block the error is logged too.
        """
        count("lost", number)
        with self._lock:
            current = monotonic()
            if seconds > _SLOW:
                self._paused_until = current + PAUSE
            self._lost += number
            if current < self._silent_until:
                return
            self._silent_until = current + LOG_EVERY
            total, self._lost = self._lost, 0
        _log.error(
            "%d entries could not be written to the journal, because the database failed. The "
            "changes were made; the log blobcache.audit has them.",
            total,
            exc_info=sys.exc_info()[0] is not None,
        )


failures = Failures()
"""Those of this process."""

_waiting: WeakKeyDictionary[BaseDatabaseWrapper, list[_Batch]] = WeakKeyDictionary()
"""What waits for the end of a transaction. Each thread has its own connections."""


class _Batch:
    """Entries to insert, and purges that have come to their end."""

    def __init__(self, entries: Sequence[JournalEntry], finished: Collection[str]) -> None:
        self.entries = entries
        self.finished = finished


def write(entries: Sequence[JournalEntry], finished: Collection[str] = ()) -> None:
    """Write entries, now or after the transaction, and mark purges as finished. Raises nothing."""
    try:
        using = router.db_for_write(JournalEntry)
        connection = connections[using]
        waiting = _waiting.setdefault(connection, [])
        waiting.append(_Batch(entries, finished))
        number = sum(len(batch.entries) for batch in waiting)
        if not _is_in_transaction(connection) or number > _MAX_WAITING:
            _write_waiting(connection)
        else:
            transaction.on_commit(partial(_write_if_ended, connection), using=using)
    except Exception:  # noqa: BLE001 - whatever a router or a backend of the host raises
        failures.lost(len(entries))


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether the host has begun a transaction. That of a test case is never committed."""
    return any(
        not getattr(block, "_from_testcase", False)
        for block in getattr(connection, "atomic_blocks", ())
    )


def _write_if_ended(connection: BaseDatabaseWrapper) -> None:
    """Write what waits, unless the host has begun another transaction."""
    if not _is_in_transaction(connection):
        _write_waiting(connection)


def _write_waiting(connection: BaseDatabaseWrapper) -> None:
    batches = _waiting.pop(connection, [])
    entries = [entry for batch in batches for entry in batch.entries]
    finished = {each for batch in batches for each in batch.finished}
    if not entries and not finished:
        return
    if failures.is_pausing:
        failures.lost(len(entries))
        return
    began = monotonic()
    is_old = connection.connection is not None
    try:
        try:
            _insert(connection, entries, finished)
        except Exception:
            _renew(connection)
            if not is_old or connection.connection is not None:
                raise
            # It was closed, so what it had not committed is undone.
            _insert(connection, entries, finished)
    except Exception:  # noqa: BLE001 - whatever a database, a router or a driver raises
        failures.lost(len(entries), monotonic() - began)
        with suppress(Exception):
            _renew(connection)
    else:
        count("written", len(entries))


def _renew(connection: BaseDatabaseWrapper) -> None:
    """Close a connection that is broken, so that the next change may find another one.

    Django takes one without autocommit for broken: it would end the transaction of the host.
    """
    if connection.connection is None:
        return
    if connection.get_autocommit():
        connection.close_if_unusable_or_obsolete()


def _insert(
    connection: BaseDatabaseWrapper, entries: Sequence[JournalEntry], finished: Collection[str]
) -> None:
    rows = JournalEntry.objects.using(connection.alias)
    # Within a transaction, also one that the host manages by hand, a failure must not break it: so
    # there is a savepoint.
    with transaction.atomic(using=connection.alias):
        if entries:
            rows.bulk_create(entries, batch_size=_BATCH)
        if finished:
            rows.filter(operation__in=finished, is_part=False).update(is_finished=True)


def write_after_rollback(**_: object) -> None:
    """Write at the end of a request what waited for a transaction that was rolled back."""
    if not _waiting:
        return
    for connection in connections.all(initialized_only=True):
        if connection in _waiting:
            _write_if_ended(connection)


request_finished.connect(write_after_rollback)
