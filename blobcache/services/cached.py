"""Read-through: a cache of descriptors in front of a backend that knows what is really stored."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobCacheError,
    BlobUnknown,
    CacheUnavailable,
    OperationUnsupported,
)
from blobcache.reference import RepositoryName
from blobcache.services import aio
from blobcache.services.audit import attributed
from blobcache.services.lookups import unavailable
from blobcache.services.metrics import CacheMetrics
from blobcache.services.rules import blob_unknown_error
from blobcache.services.truth import Absent, Doubt, Present, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobcache.descriptor import Descriptor
    from blobcache.services.base import BlobDescriptorCacheProvider, SetResult
    from blobcache.services.lookups import Look, Lookups
    from blobcache.services.truth import Answer

__all__ = ["FILL_SECONDS", "CachedBlobStatter", "Found", "FoundMany", "Source"]

_log = logging.getLogger("blobcache.cached")

FILL_SECONDS = 3600
"""Seconds after which a hash that read-through created expires, by default."""


class Source(StrEnum):
    """Where the answer to a stat came from."""

    HIT = "hit"
    """The cache."""

    MISS = "miss"
    """Nowhere: the cache does not know the blob, and neither does the backend if it was asked."""

    BACKEND = "backend"
    """The backend."""


class Found(NamedTuple):
    """A descriptor, and where it came from."""

    descriptor: Descriptor
    source: Source


@dataclass(frozen=True, slots=True)
class FoundMany:
    """The result of a batch: each digest is in `descriptors`, in `unknown` or in `unchecked`."""

    descriptors: dict[Digest, Descriptor]

    from_backend: tuple[Digest, ...]
    """The digests of `descriptors` that the cache did not know."""

    unknown: tuple[Digest, ...]
    """The cache does not know them, and neither does the backend, if it answers in this scope."""

    unchecked: tuple[Digest, ...]
    """The cache does not know them, and the backend was not asked or could not say."""

    @property
    def source(self) -> Source:
        """`Source.BACKEND` if any descriptor came from it, `Source.MISS` if there is none."""
        if self.from_backend:
            return Source.BACKEND
        return Source.HIT if self.descriptors else Source.MISS


class CachedBlobStatter:
    """Asks the cache first, and the backend about what the cache does not know, in one scope.

    A descriptor that the backend has is stored as the global one, for `seconds`, if there is none.
    Nothing else is ever written: no membership and no override, since they let a repository read
    the blob. So a blob that is not a member is looked up in the backend each time, until a registry
    makes it one. An absence is not written either.

    If the cache fails, the backend is asked and nothing is written, so that a Redis in trouble does
    not get many writes. A descriptor that could not be stored causes a log message, never an error.
    """

    def __init__(
        self,
        cache: BlobDescriptorCacheProvider,
        lookups: Lookups,
        repository: str | None = None,
        *,
        seconds: int = FILL_SECONDS,
        metrics: CacheMetrics | None = None,
    ) -> None:
        """Raises `RepositoryNameInvalid`."""
        self.cache = cache
        self.lookups = lookups
        self.repository = None if repository is None else RepositoryName(repository)
        self.seconds = seconds
        self.metrics = metrics or CacheMetrics()
        self._scope = cache if repository is None else cache.repository_scoped(repository)

    def stat(self, digest: str) -> Descriptor:
        """Return the blob's descriptor.

        Raises `BlobUnknown` if neither the cache nor the backend knows it, and `DigestInvalid`. If
        the cache does not know it and the backend cannot say, raises `BackendUnavailable`; if
        the cache failed and the backend does not answer in this scope, `CacheUnavailable`.
        """
        return self.find(digest).descriptor

    def find(self, digest: str) -> Found:
        """Return the blob's descriptor, and where it came from. Raises what `stat` raises."""
        try:
            descriptor = self._scope.stat(digest)
        except (BlobUnknown, CacheUnavailable) as error:
            failure = self._note(error, digest)
        else:
            self.metrics.hit()
            return Found(descriptor, Source.HIT)
        look = self.lookups.look(digest, self.repository)
        found = self._found(digest, look, failure)
        if isinstance(failure, BlobUnknown):
            self._fill(digest, look)
        return found

    async def astat(self, digest: str) -> Descriptor:
        """Do what `stat` does, for a coroutine."""
        return (await self.afind(digest)).descriptor

    async def afind(self, digest: str) -> Found:
        """Do what `find` does, for a coroutine. The backend is called in a thread."""
        try:
            descriptor = await aio.astat(self._scope, digest)
        except (BlobUnknown, CacheUnavailable) as error:
            failure = self._note(error, digest)
        else:
            self.metrics.hit()
            return Found(descriptor, Source.HIT)
        look = await asyncio.to_thread(self.lookups.look, digest, self.repository)
        found = self._found(digest, look, failure)
        if isinstance(failure, BlobUnknown):
            await self._afill(digest, look)
        return found

    def stat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """Return the descriptors that were found: see `find_many`. Raises `DigestInvalid`."""
        return self.find_many(Digest.all_of(digests, allow_tarsum=True)).descriptors

    def find_many(self, digests: list[Digest]) -> FoundMany:
        """Return the descriptors of a batch; the backend is asked about some of the others.

        One batch causes at most `Limits.batch` calls of the backend, several at the same time. If
        the cache fails, nothing is unknown, but much is unchecked.
        """
        has_failed = False
        try:
            found = self._scope.stat_many(digests)
        except CacheUnavailable:
            has_failed = True
            _log.warning("The cache failed; asked the backend for a batch.", exc_info=True)
            found = {}
        missing = [digest for digest in digests if digest not in found]
        looks = self.lookups.look_many(missing, self.repository)
        result = _join(found, missing, looks, has_failed=has_failed)
        if not has_failed:
            for digest in result.from_backend:
                self._fill(digest, looks[digest])
        return result

    async def astat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """Do what `stat_many` does, for a coroutine."""
        return (await self.afind_many(Digest.all_of(digests, allow_tarsum=True))).descriptors

    async def afind_many(self, digests: list[Digest]) -> FoundMany:
        """Do what `find_many` does, for a coroutine. The backend is called in threads."""
        has_failed = False
        try:
            found = await aio.astat_many(self._scope, digests)
        except CacheUnavailable:
            has_failed = True
            _log.warning("The cache failed; asked the backend for a batch.", exc_info=True)
            found = {}
        missing = [digest for digest in digests if digest not in found]
        looks = await asyncio.to_thread(self.lookups.look_many, missing, self.repository)
        result = _join(found, missing, looks, has_failed=has_failed)
        if not has_failed:
            for digest in result.from_backend:
                await self._afill(digest, looks[digest])
        return result

    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """Store a descriptor in the cache alone; see `BlobDescriptorService.set_descriptor`."""
        return self._scope.set_descriptor(digest, descriptor)

    def clear(self, digest: str) -> Descriptor | None:
        """Forget a descriptor in the cache alone; see `BlobDescriptorService.clear`."""
        return self._scope.clear(digest)

    async def aset_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """Do what `set_descriptor` does, for a coroutine."""
        return await aio.aset_descriptor(self._scope, digest, descriptor)

    async def aclear(self, digest: str) -> Descriptor | None:
        """Do what `clear` does, for a coroutine."""
        return await aio.aclear(self._scope, digest)

    def _note(
        self, error: BlobUnknown | CacheUnavailable, digest: str
    ) -> BlobUnknown | CacheUnavailable:
        """Count a cache that does not know the blob, or failed."""
        if isinstance(error, BlobUnknown):
            self.metrics.miss()
        else:
            self.metrics.error()
            _log.warning("The cache failed; asked the backend for %s.", digest, exc_info=error)
        return error

    def _found(self, digest: str, look: Look, failure: BlobUnknown | CacheUnavailable) -> Found:
        """Return what the backend has. Raises what `stat` raises if it has nothing."""
        found = _descriptor_in(look.answer)
        if found is None:
            raise self._error(digest, look.answer, failure)
        return Found(found, Source.BACKEND)

    def _fill(self, digest: str, look: Look) -> None:
        descriptor = self._to_fill(look)
        if descriptor is not None:
            with attributed(actor=None, source="read-through"), _logged(digest):
                self.cache.fill(digest, descriptor, self.seconds)

    async def _afill(self, digest: str, look: Look) -> None:
        descriptor = self._to_fill(look)
        if descriptor is not None:
            with attributed(actor=None, source="read-through"), _logged(digest):
                await aio.afill(self.cache, digest, descriptor, self.seconds)

    def _to_fill(self, look: Look) -> Descriptor | None:
        """Return what to store: what was found just now, not what was remembered or is another's.

        A look that began before a clear must not undo it much later: so none is stored that is
        older than a caller waits.
        """
        answer = look.answer
        age = monotonic() - look.began
        if not look.is_own or not isinstance(answer, Present) or age > self.lookups.limits.patience:
            return None
        if self.repository is not None and answer.link is None:
            return None  # The data alone was looked at, not the repository's link.
        return answer.descriptor

    def _error(
        self, digest: str, answer: Answer, failure: BlobUnknown | CacheUnavailable
    ) -> BlobCacheError:
        if _is_unknown(answer, is_asked=isinstance(failure, BlobUnknown)):
            if isinstance(failure, BlobUnknown):
                return failure
            return blob_unknown_error(Digest(digest, allow_tarsum=True), self.repository)
        if isinstance(answer, Unknown) and answer.doubt is Doubt.SCOPE:
            return failure
        return unavailable(digest, self.repository)


@contextmanager
def _logged(digest: str) -> Iterator[None]:
    """Log that a descriptor could not be stored, and raise nothing."""
    try:
        yield
    except OperationUnsupported as error:
        _log.debug("The descriptor of %s is not cached: %s", digest, error)
    except BlobCacheError:
        _log.warning("The descriptor of %s could not be cached.", digest, exc_info=True)


def _join(
    found: dict[Digest, Descriptor],
    missing: list[Digest],
    looks: dict[Digest, Look],
    *,
    has_failed: bool,
) -> FoundMany:
    """Add to what the cache has `found` what the backend said of the `missing` ones."""
    from_backend, unknown, unchecked = list[Digest](), list[Digest](), list[Digest]()
    for digest in missing:
        look = looks.get(digest)
        descriptor = None if look is None else _descriptor_in(look.answer)
        if descriptor is not None:
            found[digest] = descriptor
            from_backend.append(digest)
        elif look is not None and _is_unknown(look.answer, is_asked=not has_failed):
            unknown.append(digest)
        else:
            unchecked.append(digest)
    return FoundMany(found, tuple(from_backend), tuple(unknown), tuple(unchecked))


def _descriptor_in(answer: Answer) -> Descriptor | None:
    """The descriptor of a blob that is stored as it should be."""
    return answer.descriptor if isinstance(answer, Present) and answer.damage is None else None


def _is_unknown(answer: Answer, *, is_asked: bool) -> bool:
    """Whether nobody knows the blob. A backend that does not answer here has no say.

    `is_asked` is whether the cache could be asked.
    """
    if isinstance(answer, Unknown):
        return is_asked and answer.doubt is Doubt.SCOPE
    return isinstance(answer, Absent)
