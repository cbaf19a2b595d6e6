"""Write many descriptors in one round trip, and change nothing that is there.

The order makes it safe where nothing isolates the commands: the hash of a blob, then the override,
then the membership, then the index, as a set does on a cluster. So no reader sees a member whose
descriptor is not written yet. Each command has an effect only if its field or its member is still
missing, and its reply says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.descriptor import OCTET_STREAM
from blobcache.redis import commands, keys
from blobcache.services.additions import Addition, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.redis.index import NameIndex
    from blobcache.reference import RepositoryName
    from blobcache.transport.packing import Command
    from blobcache.transport.server import Server

__all__ = ["add"]


def add(
    server: Server,
    repository: RepositoryName | None,
    additions: Sequence[Addition],
    index: NameIndex,
    *,
    size_fields: Sequence[str],
    ttl: int | None,
) -> list[Addition]:
    """Write what is missing of each addition; return what was created of each.

    One round trip, and one more for an index in another Redis; on a cluster up to four. A key of
    the wrong type is left as it is: then the part is not created.
    """
    phases: tuple[list[Command], ...] = ([], [], [])
    marks: list[list[int | None]] = []
    """For each addition, where the reply is that says whether a part was created."""

    for addition in additions:
        places: list[int | None] = []
        for phase, written in zip(
            phases, _commands(repository, addition, size_fields, ttl), strict=True
        ):
            places.append(len(phase) if written else None)
            phase.extend(written)
        marks.append(places)
    names: list[Command] = []
    if repository is not None and any(each.member for each in additions):
        calls = index.index_calls(repository)
        names = [command for template, values in calls for command in template.commands(*values)]
    batches = [[*phases[0], *phases[1], *phases[2], *names]]
    if server.is_cluster:
        batches = [*phases, names]
    replies = [reply for batch in batches if batch for reply in server.batch(batch)]
    if repository is not None:
        index.index_name(repository)
    starts = (0, len(phases[0]), len(phases[0]) + len(phases[1]))
    created = []
    for addition, places in zip(additions, marks, strict=True):
        blob, override, member = (
            place is not None and replies[start + place] == 1
            for start, place in zip(starts, places, strict=True)
        )
        is_new = blob or override or member
        standing = Standing.MISSING if is_new else Standing.KNOWN
        created.append(
            Addition(addition.digest, addition.descriptor, standing, blob, override, member)
        )
    return created


def _commands(
    repository: RepositoryName | None,
    addition: Addition,
    size_fields: Sequence[str],
    ttl: int | None,
) -> tuple[list[Command], list[Command], list[Command]]:
    """The commands for each part; the first reply of a part says whether it was created."""
    blob: list[Command] = []
    override: list[Command] = []
    member: list[Command] = []
    if addition.blob:
        key = keys.blob(addition.digest)
        size = str(addition.descriptor.size)
        blob = [
            ("HSETNX", key, keys.DIGEST, addition.descriptor.digest),
            *[("HSETNX", key, field, size) for field in size_fields],
            ("HSETNX", key, keys.MEDIA_TYPE, OCTET_STREAM),
            *_expiry(key, ttl),
        ]
    if addition.override and repository is not None:
        key = keys.override(repository, addition.digest)
        media_type = addition.descriptor.media_type or OCTET_STREAM
        override = [("HSETNX", key, keys.MEDIA_TYPE, media_type), *_expiry(key, ttl)]
    if addition.member and repository is not None:
        member = commands.membership(repository, addition.digest, ttl=ttl)
    return blob, override, member


def _expiry(key: bytes, ttl: int | None) -> list[Command]:
    return [] if ttl is None else [("EXPIRE", key, str(ttl))]
