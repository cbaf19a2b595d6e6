"""What a warm has done so far: how far it is, and what waits for its second look.

A batch is noted before it is written, and forgotten after its second look. So whenever a warm is
killed, the next one finds everything that may have been written and was not looked at again, and
goes on after the last link before which everything is done. What is noted names descriptors, and
is read with care: it decides about removals of just these, after another look at the storage.
"""

from __future__ import annotations

import json
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobCacheError, CacheUnavailable
from blobcache.reference import RepositoryName
from blobcache.services.truth import parse_position
from blobcache.warming.report import WarmRefused
from blobcache.warming.taking_back import Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobcache.services.work import Work

__all__ = ["MAX_BATCHES", "Journal", "Place", "Progress"]

MAX_BATCHES = 5_000
"""Batches that may wait for their second looks."""

_AT_ONCE = 50
"""Noted batches that are read in one round trip, some 20 kB each."""

_FORGOTTEN = 1000
"""Batches that are forgotten in one round trip."""

_LOW, _HIGH, _PLACE = "low", "high", "place"


class Place(NamedTuple):
    """Where everything before is done."""

    after: str = ""
    """The last repository that is done; empty for none."""

    within: str = ""
    """A later repository, of which a part is done; empty for none."""

    position: str = ""
    """The position of the last link of that part."""


class Journal:
    """The notes of one warm, as the next one will read them."""

    def __init__(self, work: Work, signature: str) -> None:
        """Of a place that was noted with another `signature` nothing is read."""
        self._work = work
        self._signature = signature
        self._next = 0
        self._waiting: set[int] = set()
        self._settled: list[int] = []
        """Batches to forget with the next note."""

    def begin(self) -> None:
        """Take the work. Raises `WarmRefused` if another process has it."""
        if not self._work.begin():
            raise WarmRefused(
                "Another warm of this registry is running, or has been killed within the last "
                "30 seconds."
            )

    def place(self) -> Place:
        """Return where the last warm stopped; the beginning if there was none."""
        (noted,) = self._work.read([_PLACE])
        with suppress(AttributeError, BlobCacheError, RecursionError, TypeError, ValueError):
            signature, after, within, position = json.loads(noted or b"")
            place = Place(after, within, position)
            for name in filter(str.__len__, (place.after, place.within)):
                RepositoryName(name)
            if len(place.position):
                parse_position(place.position)
            if signature == self._signature:
                return place
        return Place()

    def batches(self) -> Iterator[tuple[int, list[Written]]]:
        """Read the batches of an earlier warm that wait for their second looks."""
        low, high = map(_number, self._work.read([_LOW, _HIGH]))
        first = max(low, high - 2 * MAX_BATCHES)
        self._settled += range(max(low, first - MAX_BATCHES), first)
        low, self._next = first, high
        self._waiting.update(range(low, high))  # until they have been read, whatever happens
        for start in range(low, high, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, high))
            for number, noted in zip(numbers, self._work.read(map(_name, numbers)), strict=True):
                if noted is None:
                    self._waiting.discard(number)
                else:
                    yield number, list(_parse(noted))

    def note(self, repository: str, written: Sequence[Written], place: Place | None) -> int:
        """Note what is about to be written; return the number of the batch."""
        number = self._next
        self._next += 1
        self._waiting.add(number)
        self._write({_name(number): _text(repository, written), _HIGH: str(self._next)}, place)
        return number

    def replace(self, number: int, repository: str, written: Sequence[Written]) -> None:
        """Note what of a batch still waits for its second look."""
        self._write({_name(number): _text(repository, written)}, None)

    def settle(self, number: int) -> None:
        """Forget a batch, with the next note: its second look is over."""
        self._waiting.discard(number)
        self._settled.append(number)

    def renew(self, place: Place | None) -> None:
        """Note the place, and that this process still runs."""
        self._write({}, place)

    def end(self, place: Place | None) -> None:
        """Note the place, and give the work up."""
        self._write({}, place)
        while self._settled:
            self._write({}, place)
        self._work.end()

    def _write(self, notes: dict[str, str], place: Place | None) -> None:
        if place is not None:
            notes[_PLACE] = json.dumps([self._signature, *place])
        notes[_LOW] = str(min(self._waiting, default=self._next))
        forgotten = self._settled[:_FORGOTTEN]
        if not self._work.note(notes, map(_name, forgotten)):
            raise CacheUnavailable(
                "This warm was stopped for more than 30 seconds, so another process may have taken "
                "over. Run it again."
            )
        del self._settled[: len(forgotten)]


class Progress:
    """Which repositories, and which batches of them, are done: they finish in any order."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._order = 0
        """The first repository that is not done."""

        self._number = 0
        """Its first batch that is not done."""

        self._done: dict[tuple[int, int], tuple[str, str, bool]] = {}
        """What is done after that."""

        self._held: tuple[float, int] = inf, 0
        """The first batch that the place may not pass."""

    @property
    def place(self) -> Place:
        """Where everything before is done."""
        return self._place

    def hold(self, order: int, number: int) -> None:
        """Say that a batch could not be read: the place stays before it."""
        self._held = min(self._held, (order, number))

    def settle(
        self, order: int, number: int, repository: str, position: str, *, is_last: bool
    ) -> None:
        """Say that a batch of a repository is done."""
        if (order, number) > self._held:
            return
        self._done[order, number] = repository, position, is_last
        while done := self._done.pop((self._order, self._number), None):
            repository, position, is_last = done
            if is_last:
                self._place = Place(repository)
                self._order, self._number = self._order + 1, 0
            else:
                self._place = Place(self._place.after, repository, position)
                self._number += 1


def _name(number: int) -> str:
    return f"batch:{number}"


def _number(noted: bytes | None) -> int:
    return int(noted) if noted is not None and noted.isdigit() and len(noted) < 16 else 0  # noqa: PLR2004


def _text(repository: str, written: Sequence[Written]) -> str:
    """Note the descriptors of one repository, some 90 bytes each."""
    rows = [
        [
            each.digest,
            None if each.descriptor.digest == each.digest else each.descriptor.digest,
            each.descriptor.size,
            None if each.descriptor.media_type == OCTET_STREAM else each.descriptor.media_type,
            each.is_member << 3 | each.blob << 2 | each.override << 1 | each.member,
        ]
        for each in written
    ]
    return json.dumps([repository, rows], separators=(",", ":"))


def _parse(noted: bytes) -> Iterator[Written]:
    """The descriptors in a note; whatever is not one is left out."""
    try:
        name, rows = json.loads(noted)
        repository = RepositoryName(name)
    except (BlobCacheError, RecursionError, TypeError, ValueError):
        return
    for row in rows if isinstance(rows, list) else ():
        with suppress(BlobCacheError, TypeError, ValueError):
            digest, canonical, size, media_type, flags = row
            yield Written(
                repository,
                Digest(digest),
                Descriptor(canonical or digest, size, media_type or OCTET_STREAM),
                is_member=bool(flags & 8),
                blob=bool(flags & 4),
                override=bool(flags & 2),
                member=bool(flags & 1),
            )
