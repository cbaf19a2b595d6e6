"""Call the coroutines of a service from tests that know its methods only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.reference import RepositoryName
from blobcache.services.base import PurgeManyResult, PurgeResult, SetResult

__all__ = ["LOOPS", "NewLoop", "ThroughCoroutines", "ThroughLoop", "event_loop"]

NewLoop = Callable[[], asyncio.AbstractEventLoop]

LOOPS: dict[str, NewLoop] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
"""What makes an event loop of each kind that is supported."""


@contextmanager
def event_loop(new_loop: NewLoop = asyncio.new_event_loop) -> Iterator[asyncio.Runner]:
    """An event loop that runs while a coroutine is called, and keeps its connections."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        yield runner


class ThroughLoop:
    """A service whose methods call those for coroutines, in an event loop.

    What has no such method is that of the service itself. Changes with a guard have none, and are
    named here because a protocol only finds what a class has.
    """

    def __init__(self, service: Any, runner: asyncio.Runner) -> None:
        self._service, self._runner = service, runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def _run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine)

    @property
    def repository(self) -> RepositoryName | None:
        repository: RepositoryName | None = self._service.repository
        return repository

    def stat(self, digest: str) -> Descriptor:
        result: Descriptor = self._run(self._service.astat(digest))
        return result

    def stat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        result: dict[Digest, Descriptor] = self._run(self._service.astat_many(digests))
        return result

    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        result: SetResult = self._run(self._service.aset_descriptor(digest, descriptor))
        return result

    def clear(self, digest: str) -> Descriptor | None:
        result: Descriptor | None = self._run(self._service.aclear(digest))
        return result

    def set_guarded(self, *arguments: Any) -> SetResult:
        result: SetResult = self._service.set_guarded(*arguments)
        return result

    def clear_guarded(self, *arguments: Any) -> Descriptor | None:
        result: Descriptor | None = self._service.clear_guarded(*arguments)
        return result


class ThroughCoroutines(ThroughLoop):
    """The same for a provider."""

    def repository_scoped(self, name: str) -> ThroughLoop:
        return ThroughLoop(self._service.repository_scoped(name), self._runner)

    def fill(self, digest: str, descriptor: Descriptor, seconds: int) -> bool:
        result: bool = self._run(self._service.afill(digest, descriptor, seconds))
        return result

    def purge(self, digest: str, cursor: str = "") -> PurgeResult:
        result: PurgeResult = self._run(self._service.apurge(digest, cursor))
        return result

    def purge_many(self, digests: Iterable[str], cursor: str = "") -> PurgeManyResult:
        result: PurgeManyResult = self._run(self._service.apurge_many(digests, cursor))
        return result
