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

from blobcache.exceptions import DescriptorCorrupt
from blobcache.findings import Finding, Kind, Place, Subject
from blobcache.raw import printable
from blobcache.redis import keys, replies
from blobcache.redis.inspection import State, inspect_blob, inspect_member
from blobcache.transport.packing import is_wrong_type

if TYPE_CHECKING:
    from blobcache.conf import Role
    from blobcache.digest import Digest
    from blobcache.findings import Facts
    from blobcache.redis.evidence import Evidence
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

_DAMAGED = (State.CORRUPT, State.DIGEST_MISMATCH, State.SIZE_MISMATCH)


def judge_blob(digest: Digest, seen: Evidence, role: Role) -> Finding | None:
    """Say what is wrong with a blob in the global scope, whose key is there."""
    record = inspect_blob(digest, seen.fields)
    if record.state is State.OK:
        return None
    kind = Kind(record.state.value)
    return Finding(
        kind,
        Subject(Place.BLOB, None, digest.encode()),
        _facts(kind, seen, digest),
        is_repairable=role == "cache" or not _may_be_true(digest, seen),
    )


def judge_member(repository: bytes, digest: Digest, seen: Evidence, role: Role) -> Finding | None:
    """Say what is wrong with a blob that a repository may see."""
    state = inspect_member(digest, seen.fields, seen.override).state
    if state is State.OK:
        return None
    kind = Kind(state.value)
    return Finding(
        kind,
        Subject(Place.MEMBER, repository, digest.encode()),
        _facts(kind, seen, digest),
        is_repairable=role == "cache" or not _may_be_true(digest, seen),
    )


def is_intact(digest: Digest, seen: Evidence) -> bool:
    """Whether nothing is wrong with the blob in the global scope."""
    return inspect_blob(digest, seen.fields).state is State.OK


def is_blob_at_fault(digest: Digest, seen: Evidence) -> bool:
    """Whether the hash itself is damaged, and not merely incomplete."""
    return inspect_blob(digest, seen.fields).state in _DAMAGED


def foreign(place: Place, repository: bytes | None, digest: bytes) -> Finding:
    """Say of something that it stands where a digest should."""
    part = "name" if repository is not None and place is Place.OVERRIDE else "member"
    if place is Place.BLOB:
        part = "digest"
    return Finding(Kind.CORRUPT, Subject(place, repository, digest), _stored(part, digest))


def corrupt_repository(repository: bytes, part: str) -> Finding:
    """Say that a repository's ``name`` is none, or that what it has is no ``set``."""
    facts = _stored("name", repository) if part == "name" else {"part": part}
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
    state = inspect_blob(digest, seen.fields).state
    if state is not State.SIZE_MISMATCH:
        return state is State.OK
    _, *sizes, _ = cast("list[bytes | None]", seen.fields)
    return any(size is not None and replies.number_of_bytes(size) for size in sizes)


def _facts(kind: Kind, seen: Evidence, digest: Digest) -> Facts:
    if kind is Kind.CORRUPT:
        return _corrupt_part(seen, digest)
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


def _corrupt_part(seen: Evidence, digest: Digest) -> Facts:
    """Which part does not parse: the parts are put together one by one until it fails."""
    if is_wrong_type(seen.fields):
        return {"part": "key"}
    named, size, length, media_type = cast("list[bytes | None]", seen.fields)
    attempts: list[tuple[str, bytes | None, list[Reply]]] = [
        ("digest", named, [named, b"0", None, None]),
        ("size", length if size is None else size, [named, size, length, None]),
        ("media-type", media_type, [named, size, length, media_type]),
    ]
    for part, value, fields in attempts:
        try:
            replies.global_descriptor(fields, digest, allow_tarsum=True)
        except DescriptorCorrupt:
            return _stored(part, value or b"")
    if is_wrong_type(seen.override):
        return {"part": "override-key"}
    return _stored("override", cast("bytes", seen.override))


def _stored(part: str, value: bytes) -> Facts:
    return {"part": part, "stored": _shown(value)}


def _shown(value: bytes | None) -> str | int | None:
    """A value as JSON can hold it: a number where it is one, else the beginning of it."""
    if value is None:
        return None
    number = replies.number_of_bytes(value)
    return printable(value) if number is None else number
