"""Delete the entries that are older than the setting ``JOURNAL_DAYS``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import router
from django.utils.timezone import now

from blobcache.models import JournalEntry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from django.db.models import QuerySet

__all__ = ["prune"]

_BATCH = 1000


def prune(days: int, registries: Collection[str] | None = None) -> Iterator[int]:
    """Delete what is older than so many days, and yield the number after each batch.

    Each batch is a short transaction of its own, so other writers do not wait long. Without
    `registries`, entries of those that are not configured any more are deleted too.
    """
    rows = JournalEntry.objects.using(router.db_for_write(JournalEntry))
    before = now() - timedelta(days=days)
    for registry in _registries(rows):
        if registries is not None and registry not in registries:
            continue
        for is_part in (False, True):
            old = rows.filter(registry=registry, is_part__in=(is_part,), time__lt=before)
            while batch := list(old.order_by("time", "id").values_list("pk", flat=True)[:_BATCH]):
                rows.filter(pk__in=batch).delete()
                yield len(batch)


def _registries(rows: QuerySet[JournalEntry]) -> Iterator[str]:
    """Yield the registries that have entries. Each is one query by the index: there are few."""
    names = rows.order_by("registry").values_list("registry", flat=True)
    found = names.first()
    while found is not None:
        yield found
        found = names.filter(registry__gt=found).first()
