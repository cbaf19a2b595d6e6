"""Purging: clear a blob in every repository and globally, one bounded step a call.

The steps call the public `clear` of each scope, so every repository's change is announced and
counted by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.exceptions import BlobUnknown, CursorInvalid
from blobcache.services.base import PurgeResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.base import (
        BlobDescriptorCacheProvider,
        BlobDescriptorService,
        BrowsableProvider,
    )

__all__ = ["purge_holders", "purge_step"]

_MAX_DIGITS = 15
"""Digits of the longest serial number of an index build."""


def purge_step(provider: BrowsableProvider, digest: Digest, cursor: str) -> PurgeResult:
    """Clear the blob in the repositories that the catalog finds, for a bounded time.

    The walk begins with a new build of the index, since the old index cannot know a repository that
    a registry has written to since. So the first steps may only build. A step ends by time
    (`Budgets.purge`) or when it has cleared the blob in some thousand repositories. So the number
    of steps reveals almost nothing about repositories that the caller may not view.
    """
    catalog = provider.catalog
    budgets = catalog.budgets
    deadline = budgets.deadline(budgets.purge)
    if cursor:
        begun, _, after = cursor.partition("/")
        serial = _serial(begun)
    else:
        serial, after = catalog.status().begun, ""
        _clear(provider, digest)
    if catalog.build_step(budgets.purge, newer_than=serial).indexed <= serial:
        return PurgeResult((), f"{serial}/{after}")
    cleared: list[RepositoryName] = []
    while True:
        page = catalog.holders(digest, after)
        cleared += _clear_in(provider, digest, (holder.name for holder in page.holders))
        if page.next is None:
            break
        after = page.next
        if deadline.is_over or len(cleared) >= budgets.purged_repositories:
            return PurgeResult(tuple(cleared), f"{serial}/{after}")
    _clear(provider, digest)
    return PurgeResult(tuple(cleared), None)


def purge_holders(
    provider: BlobDescriptorCacheProvider, digest: Digest, holders: Iterable[RepositoryName]
) -> PurgeResult:
    """Clear the blob in these repositories, which are all that hold it, and globally: one step."""
    cleared = _clear_in(provider, digest, holders)
    _clear(provider, digest)
    return PurgeResult(tuple(cleared), None)


def _clear_in(
    provider: BlobDescriptorCacheProvider, digest: Digest, names: Iterable[RepositoryName]
) -> list[RepositoryName]:
    """Clear the blob in these repositories; return those that knew it."""
    return [name for name in names if _clear(provider.repository_scoped(name), digest)]


def _clear(service: BlobDescriptorService, digest: Digest) -> bool:
    """Clear the blob in this scope; return whether the scope knew it."""
    try:
        service.clear(digest)
    except BlobUnknown:
        return False
    return True


def _serial(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise CursorInvalid("The cursor does not come from a purge.")
    return int(text)
