"""The second look: remove what was written and is gone, and nothing else.

The blob's hash goes first: version 2 of the registry writes a membership of its own for a link
without data, as long as it finds the hash. What another client has changed since is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobcache.findings import Kind
from blobcache.services.truth import Absent
from blobcache.warming.report import Outcome

if TYPE_CHECKING:
    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.base import Backend, BrowsableProvider

__all__ = ["Written", "take_back"]


class Written(NamedTuple):
    """What was written for a digest: in a repository, or the global descriptor alone."""

    repository: RepositoryName
    """Where the link was read."""

    digest: Digest
    descriptor: Descriptor
    is_member: bool
    """Whether the repository got it, or the global scope alone."""

    blob: bool
    """Whether the blob's hash was created; likewise the other two."""

    override: bool
    member: bool


def take_back(
    provider: BrowsableProvider, backend: Backend, written: Written, *, is_gone: bool
) -> Outcome:
    """Remove what was written, if it is unchanged: `Outcome.TAKEN_BACK` or `Outcome.CHANGED`.

    `is_gone` is whether the second look found nothing. If it found other data, the repository may
    still read the blob: then the hash alone is removed, and only if it says what was written. So a
    note with wrong values, as anybody could have made, removes nothing that the storage has.

    A removed hash is a miss for other repositories that link the blob, until a registry fills it
    again. Where nothing refills it, in the role ``primary``, the hash stays as long as its data is
    there. A few round trips.
    """
    walk, removals = provider.walk(), provider.removals()
    digest = written.digest
    is_done = False
    if written.blob and (
        provider.rules.role == "cache"
        or isinstance(backend.stat(written.descriptor.digest), Absent)
    ):
        (record,) = walk.read(None, [digest])
        found = record.global_descriptor
        if (
            found is not None
            and record.global_kind is Kind.OK
            and (found.digest, found.size) == (written.descriptor.digest, written.descriptor.size)
        ):
            is_done = removals.remove_blob(record)
    if is_gone and (written.member or written.override):
        # If only the override was missing, the repository could not read the blob before.
        (record,) = walk.read(written.repository, [digest])
        media_type = (written.descriptor.media_type or "").encode()
        is_ours = not written.override or record.override == media_type
        if record.is_member and is_ours and removals.remove_member(record):
            is_done = True
    return Outcome.TAKEN_BACK if is_done else Outcome.CHANGED
