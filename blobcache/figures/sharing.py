"""Bytes that other repositories have too: clearing this one would not free them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.digest import Digest
from blobcache.services.figures import Sharing

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobcache.figures.catalog import IndexedCatalog
    from blobcache.services.records import RecordReader

__all__ = ["MAX_COMPARED", "shared_bytes"]

MAX_COMPARED = 250
"""How many of the largest blobs are compared; they have nearly all of the bytes."""


def shared_bytes(
    catalog: IndexedCatalog,
    repository_scoped: Callable[[str], RecordReader],
    repository: str,
) -> Sharing:
    """See `FigureStore.shared_bytes`."""
    budgets = catalog.budgets
    page = catalog.members(repository, limit=budgets.step)
    deadline = budgets.deadline(budgets.sharing)
    sizes = {
        record.digest: record.descriptor.size
        for record in repository_scoped(repository).records(page.members)
        # The bytes of an alias are those of its canonical digest.
        if record.descriptor and record.descriptor.digest == record.digest
    }
    largest = sorted(sizes, key=lambda digest: -sizes[digest])
    compared = [digest for digest in largest if isinstance(digest, Digest)][:MAX_COMPARED]
    shared: set[str] = set()
    left, after = compared, b"" if compared else None
    while left and after is not None and not deadline.is_over:
        held, after = catalog.held_elsewhere(left, after, besides=repository)
        shared |= held
        left = [digest for digest in left if digest not in held]
    is_complete = not (left and after is not None) and len(compared) == len(largest)
    return Sharing(
        sum(sizes[digest] for digest in shared),
        sum(sizes.values()),
        is_least=not is_complete or page.next is not None,
    )
