"""What a repository, or a namespace, holds alone, and what others hold too.

A walk over the members, some hundred at a time: all other repositories in the index are asked about
them, until each blob is found elsewhere or everybody was asked. It goes on from where the step
before stopped, so it takes any number of blobs and repositories. Its position and its sums so far
are stored beside the index, and so is the result, with the time when the walk began: what was
pushed or cleared since then, or is missing in the index, is not in it.

The name of a namespace ends in a slash here: the namespace of ``team/app`` is ``team/``. A blob
that several of its repositories hold is counted once, for the first of them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from heapq import nlargest
from time import time
from typing import TYPE_CHECKING, Any, Self

from blobcache.digest import Digest
from blobcache.exceptions import CursorInvalid, DescriptorCorrupt
from blobcache.reference import RepositoryName, name_cursor, raw_name, repository_text
from blobcache.services.figures import Shares, SharesStatus, SizedDigest
from blobcache.transport.server import scan_position, scan_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobcache.figures.catalog import IndexedCatalog
    from blobcache.redis.keys import CatalogKeys
    from blobcache.services.catalog import Deadline
    from blobcache.services.records import RecordReader
    from blobcache.transport.packing import Command, Reply

__all__ = ["KEPT", "LARGEST", "ShareStore"]

KEPT = 7 * 24 * 3600
"""Seconds that a result is stored."""

LARGEST = 100
"""Blobs that the result names: the largest of those that nobody else holds."""

_STALE = 3600
"""Seconds. A walk that nobody continues for so long starts again."""

_CHUNK = 500
"""Members that the others are asked about together."""

_LAST = b"\xff"
"""Sorts behind every byte of a name."""

_MAX_STORED = 512 * 1024
"""Bytes. The position of a walk, with the members that it is asking about, needs less."""


@dataclass(slots=True)
class _Walk:
    """The position of a walk, and its sums so far."""

    at: float
    """When it began."""

    of: str
    """The server that the cursors are of."""

    repository: str = ""
    """Whose members are being read."""

    cursor: str | None = ""
    """Of its next members; None if there are no more."""

    left: dict[str, int] = field(default_factory=dict)
    """The sizes of the members that no other repository was found to hold yet."""

    is_inside: bool = False
    """Whether the repositories of the same namespace are being asked, and not the others."""

    after: str = ""
    """The last repository that was asked about these members."""

    sums: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Exclusive blobs and bytes, shared blobs and bytes."""

    largest: list[SizedDigest] = field(default_factory=list)

    @classmethod
    def parse(cls, stored: Reply) -> Self | None:
        """Undo `text`; None if another program wrote the value."""
        values = _values(stored)
        try:
            walk = cls(**values)
            scan_position(walk.cursor or "")
            raw_name(walk.after)
            walk.left = {
                str(Digest(each, allow_tarsum=True)): int(size)
                for each, size in (walk.left.items())
            }
            walk.largest = _largest(walk.largest)
            if walk.repository:
                RepositoryName(walk.repository)
            walk.at, walk.of, walk.after = float(walk.at), str(walk.of), str(walk.after)
            walk.is_inside, walk.sums = bool(walk.is_inside), [*map(int, walk.sums)]
            return walk if len(walk.sums) == 4 and min(walk.sums) >= 0 else None  # noqa: PLR2004
        except (CursorInvalid, *_INVALID):
            return None

    def text(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def settle(self) -> None:
        """Nobody else holds the members that are left."""
        self.sums[0] += len(self.left)
        self.sums[1] += sum(self.left.values())
        both = [*self.largest, *(SizedDigest(*each) for each in self.left.items())]
        self.largest = nlargest(LARGEST, both, key=lambda each: each.size)
        self.left = {}

    def share(self, digests: set[Digest]) -> None:
        """Others hold these too."""
        for digest in digests:
            self.sums[2] += 1
            self.sums[3] += self.left.pop(digest)

    def result(self) -> Shares:
        """What the whole walk has shown."""
        exclusive, exclusive_bytes, shared, shared_bytes = self.sums
        return Shares(
            exclusive,
            exclusive_bytes,
            shared,
            shared_bytes,
            datetime.fromtimestamp(self.at, UTC),
            tuple(self.largest),
        )


class ShareStore:
    """Walks, and stores the results."""

    def __init__(
        self,
        catalog: IndexedCatalog,
        scoped: Callable[[str], RecordReader],
        identity: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._scoped = scoped
        self._identity = identity

    def get(self, scope: str) -> SharesStatus:
        """See `FigureStore.shares`. One round trip."""
        result, position = self._ask(
            [
                ("GET", self._keys.note(f"shares:{scope}")),
                ("GET", self._keys.note(f"sharing:{scope}")),
            ]
        )
        walk = _Walk.parse(position)
        return SharesStatus(_result(result), None if walk is None else _progress(walk))

    def step(self, scope: str) -> SharesStatus:
        """See `FigureStore.share_step`."""
        status = self._catalog.status()
        if not status.complete:
            status = self._catalog.build_step()
        if not status.is_built:
            return SharesStatus(None, None)
        budgets = self._catalog.budgets
        may_keep = self._catalog.may_write
        position = (
            self._ask([("GET", self._keys.note(f"sharing:{scope}"))])[0] if may_keep else None
        )
        identity = self._identity()
        walk = _Walk.parse(position)
        if walk is None or walk.of != identity or time() - walk.at > _STALE * 24:
            if may_keep and status.may_scan and status.building and not status.complete:
                # An index that is too old lacks repositories, which may hold the same blobs.
                return self.get(scope)._replace(progress=0.0)
            walk = _Walk(time(), identity)
        is_done = self._advance(walk, scope, budgets.deadline(budgets.sharing))
        if not may_keep:
            return SharesStatus(walk.result() if is_done else None, None)
        key = self._keys.note(f"sharing:{scope}")
        if not is_done:
            self._ask([("SET", key, walk.text(), "EX", str(_STALE))])
            return self.get(scope)
        result = walk.result()
        stored = json.dumps([walk.at, *walk.sums, walk.largest], separators=(",", ":"))
        self._ask(
            [("SET", self._keys.note(f"shares:{scope}"), stored, "EX", str(KEPT)), ("DEL", key)]
        )
        return SharesStatus(result, None)

    def _advance(self, walk: _Walk, scope: str, deadline: Deadline) -> bool:
        """Walk on until the time is up; return whether the walk is finished."""
        while True:
            if walk.left:
                self._ask_others(walk, scope)
            elif not self._read(walk, scope):
                return True
            if deadline.is_over:
                return False

    def _read(self, walk: _Walk, scope: str) -> bool:
        """Read the next members, if there are any; return whether this was not the end."""
        if walk.cursor is None or not walk.repository:
            following = self._next_repository(walk.repository, scope)
            if following is None:
                return False
            walk.repository, walk.cursor = following, ""
        name = RepositoryName(walk.repository)
        try:
            page = self._catalog.members(name, walk.cursor, _CHUNK)
        except DescriptorCorrupt:
            if not _is_namespace(scope):
                raise
            walk.cursor = None
            return True
        digests = [member for member in page.members if isinstance(member, Digest)]
        walk.left, walk.cursor = self._sizes(name, digests), page.next
        walk.is_inside = _is_namespace(scope)
        walk.after = name_cursor(_before(scope)) if walk.is_inside else ""
        return True

    def _sizes(self, name: RepositoryName, digests: list[Digest]) -> dict[str, int]:
        """The size of each; 0 for an alias of another member, and where it is not known."""
        service = self._scoped(name)
        records = service.records(digests)
        targets = {
            each.digest: each.descriptor.digest
            for each in records
            if each.descriptor is not None and each.descriptor.digest != each.digest
        }
        found = service.records([*targets.values()]) if targets else ()
        members = {each.digest for each in found if each.is_member}
        return {
            each.digest: each.descriptor.size
            if each.descriptor is not None and targets.get(each.digest) not in members
            else 0
            for each in records
        }

    def _next_repository(self, after: str, scope: str) -> str | None:
        if not _is_namespace(scope):
            return None if after else scope
        name = raw_name(after)
        more = True
        while more:
            prefix = scope.removesuffix("/")
            names, more = self._catalog.index.names(name, prefix=prefix)
            for name in names:
                text = repository_text(name)
                if name > raw_name(scope) + _LAST:
                    return None
                if isinstance(text, RepositoryName) and _is_in(text, scope):
                    return text
        return None

    def _ask_others(self, walk: _Walk, scope: str) -> None:
        """Ask some repositories about the members that are left."""
        digests = [Digest(each, allow_tarsum=True) for each in walk.left]
        held, after = self._catalog.held_elsewhere(
            digests, raw_name(walk.after), among=lambda name: _is_asked(name, walk, scope)
        )
        if walk.is_inside:
            for digest in held:  # it was counted for another repository of the namespace
                del walk.left[digest]
        else:
            walk.share(held)
        if walk.is_inside and (after is None or after >= raw_name(walk.repository)):
            walk.is_inside, walk.after = False, ""
        elif after is None:
            walk.settle()
        elif _is_namespace(scope) and not walk.is_inside and after.startswith(raw_name(scope)):
            walk.after = name_cursor(raw_name(scope) + _LAST)  # behind the namespace itself
        else:
            walk.after = name_cursor(after)

    @property
    def _keys(self) -> CatalogKeys:
        return self._catalog.index.keys

    def _ask(self, commands: list[Command]) -> list[Reply]:
        return self._catalog.index.server.batch(commands, own=True)


def _before(scope: str) -> bytes:
    """What is right before the first name of the namespace: names are ASCII."""
    first = raw_name(scope.removesuffix("/"))
    return first[:-1] + bytes([first[-1] - 1]) + _LAST


def _is_namespace(scope: str) -> bool:
    return scope.endswith("/")


def _is_in(name: str, scope: str) -> bool:
    return name.startswith(scope) or name == scope.removesuffix("/")


def _is_asked(name: str, walk: _Walk, scope: str) -> bool:
    """Whether a repository is asked now."""
    if not _is_namespace(scope):
        return name != walk.repository
    if not walk.is_inside:
        return not _is_in(name, scope)
    return _is_in(name, scope) and raw_name(name) < raw_name(walk.repository)


def _progress(walk: _Walk) -> float:
    return scan_progress(walk.cursor or "") if walk.cursor else 0.0


def _result(stored: Reply) -> Shares | None:
    values = _values(stored)
    try:
        at, *sums, largest = values
        exclusive, exclusive_bytes, shared, shared_bytes = map(int, sums)
        moment = datetime.fromtimestamp(float(at), UTC)
        blobs = tuple(_largest(largest))
        return Shares(exclusive, exclusive_bytes, shared, shared_bytes, moment, blobs)
    except _INVALID:
        return None


def _largest(values: Any) -> list[SizedDigest]:
    return [SizedDigest(str(Digest(each, allow_tarsum=True)), int(size)) for each, size in values][
        :LARGEST
    ]


_INVALID = (AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError)


def _values(stored: Reply) -> Any:
    if not isinstance(stored, bytes) or len(stored) > _MAX_STORED:
        return None
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        return None
