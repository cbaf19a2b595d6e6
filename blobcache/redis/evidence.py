"""What the keys of a blob hold, looked at in bulk, for whoever is to judge it.

Names and digests are given as they were found, byte for byte. Every call is one round trip, on a
cluster one a node, and no command of it looks at more than a thousand things.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from blobcache.digest import Digest
from blobcache.redis import commands, keys
from blobcache.reference import RepositoryName
from blobcache.services.catalog import STEP
from blobcache.transport.packing import is_wrong_type
from blobcache.transport.server import scan_position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.redis.keys import Key
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = [
    "Evidence",
    "look_at_blobs",
    "look_at_members",
    "scan_keys",
    "scan_members",
    "share_of_walk",
    "which_are_members",
    "which_exist",
]


class Evidence(NamedTuple):
    """What Redis replied about one blob."""

    fields: Reply
    """To ``HMGET`` of `keys.FIELDS` on the blob's hash."""

    override: Reply = None
    """To ``HGET`` of the media type on the repository's override."""

    member: Reply = None
    """To ``SISMEMBER``."""


def scan_keys(
    server: Server, cursor: str, count: int = STEP, match: bytes = keys.CACHE
) -> tuple[str, list[Key]]:
    """Take a step through the keyspace: the next cursor, empty at the end, and a registry's keys.

    Given the same cursor again, it shows again what it showed, but for what has changed since.
    """
    following, found = server.scan(cursor, match, count)
    return following, sorted(
        {key for key in map(keys.parse, found) if key}, key=lambda key: key[1:]
    )


def scan_members(
    server: Server, repository: bytes, cursor: str, count: int = STEP
) -> tuple[str, list[bytes]] | None:
    """Take a step through a repository's digests, likewise; None if its key is not a set."""
    (reply,) = server.batch(
        [("SSCAN", keys.members(repository), scan_position(cursor), "COUNT", count)]
    )
    if is_wrong_type(reply):
        return None
    at, found = cast("tuple[int, list[bytes]]", reply)
    return str(int(at)) if int(at) else "", sorted(set(found))


def share_of_walk(cursor: str) -> float:
    """How much of a keyspace or a set lies behind a cursor of its scan, from 0 to 1.

    Redis counts its cursors up in the highest bits first ("SCAN", "Why SCAN may return duplicated
    items"): read backwards, a cursor is a fraction.
    """
    position = scan_position(cursor.rpartition("=")[2])
    return sum(2.0 ** -(bit + 1) for bit in range(position.bit_length()) if position >> bit & 1)


def look_at_blobs(server: Server, digests: Sequence[Digest]) -> list[Evidence]:
    """Read the blobs' hashes."""
    if not digests:
        return []
    return [
        Evidence(reply) for reply in server.run_template_many(commands.read_template(None), digests)
    ]


def look_at_members(
    server: Server, repository: RepositoryName, digests: Sequence[Digest]
) -> list[Evidence]:
    """Read all that a stat in the repository depends on."""
    if not digests:
        return []
    first = [commands.are_members(repository, digests)]
    members, *looks = server.run_template_many(commands.read_template(repository), digests, first)
    if is_wrong_type(members):
        members = [members] * len(digests)
    return [
        Evidence(fields, override, member)
        for fields, override, member in zip(
            looks[::2], looks[1::2], cast("list[Reply]", members), strict=True
        )
    ]


def which_are_members(server: Server, pairs: Sequence[tuple[bytes, bytes]]) -> list[Reply]:
    """Ask of each repository and digest whether the one may see the other."""
    return server.batch(
        [("SISMEMBER", keys.members(repository), digest) for repository, digest in pairs]
    )


def which_exist(server: Server, names: Sequence[bytes]) -> list[bool]:
    """Ask of each key whether it is there."""
    questions: list[Command] = [("EXISTS", name) for name in names]
    return [reply == 1 for reply in server.batch(questions)]
