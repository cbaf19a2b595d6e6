"""Judge a record: what is wrong with it, and whether a repair would help.

With the role ``cache``, damaged data may be deleted: the registry fills it again. With the role
``primary`` nothing fills it again, so everything that may be correct is kept:

- a membership whose global descriptor may be correct, even if its override is missing or damaged:
  the repository may read the blob, and the next set writes the override again;
- two sizes that contradict each other, since one of them may be correct;
- a descriptor that is in no repository: a clear in a repository leaves it on purpose.

A registry of version 2 adds no manifest to a repository's set. So with that version a descriptor
that is in no repository is no problem, and is kept too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.descriptor import parse_size
from blobcache.findings import Finding, Kind, Part, Place, Subject
from blobcache.raw import printable
from blobcache.reference import RepositoryName, repository_text
from blobcache.services.records import Fields

if TYPE_CHECKING:
    from blobcache.conf import Role
    from blobcache.findings import Facts
    from blobcache.services.records import Record

__all__ = [
    "invalid_name_finding",
    "judge",
    "orphan_finding",
    "repository_finding",
    "unreferenced_finding",
]

_FIELD_NAMES = ("digest", "size", "length", "mediatype")


def judge(record: Record, role: Role) -> Finding | None:
    """Return what is wrong with a blob in the scope of its record; None if nothing is.

    In a repository's scope the blob is judged as a member.
    """
    if record.kind is Kind.OK:
        return None
    return Finding(
        record.kind,
        Subject.of_blob(record.repository, record.digest),
        _facts(record),
        is_repairable=role == "cache" or not _could_be_correct(record),
        is_of_blob=record.is_blob_damaged,
    )


def invalid_name_finding(place: Place, repository: bytes | None, digest: bytes) -> Finding:
    """Return the finding for a key or a member whose digest, or repository, is not valid."""
    facts = _stored(Part.MEMBER if place is Place.MEMBER else Part.DIGEST, digest)
    if repository is not None and not isinstance(repository_text(repository), RepositoryName):
        facts = _stored(Part.NAME, repository)
    return Finding(Kind.CORRUPT, Subject(place, repository, digest), facts)


def repository_finding(repository: bytes, part: Part) -> Finding:
    """Return the finding for an invalid repository `Part.NAME`, or a key that is not a set."""
    facts: Facts = _stored(part, repository) if part is Part.NAME else {"part": part}
    return Finding(Kind.CORRUPT, Subject(Place.REPOSITORY, repository, None), facts)


def orphan_finding(repository: bytes, digest: bytes) -> Finding:
    """Return the finding for an override that belongs to no member."""
    return Finding(Kind.ORPHAN_OVERRIDE, Subject(Place.OVERRIDE, repository, digest))


def unreferenced_finding(record: Record, role: Role, registry_version: int) -> Finding:
    """Return the finding for an intact blob that is in no repository."""
    found = record.global_descriptor
    is_normal = registry_version == 2  # noqa: PLR2004
    facts: Facts = {
        **({"size": found.size, "mediaType": found.media_type} if found else {}),
        **({"version": registry_version} if is_normal else {}),
    }
    return Finding(
        Kind.UNREFERENCED,
        Subject.of_blob(record.repository, record.digest),
        facts,
        is_repairable=role == "cache" and not is_normal,
    )


def _could_be_correct(record: Record) -> bool:
    """Whether the global descriptor is intact, or one of two sizes may be the correct one."""
    fields = record.fields
    if record.global_kind is not Kind.SIZE_MISMATCH or not isinstance(fields, Fields):
        return record.global_kind is Kind.OK
    return any(size is not None and parse_size(size) for size in (fields.size, fields.length))


def _facts(record: Record) -> Facts:
    if record.kind is Kind.CORRUPT:
        return _corrupt_part(record)
    fields = record.fields
    if not isinstance(fields, Fields):
        return {}
    if record.kind is Kind.SIZE_MISMATCH:
        return {"size": _shown(fields.size), "length": _shown(fields.length)}
    if record.kind is Kind.DIGEST_MISMATCH:
        return {"names": _shown(fields.digest)}
    if record.kind is Kind.HUSK:
        left = [name for name, value in zip(_FIELD_NAMES, fields, strict=True) if value is not None]
        return {"left": ", ".join(left)}
    return {"missing": "descriptor" if record.global_descriptor is None else "override"}


def _corrupt_part(record: Record) -> Facts:
    part, fields = record.part, record.fields
    if part is Part.OVERRIDE and isinstance(record.override, bytes):
        return _stored(part, record.override)
    values = {}
    if isinstance(fields, Fields):
        values = {
            Part.DIGEST: fields.digest,
            Part.SIZE: fields.length if fields.size is None else fields.size,
            Part.MEDIA_TYPE: fields.media_type,
        }
    if part in values:
        return _stored(part, values[part])
    return {} if part is None else {"part": part}


def _stored(part: Part, value: bytes | None) -> Facts:
    return {"part": part, "stored": _shown(value)}


def _shown(value: bytes | None) -> str | int | None:
    """A value for JSON: a number if it is one, else the beginning of the text."""
    if value is None:
        return None
    number = parse_size(value)
    return printable(value) if number is None else number
