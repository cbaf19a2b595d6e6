"""Descriptors in the memory of this process; the least recently used are dropped first.

It is for tests, for portals that run in one process, and as the second implementation that tests
the protocols. It needs the extra ``memory`` (cachetools).
"""

from __future__ import annotations

from importlib.util import find_spec
from math import inf
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from django.core.checks import Error

from blobcache.descriptor import Descriptor
from blobcache.exceptions import CursorInvalid
from blobcache.reference import RepositoryName
from blobcache.services.aio import AsyncDescriptorService, AsyncProvider
from blobcache.services.base import SetResult
from blobcache.services.metrics import metered, purge_outcome, purged_number
from blobcache.services.purging import purge_memberships
from blobcache.services.records import Membership
from blobcache.services.rules import BaseDescriptorService, Rules, blob_unknown_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

    from django.core.checks import CheckMessage

    from blobcache.conf import RegistrySettings
    from blobcache.digest import Digest
    from blobcache.services.base import PurgeManyResult
    from blobcache.services.guards import Guard

__all__ = ["DEFAULT_MAX_ENTRIES", "MemoryBlobDescriptorCacheProvider"]

DEFAULT_MAX_ENTRIES = 100_000

_K = TypeVar("_K")
_V = TypeVar("_V")


class _Stored(NamedTuple):
    descriptor: Descriptor
    expires: float = inf
    """When it expires if read-through stored it, by `monotonic`."""


class _Store:
    """The descriptors by digest and the overrides by membership, with one lock for both."""

    def __init__(self, max_entries: int, ttl: int | None) -> None:
        self.lock = Lock()
        self.descriptors: MutableMapping[Digest, _Stored] = _lru(max_entries, ttl)
        self.overrides: MutableMapping[Membership, str] = _lru(max_entries, ttl)

    def find(self, digest: Digest) -> _Stored | None:
        """Return what is stored of a blob globally. The caller holds the lock."""
        found = self.descriptors.get(digest)
        if found is not None and found.expires <= monotonic():
            self.descriptors.pop(digest, None)
            return None
        return found


def _lru(max_entries: int, ttl: int | None) -> MutableMapping[_K, _V]:
    from cachetools import LRUCache, TTLCache  # noqa: PLC0415 - only there with the extra

    return LRUCache(max_entries) if ttl is None else TTLCache(max_entries, ttl)


class _MemoryService(AsyncDescriptorService):
    __slots__ = ("_store",)

    def __init__(
        self, rules: Rules, store: _Store, repository: RepositoryName | None = None
    ) -> None:
        super().__init__(rules, repository)
        self._store = store

    def _stat(self, digest: Digest) -> Descriptor:
        with self._store.lock:
            descriptor = self._find(digest)
        if descriptor is None:
            raise blob_unknown_error(digest, self.repository)
        return descriptor

    def _stat_many(self, digests: list[Digest]) -> dict[Digest, Descriptor]:
        with self._store.lock:
            found = ((digest, self._find(digest)) for digest in digests)
            return {digest: descriptor for digest, descriptor in found if descriptor is not None}

    def _set(self, digest: Digest, descriptor: Descriptor, media_type: str) -> SetResult:
        return self._set_guarded(digest, descriptor, media_type, lambda *_: None)

    def _set_guarded(
        self, digest: Digest, descriptor: Descriptor, media_type: str, guard: Guard
    ) -> SetResult:
        targets = [digest]
        if self.repository is not None and descriptor.digest != digest:
            targets.append(descriptor.digest)
        restarts_expiry = self.rules.ttl is not None
        with self._store.lock:
            before = self._find(digest)
            stored = filter(None, map(self._store.find, targets))
            guard(before, [each.descriptor for each in stored])
            for target in targets:
                known = self._store.find(target)
                new = descriptor
                if known is not None:
                    kept = known.descriptor.media_type
                    new = Descriptor(descriptor.digest, descriptor.size, kept)
                expires = inf if known is None or restarts_expiry else known.expires
                self._store.descriptors[target] = _Stored(new, expires)
                if self.repository is not None:
                    self._store.overrides[Membership(self.repository, target)] = media_type
            after = self._find(digest)
        return SetResult(before is None, after or descriptor, before)

    def _clear(self, digest: Digest) -> Descriptor | None:
        return self._clear_guarded(digest, lambda *_: None)

    def _clear_guarded(self, digest: Digest, guard: Guard) -> Descriptor | None:
        with self._store.lock:
            before, known = self._find(digest), self._store.find(digest)
            if self.repository is not None:
                key = Membership(self.repository, digest)
                if key not in self._store.overrides:
                    raise blob_unknown_error(digest, self.repository)
                guard(before, [] if known is None else [known.descriptor])
                self._store.overrides.pop(key, None)
                if self.rules.role == "cache":
                    self._store.descriptors.pop(digest, None)
            elif known is None:
                raise blob_unknown_error(digest, None)
            else:
                guard(before, [known.descriptor])
                self._store.descriptors.pop(digest, None)
        return before

    def _find(self, digest: Digest) -> Descriptor | None:
        """The descriptor in this scope. The caller holds the lock."""
        found = self._store.find(digest)
        if found is None:
            return None
        if self.repository is None:
            return found.descriptor
        media_type = self._store.overrides.get(Membership(self.repository, digest))
        if media_type is None:
            return None
        return Descriptor(found.descriptor.digest, found.descriptor.size, media_type)


class MemoryBlobDescriptorCacheProvider(AsyncProvider, _MemoryService):
    """A provider whose descriptors are lost when the process ends.

    It stores at most `max_entries` global descriptors and as many memberships. Safe to share
    between threads.
    """

    __slots__ = ()

    def __init__(
        self, rules: Rules | None = None, *, max_entries: int = DEFAULT_MAX_ENTRIES
    ) -> None:
        rules = rules or Rules()
        super().__init__(rules, _Store(max_entries, rules.ttl))

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return the provider that one entry of the setting ``BLOBCACHE`` describes."""
        return cls(Rules.from_settings(settings), max_entries=settings.MEMORY_MAX_ENTRIES)

    @classmethod
    def check(cls, settings: RegistrySettings) -> Iterator[CheckMessage]:
        """Return the system checks' messages about these settings."""
        if find_spec("cachetools") is None:
            yield Error(
                f"{settings}['PROVIDER'] needs cachetools, which is not installed.",
                hint="Install django-blobcache with the extra 'memory'.",
                id="blobcache.E012",
            )

    def repository_scoped(self, name: str) -> BaseDescriptorService:
        """See `BlobDescriptorCacheProvider.repository_scoped`."""
        return _MemoryService(self.rules, self._store, RepositoryName(name))

    def _fill(self, digest: Digest, descriptor: Descriptor, seconds: int) -> bool:
        with self._store.lock:
            if self._store.find(digest) is not None:
                return False
            self._store.descriptors[digest] = _Stored(descriptor, monotonic() + seconds)
        return True

    @metered("purge", purge_outcome, number=purged_number)
    def purge_many(self, digests: Iterable[str], cursor: str = "") -> PurgeManyResult:
        """See `BlobDescriptorCacheProvider.purge_many`: here all in one step."""
        parsed = set(self._parse_all_for_write(digests))
        if cursor:
            raise CursorInvalid("This provider purges in one step, so there is no cursor.")
        with self._store.lock:
            held = sorted(each for each in self._store.overrides if each.digest in parsed)
        return purge_memberships(self, parsed, held, self._announce_purge, self.rules.registry)
