"""Walk over a registry's keys and members with ``SCAN`` and ``SSCAN``. See `KeyWalk`.

Every call is one round trip, on a cluster one for each node; no command looks at more than a
thousand keys or members.
"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from blobcache.redis import keys
from blobcache.redis.commands import are_members
from blobcache.redis.keys import KeyKind
from blobcache.redis.records import read_records
from blobcache.reference import RepositoryName, repository_text
from blobcache.services.records import Fields, KeyPage, Membership, OverrideKey
from blobcache.transport.packing import is_wrong_type
from blobcache.transport.server import scan_position, scan_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.digest import Digest
    from blobcache.services.records import Record
    from blobcache.transport.packing import Command
    from blobcache.transport.server import Server

__all__ = ["RedisKeyWalk"]


class RedisKeyWalk:
    """The walk over one registry's keys. See `blobcache.services.records.KeyWalk`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def scan(self, cursor: str, count: int) -> KeyPage:
        """See `KeyWalk.scan`."""
        return self._scan(cursor, count, keys.CACHE)

    def scan_blobs(self, cursor: str, count: int) -> KeyPage:
        """See `KeyWalk.scan_blobs`."""
        return self._scan(cursor, count, keys.BLOBS)

    def scan_repositories(self, cursor: str, count: int) -> KeyPage:
        """See `KeyWalk.scan_repositories`."""
        # Redis compares a type much faster than it searches each key for the end of a pattern.
        return self._scan(cursor, count, keys.CACHE, only="set")

    def identity(self) -> str:
        """See `KeyWalk.identity`."""
        return self._server.identity()

    def _scan(self, cursor: str, count: int, match: bytes, only: str | None = None) -> KeyPage:
        following, found = self._server.scan(cursor, match, count, only)
        parsed = {key for key in map(keys.parse, found) if key}
        return KeyPage(
            following,
            sorted(key.digest for key in parsed if key.kind is KeyKind.BLOB),
            sorted(key.repository for key in parsed if key.kind is KeyKind.MEMBERS),
            sorted(
                OverrideKey(key.repository, key.digest)
                for key in parsed
                if key.kind is KeyKind.OVERRIDE
            ),
        )

    def scan_members(
        self, repository: bytes, cursor: str, count: int
    ) -> tuple[str, Sequence[bytes]] | None:
        """See `KeyWalk.scan_members`."""
        (reply,) = self._server.batch(
            [("SSCAN", keys.members(repository), str(scan_position(cursor)), "COUNT", str(count))]
        )
        if is_wrong_type(reply):
            return None
        at, found = cast("tuple[int, list[bytes]]", reply)
        return str(int(at)) if int(at) else "", sorted(set(found))

    def progress(self, cursor: str) -> float | None:
        """See `KeyWalk.progress`."""
        share = scan_progress(cursor)
        return None if self._server.is_cluster else share

    def progress_of_members(self, cursor: str) -> float:
        """See `KeyWalk.progress_of_members`."""
        return scan_progress(cursor)

    def read(self, repository: RepositoryName | None, digests: Sequence[Digest]) -> list[Record]:
        """See `KeyWalk.read`."""
        return read_records(self._server, repository, digests, allow_tarsum=True)

    def read_existing(self, digests: Sequence[Digest]) -> list[Record]:
        """See `KeyWalk.read_existing`."""
        found = self.read(None, digests)
        without_fields = [record.digest for record in found if record.fields == Fields()]
        if not without_fields:
            return found
        questions: list[Command] = [("EXISTS", keys.blob(digest)) for digest in without_fields]
        answers = self._server.batch(questions)
        gone = {digest for digest, reply in zip(without_fields, answers, strict=True) if reply != 1}
        return [record for record in found if record.digest not in gone]

    def are_members(self, pairs: Sequence[OverrideKey]) -> list[bool | None]:
        """See `KeyWalk.are_members`."""
        if not pairs:
            return []
        groups = [[*group] for _, group in groupby(pairs, attrgetter("repository"))]
        questions: list[Command] = [
            ("SMISMEMBER", keys.members(group[0].repository), *[pair.digest for pair in group])
            for group in groups
        ]
        found: list[bool | None] = []
        for group, reply in zip(groups, self._server.batch(questions), strict=True):
            if is_wrong_type(reply):
                found += [None] * len(group)
            else:
                found += [each == 1 for each in cast("list[int]", reply)]
        return found

    def holding(self, repositories: Sequence[bytes], digests: Sequence[Digest]) -> list[Membership]:
        """See `KeyWalk.holding`.

        Only on a cluster does a clear have several parts. If it is interrupted between them, the
        override is left.
        """
        names = [
            name for name in map(repository_text, repositories) if isinstance(name, RepositoryName)
        ]
        answers = self._server.batch([are_members(name, digests) for name in names])
        known = [
            (name, cast("list[int]", reply))
            for name, reply in zip(names, answers, strict=True)
            if not is_wrong_type(reply)
        ]
        held = [
            Membership(name, digest)
            for name, reply in known
            if 1 in reply
            for digest, is_member in zip(digests, reply, strict=True)
            if is_member
        ]
        if not self._server.is_cluster:
            return held
        others = [
            Membership(name, digest)
            for name, reply in known
            for digest, is_member in zip(digests, reply, strict=True)
            if not is_member
        ]
        exist = self._server.batch([("EXISTS", keys.override(*each)) for each in others])
        return held + [each for each, reply in zip(others, exist, strict=True) if reply]
