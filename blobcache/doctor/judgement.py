"""From evidence to findings: what is wrong with one blob, and whether a repair would help.

Where the registry's role is ``cache``, whatever is damaged may go: it is filled anew. In the role
``primary`` nobody fills anything, so what holds a truth stays, and only what is unusable goes:

- a membership whose global descriptor is intact, or may be, stays, though its override is lost or
  damaged: the repository may read the blob, and a set makes that whole again;
- two sizes that contradict each other stay, since one of them may be right;
- a descriptor that no repository refers to stays: a scoped clear leaves it on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blobcache.findings import Finding, Kind, Part, Place, Subject
from blobcache.raw import printable
from blobcache.redis import keys, replies
from blobcache.redis.inspection import inspect_blob, inspect_member
from blobcache.transport.packing import is_wrong_type

if TYPE_CHECKING:
    from blobcache.conf import Role
    from blobcache.digest import Digest
    from blobcache.findings import Facts
    from blobcache.redis.evidence import Evidence
    from blobcache.redis.inspection import Record
    from blobcache.transport.packing import Reply

__all__ = [
    "corrupt_repository",
    "foreign",
    "is_blob_at_fault",
    "is_intact",
    "judge_blob",
    "judge_member",
    "orphan",
    "unreferenced",
]

_DAMAGED = (Kind.CORRUPT, Kind.DIGEST_MISMATCH, Kind.SIZE_MISMATCH)


def judge_blob(digest: Digest, seen: Evidence, role: Role) -> Finding | None:
    """Say what is wrong with a blob in the global scope, whose key is there."""
    record = inspect_blob(digest, seen.fields)
    if record.kind is Kind.OK:
        return None
    return Finding(
        record.kind,
        Subject(Place.BLOB, None, digest.encode()),
        _facts(record, seen),
        is_repairable=role == "cache" or not _may_be_true(digest, seen),
    )


def judge_member(repository: bytes, digest: Digest, seen: Evidence, role: Role) -> Finding | None:
    """Say what is wrong with a blob that a repository may see."""
    record = inspect_member(digest, seen.fields, seen.override)
    if record.kind is Kind.OK:
        return None
    return Finding(
        record.kind,
        Subject(Place.MEMBER, repository, digest.encode()),
        _facts(record, seen),
        is_repairable=role == "cache" or not _may_be_true(digest, seen),
    )


def is_intact(digest: Digest, seen: Evidence) -> bool:
    """Whether nothing is wrong with the blob in the global scope."""
    return inspect_blob(digest, seen.fields).kind is Kind.OK


def is_blob_at_fault(digest: Digest, seen: Evidence) -> bool:
    """Whether the hash itself is damaged, and not merely incomplete."""
    return inspect_blob(digest, seen.fields).kind in _DAMAGED


def foreign(place: Place, repository: bytes | None, digest: bytes) -> Finding:
    """Say of something that it stands where a digest should."""
    part = Part.NAME if repository is not None and place is Place.OVERRIDE else Part.MEMBER
    if place is Place.BLOB:
        part = Part.DIGEST
    return Finding(Kind.CORRUPT, Subject(place, repository, digest), _stored(part, digest))


def corrupt_repository(repository: bytes, part: Part) -> Finding:
    """Say that a repository's ``name`` is none, or that what it has is no ``set``."""
    facts: Facts = _stored(part, repository) if part is Part.NAME else {"part": part}
    return Finding(Kind.CORRUPT, Subject(Place.REPOSITORY, repository, None), facts)


def orphan(repository: bytes, digest: bytes) -> Finding:
    """Say that an override belongs to no member."""
    return Finding(Kind.ORPHAN_OVERRIDE, Subject(Place.OVERRIDE, repository, digest))


def unreferenced(digest: Digest, seen: Evidence, role: Role) -> Finding:
    """Say that an intact blob is in no repository."""
    found = inspect_blob(digest, seen.fields).descriptor
    facts: Facts = {"size": found.size, "mediaType": found.media_type} if found else {}
    subject = Subject(Place.BLOB, None, digest.encode())
    return Finding(Kind.UNREFERENCED, subject, facts, is_repairable=role == "cache")


def _may_be_true(digest: Digest, seen: Evidence) -> bool:
    """Whether the global descriptor is intact, or one of two sizes may be that of the content."""
    kind = inspect_blob(digest, seen.fields).kind
    if kind is not Kind.SIZE_MISMATCH:
        return kind is Kind.OK
    _, *sizes, _ = cast("list[bytes | None]", seen.fields)
    return any(size is not None and replies.number_of_bytes(size) for size in sizes)


def _facts(record: Record, seen: Evidence) -> Facts:
    kind = record.kind
    if kind is Kind.CORRUPT and record.part is not None:
        return _corrupt_part(record.part, seen)
    if is_wrong_type(seen.fields):
        return {}
    named, size, length, _ = cast("list[bytes | None]", seen.fields)
    if kind is Kind.SIZE_MISMATCH:
        return {"size": _shown(size), "length": _shown(length)}
    if kind is Kind.DIGEST_MISMATCH:
        return {"names": _shown(named)}
    left = [
        field.decode()
        for field, value in zip(keys.FIELDS, cast("list[Reply]", seen.fields), strict=True)
        if value is not None
    ]
    if kind is Kind.HUSK:
        return {"left": ", ".join(left)}
    is_described = named is not None and (size is not None or length is not None)
    return {"missing": "override" if is_described else "descriptor"}


def _corrupt_part(part: Part, seen: Evidence) -> Facts:
    if part in {Part.KEY, Part.OVERRIDE_KEY}:
        return {"part": part}
    if part is Part.OVERRIDE:
        return _stored(part, cast("bytes", seen.override))
    named, size, length, media_type = cast("list[bytes | None]", seen.fields)
    values = {
        Part.DIGEST: named,
        Part.SIZE: length if size is None else size,
        Part.MEDIA_TYPE: media_type,
    }
    return _stored(part, values[part] or b"")


def _stored(part: Part, value: bytes) -> Facts:
    return {"part": part, "stored": _shown(value)}


def _shown(value: bytes | None) -> str | int | None:
    """A value as JSON can hold it: a number where it is one, else the beginning of it."""
    if value is None:
        return None
    number = replies.number_of_bytes(value)
    return printable(value) if number is None else number
