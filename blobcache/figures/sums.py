"""Adding up the members of a repository, some at a time; the sums stay small, however many it has.

A repository's blobs are a set, so a layer that many of its images share is one blob. An alias,
which is another digest of a blob that is a member too, is counted, but its bytes are not added.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

from blobcache.descriptor import validate_media_type
from blobcache.findings import RECORD_KINDS, Kind
from blobcache.services.figures import MediaTypeTotal, Sums

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from blobcache.services.records import Record, RecordReader

__all__ = ["MAX_MEDIA_TYPES", "RunningSums"]

MAX_MEDIA_TYPES = 100
"""The number of media types with sums of their own; all others are added up together."""

_MAX_BITS = 128
"""Bits of the largest sum that is read back; a real sum is smaller."""


@dataclass(slots=True)
class RunningSums:
    """The sums so far."""

    members: int = 0
    """All of them, damaged ones included."""

    blobs: Counter[str | None] = field(default_factory=Counter)
    """By media type."""

    sizes: Counter[str | None] = field(default_factory=Counter)
    """Bytes by media type."""

    states: Counter[Kind] = field(default_factory=Counter)

    others: list[int] = field(default_factory=lambda: [0, 0])
    """Blobs and bytes of all other media types."""

    @property
    def bytes(self) -> int:
        """Of all blobs whose size is known."""
        return self.sizes.total() + self.others[1]

    def value(self) -> Sums:
        """Return the sums as they are now."""
        return Sums(
            blobs=self.members,
            bytes=self.bytes,
            media_types=tuple(self._media_types()),
            other_media_types=MediaTypeTotal(None, *self.others) if self.others[0] else None,
            states=dict(self.states),
        )

    def _media_types(self) -> Iterable[MediaTypeTotal]:
        """The largest first."""
        return (
            MediaTypeTotal(media_type, self.blobs[media_type], size)
            for media_type, size in self.sizes.most_common()
        )

    def add_members(self, service: RecordReader, members: Sequence[str]) -> None:
        """Read some members in their repository's `service`, and add them.

        One round trip for each chunk of them, and likewise for the blobs that aliases name.
        """
        records = service.records(members)
        targets = {
            record.digest: record.descriptor.digest
            for record in records
            if record.descriptor is not None and record.descriptor.digest != record.digest
        }
        found = service.records([*targets.values()]) if targets else ()
        members_too = {record.digest for record in found if record.is_member}
        self.add(records, {alias for alias, target in targets.items() if target in members_too})

    def add(self, records: Iterable[Record], aliases: Collection[str] = ()) -> None:
        """Add records; skip the bytes of `aliases`, whose canonical digests are members too."""
        for record in records:
            self.members += 1
            self.states[record.kind] += 1
            if record.descriptor is None:
                continue
            media_type = record.descriptor.media_type
            size = 0 if record.digest in aliases else record.descriptor.size
            if media_type in self.blobs or len(self.blobs) < MAX_MEDIA_TYPES:
                self.blobs[media_type] += 1
                self.sizes[media_type] += size
            else:
                self.others[0] += 1
                self.others[1] += size

    def add_sums(self, sums: Sums) -> None:
        """Add the sums of other members, such as those of the next part of a repository."""
        self.members += sums.blobs
        self.states.update(sums.states)
        for each in sums.media_types:
            if each.media_type in self.blobs or len(self.blobs) < MAX_MEDIA_TYPES:
                self.blobs[each.media_type] += each.blobs
                self.sizes[each.media_type] += each.bytes
            else:
                self._add_others(each)
        if sums.other_media_types is not None:
            self._add_others(sums.other_media_types)

    def _add_others(self, total: MediaTypeTotal) -> None:
        self.others[0] += total.blobs
        self.others[1] += total.bytes

    def as_json(self) -> dict[str, Any]:
        """Return the sums as values of JSON."""
        return {
            "counted": self.members,
            "types": [[each.media_type, each.blobs, each.bytes] for each in self._media_types()],
            "others": self.others,
            "states": {state.value: number for state, number in self.states.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Undo `as_json`. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        types = [
            (_media_type(media_type), _whole(blobs), _whole(size))
            for media_type, blobs, size in values["types"]
        ]
        if len(types) > MAX_MEDIA_TYPES:
            raise ValueError("more media types than have sums of their own")
        blobs, size = map(_whole, values["others"])
        return cls(
            members=_whole(values["counted"]),
            blobs=Counter({media_type: blobs for media_type, blobs, _ in types}),
            sizes=Counter({media_type: size for media_type, _, size in types}),
            states=Counter(
                {_kind(name): _whole(count) for name, count in values["states"].items()}
            ),
            others=[blobs, size],
        )


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value.bit_length() <= _MAX_BITS or value < 0:
        raise ValueError("not a number of blobs or bytes")
    return value


def _kind(value: str) -> Kind:
    kind = Kind(value)
    if kind not in RECORD_KINDS:
        raise ValueError("not a kind of record")
    return kind


def _media_type(value: object) -> str | None:
    if value is not None:
        validate_media_type(value)
    return cast("str | None", value)
