"""The catalog: which repositories there are, what is in them, who holds a digest.

Redis can list keys only by walking all of them, so an index of the repository names is kept beside
them. Our own writes keep it current; a registry's do not know of it, so it is built anew from time
to time: by a scan of the keyspace into a second index that then takes the first one's place. Every
call does a bounded piece of work and blocks Redis for no more than a millisecond at a time.

A page never ends early because Redis had nothing to show for a while, and what is there during a
whole walk is seen at least once. A failover in the middle of a walk through blobs or members may
break that: a scan's cursor is worth nothing on another server.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, NamedTuple, cast
from uuid import uuid4

from blobcache.digest import Digest
from blobcache.exceptions import DescriptorCorrupt, DigestInvalid, RepositoryNameInvalid
from blobcache.redis import keys
from blobcache.redis.connection import scan_position
from blobcache.redis.keys import CatalogKeys
from blobcache.redis.visible import ALL, Visible
from blobcache.redis.wire import Script, is_wrong_type
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobcache.redis.connection import Server
    from blobcache.redis.wire import Command, Reply

__all__ = [
    "BlobPage",
    "Catalog",
    "CatalogStatus",
    "Holder",
    "HolderPage",
    "MemberPage",
    "RepositoryEntry",
    "RepositoryPage",
]

BUILD_BUDGET = 0.05
"""Seconds that one call may spend on building the index."""

PAGE_BUDGET = 0.2
"""Seconds after which a page is handed out although it is not full."""

STEP = 1000
"""Keys, members or names that one command looks at: well under a millisecond."""

_LEASE = 10_000
"""Milliseconds after which a builder that says nothing is taken to be gone."""


@dataclass(frozen=True, slots=True)
class CatalogStatus:
    """How far the index can be trusted."""

    indexed_at: datetime | None
    """When the build began that the index comes from; None until a first one is complete."""

    indexed: int
    """The serial number of that build; 0 until then."""

    begun: int
    """The serial number of the last build that was begun."""

    @property
    def complete(self) -> bool:
        """Whether the index ever held all names."""
        return self.indexed_at is not None

    @property
    def building(self) -> bool:
        """Whether a build is under way."""
        return self.begun > self.indexed

    @property
    def age(self) -> float:
        """Seconds since `indexed_at`; infinite until a first build is complete."""
        return time() - self.indexed_at.timestamp() if self.indexed_at else float("inf")


class RepositoryEntry(NamedTuple):
    """A repository in a listing."""

    name: str
    """A `RepositoryName`, or what another writer put in the place of one, made printable."""

    blobs: int | None
    """How many digests it may see; None if its key is not a set."""

    @property
    def is_corrupt(self) -> bool:
        """Whether this is no repository, but something that lies where one should."""
        return self.blobs is None or not isinstance(self.name, RepositoryName)


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """Some repositories in lexical order."""

    repositories: tuple[RepositoryEntry, ...]
    next: str | None
    """The cursor of the next page; None at the end."""

    count: int | None
    """How many names the index holds with that prefix; None until a first index is complete, and
    where each name has to be asked about."""

    status: CatalogStatus


@dataclass(frozen=True, slots=True)
class MemberPage:
    """Some digests that a repository may see, in no order."""

    members: tuple[str, ...]
    """Each a `Digest`, or what another writer put in the place of one, made printable."""

    next: str | None
    """The cursor of the next page; None at the end."""

    count: int
    """How many members the whole set has."""


@dataclass(frozen=True, slots=True)
class BlobPage:
    """Some digests that have a key in the global scope, in no order."""

    blobs: tuple[str, ...]
    """Each a `Digest`, or what another writer put in the place of one, made printable."""

    next: str | None
    """The cursor of the next page; None at the end."""


class Holder(NamedTuple):
    """A repository that may see a digest."""

    name: RepositoryName
    media_type: str | None
    """Its own media type of the blob; None where that is missing or damaged."""


@dataclass(frozen=True, slots=True)
class HolderPage:
    """Some repositories that may see a digest, in lexical order."""

    holders: tuple[Holder, ...]
    next: str | None
    """The cursor of the next page; None at the end."""

    status: CatalogStatus


_BEGIN = Script("""
local names, build, state, lock = unpack(KEYS)
local token, lease, now, max_age, newer_than, identity = unpack(ARGV)
if not redis.call('SET', lock, token, 'NX', 'PX', lease) then return false end
local begun, indexed, started_at, cursor, where = unpack(redis.call('HMGET', state,
    'begun', 'indexed', 'indexed_at', 'cursor', 'identity'))
if cursor and where == identity then return cursor end
if not cursor and indexed and tonumber(indexed) > tonumber(newer_than)
        and tonumber(now) - tonumber(started_at) < tonumber(max_age) then
    redis.call('DEL', lock)
    return false
end
redis.call('UNLINK', build)
redis.call('HINCRBY', state, 'begun', 1)
redis.call('HSET', state, 'cursor', '', 'identity', identity, 'started_at', now)
return ''
""")
"""Take the lock and return the cursor to go on from, beginning a build if one is due; nil if
another builder is at work or nothing is to be done."""

_ADVANCE = Script("""
local names, build, state, lock, old = unpack(KEYS)
local token, lease, cursor, pause = unpack(ARGV)
if redis.call('GET', lock) ~= token then return 0 end
for first = 5, #ARGV, 500 do
    local members = {}
    for each = first, math.min(first + 499, #ARGV) do
        members[#members + 1] = 0
        members[#members + 1] = ARGV[each]
    end
    redis.call('ZADD', build, unpack(members))
end
if cursor == '' then
    if redis.call('EXISTS', names) == 1 then redis.call('RENAME', names, old) end
    if redis.call('EXISTS', build) == 1 then redis.call('RENAME', build, names) end
    redis.call('UNLINK', old)
    local begun, started_at = unpack(redis.call('HMGET', state, 'begun', 'started_at'))
    redis.call('HSET', state, 'indexed', begun, 'indexed_at', started_at)
    redis.call('HDEL', state, 'cursor', 'identity', 'started_at')
else
    redis.call('HSET', state, 'cursor', cursor)
end
if cursor == '' or pause == '1' then
    redis.call('DEL', lock)
else
    redis.call('PEXPIRE', lock, lease)
end
return 1
""")
"""Put the names in ARGV into the index that is being built; at the end swap it in. Does nothing,
and returns 0, for a builder that has lost the lock."""


class Catalog:
    """The catalog of one registry.

    `server` holds the descriptors, `index` the names; one server may be both, and then a write to a
    repository takes its name along in the same round trip. A registry that is read-only is only
    indexed elsewhere.
    """

    def __init__(
        self,
        server: Server,
        index: Server | None = None,
        *,
        registry: str = "default",
        max_age: float = 300,
        read_only: bool = False,
    ) -> None:
        self._server = server
        self._is_apart = index is not None and index.alias != server.alias
        self._index = index if index is not None and self._is_apart else server
        self._keys = CatalogKeys.of(registry if self._is_apart else "")
        self._max_age = max_age
        self._may_write = self._is_apart or not read_only

    # Keeping the index

    def status(self) -> CatalogStatus:
        """Return how far the index can be trusted. One round trip."""
        return _status(self._index.batch([self._status_command()])[0])

    def additions(self, repository: RepositoryName) -> list[Command]:
        """The commands that index a name, to go after the write of its set on the same server.

        Empty where the index is on another one; then `add` is the way.
        """
        return [] if self._is_apart else self._additions(repository)

    def add(self, repository: RepositoryName) -> None:
        """Index a name after the write of its set, unless `additions` did: one round trip."""
        if self._is_apart:
            self._index.batch(self._additions(repository))

    def advance(
        self, budget: float = BUILD_BUDGET, *, newer_than: int | None = None
    ) -> CatalogStatus:
        """Build on for at most `budget` seconds, if the index is due, and return what came of it.

        It is due when there is none, when it is older than its maximum age, or not `newer_than` the
        build of that serial number. Never waits for another builder. Four round trips at least.
        """
        if not self._may_write:
            return self.status()
        deadline = monotonic() + budget
        token = uuid4().hex.encode()
        cursor = self._index.script(
            _BEGIN,
            self._keys[:4],
            [
                token,
                _LEASE,
                repr(time()).encode(),
                repr(self._max_age).encode(),
                -1 if newer_than is None else newer_than,
                self._server.identity().encode(),
            ],
        )
        while cursor is not None:
            following, found = self._server.scan(
                cast("bytes", cursor).decode("utf-8", "replace"), keys.REPOSITORIES, STEP
            )
            pause = monotonic() >= deadline
            held = self._index.script(
                _ADVANCE,
                self._keys,
                [token, _LEASE, following.encode(), int(pause), *map(keys.repository_in, found)],
            )
            cursor = following.encode() if following and held and not pause else None
        return self.status()

    def reindex(self, progress: Callable[[CatalogStatus], None] | None = None) -> CatalogStatus:
        """Build the index from the keys that are there now, to the end, and return its status.

        Calls `progress` after each step. Where another builder is at work it waits for the lock.
        """
        status = self.status()
        begun = status.begun
        while status.indexed <= begun and self._may_write:
            before = status
            status = self.advance(newer_than=begun)
            if progress is not None:
                progress(status)
            if status == before:
                sleep(0.02)
        return status

    # Looking things up

    def repositories(
        self, prefix: str = "", cursor: str = "", limit: int = 100, visible: Visible = ALL
    ) -> RepositoryPage:
        """Return names that begin with `prefix`, in lexical order, each with its number of blobs.

        Four round trips where the index is fresh and nothing has gone since; a name whose set is
        gone is dropped from the index. Until a first index is complete, lists what is known. Of
        names that are not `visible`, Redis is asked nothing; but the cursor may hold one.
        """
        status = self._refreshed()
        rows: list[RepositoryEntry] = []
        deadline = monotonic() + PAGE_BUDGET
        after = _raw(cursor)
        while True:
            missing = limit - len(rows)
            step = missing if visible.allows is None else STEP
            names, more = self._names(prefix, after, step, status, visible)
            admitted = _admitted(names, visible, missing, deadline)
            names, after, more = admitted.names, admitted.after or after, more or admitted.more
            rows += self._entries(names)
            if not more or len(rows) >= limit or monotonic() >= deadline:
                break
        count = None
        if status.complete and visible.allows is None:
            count = self._count(prefix, visible)
        return RepositoryPage(tuple(rows), _cursor(after) if more else None, count, status)

    def members(self, repository: str, cursor: str = "", limit: int = 100) -> MemberPage:
        """Return at least `limit` digests of a repository's set, if there are as many left.

        One round trip for each thousand members that it looks at. A page may repeat what another
        one had, and one that took too long is short. Raises `DescriptorCorrupt` if the key is not a
        set. An unknown repository has no members.
        """
        key = keys.members(RepositoryName(repository))
        position = scan_position(cursor)
        found: dict[bytes, None] = {}
        deadline = monotonic() + PAGE_BUDGET
        while True:
            count, scanned = self._server.batch(
                [("SCARD", key), ("SSCAN", key, position, "COUNT", min(limit, STEP))]
            )
            if is_wrong_type(count):
                raise DescriptorCorrupt(
                    f"The key that should hold the blobs of {repository} is not a set.",
                    {"repository": str(repository)},
                )
            at, members = cast("tuple[int, list[bytes]]", scanned)
            position = int(at)
            found |= dict.fromkeys(members)
            if not position or len(found) >= limit or monotonic() >= deadline:
                break
        return MemberPage(
            tuple(map(_digest, found)),
            str(position) if position else None,
            cast("int", count),
        )

    def blobs(self, cursor: str = "", limit: int = 100) -> BlobPage:
        """Return at least `limit` digests of the global scope, if there are as many left.

        One round trip for each thousand keys that it looks at, whatever they hold. A page may
        repeat what another one had, and one that took too long is short, even empty.
        """
        found: dict[bytes, None] = {}
        deadline = monotonic() + PAGE_BUDGET
        while True:
            cursor, scanned = self._server.scan(cursor, keys.BLOBS, STEP)
            found |= dict.fromkeys(map(keys.digest_in, scanned))
            if not cursor or len(found) >= limit or monotonic() >= deadline:
                break
        return BlobPage(tuple(map(_digest, found)), cursor or None)

    def holders(
        self, digest: Digest, cursor: str = "", limit: int = 100, visible: Visible = ALL
    ) -> HolderPage:
        """Return repositories that may see the digest, in lexical order.

        Asks a thousand repositories a round trip, and for the media types of those that hold it in
        another. A page that took too long is short, even empty. Names that are no repository's are
        passed over. Of names that are not `visible`, Redis is asked nothing; but the cursor may
        hold one.
        """
        status = self._refreshed()
        found: list[Holder] = []
        deadline = monotonic() + PAGE_BUDGET
        after = _raw(cursor)
        while True:
            names, more = self._names("", after, STEP, status, visible)
            admitted = _admitted(names, visible, STEP, deadline)
            after, more = admitted.after or after, more or admitted.more
            page = list(self._holding(admitted.names, digest))
            if len(page) > limit - len(found):
                page, more = page[: limit - len(found)], True
                after = page[-1].encode()
            found += self._holders(page, digest)
            if not more or len(found) >= limit or monotonic() >= deadline:
                break
        return HolderPage(tuple(found), _cursor(after) if more else None, status)

    # Helpers

    def _status_command(self) -> Command:
        return ("HMGET", self._keys.state, "indexed_at", "indexed", "begun")

    def _additions(self, repository: RepositoryName) -> list[Command]:
        """Into both indexes, so that nobody need know whether a build is under way."""
        return [("ZADD", key, 0, repository) for key in (self._keys.names, self._keys.build)]

    def _refreshed(self) -> CatalogStatus:
        status = self.status()
        return self.advance() if status.age >= self._max_age else status

    def _names(
        self, prefix: str, after: bytes, limit: int, status: CatalogStatus, visible: Visible
    ) -> tuple[list[bytes], bool]:
        """Up to `limit` indexed names behind `after`, and whether there are more.

        One round trip, or one for each batch of ranges that somebody may see.
        """
        indexes = [self._keys.names] if status.complete else [self._keys.names, self._keys.build]
        names: set[bytes] = set()
        for ranges in _batches(_ranges(prefix, after, visible), limit):
            replies = self._index.batch(
                [
                    ("ZRANGEBYLEX", key, low, high, "LIMIT", 0, limit + 1)
                    for low, high in ranges
                    for key in indexes
                ]
            )
            names.update(name for reply in replies for name in cast("list[bytes]", reply))
            if len(names) > limit:
                break
        return sorted(names)[:limit], len(names) > limit

    def _count(self, prefix: str, visible: Visible) -> int:
        """How many names the finished index holds there: one round trip."""
        commands: list[Command] = [
            ("ZLEXCOUNT", self._keys.names, low, high)
            for low, high in _ranges(prefix, b"", visible)
        ]
        return sum(cast("list[int]", self._index.batch(commands))) if commands else 0

    def _entries(self, names: Sequence[bytes]) -> Iterator[RepositoryEntry]:
        """The names with their numbers of blobs, those with no set left out: one round trip."""
        counts = self._server.batch([("SCARD", keys.members(name)) for name in names])
        gone = []
        for name, count in zip(names, counts, strict=True):
            if count == 0:
                gone.append(name)
            else:
                yield RepositoryEntry(
                    _repository(name), None if is_wrong_type(count) else cast("int", count)
                )
        if gone and self._may_write:
            self._drop(gone)

    def _drop(self, names: Sequence[bytes]) -> None:
        """Take names off the index, but for those that have a set again by now.

        Two round trips, or three. A writer indexes a name after it has written the set, so either
        its indexing comes after our removal, or we see its set.
        """
        self._index.batch([("ZREM", self._keys.names, *names)])
        exist = self._server.batch([("EXISTS", keys.members(name)) for name in names])
        back = [name for name, exists in zip(names, exist, strict=True) if exists]
        if back:
            self._index.batch([("ZADD", self._keys.names, 0, name) for name in back])

    def _holding(self, names: Iterable[bytes], digest: Digest) -> Iterator[RepositoryName]:
        repositories = [
            name for name in map(_repository, names) if isinstance(name, RepositoryName)
        ]
        replies = self._server.batch(
            [("SISMEMBER", keys.members(name), digest) for name in repositories]
        )
        return (name for name, reply in zip(repositories, replies, strict=True) if reply == 1)

    def _holders(self, names: Sequence[RepositoryName], digest: Digest) -> Iterator[Holder]:
        media_types = self._server.batch(
            [("HGET", keys.override(name, digest), keys.MEDIA_TYPE) for name in names]
        )
        return (
            Holder(
                name,
                media_type.decode("utf-8", "replace") if isinstance(media_type, bytes) else None,
            )
            for name, media_type in zip(names, media_types, strict=True)
        )


def _status(reply: Reply) -> CatalogStatus:
    indexed_at, indexed, begun = cast("list[bytes | None]", reply)
    return CatalogStatus(
        datetime.fromtimestamp(float(indexed_at), UTC) if indexed_at else None,
        int(indexed or 0),
        int(begun or 0),
    )


class _Admitted(NamedTuple):
    names: list[bytes]
    after: bytes | None
    """The last name that was looked at; None if none was."""
    more: bool
    """Whether some were not looked at."""


def _admitted(names: Sequence[bytes], visible: Visible, limit: int, deadline: float) -> _Admitted:
    """The first names that may be shown, up to `limit`, if there is the time to ask about more."""
    if visible.allows is None:
        return _Admitted(list(names), names[-1] if names else None, more=False)
    admitted: list[bytes] = []
    looked_at = 0
    for looked_at, name in enumerate(names, 1):  # noqa: B007 - how far it came
        if visible.admits(_repository(name)):
            admitted.append(name)
        if len(admitted) == limit or monotonic() >= deadline:
            break
    return _Admitted(admitted, names[looked_at - 1] if names else None, more=looked_at < len(names))


def _ranges(prefix: str, after: bytes, visible: Visible) -> Iterator[tuple[bytes, bytes]]:
    """The lexical ranges behind `after` that have the prefix and may be seen."""
    for text, is_prefix in visible.within(prefix):
        raw = _raw(text)
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
    """As many ranges at a time as bring no more than some thousands of names."""
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
    """The lexical range of what begins with the prefix."""
    low = b"[" + raw if raw else b"-"
    stem = raw.rstrip(b"\xff")
    return low, b"(" + stem[:-1] + bytes([stem[-1] + 1]) if stem else b"+"


def _raw(text: str) -> bytes:
    """The bytes of a name or a part of one; what could not be part of any matches nothing."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _cursor(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _repository(name: bytes) -> str:
    try:
        return RepositoryName(name.decode())
    except (RepositoryNameInvalid, UnicodeDecodeError):
        return _printable(name)


def _digest(member: bytes) -> str:
    try:
        return Digest(member.decode(), allow_tarsum=True)
    except (DigestInvalid, UnicodeDecodeError):
        return _printable(member)


def _printable(raw: bytes) -> str:
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
