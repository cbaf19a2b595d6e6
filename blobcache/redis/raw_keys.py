"""Read the keys of a blob as they are: type, expiry, encoding, memory, fields. Bounded, read-only.

Other programs may have stored anything: values are read only if they are short, and a server that
refuses one of the commands still answers the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blobcache.digest import Digest
from blobcache.redis import keys
from blobcache.reference import RepositoryName
from blobcache.services.raw_keys import MAX_FIELDS, RawField, RawKey
from blobcache.transport.refused import refused_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["ReadsRawKeys", "read_raw_keys"]

_SAMPLES = "5"
"""Values of a key whose memory is added up; that of the others is estimated."""

_SMALL = 16 * 1024
"""Bytes of memory of a hash that is read as a whole, and the longest value that is read."""


class ReadsRawKeys:
    """A part of the provider."""

    __slots__ = ()
    _server: Server

    def raw_keys(self, digest: str, repository: str | None = None) -> list[RawKey]:
        """See `BrowsableProvider.raw_keys`."""
        name = None if repository is None else RepositoryName(repository)
        return read_raw_keys(self._server, name, Digest(digest, allow_tarsum=True))


def read_raw_keys(
    server: Server, repository: RepositoryName | None, digest: Digest
) -> list[RawKey]:
    """Return the blob's hash and, of a repository, its set and its override.

    Three round trips at most, on a cluster as many a node. Raises `CacheUnavailable`.
    """
    found = [RawKey(keys.blob(digest), "hash")]
    if repository is not None:
        found.append(RawKey(keys.members(repository), "set"))
        found.append(RawKey(keys.override(repository, digest), "hash"))
    described = _describe(server, found)
    measured = _measure(server, described, digest)
    return _read(server, measured)


def _describe(server: Server, found: Sequence[RawKey]) -> list[RawKey]:
    replies = _ask(
        server,
        [
            [
                ("TYPE", each.key),
                ("PTTL", each.key),
                ("OBJECT", "ENCODING", each.key),
                ("MEMORY", "USAGE", each.key, "SAMPLES", _SAMPLES),
            ]
            for each in found
        ],
    )
    described = []
    for each, (values, refused) in zip(found, replies, strict=True):
        kind, milliseconds, encoding, memory = values
        expires = type(milliseconds) is int and milliseconds >= 0
        described.append(
            each._replace(
                type=_text(kind),
                seconds=cast("int", milliseconds) / 1000 if expires else None,
                encoding=_text(encoding),
                memory=_number(memory),
                refused=refused,
            )
        )
    return described


def _measure(server: Server, found: Sequence[RawKey], digest: Digest) -> list[RawKey]:
    """The length of each key; of a hash also of the values of the fields that a registry writes."""
    questions: list[list[Command]] = []
    for each in found:
        if each.expected == "set":
            questions.append([("SCARD", each.key), ("SISMEMBER", each.key, digest)])
        elif each.type == "string":
            questions.append([("STRLEN", each.key)])
        else:
            lengths = [("HSTRLEN", each.key, field) for field in keys.FIELDS]
            questions.append([("HLEN", each.key), *lengths])
    measured = []
    for each, (values, refused) in zip(found, _ask(server, questions), strict=True):
        length, *rest = values
        is_set = each.expected == "set"
        fields = [] if is_set else list(zip(keys.FIELDS, rest, strict=False))
        measured.append(
            each._replace(
                length=_number(length),
                is_member=bool(rest[0]) if is_set and type(rest[0]) is int else None,
                fields=[
                    RawField(_bytes(name), None, size)
                    for name, size in fields
                    if type(size) is int and size > 0
                ],
                refused=(*each.refused, *refused),
            )
        )
    return measured


def _read(server: Server, found: Sequence[RawKey]) -> list[RawKey]:
    """The values that are short enough."""
    questions: list[list[Command]] = []
    for each in found:
        short = [field.name for field in each.fields if field.length <= _SMALL]
        if each.type == "string" and each.expected == "hash":
            questions.append([("GETRANGE", each.key, "0", "1023")])
        elif _is_small(each):
            questions.append([("HGETALL", each.key)])
        elif short:
            questions.append([("HMGET", each.key, *short)])
        else:
            questions.append([])
    read = []
    for each, (values, refused) in zip(found, _ask(server, questions), strict=True):
        reply: object = values[0] if values else None
        if isinstance(reply, dict):  # as redis-py reads HGETALL
            reply = [word for pair in reply.items() for word in pair]
        fields = each.fields
        if isinstance(reply, bytes):
            fields = [RawField(b"", reply, each.length or 0)]
        elif isinstance(reply, list) and _is_small(each):
            flat = [value for value in reply if isinstance(value, bytes)]
            pairs = sorted(zip(flat[::2], flat[1::2], strict=False))
            fields = [RawField(name, value, len(value)) for name, value in pairs[:MAX_FIELDS]]
        elif isinstance(reply, list):
            short = [field.name for field in each.fields if field.length <= _SMALL]
            known = dict(zip(short, reply, strict=True))
            fields = [
                field._replace(value=cast("bytes | None", known.get(field.name)))
                for field in each.fields
            ]
        read.append(each._replace(fields=fields, refused=(*each.refused, *refused)))
    return read


def _is_small(key: RawKey) -> bool:
    return (
        key.expected == "hash"
        and key.type == "hash"
        and key.memory is not None
        and key.memory <= _SMALL
        and (key.length or 0) <= MAX_FIELDS
    )


def _ask(
    server: Server, questions: Sequence[Sequence[Command]]
) -> list[tuple[list[Reply], tuple[str, ...]]]:
    """Ask several questions about each key: one round trip. What is refused has no reply."""
    commands = [command for group in questions for command in group]
    replies = iter(server.ask(commands) if commands else [])
    answers = []
    for group in questions:
        found = [next(replies) for _ in group]
        refused = dict.fromkeys(filter(None, map(refused_command, found)))
        values: list[Reply] = [None if isinstance(each, Exception) else each for each in found]
        answers.append((values, tuple(refused)))
    return answers


def _bytes(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode()


def _text(reply: Reply) -> str | None:
    return reply.decode("ascii", "replace") if isinstance(reply, bytes) else None


def _number(reply: Reply) -> int | None:
    return reply if type(reply) is int else None
