"""Read the storage: the links of each repository, and the data they lead to.

A reader takes one repository after another, and hands out its links in batches. It does so in other
threads than the one that writes to Redis: see `readers`. What is kept of sizes and types is
bounded.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from blobcache.backends import images
from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.exceptions import BackendUnavailable, BlobCacheError, ManifestInvalid
from blobcache.media_types import is_safe
from blobcache.services.truth import Absent, LinkKind, Present
from blobcache.warming.report import Case, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.base import Backend
    from blobcache.services.truth import Answer, StoredLink

_T = TypeVar("_T")
_R = TypeVar("_R")

__all__ = ["BATCH", "Batch", "Candidate", "Reading", "look", "reason"]

BATCH = 250
"""Links in a batch: what is compared with the cache, and written, in one round trip."""

_ANSWERS = 50_000
"""Blobs whose sizes are kept for other repositories that link them."""

_FRESH = 3.0
"""Seconds that they are kept. The second look sees what changed since."""

_TYPES = 200_000
"""Blobs of one repository whose media types are kept."""

_BEFORE_MANIFESTS = f"{LinkKind.MANIFEST}/sha256:{'0' * 64}"
"""A position before all links of manifests: no content has that digest."""


class Candidate(NamedTuple):
    """A link that was read, and whose data was looked at."""

    digest: Digest
    descriptor: Descriptor
    is_member: bool
    """Whether the repository gets the membership, or the blob its global descriptor alone."""


class Batch(NamedTuple):
    """Some links of a repository."""

    order: int
    """The number of the repository."""

    repository: RepositoryName
    number: int
    """The number of the batch in its repository."""

    candidates: list[Candidate]
    cases: list[Case]
    """The links that cannot be warmed."""

    position: str
    """The position of the last link."""

    is_last: bool
    """Whether it is the last batch of its repository."""

    @property
    def is_empty(self) -> bool:
        """Whether the repository has no links at all."""
        return self.number == 0 and not self.candidates and not self.cases


class Reading(ABC):
    """The threads that read. Use it as a context manager: they end with it."""

    def __init__(
        self, backend: Backend, *, version: int, with_types: bool = False, threads: int = 1
    ) -> None:
        self._backend = backend
        self._version = version
        self._with_types = with_types
        self._stopped = Event()
        self._answers: dict[Digest, tuple[float, Answer]] = {}
        self._pool = ThreadPoolExecutor(threads)
        self.total: int | None = None
        """Repositories, as soon as all are known."""

    @abstractmethod
    def start(
        self, repositories: Iterable[RepositoryName], within: str = "", after: str = ""
    ) -> None:
        """Read these repositories; the one named `within` only from the position `after` on."""

    @abstractmethod
    def stop(self) -> None:
        """End the reading, and forget what was read. Other calls may still be made."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether everything was read and taken."""

    @abstractmethod
    def take(self, timeout: float) -> Batch | Case | None:
        """Return the next batch, or what made the list of repositories end early.

        None if there is none within `timeout` seconds, or if a thread has just ended.
        """

    def submit(self, call: Callable[[_T], _R], argument: _T) -> Future[_R]:
        """Let a thread make another call, such as a second look."""
        return self._pool.submit(call, argument)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(cancel_futures=True)

    # In the threads

    def read(self, order: int, repository: RepositoryName, after: str) -> Iterator[Batch]:
        """Read the links of a repository; an error ends its last batch."""
        candidates: list[Candidate] = []
        cases: list[Case] = []
        number, position = 0, after
        if not repository.is_oci:
            cases.append(Case(Outcome.SKIPPED_NAME, repository, None))
            yield Batch(order, repository, 0, [], cases, position, is_last=True)
            return
        try:
            types = self._types(repository, cases) if self._with_types else {}
            for link in self._backend.members(repository, after):
                if len(candidates) + len(cases) >= BATCH:
                    yield Batch(
                        order, repository, number, candidates, cases, position, is_last=False
                    )
                    candidates, cases, number = [], [], number + 1
                found = self._judge(repository, link, types)
                if isinstance(found, Case):
                    cases.append(found)
                else:
                    candidates.append(found)
                position = link.position
        except Exception as error:  # noqa: BLE001 - a thread's outer edge: it must be reported
            cases.append(Case(Outcome.UNREADABLE, repository, None, reason(error)))
        yield Batch(order, repository, number, candidates, cases, position, is_last=True)

    def _judge(
        self, repository: RepositoryName, link: StoredLink, types: dict[Digest, str | None]
    ) -> Candidate | Case:
        digest, target = link.digest, link.target
        if target is None or (target != digest and target.algorithm == digest.algorithm):
            return Case(Outcome.CORRUPT_LINK, repository, digest, f"{link.evidence} is corrupt.")
        is_member = link.kind is LinkKind.LAYER or self._version >= 3  # noqa: PLR2004
        if not (is_member or self._backend.is_complete):
            return Case(Outcome.OUT_OF_REACH, repository, digest)
        answer = self._stat(repository, digest, target)
        if not isinstance(answer, Present):
            return _case(repository, digest, answer)
        found = answer.descriptor
        if answer.damage is not None:
            return Case(Outcome.DAMAGED, repository, digest, f"{answer.evidence} is damaged.")
        if found.digest != target:
            return Case(
                Outcome.UNKNOWN, repository, digest, f"{answer.evidence} is of another blob."
            )
        media_type = types.get(digest) or OCTET_STREAM
        return Candidate(digest, Descriptor.of_valid(target, found.size, media_type), is_member)

    def _stat(self, repository: RepositoryName, digest: Digest, target: Digest) -> Answer:
        """Look at the data of a link. Repositories share blobs, so answers are kept shortly."""
        if not self._backend.is_complete:  # Over HTTP only a repository can be asked.
            return self._backend.stat(digest, repository)
        now = monotonic()
        kept = self._answers.get(target)
        if kept is not None and now - kept[0] < _FRESH:
            return kept[1]
        answer = self._backend.stat(target)
        if isinstance(answer, Present):
            if len(self._answers) >= _ANSWERS:
                self._answers.clear()
            self._answers[target] = now, answer
        return answer

    def _types(self, repository: RepositoryName, cases: list[Case]) -> dict[Digest, str | None]:
        """The safe media types that the repository's manifests say; None where two disagree."""
        types: dict[Digest, str | None] = {}
        for link in self._backend.members(repository, _BEFORE_MANIFESTS):
            if self._stopped.is_set() or len(types) >= _TYPES:
                break
            if link.kind is not LinkKind.MANIFEST or link.target is None:
                continue
            try:
                manifest = self._manifest(repository, link.target)
            except (BlobCacheError, OSError) as error:
                cases.append(Case(Outcome.SKIPPED_MANIFEST, repository, link.digest, reason(error)))
                continue
            named = [(each.digest, each.media_type) for each in manifest.references]
            for digest, media_type in ((link.digest, manifest.media_type), *named):
                if media_type is not None and is_safe(media_type):
                    is_agreed = types.setdefault(digest, media_type) == media_type
                    if not is_agreed:
                        types[digest] = None
        return types

    def _manifest(self, repository: RepositoryName, digest: Digest) -> images.Manifest:
        scope = None if self._backend.is_complete else repository
        raw = b""
        with self._backend.open(digest, scope, length=images.MAX_DOCUMENT + 1) as file:
            while len(raw) <= images.MAX_DOCUMENT and (part := file.read(images.MAX_DOCUMENT + 1)):
                raw += part
        if hashlib.new(digest.algorithm, raw).hexdigest() != digest.encoded:
            raise ManifestInvalid("The data is not what its digest says.")
        manifest = images.parse(raw)
        if manifest.kind is None:
            raise ManifestInvalid("The manifest is of an unknown kind.")
        return manifest


def look(
    backend: Backend, repository: str, digest: Digest, target: Digest, *, is_member: bool
) -> Answer:
    """Look at what was written: the link and the data of a membership, else the data."""
    return backend.stat(digest, repository) if is_member else backend.stat(target)


def _case(repository: str, digest: Digest, answer: Answer) -> Case:
    if isinstance(answer, Absent):
        outcome = Outcome.ABSENT if answer.damage is None else Outcome.DAMAGED
        return Case(outcome, repository, digest, answer.evidence)
    why = "" if isinstance(answer, Present) else answer.reason
    return Case(Outcome.UNKNOWN, repository, digest, why)


def reason(error: Exception) -> str:
    """Return what an error says: its message, and where it has one, the reason for operators."""
    more = error.reason if isinstance(error, BackendUnavailable) else ""
    return f"{error} {more}".rstrip()
