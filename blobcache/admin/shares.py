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


_RECENT = 60
"""Seconds for which a result is not found out anew before something is cleared."""

_USABLE = 3600
"""Seconds for which it is shown if there is no time to find it out anew."""


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
    """Return what is found out of each within the time of a preview, or was found out lately."""
    budgets = provider.catalog.budgets
    deadline = budgets.deadline(budgets.preview)
    store = provider.figures
    found = []
    for name in names:
        kept = store.shares(name).shares
        shares = kept if kept is not None and kept.age < _RECENT else None
        while shares is None and not deadline.is_over:
            try:
                status = store.share_step(name)
            except DescriptorCorrupt:
                break
            if status.progress is None:
                shares = status.shares
                break
        if shares is None and kept is not None and kept.age < _USABLE:
            shares = kept
        found.append(shares)
    return Freed(
        [shares and shares.exclusive_bytes for shares in found],
        [shares and shares.exclusive_blobs for shares in found],
    )
