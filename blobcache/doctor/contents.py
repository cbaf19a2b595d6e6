"""What is stored, beside the cache: manifests whose blobs are missing, types, and what is uncached.

A walk over the backend's own repositories. It reads each manifest, and looks whether the repository
can read what that names. What a manifest says is the claim of whoever pushed it, so nothing here
leads to a write, and a missing blob is only reported: no cache can bring it back.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from blobcache.backends import images
from blobcache.digest import Digest
from blobcache.doctor.truth import Doubtful, evidence
from blobcache.exceptions import BackendUnavailable, BlobUnknown, ManifestInvalid
from blobcache.findings import Finding, Kind, Subject
from blobcache.media_types import OCTET_STREAM, describe, is_safe
from blobcache.raw import printable
from blobcache.services.records import OverrideKey
from blobcache.services.truth import Absent, LinkKind, Present, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobcache.backends.images import Reference
    from blobcache.findings import Facts
    from blobcache.reference import RepositoryName
    from blobcache.services.base import Backend, BrowsableProvider
    from blobcache.services.records import Record
    from blobcache.services.truth import StoredLink

__all__ = ["Contents", "Page", "contradicts", "specific_type"]

_T = TypeVar("_T")

_LINKS = 250
"""Links that are looked at together."""


class Page(NamedTuple):
    """What one step over the links of a repository has shown."""

    findings: Sequence[Finding]
    doubtful: Sequence[Doubtful]
    looked_at: int
    """The number of links."""

    uncached: int
    """Links whose blobs the cache does not have in this repository, and manifests that it does not
    have at all."""

    next: str | None
    """The position of the last link; None at the end of the repository."""


class _Kept(NamedTuple, Generic[_T]):
    """A list that was read in part. To begin it again after that, all its names are read again."""

    begin: str
    """Where the last part of it began; for links, the repository."""

    last: _T | None
    """The last item that was read; None at the end."""

    items: Iterator[_T]


class Contents:
    """Walks over what a backend lists. Raises `BackendUnavailable` where that cannot be read."""

    def __init__(self, provider: BrowsableProvider, backend: Backend) -> None:
        self._backend = backend
        self._walk = provider.walk()
        self._is_repairable = provider.rules.role == "cache"
        self._names: _Kept[RepositoryName] | None = None
        self._links: _Kept[StoredLink] | None = None

    def next_repository(self, after: str) -> RepositoryName | None:
        """Return the repository that follows; None at the end."""
        kept = self._names
        if kept is not None and kept.begin == after:
            return kept.last
        self._names = None  # A list that has failed would end here without saying so.
        if kept is not None and kept.last == after:
            names = kept.items
        else:
            names = iter(self._backend.repositories(after))
        found = next(names, None)
        self._names = _Kept(after, found, names)
        return found

    def step(self, repository: RepositoryName, after: str) -> Page:
        """Look at the next links of a repository."""
        kept, self._links = self._links, None
        if (
            kept is not None
            and kept.last
            and (kept.begin, kept.last.position) == (repository, after)
        ):
            items = kept.items
        else:
            items = iter(self._backend.members(repository, after))
        links = [*islice(items, _LINKS)]
        uncached = self._uncached(repository, links)
        findings: list[Finding] = []
        doubtful: list[Doubtful] = []
        for link in links:
            if link.kind is LinkKind.MANIFEST and link.target is not None:
                for each in self._manifest(repository, link.digest, link.target):
                    if isinstance(each, Finding):
                        findings.append(each)
                    else:
                        doubtful.append(each)
        following = links[-1].position if len(links) == _LINKS else None
        self._links = _Kept(repository, links[-1] if following else None, items)
        return Page(findings, doubtful, len(links), uncached, following)

    def _uncached(self, repository: RepositoryName, links: Sequence[StoredLink]) -> int:
        """The number of links whose blobs the cache does not have. At most two round trips."""
        raw = repository.encode()
        digests = sorted({link.digest for link in links})
        members = self._walk.are_members([OverrideKey(raw, each.encode()) for each in digests])
        others = {each for each, is_member in zip(digests, members, strict=True) if not is_member}
        layers = {link.digest for link in links if link.kind is LinkKind.LAYER} & others
        # Version 2 caches a manifest, but never makes it a member.
        manifests = self._walk.read(None, sorted(others - layers))
        return len(layers) + sum(each.global_descriptor is None for each in manifests)

    def _manifest(
        self, repository: RepositoryName, digest: Digest, target: Digest
    ) -> Iterator[Finding | Doubtful]:
        subject = Subject.of_blob(repository, digest)
        try:
            with self._backend.open(target) as file:  # its link was read
                manifest = images.parse(file.read(images.MAX_DOCUMENT + 1))
        except (BlobUnknown, ManifestInvalid):
            return  # The links and the data are judged by what the cache says of them.
        except BackendUnavailable as error:
            yield Doubtful(subject, evidence(error.message))
            return
        references = [
            each
            for each in manifest.references
            if not each.is_foreign and each.role is not images.Role.SUBJECT
        ]
        yield from self._missing(repository, subject, references)
        yield from self._types(repository, references)

    def _missing(
        self, repository: RepositoryName, subject: Subject, references: Sequence[Reference]
    ) -> Iterator[Finding | Doubtful]:
        missing: list[tuple[Reference, Absent]] = []
        for each in references:
            answer = self._backend.stat(each.digest, repository)
            if isinstance(answer, Absent) and answer.other_link is None:
                missing.append((each, answer))
            elif isinstance(answer, Unknown) and answer.damage is None:
                yield Doubtful(Subject.of_blob(repository, each.digest), evidence(answer.reason))
            elif isinstance(answer, Present) and each.size not in (0, answer.descriptor.size):
                facts: Facts = {
                    "data": answer.descriptor.size,
                    "evidence": evidence(answer.evidence),
                }
                named = Subject.of_blob(repository, each.digest)
                yield Finding(Kind.STORAGE_DAMAGE, named, facts, is_repairable=False)
        if missing:
            first, absent = missing[0]
            facts = {"names": first.digest, "evidence": evidence(absent.evidence)}
            yield Finding(Kind.MISSING_CONTENT, subject, facts, is_repairable=False)

    def _types(
        self, repository: RepositoryName, references: Sequence[Reference]
    ) -> Iterator[Finding]:
        named = {each.digest: each.media_type for each in references if each.media_type}
        for record in self._walk.read(repository, sorted(named)) if named else ():
            claimed = named.get(Digest(record.digest, allow_tarsum=True))
            stored = specific_type(record)
            if claimed and stored and record.is_member and contradicts(stored, claimed):
                facts: Facts = {"mediaType": printable(stored.encode()), "names": claimed}
                subject = Subject.of_blob(repository, record.digest)
                yield Finding(
                    Kind.MEDIA_TYPE_DRIFT, subject, facts, is_repairable=self._is_repairable
                )


def specific_type(record: Record) -> str | None:
    """The media type that the repository serves a blob with, if it says what the content is."""
    override = record.override
    stored = printable(override) if isinstance(override, bytes) and override else None
    stored = stored or record.global_media_type
    return stored if stored and is_safe(stored) and stored.lower() != OCTET_STREAM else None


def contradicts(stored: str, claimed: str) -> bool:
    """Whether a cached type says other things about the content than a manifest's.

    Docker's and OCI's names for the same kind of content do not contradict each other: two
    manifests may name one layer in both ways.
    """
    one, other = describe(stored), describe(claimed)
    return (one.category, one.detail) != (other.category, other.detail)
