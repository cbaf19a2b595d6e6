"""What a repository's blobs come to: how many, how heavy, of which media types, in what state."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from blobcache.redis.index import STEP

if TYPE_CHECKING:
    from blobcache.redis.inspection import State
    from blobcache.redis.service import RedisService
    from blobcache.reference import RepositoryName

__all__ = ["BUDGET", "MediaTypeTotal", "Summary", "summarize"]

BUDGET = 0.25
"""Seconds after which a sum is handed out although there are members left."""


@dataclass(frozen=True, slots=True)
class MediaTypeTotal:
    """What the blobs of one media type come to."""

    media_type: str | None
    """As the repository sees it; None where the cache never learned it."""

    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Sums over the members that one call looked at."""

    count: int
    """How many members the whole set has."""

    counted: int
    """How many of them went into these sums."""

    bytes: int
    media_types: tuple[MediaTypeTotal, ...]
    """The heaviest first."""

    states: dict[State, int]
    """How many members are in each state that occurs."""

    next: str | None
    """The cursor to go on with: the sums of the calls add up; None where nothing is left."""


def summarize(
    service: RedisService, repository: RepositoryName, cursor: str = "", budget: float = BUDGET
) -> Summary:
    """Sum up the members of `repository`, in whose scope `service` is, for `budget` seconds.

    A member that the set shows twice is counted once within a call, but maybe once in each of
    several calls. Raises `DescriptorCorrupt` if the key is not a set.
    """
    deadline = monotonic() + budget
    seen: set[str] = set()
    blobs: Counter[str | None] = Counter()
    sizes: Counter[str | None] = Counter()
    states: Counter[State] = Counter()
    while True:
        page = service.catalog.members(repository, cursor, STEP)
        members = [member for member in page.members if member not in seen]
        seen.update(members)
        for record in service.inspect(members):
            states[record.state] += 1
            if record.descriptor is not None:
                blobs[record.descriptor.media_type] += 1
                sizes[record.descriptor.media_type] += record.descriptor.size
        if page.next is None or monotonic() >= deadline:
            break
        cursor = page.next
    return Summary(
        count=page.count,
        counted=len(seen),
        bytes=sizes.total(),
        media_types=tuple(
            MediaTypeTotal(media_type, blobs[media_type], size)
            for media_type, size in sizes.most_common()
        ),
        states=dict(states),
        next=page.next,
    )
