"""The index of repository names: which repositories there are, in lexical order.

Redis can list keys only by walking all of them, so the names are stored in a sorted set. Our own
writes keep it current. A registry's writes do not, so it is built again from time to time; see
`blobcache.redis.index_build`. Every call does a bounded piece of work and blocks Redis for no more
than a millisecond at a time.
"""

from __future__ import annotations

import logging
from functools import cached_property, lru_cache
from time import sleep
from typing import TYPE_CHECKING, cast

from blobcache.exceptions import CacheUnavailable, Reason
from blobcache.redis import keys
from blobcache.redis.index_build import IndexBuilder
from blobcache.redis.keys import CatalogKeys
from blobcache.redis.places import place_of
from blobcache.reference import raw_name
from blobcache.services.catalog import STEP, Budgets, CatalogStatus
from blobcache.services.rules import read_only_error
from blobcache.transport.packing import Packed
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobcache.reference import RepositoryName
    from blobcache.transport.packing import Call, Command
    from blobcache.transport.server import Server

__all__ = ["NameIndex"]

_log = logging.getLogger("blobcache.catalog")


_DAY = 24 * 3600.0
"""Seconds."""


class NameIndex:
    """The index of one registry.

    `server` holds the descriptors, `index` the names. One server may be both; then a write to a
    repository and that of its name are one round trip. The index of a read-only registry can only
    be on another server than its descriptors, whatever the addresses of the two.

    An index on another server remembers which registry and which Redis it is about: both are part
    of its keys. So the index of another Redis, which the registry had before or which came with
    a dump, is never read, and neither are its figures and notes.
    """

    def __init__(
        self,
        server: Server,
        index: Server | None = None,
        *,
        registry: str = "default",
        max_age: float = 300,
        read_only: bool = False,
        budgets: Budgets | None = None,
    ) -> None:
        self.budgets = budgets or Budgets()
        """How much one call may do. It can be replaced at any time."""
        self._descriptors = server
        self._is_apart = index is not None and index.alias != server.alias
        self.server = index if index is not None and self._is_apart else server
        """The Redis that holds the index."""
        self.keys = _keys(registry, server.alias) if self._is_apart else CatalogKeys.of()
        """The keys of this registry's index."""
        self.registry = registry
        self.max_age = max_age
        """Seconds after which the index is due, whatever its build takes."""

        self._read_only = read_only
        self._kept_at = float("-inf")
        former = CatalogKeys.of(registry) if self._is_apart else None
        self._builder = IndexBuilder(server, self.server, self.keys, former, max_age=max_age)

    @property
    def may_write(self) -> bool:
        """Whether an index can be kept. For a read-only registry, two round trips at first."""
        return self._is_elsewhere if self._read_only else True

    @cached_property
    def _is_elsewhere(self) -> bool:
        """Whether the index is on another server, by what the servers say of themselves."""
        if not self._is_apart:
            return False
        descriptors = set(self._descriptors.identity().split())
        return descriptors.isdisjoint(self.server.identity().split())

    # Building

    def status(self) -> CatalogStatus:
        """Return how old and how complete the index is. One round trip."""
        return self._builder.status(self.budgets.fresh)

    def build_step(
        self, budget: float | None = None, *, newer_than: int | None = None
    ) -> CatalogStatus:
        """Build on for at most `budget` seconds, if the index is due, and return its status.

        The default is `Budgets.build`. The index is due when it is not complete, when a build is
        unfinished, or when it is not `newer_than` the build of that serial number. Never waits for
        another builder. One round trip if it is not due, otherwise four at least, and one more
        without `newer_than`. Where Redis refuses ``SCAN``, a build that must be `newer_than`
        another raises `CacheUnavailable`; otherwise the status says so.
        """
        seconds = self.budgets.build if budget is None else budget
        if newer_than is not None:
            return self._build(seconds, newer_than)
        status = self.status()
        is_due = not status.complete or status.building
        return self._build_if_allowed(seconds, status) if is_due else status

    def _build(self, seconds: float, newer_than: int) -> CatalogStatus:
        if self.may_write:
            budgets = self.budgets
            self._builder.step(budgets.deadline(seconds), budgets.step, newer_than)
        return self.status()

    def _build_if_allowed(self, seconds: float, status: CatalogStatus) -> CatalogStatus:
        try:
            return self._build(seconds, status.indexed)
        except CacheUnavailable as error:
            if error.reason is not Reason.NO_SCAN:
                raise
        return self.status()

    def look_again(self) -> CatalogStatus:
        """See `Catalog.look_again`. One round trip if the index is watched, else five at least."""
        if not self.may_write:
            raise read_only_error(self.registry, "Its index needs a CATALOG_ALIAS elsewhere.")
        status = self.status()
        if status.is_watched and status.complete:
            return status
        newer_than = status.indexed if status.building else status.begun
        return self._build(self.budgets.page, newer_than)

    def reindex(self, progress: Callable[[CatalogStatus], None] | None = None) -> CatalogStatus:
        """Build the index from the keys that are there now, to the end, and return its status.

        Calls `progress` after each step. Waits while another process builds.
        """
        status = self.status()
        begun = status.begun
        while status.indexed <= begun and self.may_write:
            before = status
            status = self.build_step(newer_than=begun)
            if progress is not None:
                progress(status)
            if status == before:
                sleep(0.02)
        return status

    def refresh(self) -> CatalogStatus:
        """Return the status, after a step of building if the index is too old and can be built."""
        status = self.status()
        is_due = not status.complete and status.may_scan
        return self._build_if_allowed(self.budgets.build, status) if is_due else status

    # Writing

    def index_calls(self, repository: RepositoryName) -> list[Call]:
        """Return the calls that index a name, for the transaction that writes its set.

        Empty if one transaction cannot cover both servers; call `index_name` after it instead.
        """
        return [] if self._needs_own_round_trip else [(self._index_command(repository), ())]

    def index_name(self, repository: RepositoryName) -> None:
        """Index a name after the write of its set, if `index_calls` did not: one round trip.

        A failure is logged and not raised, since the set is written already. The next build finds
        the name.
        """
        if not self._needs_own_round_trip:
            return
        try:
            self.server.batch(self._index_command(repository).commands())
        except CacheUnavailable:
            _log.warning("The name %s could not be indexed.", repository, exc_info=True)

    def watch_mark(self, moment: float, base: int) -> None:
        """Note that the index was current at that time, by a watch that began before a build.

        `base` is the serial number of that build: the note counts for it and for later ones. Once a
        day it lets an index that is apart live longer, which otherwise only a build does.
        """
        fields = ("watched_at", repr(moment), "watched_from", str(base))
        commands: list[Command] = [("HSET", self.keys.state, *fields)]
        if abs(moment - self._kept_at) > _DAY:
            commands += self._builder.keeping()
        self.server.batch(commands, own=True)
        if len(commands) > 1:
            self._kept_at = moment

    def add(self, names: Sequence[bytes]) -> None:
        """Index raw names whose sets exist: one round trip, whatever is built meanwhile.

        The index that is being built comes first: if it takes the place of the other one between
        the two commands, it has the names already.
        """
        words = [word for name in names for word in ("0", name)]
        self.server.batch(
            [
                ("ZADD", index, *words[first : first + 2 * STEP])
                for index in (self.keys.build, self.keys.names)
                for first in range(0, len(words), 2 * STEP)
            ]
        )

    def remove_missing(self, names: Sequence[bytes]) -> None:
        """Remove names whose sets are gone, with their figures; keep those whose sets are back.

        Two round trips, or three. Another process indexes a name after it has written the set. So
        either it indexes the name after our removal, or we see its set.
        """
        own = self.keys
        removals: list[Command] = [
            ("ZREM", key, *names) for key in (own.names, own.by_count, own.by_bytes)
        ]
        removals += [("HDEL", key, *names) for key in (own.figures, own.counting)]
        self.server.batch(removals)
        exist = self._descriptors.batch([("EXISTS", keys.members(name)) for name in names])
        back = [name for name, exists in zip(names, exist, strict=True) if exists]
        if back:
            self.server.batch([("ZADD", own.names, "0", name) for name in back])

    @property
    def _needs_own_round_trip(self) -> bool:
        return self._is_apart or self._descriptors.is_cluster

    def _index_command(self, repository: RepositoryName) -> Packed:
        """Add the name to both indexes, so that a build in progress does not lose it."""
        return _zadd(repository, self.keys.build, self.keys.names)

    # Reading

    def names(
        self,
        after: bytes = b"",
        limit: int = STEP,
        prefix: str = "",
        visible: Visible = ALL,
        status: CatalogStatus | None = None,
    ) -> tuple[list[bytes], bool]:
        """Return up to `limit` names after `after`, raw, and whether there are more.

        Builds nothing: the names that are indexed now. One round trip if the `status` is given, or
        one for each batch of ranges of `visible`.
        """
        is_built = (status or self.status()).is_built
        indexes = [self.keys.names] if is_built else [self.keys.names, self.keys.build]
        names: set[bytes] = set()
        for ranges in _batches(_ranges(prefix, after, visible), limit):
            replies = self.server.batch(
                [
                    ("ZRANGEBYLEX", key, low, high, "LIMIT", "0", str(limit + 1))
                    for low, high in ranges
                    for key in indexes
                ],
                own=True,
            )
            names.update(name for reply in replies for name in cast("list[bytes]", reply))
            if len(names) > limit:
                break
        return sorted(names)[:limit], len(names) > limit

    def count(self, prefix: str, visible: Visible) -> int:
        """Return how many names with the prefix the finished index holds: one round trip."""
        commands: list[Command] = [
            ("ZLEXCOUNT", self.keys.names, low, high) for low, high in _ranges(prefix, b"", visible)
        ]
        return sum(cast("list[int]", self.server.batch(commands, own=True))) if commands else 0


def _keys(registry: str, alias: str) -> CatalogKeys:
    """The keys of an index that is apart from the descriptors, in ``CACHES[alias]``."""
    return CatalogKeys.of(registry, place_of(alias).mark())


@lru_cache(4096)
def _zadd(name: RepositoryName, *indexes: bytes) -> Packed:
    return Packed([("ZADD", index, "0", name) for index in indexes])


def _ranges(prefix: str, after: bytes, visible: Visible) -> Iterator[tuple[bytes, bytes]]:
    """The lexical ranges after `after` that have the prefix and are visible."""
    for text, is_prefix in visible.within(prefix):
        raw = raw_name(text)
        if not is_prefix:
            if raw > after:
                yield b"[" + raw, b"[" + raw
        elif raw > after or not after:
            yield _range(raw)
        elif after.startswith(raw):
            yield b"(" + after, _range(raw)[1]


def _batches(
    ranges: Iterable[tuple[bytes, bytes]], limit: int
) -> Iterator[list[tuple[bytes, bytes]]]:
    """Group the ranges so that a group returns some thousands of names at most."""
    batch: list[tuple[bytes, bytes]] = []
    names = 0
    for low, high in ranges:
        batch.append((low, high))
        names += 1 if low == high else limit
        if names >= 2 * STEP:
            yield batch
            batch, names = [], 0
    if batch:
        yield batch


def _range(raw: bytes) -> tuple[bytes, bytes]:
    """The lexical range of the names that begin with the prefix."""
    low = b"[" + raw if raw else b"-"
    stem = raw.rstrip(b"\xff")
    return low, b"(" + stem[:-1] + bytes([stem[-1] + 1]) if stem else b"+"
