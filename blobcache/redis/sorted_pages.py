"""Pages of a sorted copy: every page is read by ranks, which Redis finds without a search.

What the order of a copy finds by itself, such as the beginning of a digest in the order of digests,
or a range of sizes in the order of sizes, is a range of ranks too, so it needs no copy of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, cast

from blobcache.exceptions import CursorInvalid
from blobcache.redis.sorted_entries import Prefix, following, split, unpack_digest
from blobcache.services.sorted_members import MemberColumn, SortedPage

if TYPE_CHECKING:
    from blobcache.services.sorted_members import MemberQuery
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["CopyPages"]

_MAX_CURSOR = 8192

_POSITION = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})? [0-9a-f]+")
"""The score and the digest of an entry."""


class _Ranks(NamedTuple):
    """The ranks from one to another, which is not in it."""

    first: int
    end: int


class CopyPages:
    """The pages of one copy, which is a sorted set with `size` entries."""

    def __init__(self, server: Server, key: bytes, size: int, query: MemberQuery) -> None:
        self._server = server
        self._key = key
        self._size = size
        self._query = query

    def page(self, cursor: str, limit: int, *, offset: int, descending: bool) -> SortedPage:
        """See `SortedMembers.page`."""
        ranges = self._ranges()
        count = sum(max(0, each.end - each.first) for each in ranges)
        if cursor:
            bound = self._rank_behind(*_parse(cursor), descending=descending)
            ranges = [
                _Ranks(each.first, min(each.end, bound))
                if descending
                else _Ranks(max(each.first, bound), each.end)
                for each in ranges
            ]
        taken = _take(ranges, offset, limit + 1, descending=descending)
        found: list[tuple[bytes, bytes]] = []
        for reply in self._ask(
            [
                ("ZRANGE", self._key, str(each.first), str(each.end - 1), "WITHSCORES")
                for each in taken
            ]
        ):
            pairs = _pairs(reply)
            found += reversed(pairs) if descending else pairs
        members = [unpack_digest(_digest_of(entry)) for entry, _ in found[:limit]]
        more = len(found) > limit
        position = None
        if more:
            entry, score = found[limit - 1]
            position = f"{score.decode()} {_digest_of(entry).hex()}"
        return SortedPage(tuple(each for each in members if each is not None), position, count)

    def _ask(self, commands: list[Command]) -> list[Reply]:
        return self._server.batch(commands, own=True) if commands else []

    def _ranges(self) -> list[_Ranks]:
        """Where the wanted blobs are, in ascending order."""
        query = self._query
        if query.column is MemberColumn.DIGEST and query.prefix:
            bounds = Prefix(query.prefix).ranges
            words = [each for low, high in bounds for each in (low, high)]
            counts = iter(
                self._ask([("ZLEXCOUNT", self._key, b"-", _before(each)) for each in words])
            )
            ranks = [_Ranks(cast("int", low), cast("int", next(counts))) for low in counts]
            return [each for each in ranks if each.end > each.first]
        if query.column is MemberColumn.SIZE and (query.size_min, query.size_max) != (None, None):
            least, most = query.size_min or 0, query.size_max
            last = b"+inf" if most is None else b"%d" % most
            below = self._ask(
                [
                    ("ZCOUNT", self._key, b"-inf", b"(%d" % least),
                    ("ZCOUNT", self._key, b"-inf", last),
                ]
            )
            return [_Ranks(*cast("list[int]", below))]
        return [_Ranks(0, self._size)]

    def _rank_behind(self, score: bytes, entry: bytes, *, descending: bool) -> int:
        """The first rank behind a position; of a list backwards, the rank of the position.

        The entry may be gone, or have another score, if the copy was made again.
        """
        if self._query.column is MemberColumn.DIGEST:
            packed = _digest_of(entry)
            bound = packed if descending else following(packed)
            return cast("int", self._ask([("ZLEXCOUNT", self._key, b"-", _before(bound))])[0])
        low, high = cast(
            "list[int]",
            self._ask(
                [
                    ("ZCOUNT", self._key, b"-inf", b"(" + score),
                    ("ZCOUNT", self._key, b"-inf", score),
                ]
            ),
        )
        while low < high:  # among those of the same score, by halves: twenty for a million
            middle = (low + high) // 2
            (reply,) = self._ask([("ZRANGE", self._key, str(middle), str(middle))])
            found = cast("list[bytes]", reply)
            if found and (found[0] < entry or (found[0] == entry and not descending)):
                low = middle + 1
            else:
                high = middle
        return low


def _take(ranges: list[_Ranks], offset: int, count: int, *, descending: bool) -> list[_Ranks]:
    """The ranks of a page, in the order of the list."""
    taken: list[_Ranks] = []
    for each in reversed(ranges) if descending else ranges:
        length = max(0, each.end - each.first)
        skipped = min(offset, length)
        offset -= skipped
        some = min(count, length - skipped)
        if some:
            if descending:
                taken.append(_Ranks(each.end - skipped - some, each.end - skipped))
            else:
                taken.append(_Ranks(each.first + skipped, each.first + skipped + some))
            count -= some
    return taken


def _before(bound: bytes) -> bytes:
    """The end of a lexical range that ends before the bound; an empty one is the end of all."""
    return b"(" + bound if bound else b"+"


def _digest_of(entry: bytes) -> bytes:
    """The digest that an entry begins with; in most copies it is the entry."""
    found = split(entry)
    return found[0] if found else entry


def _pairs(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Entries and scores: a flat list in RESP2, a list of pairs in RESP3."""
    flat: list[object] = []
    for each in cast("list[object]", reply):
        flat += each if isinstance(each, list) else [each]
    return [
        (cast("bytes", entry), score if isinstance(score, bytes) else repr(score).encode())
        for entry, score in zip(flat[::2], flat[1::2], strict=True)
    ]


def _parse(cursor: str) -> tuple[bytes, bytes]:
    score, _, entry = cursor.partition(" ")
    if len(cursor) > _MAX_CURSOR or len(entry) % 2 or not _POSITION.fullmatch(cursor):
        raise CursorInvalid("The cursor does not come from this list.")
    return score.encode(), bytes.fromhex(entry)
