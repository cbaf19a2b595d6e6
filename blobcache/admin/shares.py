"""What only one repository holds: on its page, and before it is cleared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobcache.exceptions import DescriptorCorrupt
from blobcache.services.catalog import STEP
from blobcache.services.figures import SharesStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.reference import RepositoryName
    from blobcache.services.base import BrowsableProvider

__all__ = ["Freed", "freed", "shares_of"]


class Freed(NamedTuple):
    """What some repositories hold alone."""

    bytes: Sequence[int | None]
    """Of each repository alone; None where that is not known."""

    blobs: Sequence[int | None]


def shares_of(
    provider: BrowsableProvider, name: RepositoryName, count: int, *, is_asked: bool
) -> SharesStatus:
    """Return what a repository with `count` members holds alone.

    A small repository is compared with the others at each call, a larger one if the user has asked
    for it. Takes a bounded time.
    """
    store = provider.figures
    if not count:
        return SharesStatus(None, None)
    if is_asked or count <= STEP:
        return store.share_step(name)
    return store.shares(name)


def freed(provider: BrowsableProvider, names: Sequence[RepositoryName]) -> Freed:
    """Return what is stored of each, or found out within the time of a preview."""
    budgets = provider.catalog.budgets
    deadline = budgets.deadline(budgets.preview)
    found = []
    for name in names:
        shares = provider.figures.shares(name).shares
        while shares is None and not deadline.is_over:
            try:
                shares, progress = provider.figures.share_step(name)
            except DescriptorCorrupt:
                break
            if progress is None:
                break
        found.append(shares)
    return Freed(
        [shares and shares.exclusive_bytes for shares in found],
        [shares and shares.exclusive_blobs for shares in found],
    )
