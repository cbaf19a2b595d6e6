"""Purging: clear blobs in every repository and globally, one bounded step a call.

1. The global descriptors are cleared: no repository can read the blobs any more.
2. The blobs are cleared in the repositories that the index knows, whatever its age.
3. One walk over all keys, which all digests of the call share, finds the other repositories.
4. The global descriptors are cleared again, since a registry may have cached them meanwhile.

The parts call the public `clear` of each scope, so every repository's change is announced and
counted by itself. A part may be repeated, since it no longer finds what it has cleared. So a step
may end anywhere, and its cursor may be used twice.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING

from blobcache.exceptions import BlobUnknown, CacheUnavailable, CursorInvalid
from blobcache.reference import name_cursor, raw_name
from blobcache.services.audit import Purge, begin_purge, purging
from blobcache.services.base import Certainty, PurgeManyResult
from blobcache.services.catalog import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.base import (
        BlobDescriptorCacheProvider,
        BlobDescriptorService,
        BrowsableProvider,
        PurgeResult,
    )
    from blobcache.services.records import Membership

__all__ = ["PurgesMany", "purge_memberships", "purge_step"]

_log = logging.getLogger("blobcache.purge")

_TOGETHER = 100
"""Clears after which a step looks at the time."""

_SCANS = 64
"""Commands of the walk after which the repositories that were found are asked, even if few."""

_KEYS = STEP // 4
"""The most keys that a command of the walk looks at: half a millisecond on the slowest server."""

_QUESTIONS = 250_000
"""The most questions about the repositories that one command of the walk finds."""

_GLOBAL, _INDEX, _WALK, _LAST, _END = "g", "i", "w", "l", ""
"""The parts of a purge, as they stand in its cursor."""

_CERTAIN = {
    _GLOBAL: Certainty.NOTHING,
    _INDEX: Certainty.GLOBAL,
    _WALK: Certainty.INDEXED,
    _LAST: Certainty.INDEXED,
    _END: Certainty.EVERYWHERE,
}

_FINGERPRINT = 32
"""Characters of a hash that stands for the digests, or for the server, in a cursor."""

_ID = 16
"""Characters of a purge's id, which its cursors carry."""


class PurgesMany:
    """Implements a provider's `purge` by its `purge_many`."""

    __slots__ = ()

    def purge_many(self, digests: Iterable[str], cursor: str = "") -> PurgeManyResult:
        """See `BlobDescriptorCacheProvider.purge_many`."""
        raise NotImplementedError

    def purge(self, digest: str, cursor: str = "") -> PurgeResult:
        """See `BlobDescriptorCacheProvider.purge`."""
        result = self.purge_many([digest], cursor)
        return result.of(result.digests[0])


def purge_step(
    provider: BrowsableProvider,
    digests: Sequence[Digest],
    cursor: str,
    announce: Callable[[Digest], None],
) -> PurgeManyResult:
    """Continue the purge for a bounded time; `announce` each digest whose purge is complete.

    A step ends after `Budgets.purge` seconds, which it checks after each hundred clears, or after
    `Budgets.purged_repositories` clears. If Redis fails after the step has made progress, it
    returns what it did, and the next step raises `CacheUnavailable`.
    """
    # Sorting what is sorted takes little time, unlike sorting a set, and each step does it.
    step = _Step(provider, sorted(dict.fromkeys(digests)), cursor, announce)
    try:
        with purging(step.purge):
            step.run()
    except CacheUnavailable:
        if not step.has_progressed:
            raise
        _log.warning("A step of a purge ended early, because Redis failed.", exc_info=True)
    except BaseException:  # such as an interrupt: what was cleared must not be parts of nothing
        step.begin()
        raise
    step.begin()
    return step.result()


def purge_memberships(
    provider: BlobDescriptorCacheProvider,
    digests: Iterable[Digest],
    memberships: Iterable[Membership],
    announce: Callable[[Digest], None],
    registry: str,
) -> PurgeManyResult:
    """Clear these memberships, which must be all of these digests, and then globally: one step."""
    digests = sorted(set(digests))
    cleared: dict[Digest, list[RepositoryName]] = {}
    purge = Purge(token_hex(_ID // 2), digests)
    with purging(purge):
        for name, digest in memberships:
            if _clear(provider.repository_scoped(name), digest):
                cleared.setdefault(digest, []).append(name)
        for digest in digests:
            _clear(provider, digest)
            announce(digest)
    if digests:
        begin_purge(registry, purge)
    return _result(digests, cleared, None, Certainty.EVERYWHERE)


class _Step:
    """One step of a purge. It knows the current part of the purge, and the progress of that part.

    | part | progress |
    |---|---|
    | `_GLOBAL`, `_LAST` | the number of digests that are done |
    | `_INDEX` | the last repository that is done |
    | `_WALK` | the server, and the cursor of its scan; empty before the walk begins |
    """

    def __init__(
        self,
        provider: BrowsableProvider,
        digests: Sequence[Digest],
        cursor: str,
        announce: Callable[[Digest], None],
    ) -> None:
        self._provider = provider
        self._digests = digests
        self._announce = announce
        self._fingerprint = _hash("\n".join(digests))
        self._id, self._part, self._at = self._place(cursor)
        self.is_first = self._id == ""
        self.purge = Purge(self._id or token_hex(_ID // 2), digests)
        self._begun = self._part, self._at
        self._budgets = provider.catalog.budgets
        self._deadline = self._budgets.deadline(self._budgets.purge)
        self._walk = provider.walk()
        self._server: str | None = None
        """A hash of the server that this step walks; None until the server is asked for it."""

        self._cleared: dict[Digest, list[RepositoryName]] = {}
        self._count = 0

    def begin(self) -> None:
        """Say that the purge has begun, if this was its first step."""
        if self.is_first and self.purge.digests:
            begin_purge(self._provider.rules.registry, self.purge)

    @property
    def has_progressed(self) -> bool:
        """Whether the next step has less to do than this one had."""
        return self._count > 0 or (self._part, self._at) != self._begun

    def run(self) -> None:
        """Continue until the end of the step or of the purge."""
        parts = {
            _GLOBAL: self._clear_first,
            _INDEX: self._clear_indexed,
            _WALK: self._clear_walked,
            _LAST: self._clear_last,
        }
        while self._part != _END:
            parts[self._part]()
            if self._is_over:
                break

    def result(self) -> PurgeManyResult:
        """Return what the step did."""
        following = (
            f"{self._fingerprint}{self.purge.id}/{self._part}/{self._at}" if self._part else None
        )
        return _result(self._digests, self._cleared, following, _CERTAIN[self._part])

    @property
    def _is_over(self) -> bool:
        return self._count >= self._budgets.purged_repositories or self._deadline.is_over

    def _place(self, cursor: str) -> tuple[str, str, str]:
        """The purge's id, the part and its progress; the id is empty if it is yet to be made."""
        if not self._digests:
            return "", _END, ""
        if not cursor:
            return "", _GLOBAL, "0"
        head, _, place = cursor.partition("/")
        fingerprint, identity = head[:_FINGERPRINT], head[_FINGERPRINT:]
        part, _, at = place.partition("/")
        is_number = at.isascii() and at.isdecimal() and len(at) < _FINGERPRINT
        is_valid = is_number if part in {_GLOBAL, _LAST} else part in {_INDEX, _WALK}
        if fingerprint != self._fingerprint or len(identity) != _ID or not is_valid:
            raise CursorInvalid("The cursor does not come from a purge of these blobs.")
        return identity, part, at

    def _enter(self, part: str, at: str = "") -> None:
        self._part, self._at = part, at

    # The global descriptors

    def _clear_first(self) -> None:
        if self._clear_globally(lambda _: None):
            self._enter(_INDEX)

    def _clear_last(self) -> None:
        if self._clear_globally(self._announce):
            self._enter(_END)

    def _clear_globally(self, then: Callable[[Digest], None]) -> bool:
        """Clear some more global descriptors; return whether all are done."""
        done = int(self._at)
        for digest in self._digests[done : done + _TOGETHER]:
            _clear(self._provider, digest)
            then(digest)
            done += 1
            self._at = str(done)
        return done >= len(self._digests)

    # The repositories

    def _clear_indexed(self) -> None:
        names, more = self._provider.catalog.names(raw_name(self._at))
        for group in self._groups(names):
            if not self._clear_in(group):
                return
            self._at = name_cursor(group[-1])
            if self._is_over and group[-1] != names[-1]:
                return
        if not more:
            self._enter(_WALK)

    def _clear_walked(self) -> None:
        """Scan some keys, and clear the blobs in the repositories among them.

        A scan's cursor belongs to one server process. After a failover it may skip keys, so the
        walk begins again.
        """
        server = self._identify_server()
        known, _, cursor = self._at.partition("/")
        if known != server:
            cursor = ""
        names: set[bytes] = set()
        for _ in range(_SCANS):
            try:
                page = self._walk.scan_repositories(cursor, self._keys_a_command)
            except CursorInvalid:  # of a node that has left the cluster
                if not cursor:
                    raise
                self._enter(_WALK)
                self._server = None
                return
            names.update(page.repositories)
            cursor = page.next
            if not cursor or len(names) * len(self._digests) >= STEP or self._deadline.is_over:
                break
        if not self._clear_in_groups(sorted(names)):
            return
        if cursor:
            self._at = f"{server}/{cursor}"
        elif self._identify_server(again=True) == server:
            self._enter(_LAST, "0")
        else:
            self._enter(_WALK)

    @property
    def _keys_a_command(self) -> int:
        """The keys that a command looks at: fewer if each repository causes many questions."""
        return min(_KEYS, self._budgets.step, max(10, _QUESTIONS // len(self._digests)))

    def _identify_server(self, *, again: bool = False) -> str:
        if self._server is None or again:
            self._server = _hash(self._walk.identity())
        return self._server

    def _groups(self, names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """Divide the names into groups, each for one round trip with a part of the digests."""
        size = max(1, STEP // len(self._digests))
        return (names[start : start + size] for start in range(0, len(names), size))

    def _clear_in_groups(self, names: Sequence[bytes]) -> bool:
        """Clear the blobs in all these repositories; returns the same as `_clear_in`."""
        before = self._count
        for group in self._groups(names):
            if (self._count > before and self._is_over) or not self._clear_in(group):
                return False
        return True

    def _clear_in(self, names: Sequence[bytes]) -> bool:
        """Clear the blobs in these repositories; return False if the step is over before the end.

        Then it has cleared some, so that repeating it makes progress.
        """
        for start in range(0, len(self._digests), STEP):
            held = self._walk.holding(names, self._digests[start : start + STEP])
            for number in range(0, len(held), _TOGETHER):
                before = self._count
                for membership in held[number : number + _TOGETHER]:
                    self._clear_membership(membership)
                is_rest = start + STEP < len(self._digests) or number + _TOGETHER < len(held)
                if is_rest and self._count > before and self._is_over:
                    return False
        return True

    def _clear_membership(self, membership: Membership) -> None:
        name, digest = membership
        if _clear(self._provider.repository_scoped(name), digest):
            self._cleared.setdefault(digest, []).append(name)
            self._count += 1


def _clear(service: BlobDescriptorService, digest: Digest) -> bool:
    """Clear the blob in this scope; return whether the scope knew it."""
    try:
        service.clear(digest)
    except BlobUnknown:
        return False
    return True


def _result(
    digests: Sequence[Digest],
    cleared: dict[Digest, list[RepositoryName]],
    following: str | None,
    certain: Certainty,
) -> PurgeManyResult:
    names = {digest: tuple(cleared[digest]) for digest in digests if digest in cleared}
    return PurgeManyResult(tuple(digests), names, following, certain)


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_FINGERPRINT]
