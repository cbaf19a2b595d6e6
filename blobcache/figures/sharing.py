"""How much of what a repository holds others hold too: bytes that its removal would not free."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobcache.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobcache.redis.inspection import Record
    from blobcache.redis.service import RedisBlobDescriptorCacheProvider

__all__ = ["HEAVIEST", "Sharing", "sharing"]

HEAVIEST = 250
"""Of so many blobs it is asked who else holds them; they are nearly all of the bytes."""


class Sharing(NamedTuple):
    """What others hold too."""

    bytes: int
    of: int
    """Bytes of all blobs."""

    is_least: bool
    """Whether it may be more: not all blobs, or not all repositories, were asked about."""

    @property
    def percent(self) -> float:
        """The share of the bytes."""
        return 100 * self.bytes / self.of if self.of else 0.0


def sharing(
    provider: RedisBlobDescriptorCacheProvider,
    repository: str,
    records: Iterable[Record],
    budget: float | None = None,
) -> Sharing:
    """Ask the other repositories for the heaviest of a repository's blobs, given as its records.

    It asks for `budget` seconds, by default `Budgets.sharing`, and returns what it has found then.
    """
    budgets = provider.catalog.budgets
    deadline = budgets.deadline(budgets.sharing if budget is None else budget)
    sizes = {
        record.digest: record.descriptor.size
        for record in records
        # Of an alias the canonical digest has the bytes.
        if record.descriptor and record.descriptor.digest == record.digest
    }
    heaviest = sorted(sizes, key=lambda digest: -sizes[digest])
    asked = [digest for digest in heaviest if isinstance(digest, Digest)][:HEAVIEST]
    shared: set[str] = set()
    left, after = asked, b"" if asked else None
    while left and after is not None and not deadline.is_over:
        held, after = provider.catalog.held(left, after, besides=repository)
        shared |= held
        left = [digest for digest in left if digest not in held]
    return Sharing(
        sum(sizes[digest] for digest in shared),
        sum(sizes.values()),
        is_least=bool(left and after is not None) or len(asked) < len(heaviest),
    )
