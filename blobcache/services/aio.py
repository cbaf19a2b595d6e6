"""The same services for coroutines: `astat` beside `stat`, and so on, as Django names them.

`AsyncDescriptorService` has the rules of `BaseDescriptorService` for them: the same arguments,
results, errors, metrics and announcements. A provider that inherits from it may override `_astat`
and the others; what it does not override runs in a thread. So does whatever receives an
announcement, since a receiver may write to the database: see `Django's documentation of
asynchronous code <https://docs.djangoproject.com/en/stable/topics/async/>`_.

A coroutine may be cancelled anywhere. A stat that is cancelled has no effect. A write that is
cancelled may have been carried out or not, and is logged as such.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from asgiref.sync import sync_to_async

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable
from blobcache.services.audit import Change, announce, has_receivers, is_observed
from blobcache.services.metrics import ametered, ametered_batch, ametered_stat, set_outcome
from blobcache.services.purging import PurgesMany
from blobcache.services.rules import BaseDescriptorService, FillsMisses, require_storable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from blobcache.services.base import (
        BlobDescriptorCacheProvider,
        BlobDescriptorService,
        BlobStatter,
        PurgeManyResult,
        PurgeResult,
        SetResult,
    )

__all__ = [
    "AsyncBlobDescriptorCacheProvider",
    "AsyncBlobDescriptorService",
    "AsyncBlobStatter",
    "AsyncDescriptorService",
    "AsyncProvider",
    "aclear",
    "afill",
    "aset_descriptor",
    "astat",
    "astat_many",
]


@runtime_checkable
class AsyncBlobStatter(Protocol):
    """Anything that knows descriptors and answers coroutines."""

    async def astat(self, digest: str) -> Descriptor:
        """See `BlobStatter.stat`."""
        ...


@runtime_checkable
class AsyncBlobDescriptorService(AsyncBlobStatter, Protocol):
    """A store of descriptors in one scope, for coroutines."""

    async def astat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """See `BlobDescriptorService.stat_many`."""
        ...

    async def aset_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """See `BlobDescriptorService.set_descriptor`."""
        ...

    async def aclear(self, digest: str) -> Descriptor | None:
        """See `BlobDescriptorService.clear`."""
        ...


@runtime_checkable
class AsyncBlobDescriptorCacheProvider(AsyncBlobDescriptorService, Protocol):
    """The service of the global scope, for coroutines."""

    def repository_scoped(self, name: str) -> AsyncBlobDescriptorService:
        """See `BlobDescriptorCacheProvider.repository_scoped`; asks nothing."""
        ...

    async def afill(self, digest: str, descriptor: Descriptor, seconds: int) -> bool:
        """See `BlobDescriptorCacheProvider.fill`."""
        ...

    async def apurge(self, digest: str, cursor: str = "") -> PurgeResult:
        """See `BlobDescriptorCacheProvider.purge`."""
        ...

    async def apurge_many(self, digests: Iterable[str], cursor: str = "") -> PurgeManyResult:
        """See `BlobDescriptorCacheProvider.purge_many`."""
        ...


# Any service: by its coroutine if it has one, else in a thread


async def astat(statter: BlobStatter, digest: str) -> Descriptor:
    """See `BlobStatter.stat`."""
    if (ask := _coroutine(statter, "astat")) is not None:
        found: Descriptor = await ask(digest)
        return found
    return await asyncio.to_thread(statter.stat, digest)


async def astat_many(
    service: BlobDescriptorService, digests: Iterable[str]
) -> dict[Digest, Descriptor]:
    """See `BlobDescriptorService.stat_many`."""
    if (ask := _coroutine(service, "astat_many")) is not None:
        found: dict[Digest, Descriptor] = await ask(digests)
        return found
    return await asyncio.to_thread(service.stat_many, digests)


async def aset_descriptor(
    service: BlobDescriptorService, digest: str, descriptor: Descriptor
) -> SetResult:
    """See `BlobDescriptorService.set_descriptor`."""
    if (write := _coroutine(service, "aset_descriptor")) is not None:
        result: SetResult = await write(digest, descriptor)
        return result
    return await sync_to_async(service.set_descriptor)(digest, descriptor)


async def aclear(service: BlobDescriptorService, digest: str) -> Descriptor | None:
    """See `BlobDescriptorService.clear`."""
    if (write := _coroutine(service, "aclear")) is not None:
        before: Descriptor | None = await write(digest)
        return before
    return await sync_to_async(service.clear)(digest)


async def afill(
    provider: BlobDescriptorCacheProvider, digest: str, descriptor: Descriptor, seconds: int
) -> bool:
    """See `BlobDescriptorCacheProvider.fill`."""
    if (write := _coroutine(provider, "afill")) is not None:
        is_new: bool = await write(digest, descriptor, seconds)
        return is_new
    return await sync_to_async(provider.fill)(digest, descriptor, seconds)


def _coroutine(service: object, name: str) -> Callable[..., Awaitable[Any]] | None:
    """Return the method, or None. To look for all of a protocol's would take some 5 us."""
    found: Callable[..., Awaitable[Any]] | None = getattr(service, name, None)
    return found


class AsyncDescriptorService(BaseDescriptorService):
    """The public methods of the protocol `AsyncBlobDescriptorService`."""

    __slots__ = ()

    @ametered_stat
    def astat(self, digest: str) -> Coroutine[Any, Any, Descriptor]:
        """See `BlobStatter.stat`."""
        return self._astat(Digest(digest, allow_tarsum=self.rules.allow_tarsum))

    async def astat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """See `BlobDescriptorService.stat_many`."""
        return await self._alook_up(Digest.all_of(digests, allow_tarsum=self.rules.allow_tarsum))

    @ametered_batch
    async def _alook_up(self, digests: list[Digest]) -> dict[Digest, Descriptor]:
        return await self._astat_many(digests)

    @ametered("set", set_outcome)
    async def aset_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """See `BlobDescriptorService.set_descriptor`."""
        digest = self._parse_for_write(digest)
        media_type = require_storable(digest, descriptor, self.repository)
        try:
            result = await self._aset(digest, descriptor, media_type)
        except (CacheUnavailable, asyncio.CancelledError):
            self._log_unknown_outcome("set", digest)
            raise
        await self._aannounce("set", digest, result.before, result.descriptor)
        return result

    @ametered("clear", lambda _: "cleared")
    async def aclear(self, digest: str) -> Descriptor | None:
        """See `BlobDescriptorService.clear`."""
        digest = self._parse_for_write(digest)
        try:
            before = await self._aclear(digest)
        except (CacheUnavailable, asyncio.CancelledError):
            self._log_unknown_outcome("clear", digest)
            raise
        await self._aannounce("clear", digest, before, None)
        return before

    async def _aannounce(
        self,
        event: Literal["set", "clear"],
        digest: Digest,
        before: Descriptor | None,
        after: Descriptor | None,
    ) -> None:
        """Announce a change that was made, even if the caller is cancelled now."""
        if not is_observed(event):
            return
        change = Change(event, self.rules.registry, self.repository, digest, before, after)
        if has_receivers(event):
            await asyncio.shield(sync_to_async(announce)(change, type(self)))
        else:
            announce(change, type(self))

    # In a thread, unless a provider overrides them

    async def _astat(self, digest: Digest) -> Descriptor:
        return await asyncio.to_thread(self._stat, digest)

    async def _astat_many(self, digests: list[Digest]) -> dict[Digest, Descriptor]:
        return await asyncio.to_thread(self._stat_many, digests)

    async def _aset(self, digest: Digest, descriptor: Descriptor, media_type: str) -> SetResult:
        return await asyncio.to_thread(self._set, digest, descriptor, media_type)

    async def _aclear(self, digest: Digest) -> Descriptor | None:
        return await asyncio.to_thread(self._clear, digest)


class AsyncProvider(AsyncDescriptorService, FillsMisses, PurgesMany):
    """The same for what a provider has in addition.

    A step of a purge runs in a thread as a whole: it is long, and its parts are those of `purge`.
    """

    __slots__ = ()

    @ametered("fill", lambda is_new: "created" if is_new else "kept")
    async def afill(self, digest: str, descriptor: Descriptor, seconds: int) -> bool:
        """See `BlobDescriptorCacheProvider.fill`."""
        digest = self._parse_for_write(digest)
        filled, seconds = self._to_fill(digest, descriptor, seconds)
        try:
            is_new = await self._afill(digest, filled, seconds)
        except (CacheUnavailable, asyncio.CancelledError):
            self._log_unknown_outcome("set", digest)
            raise
        if is_new:
            await self._aannounce("set", digest, None, filled)
        return is_new

    async def _afill(self, digest: Digest, descriptor: Descriptor, seconds: int) -> bool:
        return await asyncio.to_thread(self._fill, digest, descriptor, seconds)

    async def apurge(self, digest: str, cursor: str = "") -> PurgeResult:
        """See `BlobDescriptorCacheProvider.purge`."""
        return await sync_to_async(self.purge)(digest, cursor)

    async def apurge_many(self, digests: Iterable[str], cursor: str = "") -> PurgeManyResult:
        """See `BlobDescriptorCacheProvider.purge_many`."""
        return await sync_to_async(self.purge_many)(list(digests), cursor)
