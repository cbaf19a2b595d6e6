"""Read a blob's keys once: the descriptor, and anything wrong with it.

A stat returns unknown for everything incomplete; lists and checks show why. Only the cache itself
is read here, never the registry's storage.
"""

from __future__ import annotations

from hashlib import new as new_hash
from typing import TYPE_CHECKING, Any, TypeVar, cast

from blobcache.descriptor import Descriptor, parse_size
from blobcache.digest import ALGORITHMS, TARSUM, Digest
from blobcache.exceptions import BlobUnknown, DescriptorCorrupt
from blobcache.findings import Kind
from blobcache.redis import commands, replies
from blobcache.services.records import WRONG_TYPE, Fields, Record
from blobcache.services.rules import BaseDescriptorService
from blobcache.transport.packing import is_wrong_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blobcache.findings import Part
    from blobcache.redis.options import RedisOptions
    from blobcache.reference import RepositoryName
    from blobcache.services.records import WrongType
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = [
    "ReadsRecords",
    "chunks",
    "first_commands",
    "paired",
    "parse_blob",
    "parse_descriptors",
    "parse_member",
    "read_records",
    "read_replies",
]

_D = TypeVar("_D", bound=str)


class ReadsRecords(BaseDescriptorService):
    """Implements a service's `records`."""

    __slots__ = ()

    _options: RedisOptions
    _server: Server

    def records(self, digests: Sequence[str]) -> list[Record]:
        """See `RecordReader.records`."""
        found: list[Record] = []
        for chunk in chunks(digests, self._options.stat_chunk_size):
            records = read_records(
                self._server,
                self.repository,
                [digest for digest in chunk if isinstance(digest, Digest)],
                allow_tarsum=self.rules.allow_tarsum,
                replica=self._options.read_from_replicas,
            )
            if len(records) < len(chunk):
                known = {record.digest: record for record in records}
                records = [known.get(each) or Record(each, Kind.CORRUPT, None) for each in chunk]
            found += records
        return found


def read_records(
    server: Server,
    repository: RepositoryName | None,
    digests: Sequence[Digest],
    *,
    allow_tarsum: bool,
    replica: bool = False,
) -> list[Record]:
    """Return a record for each digest, in one round trip.

    Pass the registry's rule as `allow_tarsum` for the record that its own stat gives, or true for
    what the stat of any registry may give.
    """
    found = read_replies(server, repository, digests, replica=replica)
    if repository is None:
        return [
            parse_blob(digest, fields, allow_tarsum=allow_tarsum)
            for digest, (fields,) in zip(digests, found, strict=True)
        ]
    return [
        parse_member(repository, digest, *answers, allow_tarsum=allow_tarsum)
        for digest, answers in zip(digests, found, strict=True)
    ]


def read_replies(
    server: Server,
    repository: RepositoryName | None,
    digests: Sequence[Digest],
    *,
    replica: bool = False,
) -> Iterable[Sequence[Reply]]:
    """Return for each digest what `commands.stat` gets, in one round trip for all of them."""
    if not digests:
        return []
    template, first = commands.read_template(repository), first_commands(repository, digests)
    answers = server.run_template_many(template, digests, first, replica=replica)
    return paired(repository, digests, answers)


def first_commands(repository: RepositoryName | None, digests: Sequence[Digest]) -> list[Command]:
    """Return what precedes the commands of `commands.read_template` for all the digests."""
    return [] if repository is None else [commands.are_members(repository, digests)]


def paired(
    repository: RepositoryName | None, digests: Sequence[Digest], answers: list[Reply]
) -> Iterable[Sequence[Reply]]:
    """Return for each digest what `commands.stat` gets, of the replies to all these commands."""
    if repository is None:
        return zip(answers)
    members, *hashes = answers
    if is_wrong_type(members):
        members = [members] * len(digests)
    return zip(cast("list[Reply]", members), hashes[::2], hashes[1::2], strict=True)


def chunks(digests: Sequence[_D], size: int) -> Iterator[Sequence[_D]]:
    """Divide the digests of a batch into those of one round trip."""
    return (digests[start : start + size] for start in range(0, len(digests), size))


def parse_descriptors(
    repository: RepositoryName | None,
    digests: Sequence[Digest],
    answers: Iterable[Sequence[Reply]],
    *,
    allow_tarsum: bool,
    errors: dict[Digest, BlobUnknown],
) -> dict[Digest, Descriptor]:
    """Return the descriptors of those digests that are known, given what `commands.stat` gets.

    The errors of those that are corrupt are added to `errors`.
    """
    found: dict[Digest, Descriptor] = {}
    each: Any
    for digest, each in zip(digests, answers, strict=True):
        try:
            if repository is None:
                (fields,) = each
                known = replies.global_descriptor(fields, digest, allow_tarsum=allow_tarsum)
            else:
                member, fields, override = each
                known = _whole_descriptor(digest, *each) or replies.scoped_descriptor(
                    member, fields, override, digest, allow_tarsum=allow_tarsum
                )
        except DescriptorCorrupt as error:
            errors[digest] = error
            continue
        if known is not None:
            found[digest] = known
    return found


def parse_blob(digest: Digest, fields: Reply, *, allow_tarsum: bool = True) -> Record:
    """Parse a blob's hash, given as the reply to ``HMGET`` of `keys.FIELDS`."""
    kind, part, found = _parse_hash(digest, fields, allow_tarsum=allow_tarsum)
    return Record(digest, kind, found, found, kind, part=part, fields=_fields(fields))


def parse_member(
    repository: RepositoryName,
    digest: Digest,
    member: Reply,
    fields: Reply,
    override: Reply,
    *,
    allow_tarsum: bool = True,
) -> Record:
    """Parse what a stat in a repository reads: the replies to `commands.stat`, in its order."""
    whole = _whole_descriptor(digest, member, fields, override)
    if whole is not None and _is_accepted(digest, allow_tarsum=allow_tarsum):
        return Record(
            digest,
            Kind.OK,
            whole,
            whole,
            Kind.OK,
            is_member=True,
            repository=repository,
            fields=Fields._make(cast("list[bytes | None]", fields)),
            override=cast("bytes", override),
        )
    global_kind, part, found = _parse_hash(digest, fields, allow_tarsum=allow_tarsum)
    kind, seen = global_kind, found
    if found is None:
        kind = Kind.DANGLING_MEMBER if global_kind is Kind.HUSK else global_kind
    elif override is None:
        kind, seen = Kind.DANGLING_MEMBER, None
    else:
        try:
            seen = replies.overridden(found, override, digest)
        except DescriptorCorrupt as error:
            kind, part, seen = error.kind, error.part, None
    return Record(
        digest,
        kind,
        seen,
        found,
        global_kind,
        None if isinstance(member, Exception) else bool(member),
        part,
        repository,
        Fields._make(fields) if type(fields) is list else WRONG_TYPE,
        WRONG_TYPE if isinstance(override, Exception) else cast("bytes | None", override),
    )


def _whole_descriptor(
    digest: Digest, member: Reply, fields: Reply, override: Reply
) -> Descriptor | None:
    """Read a member of which nothing is missing, damaged or unusual; None for all others.

    That is how registries write it: the hash names the digest itself, and has a size above 0 and
    the media type that the override has. `replies` reads it as well, but takes twice the time, and
    a page has a thousand of them.
    """
    if member != 1 or type(fields) is not list:
        return None
    named, size, length, its_type = cast("list[bytes | None]", fields)
    if not (size and its_type) or its_type != override or named != digest.encode():
        return None
    if not (size == length or length is None) or not (number := parse_size(size)):
        return None
    media_type = replies.override_media_type(override)
    return None if media_type is None else Descriptor.of_valid(digest, number, media_type)


def _parse_hash(
    digest: Digest, fields: Reply, *, allow_tarsum: bool
) -> tuple[Kind, Part | None, Descriptor | None]:
    if not _is_accepted(digest, allow_tarsum=allow_tarsum):
        return Kind.CORRUPT, None, None
    try:
        found = replies.global_descriptor(fields, digest, allow_tarsum=allow_tarsum)
    except DescriptorCorrupt as error:
        return error.kind, error.part, None
    if found is None:
        return Kind.HUSK, None, None
    is_contradicted = _sizes_contradict(cast("list[bytes | None]", fields), found)
    return Kind.SIZE_MISMATCH if is_contradicted else Kind.OK, None, found


def _is_accepted(digest: Digest, *, allow_tarsum: bool) -> bool:
    """Whether a registry with that rule accepts the digest; it may come from another registry."""
    return allow_tarsum or not digest.startswith(TARSUM)


def _fields(fields: Reply) -> Fields | WrongType:
    return WRONG_TYPE if is_wrong_type(fields) else Fields(*cast("list[bytes | None]", fields))


def _sizes_contradict(fields: list[bytes | None], descriptor: Descriptor) -> bool:
    """Whether the two sizes differ, or the size is 0 and the digest is not that of no bytes."""
    _, size, length, _ = fields
    if size is not None and length is not None and size != length:
        return True
    algorithm = descriptor.digest.algorithm
    return (
        descriptor.size == 0
        and algorithm in ALGORITHMS
        and descriptor.digest.encoded != new_hash(algorithm).hexdigest()
    )
