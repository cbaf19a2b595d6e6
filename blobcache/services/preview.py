"""What a purge of many blobs would clear, as far as the index knows: one bounded step a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blobcache.reference import RepositoryName, name_cursor, raw_name
from blobcache.services.catalog import STEP
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blobcache.digest import Digest
    from blobcache.services.base import BrowsableProvider
    from blobcache.services.catalog import CatalogStatus

__all__ = ["PurgePreview", "preview_purge"]


@dataclass(frozen=True, slots=True)
class PurgePreview:
    """Some of the repositories that hold some blobs."""

    held: Mapping[Digest, Sequence[RepositoryName]] = field(default_factory=dict)
    """By digest: the repositories of this step that hold it. Digests without any are left out."""

    next: str | None = None
    """The cursor to call again with; None at the end."""

    status: CatalogStatus | None = None
    """The state of the index that the names come from."""


def preview_purge(
    provider: BrowsableProvider,
    digests: Sequence[Digest],
    cursor: str = "",
    visible: Visible = ALL,
) -> PurgePreview:
    """Find out which `visible` repositories after the cursor hold the blobs.

    A step ends after `Budgets.preview` seconds, or after `Budgets.purged_repositories` findings; it
    asks at least some repositories about all the digests. Nothing is read about other repositories.
    Raises `CacheUnavailable`.
    """
    budgets, walk = provider.catalog.budgets, provider.walk()
    deadline = budgets.deadline(budgets.preview)
    size = max(1, min(budgets.step, STEP // max(len(digests), 1)))
    held: dict[Digest, list[RepositoryName]] = {}
    count = 0
    following: str | None = cursor
    while following is not None:
        page = provider.catalog.repositories("", following, budgets.step, visible)
        following = page.next
        names = [each.name for each in page.repositories if isinstance(each.name, RepositoryName)]
        for start in range(0, len(names) if digests else 0, size):
            group = [raw_name(name) for name in names[start : start + size]]
            for first in range(0, len(digests), STEP):
                for name, digest in walk.holding(group, digests[first : first + STEP]):
                    held.setdefault(digest, []).append(name)
                    count += 1
            is_over = deadline.is_over or count >= budgets.purged_repositories
            if is_over and start + size < len(names):
                return PurgePreview(held, name_cursor(group[-1]), page.status)
        if not digests or deadline.is_over or count >= budgets.purged_repositories:
            return PurgePreview(held, following if digests else None, page.status)
    return PurgePreview(held, None, page.status)
