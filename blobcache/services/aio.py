"""The same services for coroutines: `astat` beside `stat`, and so on, as Django names them.

The ordinary service does the work, in a few threads (`ASYNC_THREADS`). Coroutines that ask for a
stat in the same turn of the event loop share one batch, and so do those that ask while all threads
are busy: one round trip for all of them. Each caller gets its own result or error.

A coroutine may be cancelled anywhere. That of a stat does not disturb the others of its batch. A
write goes on to its end, with its announcement, since it may have been sent already. Where somebody
receives announcements, a write runs as Django wants code to that may use the database: see `its
documentation <https://docs.djangoproject.com/en/stable/topics/async/>`_.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from blobcache.conf import PortalSettings
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable, Reason
from blobcache.services.audit import has_receivers
from blobcache.services.metrics import ametered_stat
from blobcache.services.purging import PurgesMany
from blobcache.services.rules import BaseDescriptorService, FillsMisses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from blobcache.services.base import (
        BlobDescriptorCacheProvider,
        BlobDescriptorService,
        BlobStatter,
        PurgeManyResult,
        PurgeResult,
        SetResult,
    )

__all__ = [
    "MAX_WAITING",
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

MAX_WAITING = 10_000
"""Calls of one event loop that may wait at the same time; more are refused at once."""

_MAX_BATCH = 500
"""Stats that are sent together."""

_R = TypeVar("_R")


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
    return await _calls().run(statter.stat, digest)


async def astat_many(
    service: BlobDescriptorService, digests: Iterable[str]
) -> dict[Digest, Descriptor]:
    """See `BlobDescriptorService.stat_many`."""
    if (ask := _coroutine(service, "astat_many")) is not None:
        found: dict[Digest, Descriptor] = await ask(digests)
        return found
    return await _calls().run(service.stat_many, digests)


async def aset_descriptor(
    service: BlobDescriptorService, digest: str, descriptor: Descriptor
) -> SetResult:
    """See `BlobDescriptorService.set_descriptor`."""
    if (write := _coroutine(service, "aset_descriptor")) is not None:
        result: SetResult = await write(digest, descriptor)
        return result
    return await _write(service.set_descriptor, digest, descriptor)


async def aclear(service: BlobDescriptorService, digest: str) -> Descriptor | None:
    """See `BlobDescriptorService.clear`."""
    if (write := _coroutine(service, "aclear")) is not None:
        before: Descriptor | None = await write(digest)
        return before
    return await _write(service.clear, digest)


async def afill(
    provider: BlobDescriptorCacheProvider, digest: str, descriptor: Descriptor, seconds: int
) -> bool:
    """See `BlobDescriptorCacheProvider.fill`."""
    if (write := _coroutine(provider, "afill")) is not None:
        is_new: bool = await write(digest, descriptor, seconds)
        return is_new
    return await _write(provider.fill, digest, descriptor, seconds)


def _coroutine(service: object, name: str) -> Callable[..., Awaitable[Any]] | None:
    """Return the method, or None. To look for all of a protocol's would take some 5 us."""
    found: Callable[..., Awaitable[Any]] | None = getattr(service, name, None)
    return found


class AsyncDescriptorService(BaseDescriptorService):
    """The public methods of the protocol `AsyncBlobDescriptorService`."""

    __slots__ = ()

    @ametered_stat
    def astat(self, digest: str) -> Awaitable[Descriptor]:
        """See `BlobStatter.stat`."""
        return _calls().stat(self, Digest(digest, allow_tarsum=self.rules.allow_tarsum))

    async def astat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """See `BlobDescriptorService.stat_many`."""
        return await _calls().run(self.stat_many, digests)

    async def aset_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """See `BlobDescriptorService.set_descriptor`."""
        return await _write(self.set_descriptor, digest, descriptor)

    async def aclear(self, digest: str) -> Descriptor | None:
        """See `BlobDescriptorService.clear`."""
        return await _write(self.clear, digest)


class AsyncProvider(AsyncDescriptorService, FillsMisses, PurgesMany):
    """The same for what a provider has in addition."""

    __slots__ = ()

    async def afill(self, digest: str, descriptor: Descriptor, seconds: int) -> bool:
        """See `BlobDescriptorCacheProvider.fill`."""
        return await _write(self.fill, digest, descriptor, seconds)

    async def apurge(self, digest: str, cursor: str = "") -> PurgeResult:
        """See `BlobDescriptorCacheProvider.purge`."""
        return await _write(self.purge, digest, cursor)

    async def apurge_many(self, digests: Iterable[str], cursor: str = "") -> PurgeManyResult:
        """See `BlobDescriptorCacheProvider.purge_many`."""
        return await _write(self.purge_many, list(digests), cursor)


async def _write(method: Callable[..., _R], *args: Any) -> _R:
    """Call a method that writes. It goes on to its end, even if the caller is cancelled."""
    if has_receivers("set") or has_receivers("clear") or has_receivers("purge"):
        call: Coroutine[Any, Any, _R] = sync_to_async(method)(*args)
    else:
        call = _calls().run(method, *args)
    task = asyncio.ensure_future(call)
    _writes.add(task)
    task.add_done_callback(_writes.discard)
    return await asyncio.shield(task)


_writes: set[asyncio.Future[Any]] = set()
"""Writes that have not ended. The event loop itself would let them be collected as garbage."""


class _Stat(NamedTuple):
    """A coroutine that waits for a stat."""

    digest: Digest
    future: asyncio.Future[Descriptor]


class _Calls:
    """The calls of one event loop that wait for threads. Only the loop's own thread uses it."""

    def __init__(self) -> None:
        self._stats: dict[AsyncDescriptorService, list[_Stat]] = {}
        self._maximum = PortalSettings().ASYNC_THREADS
        self._batches = 0
        """Batches of stats that threads are sending."""

        self._waiting = 0
        self._is_scheduled = False

    def stat(self, service: AsyncDescriptorService, digest: Digest) -> Awaitable[Descriptor]:
        """Ask for a stat, together with all others of this turn."""
        self._admit()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Descriptor] = loop.create_future()
        self._stats.setdefault(service, []).append(_Stat(digest, future))
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._send, loop)
        return future

    async def run(self, function: Callable[..., _R], *args: Any) -> _R:
        """Call the function in a thread."""
        self._admit()
        try:
            job = _threads().submit(copy_context().run, function, *args)
            return await asyncio.wrap_future(job)
        finally:
            self._waiting -= 1

    def _admit(self) -> None:
        if self._waiting >= MAX_WAITING:
            raise CacheUnavailable(
                "Too many calls wait for the cache; try again shortly.", reason=Reason.BUSY
            )
        self._waiting += 1

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let threads send what waits, if some are free."""
        self._is_scheduled = False
        while self._stats and self._batches < self._maximum:
            service, stats = next(iter(self._stats.items()))
            batch, rest = stats[:_MAX_BATCH], stats[_MAX_BATCH:]
            del self._stats[service]
            if rest:
                self._stats[service] = rest  # behind those of the other services
            self._batches += 1
            done = partial(_call_soon, loop, self._deliver, loop, batch)
            try:
                _threads().submit(_stat_batch, service, [each.digest for each in batch], done)
            except RuntimeError as error:  # no thread could be started, or the process ends
                failure = CacheUnavailable("No thread can be started.", reason=Reason.BUSY)
                failure.__cause__ = error
                loop.call_soon(self._deliver, loop, batch, [failure] * len(batch))

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Stat],
        results: Sequence[Descriptor | BaseException],
    ) -> None:
        self._batches -= 1
        self._waiting -= len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue  # its caller was cancelled
            if isinstance(result, BaseException):
                future.set_exception(_own(result))
            else:
                future.set_result(result)
        if not self._is_scheduled:
            self._send(loop)


def _stat_batch(
    service: AsyncDescriptorService,
    digests: list[Digest],
    done: Callable[[Sequence[Descriptor | BaseException]], None],
) -> None:
    """Ask for all of them, in a thread."""
    results: Sequence[Descriptor | BaseException]
    try:
        results = service.stat_each(digests)
    except BaseException as error:  # noqa: BLE001 - the outer edge of this thread
        results = [error] * len(digests)
    done(results)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed, so nobody waits
        loop.call_soon_threadsafe(callback, *args)


def _own(error: BaseException) -> BaseException:
    """Return a copy for one of several callers, since each adds its traceback to it."""
    own = copy(error)
    own.__cause__, own.__traceback__ = error.__cause__, None
    return own


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Calls] = WeakKeyDictionary()
_executors: list[ThreadPoolExecutor] = []


def _calls() -> _Calls:
    loop = asyncio.get_running_loop()
    found = _loops.get(loop)
    if found is None:
        found = _loops[loop] = _Calls()
    return found


def _threads() -> ThreadPoolExecutor:
    if not _executors:
        number = PortalSettings().ASYNC_THREADS
        _executors.append(ThreadPoolExecutor(number, thread_name_prefix="blobcache-async"))
    return _executors[0]


def _begin_anew_in_child() -> None:
    """After a fork: the threads exist in the parent only."""
    _executors.clear()
    _loops.clear()
    _writes.clear()


os.register_at_fork(after_in_child=_begin_anew_in_child)
