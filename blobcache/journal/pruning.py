"""Delete the entries that are older than the setting ``JOURNAL_DAYS``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import router
from django.utils.timezone import now

from blobcache.models import JournalEntry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["prune"]

_BATCH = 1000


def prune(days: int, registries: Collection[str] | None = None) -> Iterator[int]:
    """Delete what is older than so many days, and yield the number after each batch.

    Each batch is a short transaction of its own, so other writers do not wait long. Without
    `registries`, entries of those that are not configured any more are deleted too.
    """
    rows = JournalEntry.objects.using(router.db_for_write(JournalEntry))
    before = now() - timedelta(days=days)
    registry: str | None = ""
    while registry is not None:
        # The next name, by the index: there are few, and many entries.
        following = rows.filter(registry__gt=registry).order_by("registry")
        registry = following.values_list("registry", flat=True).first()
        is_asked = registry is not None and (registries is None or registry in registries)
        for is_part in (False, True) if is_asked else ():
            old = rows.filter(registry=registry, is_part__in=(is_part,), time__lt=before)
            while batch := list(old.order_by("time", "id").values_list("pk", flat=True)[:_BATCH]):
                rows.filter(pk__in=batch).delete()
                yield len(batch)
