"""Adding up the blobs of a repository, some at a time; the sums stay small, however many there are.

A repository's blobs are a set, so a layer that many of its images share is one blob. An alias, that
is another digest of a blob that is there too, is counted, but its bytes are not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

from blobcache.descriptor import validate_media_type
from blobcache.redis.evidence import which_are_members
from blobcache.redis.inspection import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from blobcache.redis.inspection import Record
    from blobcache.redis.service import RedisService
    from blobcache.reference import RepositoryName

__all__ = ["MAX_MEDIA_TYPES", "MediaTypeTotal", "Summary", "Tally", "summarize"]

MAX_MEDIA_TYPES = 100
"""So many media types are told apart; what has another one goes into one sum."""

_MAX_BITS = 128
"""Bits of the largest sum that is read back; a real sum is smaller."""


@dataclass(frozen=True, slots=True)
class MediaTypeTotal:
    """What the blobs of one media type come to."""

    media_type: str | None
    """As the repository sees it; None where the cache never learned it."""

    blobs: int
    bytes: int


@dataclass(slots=True)
class Tally:
    """The sums so far."""

    counted: int = 0
    """Members, whatever is known of them."""

    blobs: Counter[str | None] = field(default_factory=Counter)
    """By media type."""

    sizes: Counter[str | None] = field(default_factory=Counter)
    """Bytes by media type."""

    states: Counter[State] = field(default_factory=Counter)

    others: list[int] = field(default_factory=lambda: [0, 0])
    """Blobs and bytes of further media types."""

    @property
    def bytes(self) -> int:
        """Of all blobs whose size is known."""
        return self.sizes.total() + self.others[1]

    @property
    def media_types(self) -> tuple[MediaTypeTotal, ...]:
        """The heaviest first."""
        return tuple(
            MediaTypeTotal(media_type, self.blobs[media_type], size)
            for media_type, size in self.sizes.most_common()
        )

    @property
    def other_media_types(self) -> MediaTypeTotal | None:
        """What the blobs of all further media types come to; None if there are none."""
        return MediaTypeTotal(None, *self.others) if self.others[0] else None

    def add_members(
        self, service: RedisService, repository: RepositoryName, members: Sequence[str]
    ) -> None:
        """Look at some members and add them: a round trip for each chunk, one more for aliases."""
        records = service.inspect(members)
        aliases = [
            (record.digest, record.descriptor.digest)
            for record in records
            if record.descriptor is not None and record.descriptor.digest != record.digest
        ]
        answers = which_are_members(
            service.server, [(repository.encode(), canonical.encode()) for _, canonical in aliases]
        )
        counted_elsewhere = {
            alias for (alias, _), answer in zip(aliases, answers, strict=True) if answer == 1
        }
        self.add(records, counted_elsewhere)

    def add(self, records: Iterable[Record], counted_elsewhere: Iterable[str] = ()) -> None:
        """Add what is known of some members, but for the bytes of those counted elsewhere."""
        weightless = frozenset(counted_elsewhere)
        for record in records:
            self.counted += 1
            self.states[record.state] += 1
            if record.descriptor is None:
                continue
            media_type = record.descriptor.media_type
            size = 0 if record.digest in weightless else record.descriptor.size
            if media_type in self.blobs or len(self.blobs) < MAX_MEDIA_TYPES:
                self.blobs[media_type] += 1
                self.sizes[media_type] += size
            else:
                self.others[0] += 1
                self.others[1] += size

    def as_json(self) -> dict[str, Any]:
        """Return the sums as values of JSON."""
        return {
            "counted": self.counted,
            "types": [[each.media_type, each.blobs, each.bytes] for each in self.media_types],
            "others": self.others,
            "states": {state.value: number for state, number in self.states.items()},
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Undo `as_json`. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        types = [
            (_media_type(media_type), _whole(blobs), _whole(size))
            for media_type, blobs, size in facts["types"]
        ]
        if len(types) > MAX_MEDIA_TYPES:
            raise ValueError("more media types than are told apart")
        blobs, size = map(_whole, facts["others"])
        return cls(
            counted=_whole(facts["counted"]),
            blobs=Counter({media_type: blobs for media_type, blobs, _ in types}),
            sizes=Counter({media_type: size for media_type, _, size in types}),
            states=Counter({State(name): _whole(count) for name, count in facts["states"].items()}),
            others=[blobs, size],
        )


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
    service: RedisService,
    repository: RepositoryName,
    cursor: str = "",
    budget: float | None = None,
) -> Summary:
    """Sum up the members of `repository`, in whose scope `service` is, for `budget` seconds.

    The default is `Budgets.summary`. A member that the set shows twice is counted once within a
    call, but maybe once in each of several calls. Raises `DescriptorCorrupt` if the key is not a
    set.
    """
    budgets = service.catalog.budgets
    deadline = budgets.deadline(budgets.summary if budget is None else budget)
    seen: set[str] = set()
    tally = Tally()
    while True:
        page = service.catalog.members(repository, cursor, budgets.step)
        members = [member for member in page.members if member not in seen]
        seen.update(members)
        tally.add_members(service, repository, members)
        if page.next is None or deadline.is_over:
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


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value.bit_length() <= _MAX_BITS or value < 0:
        raise ValueError("not a number of blobs or bytes")
    return value


def _media_type(value: object) -> str | None:
    if value is not None:
        validate_media_type(value)
    return cast("str | None", value)
