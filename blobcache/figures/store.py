"""The store of figures: counts each repository's blobs once, and stores the sums with their time.

Counting a large repository takes longer than one request may take. So it is counted in steps, one
per request. The sums of an unfinished count are stored beside the catalog's index; at the end the
figures are stored there, with scores for sorting by blobs and by bytes. They never expire: a page
shows their age, and counts again on request. The figures of a repository that is gone are deleted.

If two requests count one repository at once, the slower step is discarded.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from blobcache.exceptions import CursorInvalid, DescriptorCorrupt
from blobcache.figures.ordering import OrderedList
from blobcache.figures.shares import ShareStore
from blobcache.figures.sharing import shared_bytes
from blobcache.figures.sums import RunningSums
from blobcache.reference import RepositoryName, name_cursor, raw_name, repository_text
from blobcache.services.figures import Figures, FiguresStatus, Order, RefreshStep, Summary
from blobcache.services.rules import read_only_error
from blobcache.transport.packing import Decision, Script, Watched
from blobcache.transport.server import scan_position, scan_progress
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blobcache.figures.catalog import IndexedCatalog
    from blobcache.services.catalog import Deadline, MemberPage
    from blobcache.services.figures import OrderedPage, SharesStatus, Sharing
    from blobcache.services.records import RecordReader
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["RedisFigureStore"]

_MAX_STORED = 256 * 1024
"""Bytes. The sums of one repository, with as many media types as possible, need less."""

_STALE = 3600
"""Seconds. A count that has not finished by then starts again."""


def _counting_reads(keys: Sequence[bytes], operands: Sequence[bytes]) -> list[Command]:
    return [("WATCH", keys[0]), ("HGET", keys[0], operands[0])]


def _is_changed(operands: Sequence[bytes], replies: Sequence[Reply]) -> bool:
    """Whether another step has stored its own progress; raises a reply that is an error."""
    (stored,) = replies
    if isinstance(stored, Exception):
        raise stored
    return (stored or b"") != operands[1]


def _save(keys: Sequence[bytes], operands: Sequence[bytes], replies: Sequence[Reply]) -> Decision:
    if _is_changed(operands, replies):
        return Decision([], 0)
    name, _, after = operands
    return Decision([("HSET", keys[0], name, after)], 1)


def _finish(keys: Sequence[bytes], operands: Sequence[bytes], replies: Sequence[Reply]) -> Decision:
    if _is_changed(operands, replies):
        return Decision([], 0)
    counting, figures, by_count, by_bytes = keys
    name, _, after, blobs, size = operands
    forget: Command = ("HDEL", counting, name)
    if blobs == b"0":
        scores: list[Command] = [("ZREM", key, name) for key in (by_count, by_bytes)]
        return Decision([forget, ("HDEL", figures, name), *scores], 1)
    scores = [("ZADD", by_count, blobs, name), ("ZADD", by_bytes, size, name)]
    return Decision([forget, ("HSET", figures, name, after), *scores], 1)


_SAVE = Script(
    """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
""",
    Watched(_counting_reads, _save),
)
"""Store the progress of a count, unless another step has stored its own since."""

_FINISH = Script(
    """
local counting, figures, by_count, by_bytes = unpack(KEYS)
local name, before, after, blobs, bytes = unpack(ARGV)
if (redis.call('HGET', counting, name) or '') ~= before then return 0 end
redis.call('HDEL', counting, name)
if blobs == '0' then
    redis.call('HDEL', figures, name)
    redis.call('ZREM', by_count, name)
    redis.call('ZREM', by_bytes, name)
    return 1
end
redis.call('HSET', figures, name, after)
redis.call('ZADD', by_count, blobs, name)
redis.call('ZADD', by_bytes, bytes, name)
return 1
""",
    Watched(_counting_reads, _finish),
)
"""Store the figures, likewise; delete those of a repository without blobs."""


class RedisFigureStore:
    """The figures of one registry's repositories. See `blobcache.services.figures.FigureStore`."""

    def __init__(
        self,
        registry: str,
        server: Server,
        catalog: IndexedCatalog,
        repository_scoped: Callable[[str], RecordReader],
    ) -> None:
        self._registry = registry
        self._server = server
        self._catalog = catalog
        self._keys = catalog.index.keys
        self._scoped = repository_scoped
        self._shares = ShareStore(catalog, repository_scoped, server.identity)

    @property
    def may_keep(self) -> bool:
        """See `FigureStore.may_keep`."""
        return self._catalog.may_write

    def get(self, repository: str) -> FiguresStatus:
        """See `FigureStore.get`. One round trip, however many blobs the repository has."""
        name = RepositoryName(repository)
        figures, counting = self._ask(
            [("HGET", self._keys.figures, name), ("HGET", self._keys.counting, name)]
        )
        count = _CountInProgress.parse(counting)
        return FiguresStatus(
            _figures(figures),
            None if count is None or count.is_stale else scan_progress(count.cursor),
        )

    def get_many(self, names: Sequence[str]) -> list[Figures | None]:
        """See `FigureStore.get_many`. One round trip."""
        return self._get_many([raw_name(name) for name in names])

    def _get_many(self, names: Sequence[bytes]) -> list[Figures | None]:
        if not names:
            return []
        (replies,) = self._ask([("HMGET", self._keys.figures, *names)])
        return [_figures(reply) for reply in cast("list[bytes | None]", replies)]

    def list_ordered(
        self,
        order: Order = Order.NAME,
        cursor: str = "",
        limit: int = 100,
        *,
        descending: bool = False,
        containing: str = "",
        prefix: str = "",
        visible: Visible = ALL,
    ) -> OrderedPage:
        """See `FigureStore.list_ordered`."""
        found = OrderedList(
            self._catalog,
            self._get_many,
            order,
            descending=descending,
            containing=containing,
            prefix=prefix,
            visible=visible,
        )
        return found.page(cursor, limit)

    def shares(self, scope: str) -> SharesStatus:
        """See `FigureStore.shares`."""
        return self._shares.get(scope)

    def share_step(self, scope: str) -> SharesStatus:
        """See `FigureStore.share_step`."""
        return self._shares.step(scope)

    def shared_bytes(self, repository: str) -> Sharing:
        """See `FigureStore.shared_bytes`."""
        return shared_bytes(self._catalog, self._scoped, repository)

    # Counting

    def count_step(self, repository: str) -> FiguresStatus:
        """See `FigureStore.count_step`."""
        if not self.may_keep:
            raise read_only_error(
                self._registry, "Its figures need a CATALOG_ALIAS on another Redis."
            )
        self._count(RepositoryName(repository), self._deadline())
        return self.get(repository)

    def refresh(self, cursor: str = "", max_age: float | None = None) -> RefreshStep:
        """See `FigureStore.refresh`."""
        deadline = self._deadline()
        after, counted = raw_name(cursor), 0
        while True:
            names, more = self._catalog.index.names(after)
            for name, figures in zip(names, self._get_many(names), strict=True):
                text = repository_text(name)
                is_due = figures is None or max_age is None or figures.age >= max_age
                if is_due and isinstance(text, RepositoryName):
                    if not self._is_counted(text, deadline):
                        return RefreshStep(name_cursor(after), counted)
                    counted += 1
                after = name
                if deadline.is_over:
                    is_last = name == names[-1] and not more
                    return RefreshStep(None if is_last else name_cursor(after), counted)
            if not more:
                return RefreshStep(None, counted)

    def summarize(self, repository: str, cursor: str = "") -> Summary:
        """See `FigureStore.summarize`."""
        budgets = self._catalog.budgets
        deadline = budgets.deadline(budgets.summary)
        sums = RunningSums()
        for page in self._add_pages(sums, RepositoryName(repository), cursor):
            if page.next is None or deadline.is_over:
                break
        return Summary(sums.value(), page.count, page.next)

    def _deadline(self) -> Deadline:
        budgets = self._catalog.budgets
        return budgets.deadline(budgets.count)

    def _is_counted(self, name: RepositoryName, deadline: Deadline) -> bool:
        """Count on; return whether the count is finished, as it is where there is no set."""
        try:
            return self._count(name, deadline)
        except DescriptorCorrupt:
            return True

    def _count(self, name: RepositoryName, deadline: Deadline) -> bool:
        """Count on; return whether the count is finished."""
        (before,) = self._ask([("HGET", self._keys.counting, name)])
        identity = self._server.identity()
        count = _CountInProgress.parse(before)
        if count is None or count.is_stale or count.identity != identity:
            count = _CountInProgress("", time(), identity, RunningSums())
        for page in self._add_pages(count.sums, name, count.cursor):
            if page.next is None or deadline.is_over:
                break
        operands = [name.encode(), cast("bytes | None", before) or b""]
        if page.next is not None:
            after = count._replace(cursor=page.next).to_bytes()
            self._index.script(_SAVE, [self._keys.counting], [*operands, after])
            return False
        sums = count.sums
        figures = _json({"at": count.started_at, **sums.as_json()})
        self._index.script(
            _FINISH,
            [self._keys.counting, self._keys.figures, self._keys.by_count, self._keys.by_bytes],
            [*operands, figures, str(sums.members), str(sums.bytes).encode()],
        )
        return True

    def _add_pages(
        self, sums: RunningSums, name: RepositoryName, cursor: str | None
    ) -> Iterator[MemberPage]:
        """Add one page of members after another, each member once, and yield it."""
        service = self._scoped(name)
        seen: set[str] = set()
        while cursor is not None:
            page = self._catalog.members(name, cursor, self._catalog.budgets.step)
            members = [member for member in page.members if member not in seen]
            seen.update(members)
            sums.add_members(service, members)
            yield page
            cursor = page.next

    @property
    def _index(self) -> Server:
        return self._catalog.index.server

    def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        return self._index.batch(commands, own=True)


class _CountInProgress(NamedTuple):
    """An unfinished count."""

    cursor: str
    started_at: float
    identity: str
    """The server that the cursor is of."""

    sums: RunningSums

    @property
    def is_stale(self) -> bool:
        return time() - self.started_at > _STALE

    @classmethod
    def parse(cls, stored: Reply) -> _CountInProgress | None:
        """Undo `to_bytes`; None if another program wrote the value: then the count starts again."""
        values = _values(stored)
        try:
            scan_position(values["cursor"])
            sums = RunningSums.from_json(values)
            return cls(values["cursor"], _seconds(values["at"]), values["of"], sums)
        except (CursorInvalid, *_INVALID):
            return None

    def to_bytes(self) -> bytes:
        return _json(
            {
                "at": self.started_at,
                "cursor": self.cursor,
                "of": self.identity,
                **self.sums.as_json(),
            }
        )


def _figures(stored: Reply) -> Figures | None:
    """Read the stored figures; None if there are none, or another program wrote the value."""
    values = _values(stored)
    try:
        sums = RunningSums.from_json(values).value()
        return Figures(sums, datetime.fromtimestamp(_seconds(values["at"]), UTC))
    except _INVALID:
        return None


_INVALID = (AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError)
"""What may be raised when reading a value that another program wrote."""


def _values(stored: Reply) -> dict[str, Any]:
    """The stored JSON object; empty if there is none, or the value is something else."""
    if not isinstance(stored, bytes) or len(stored) > _MAX_STORED:
        return {}
    try:
        values = json.loads(stored)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _seconds(value: object) -> float:
    if type(value) not in {float, int}:
        raise TypeError("not a time")
    return float(cast("float", value))


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()
