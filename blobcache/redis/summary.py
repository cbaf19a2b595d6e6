"""What a repository's blobs come to: how many, how heavy, of which media types, in what state."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from blobcache.redis.index import STEP
from blobcache.redis.tally import MediaTypeTotal, Tally

if TYPE_CHECKING:
    from blobcache.redis.inspection import State
    from blobcache.redis.service import RedisService
    from blobcache.reference import RepositoryName

__all__ = ["BUDGET", "MediaTypeTotal", "Summary", "summarize"]

BUDGET = 0.25
"""Seconds after which a sum is handed out although there are members left."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Sums over the members that one call looked at."""

    count: int
    """How many members the whole set has."""

    counted: int
    """How many of them went into these sums."""

    bytes: int
    """Each blob once, though an alias is a member too."""

    media_types: tuple[MediaTypeTotal, ...]
    """The heaviest first; not more than some."""

    other_media_types: MediaTypeTotal | None
    """All further ones together, if there are any."""

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
    tally = Tally()
    while True:
        page = service.catalog.members(repository, cursor, STEP)
        members = [member for member in page.members if member not in seen]
        seen.update(members)
        tally.add_members(service, repository, members)
        if page.next is None or monotonic() >= deadline:
            break
        cursor = page.next
    return Summary(
        count=page.count,
        counted=tally.counted,
        bytes=tally.bytes,
        media_types=tally.media_types,
        other_media_types=tally.other_media_types,
        states=dict(tally.states),
        next=page.next,
    )
