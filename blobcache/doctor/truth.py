"""Hold what the cache says against what a backend says.

Only an `Absent` leads to a finding whose repair clears something because of the storage. An
`Unknown` leads to none, but for a link that is corrupt: it is counted, and a check with such
answers has not seen everything.

Nothing is stored under an alias: it is judged by its canonical digest, which its descriptor names.
A digest of an algorithm that no storage uses, such as tarsum, is not judged at all.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from blobcache.conf import RegistrySettings
from blobcache.digest import ALGORITHMS, Digest
from blobcache.exceptions import BackendUnavailable, BlobUnknown
from blobcache.findings import REPORT_ONLY_KINDS, Finding, Kind, Subject
from blobcache.media_types import OCTET_STREAM, is_safe
from blobcache.raw import printable
from blobcache.services.truth import Absent, Damage, Present, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blobcache.findings import Facts
    from blobcache.services.base import Backend, BrowsableProvider
    from blobcache.services.records import Record
    from blobcache.services.truth import Answer

_T = TypeVar("_T")
_R = TypeVar("_R")

__all__ = ["Comparison", "Doubtful", "Judged", "evidence", "is_unsafe"]


_CHUNK = 1024 * 1024
"""Bytes of data that are read at a time."""

_OF_BLOBS = frozenset({Kind.SIZE_MISMATCH, Kind.STORAGE_DAMAGE})
"""Kinds that are about a blob itself, whatever repository it is in."""


class Doubtful(NamedTuple):
    """Something that could not be judged, since the backend does not know."""

    subject: Subject | None
    """None if it is all that follows."""

    reason: str


class Judged(NamedTuple):
    """What is wrong with some records, and what could not be judged."""

    findings: Sequence[Finding]
    doubtful: Sequence[Doubtful]

    compared: int = 0
    """How many of the records were held against what the backend says."""

    incomparable: int = 0
    """How many have a digest that no storage can have: tarsum digests."""


class Comparison:
    """Compares records of one registry's cache with its backend.

    One thread at a time may use it; another one may `stop` it.
    """

    def __init__(self, provider: BrowsableProvider, backend: Backend, *, deep: int = 0) -> None:
        """`deep` is the percentage of the blobs whose data is read and compared with the digest."""
        self._catalog = provider.catalog
        self._role = provider.rules.role
        self._is_proxy = RegistrySettings(provider.rules.registry).PROXY
        self._backend = backend
        self._deep = deep
        self._calls = max(1, backend.concurrency)
        self._stopped = Event()

    def stop(self) -> None:
        """Let `judge` raise `CancelledError` soon, in whichever thread it runs."""
        self._stopped.set()

    def judge(self, records: Sequence[Record], *, with_blobs: bool = True) -> Judged:
        """Judge records of one scope: the global one, or one repository's with its members.

        `with_blobs` says whether members are judged by their global descriptors too, for a walk
        that does not come to these by itself. Raises `CacheUnavailable`.
        """
        claims = [each for each in records if _is_judged(each)]
        found = [each for each in claims if _is_comparable(each)]
        incomparable = len(claims) - len(found)
        if self._is_proxy and not self._backend.is_complete:
            reason = "A pull-through registry downloads what it is asked for: ask its storage."
            return Judged(
                [],
                [Doubtful(Subject.of_blob(each.repository, each.digest), reason) for each in found],
                incomparable=incomparable,
            )
        answers = self._all(self._answer, found)
        absent = [each for each, answer in zip(found, answers, strict=True) if _is_gone(answer)]
        kinds = dict(zip((each.digest for each in absent), self._why_absent(absent), strict=True))
        findings: list[Finding] = []
        doubtful: list[Doubtful] = []
        for record, answer in zip(found, answers, strict=True):
            if self._agree(record, answer):
                continue
            for each in self._judge(record, answer, kinds.get(record.digest)):
                if isinstance(each, Doubtful):
                    doubtful.append(each)
                elif with_blobs or record.repository is None or each.kind not in _OF_BLOBS:
                    findings.append(each)
        return Judged(findings, doubtful, len(found), incomparable)

    def _agree(self, record: Record, answer: Answer) -> bool:
        """Whether there is nothing to say: the usual case, in a tenth of the time of `_judge`."""
        cached = record.global_descriptor
        return (
            isinstance(answer, Present)
            and answer.damage is None
            and (cached is None or cached.size == answer.descriptor.size)
            and not (self._deep and record.repository is None)
            and not _unsafe(record)
        )

    def _judge(
        self, record: Record, answer: Answer, why_absent: Kind | Unknown | None
    ) -> Iterator[Finding | Doubtful]:
        subject = Subject.of_blob(record.repository, record.digest)
        if unsafe := _unsafe(record):
            yield self._finding(Kind.UNSAFE_MEDIA_TYPE, subject, unsafe)
        if isinstance(answer, Absent):
            if isinstance(why_absent, Unknown):
                yield Doubtful(subject, evidence(why_absent.reason))
            elif why_absent and not (self._is_proxy and why_absent is Kind.UNLINKED_MEMBER):
                yield self._finding(why_absent, subject, {"evidence": evidence(answer.evidence)})
        elif isinstance(answer, Present):
            yield from self._stored(record, subject, answer)
        elif answer.damage is not None:
            facts: Facts = {"evidence": evidence(answer.reason)}
            yield self._finding(Kind(answer.damage.value), subject, facts)
        else:
            yield Doubtful(subject, evidence(answer.reason))

    def _answer(self, record: Record) -> Answer:
        self._require_going()
        if record.repository is None:
            return self._backend.stat(_canonical(record))
        return self._backend.stat(record.digest, record.repository)

    def _why_absent(self, absent: Sequence[Record]) -> Sequence[Kind | Unknown]:
        """The kind of each record whose blob is absent in its scope."""
        if not absent:
            return []
        if absent[0].repository is not None:
            answers = self._all(lambda each: self._backend.stat(_canonical(each)), absent)
            return [_why_absent_in_repository(answer) for answer in answers]
        held = self._held([Digest(each.digest, allow_tarsum=True) for each in absent])
        return [
            Kind.MISSING_DATA if held is None or each.digest in held else Kind.STALE_MANIFEST
            for each in absent
        ]

    def _held(self, digests: Sequence[Digest]) -> set[Digest] | None:
        """Which of them some repository has as members; None if nobody can tell."""
        if not self._catalog.may_write or not self._catalog.status().is_built:
            return None
        held: set[Digest] = set()
        after: bytes | None = b""
        while after is not None:
            more, after = self._catalog.held_elsewhere(digests, after, any_name=True)
            held |= more
        return held

    def _stored(
        self, record: Record, subject: Subject, answer: Present
    ) -> Iterator[Finding | Doubtful]:
        """What is wrong with a blob whose data is there."""
        cached = record.global_descriptor
        if answer.damage is Damage.STORAGE_DAMAGE:
            # The cached size may be the correct one.
            facts: Facts = {"evidence": evidence(answer.evidence), "data": answer.descriptor.size}
            yield self._finding(Kind.STORAGE_DAMAGE, subject, facts)
        elif cached is not None and cached.size != answer.descriptor.size:
            facts = {"size": cached.size, "length": None, "data": answer.descriptor.size}
            yield self._finding(Kind.SIZE_MISMATCH, subject, facts)
        elif self._deep and record.repository is None and self._is_sampled(answer):
            yield from self._hashed(subject, answer)

    def _is_sampled(self, answer: Present) -> bool:
        """Whether the blob is part of the sample: always the same blobs for one percentage."""
        return int(answer.descriptor.digest.encoded[:8], 16) % 100 < self._deep

    def _hashed(self, subject: Subject, answer: Present) -> Iterator[Finding | Doubtful]:
        """Read the data, and compare it with the digest."""
        digest = answer.descriptor.digest
        hashed = hashlib.new(digest.algorithm)
        try:
            with self._backend.open(digest) as file:
                while chunk := file.read(_CHUNK):
                    self._require_going()
                    hashed.update(chunk)
        except BlobUnknown:
            return  # it has just been deleted
        except BackendUnavailable as error:
            yield Doubtful(subject, evidence(error.message))
            return
        if hashed.hexdigest() != digest.encoded:
            facts: Facts = {
                "evidence": evidence(f"{answer.evidence} has the content of {hashed.hexdigest()}")
            }
            yield self._finding(Kind.STORAGE_DAMAGE, subject, facts)

    def _require_going(self) -> None:
        if self._stopped.is_set():
            raise CancelledError

    def _finding(self, kind: Kind, subject: Subject, facts: Facts) -> Finding:
        is_repairable = kind not in REPORT_ONLY_KINDS and self._role == "cache"
        return Finding(kind, subject, facts, is_repairable=is_repairable)

    def _all(self, call: Callable[[_T], _R], items: Sequence[_T]) -> Sequence[_R]:
        if self._calls == 1 or len(items) < 2:  # noqa: PLR2004
            return [call(each) for each in items]
        with ThreadPoolExecutor(self._calls) as pool:
            return list(pool.map(call, items))


def _is_gone(answer: Answer) -> bool:
    """Whether the blob is absent, and no other link lets the repository read it."""
    return isinstance(answer, Absent) and answer.other_link is None


def _is_judged(record: Record) -> bool:
    """Whether the record claims something about the storage.

    A member does so even without a descriptor: the registry fills that, and the membership is what
    lets the repository read the blob.
    """
    if not isinstance(record.digest, Digest):
        return False
    if record.repository is None:
        return record.kind is Kind.OK
    return record.kind in {Kind.OK, Kind.DANGLING_MEMBER}


def _is_comparable(record: Record) -> bool:
    """Whether a storage can have what the record names: links and data have no tarsum digests."""
    digest = _canonical(record) if record.repository is None else record.digest
    return digest.partition(":")[0] in ALGORITHMS


def _canonical(record: Record) -> str:
    return record.global_descriptor.digest if record.global_descriptor else record.digest


def _why_absent_in_repository(data: Answer) -> Kind | Unknown:
    """The kind of a member that the repository may not read, by what is said of the blob's data."""
    if isinstance(data, Present):
        return Kind.UNLINKED_MEMBER
    return Kind.MISSING_DATA if isinstance(data, Absent) else data


def _unsafe(record: Record) -> Facts | None:
    """The media type that is not safe, if there is one: a member's own, else the global one."""
    if record.repository is None:
        media_type = record.global_media_type
    else:
        media_type = printable(record.override) if isinstance(record.override, bytes) else None
    return {"mediaType": media_type} if media_type and is_unsafe(media_type) else None


def is_unsafe(media_type: str) -> bool:
    """Whether a browser might run or display content of this cached type."""
    return media_type.lower() != OCTET_STREAM and not is_safe(media_type)


def evidence(text: str) -> str:
    """Return what a backend says, printable and of a bounded length."""
    return printable(text.encode("utf-8", "backslashreplace"))
