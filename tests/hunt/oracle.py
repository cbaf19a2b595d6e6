"""Which answers are right, while many threads write and anything may fail.

Every value that is written is unique: the size contains the blob and the turn in which it was
written, the media type contains both and the repository. So the hunt notices if an answer mixes two
values, belongs to another call or another blob, or is outdated.

Only one thread writes a blob, its owner, in turns with increasing numbers. All processes share
`Knowledge`: for each blob the last turn that was begun, and for each digest the last turn that
certainly took effect. A stat must answer a turn between the two. "Unknown" is always right, since
the server may evict any key. Shared blobs are written by all threads, always with turn 0.

After a set whose outcome is unknown, its write may still take effect, since it may wait in some
buffer. So no turn of its blob counts as certain for `SETTLED` seconds. A failover may lose writes
that the former primary had confirmed, so turns from before it no longer count: `Knowledge.epoch`
changes, and while it is odd no turn becomes certain.
"""

from __future__ import annotations

import hashlib
import re
from multiprocessing.context import BaseContext
from typing import NamedTuple

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.services.base import SetResult

__all__ = ["GRANTED", "NEVER", "SETTLED", "Blobs", "Knowledge", "Limits", "judge", "judge_set"]

NEVER = "hunt/never"
"""A repository that is never granted anything."""

GRANTED = tuple(f"hunt/r{number}" for number in range(6))
"""The repositories that blobs are written to."""

SETTLED = 5.0
"""Seconds after which a write of unknown outcome has happened, or never will."""

_TURN_BITS = 32
_MEDIA_TYPE = re.compile(r"application/vnd\.hunt\.([\w-]+)\.b(\d+)\.t(\d+)")


class Blobs:
    """The blobs of a hunt, each with a digest of sha256 and an alias digest of sha512."""

    def __init__(self, count: int, shared: int) -> None:
        """The first `shared` of them are written by all threads."""
        self.count, self.shared = count, shared
        words = [b"hunted blob %d" % number for number in range(count)]
        self.canonical = [Digest(f"sha256:{hashlib.sha256(word).hexdigest()}") for word in words]
        self.alias = [Digest(f"sha512:{hashlib.sha512(word).hexdigest()}") for word in words]
        self.digests = [*self.canonical, *self.alias]
        self.place = {digest: place for place, digest in enumerate(self.digests)}
        """The place of each digest in `digests`."""

    def blob(self, digest: Digest) -> int:
        """Return the number of the blob with that digest."""
        return self.place[digest] % self.count

    def descriptor(self, blob: int, turn: int, repository: str | None) -> Descriptor:
        """Return what is written for the blob in that turn."""
        scope = "global" if repository is None else repository.partition("/")[2]
        media_type = f"application/vnd.hunt.{scope}.b{blob}.t{turn}"
        return Descriptor(self.canonical[blob], (blob << _TURN_BITS) + turn, media_type)


class Knowledge:
    """What all processes know of the blobs. Each number is written by one thread."""

    def __init__(self, context: BaseContext, blobs: Blobs) -> None:
        digests = 2 * blobs.count
        self.epoch = context.RawValue("Q", 0)
        """Counts up before each failover and after it: odd until the servers have recovered."""

        self.begun = context.RawArray("Q", blobs.count)
        """By blob: the last turn that was begun."""

        self._sizes = context.RawArray("Q", digests)
        """By digest: the epoch and the last turn that certainly wrote the size."""

        self._members = context.RawArray("Q", len(GRANTED) * digests)
        """By repository and digest: the same for its override; a clear is a turn too."""

        self._digests = digests

    def limits(self, place: int, repository: str | None) -> Limits:
        """Return the earliest turns that a stat which begins now may answer."""
        size = self._sizes[place]
        override = 0 if repository is None else self._members[self._index(place, repository)]
        return Limits(self.epoch.value, size, override)

    def wrote_size(self, place: int, turn: int, epoch: int) -> None:
        """From now on no stat of the digest may answer an earlier turn."""
        self._sizes[place] = (epoch << _TURN_BITS) + turn

    def wrote_override(self, place: int, repository: str, turn: int, epoch: int) -> None:
        """The same in the repository, of its media type; a clear is a turn too."""
        self._members[self._index(place, repository)] = (epoch << _TURN_BITS) + turn

    def _index(self, place: int, repository: str) -> int:
        return GRANTED.index(repository) * self._digests + place


class Limits(NamedTuple):
    """The earliest turns that an answer may have, packed with their epochs."""

    epoch: int
    size: int
    override: int

    def earliest(self, knowledge: Knowledge) -> tuple[int, int]:
        """Return the turns for the size and the media type, when the call has ended."""
        if self.epoch != knowledge.epoch.value:
            return 0, 0
        return tuple(  # type: ignore[return-value]
            packed % (1 << _TURN_BITS) if packed >> _TURN_BITS == self.epoch else 0
            for packed in (self.size, self.override)
        )


def judge(
    blobs: Blobs,
    knowledge: Knowledge,
    digest: Digest,
    repository: str | None,
    answer: Descriptor,
    limits: Limits | None = None,
    *,
    before: int | None = None,
) -> str | None:
    """Return what is wrong with an answer about a digest; None if nothing is.

    `limits` are those from before the call. `before` is the turn of a write that reports the state
    before it: it must not report itself, as it would if it was sent twice.
    """
    blob = blobs.blob(digest)
    if repository == NEVER:
        return "a repository reads what it was never granted"
    if answer.digest != blobs.canonical[blob]:
        return "the digest of another blob"
    size_blob, size_turn = divmod(answer.size, 1 << _TURN_BITS)
    parsed = _MEDIA_TYPE.fullmatch(answer.media_type or "")
    if size_blob != blob or (parsed and int(parsed[2]) != blob):
        return "the size or the media type of another blob"
    if parsed is None:
        # Other threads clear and write the fields of a global hash separately.
        return None if repository is None and answer.media_type is None else "no media type"
    if repository is not None and parsed[1] != repository.partition("/")[2]:
        return "the media type of another repository"
    turns = (size_turn, int(parsed[3]))
    return _judge_turns(turns, knowledge.begun[blob], limits, knowledge, before)


def _judge_turns(
    turns: tuple[int, int],
    begun: int,
    limits: Limits | None,
    knowledge: Knowledge,
    before: int | None,
) -> str | None:
    if max(turns) > begun:
        return "a turn that was never begun"
    if before is not None and max(turns) >= before > 0:
        return "a write that reports itself as the state before: it was sent twice"
    if limits is not None:
        earliest = limits.earliest(knowledge)
        if turns[0] < earliest[0] or turns[1] < earliest[1]:
            return f"the turns {turns} were certainly overwritten or cleared by {earliest}"
    return None


def judge_set(
    blobs: Blobs,
    knowledge: Knowledge,
    digest: Digest,
    repository: str | None,
    turn: int,
    result: SetResult,
) -> str | None:
    """Return what is wrong with the result of a set; None if nothing is."""
    wrote = blobs.descriptor(blobs.blob(digest), turn, repository)
    reported = result.descriptor
    if (reported.digest, reported.size) != (wrote.digest, wrote.size):
        return "a set reports another descriptor than it wrote"
    if repository is not None and reported.media_type != wrote.media_type:
        return "a set reports another media type than it wrote"
    if result.created != (result.before is None):
        return "a set whose `created` contradicts its `before`"
    if result.before is None:
        return None
    return judge(blobs, knowledge, digest, repository, result.before, before=turn)
