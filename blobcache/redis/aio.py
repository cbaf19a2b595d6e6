"""The calls of the service for coroutines: the same commands and replies, sent by `AsyncServer`."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from blobcache.redis import commands
from blobcache.redis.records import chunks, first_commands, paired
from blobcache.services.aio import AsyncDescriptorService
from blobcache.services.rules import blob_unknown_error
from blobcache.transport.clients import raise_server_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.redis.options import RedisOptions
    from blobcache.services.base import SetResult
    from blobcache.transport.both import Sends
    from blobcache.transport.packing import Reply, Template
    from blobcache.transport.server import Server

__all__ = ["AsyncRedis"]


class AsyncRedis(AsyncDescriptorService):
    """Implements `AsyncDescriptorService` on Redis."""

    __slots__ = ()

    _options: RedisOptions
    _server: Server
    _stat_template: Template

    async def _astat(self, digest: Digest) -> Descriptor:
        server, replica = self._server.aio, self._options.read_from_replicas
        answers = await server.run_template(self._stat_template, digest, replica=replica)
        descriptor = self._read(raise_server_errors(answers), digest)
        if descriptor is None:
            raise blob_unknown_error(digest, self.repository)
        return descriptor

    async def _astat_many(self, digests: list[Digest]) -> dict[Digest, Descriptor]:
        server, replica = self._server.aio, self._options.read_from_replicas
        template = commands.read_template(self.repository)
        found: dict[Digest, Descriptor] = {}
        for chunk in chunks(digests, self._options.stat_chunk_size):
            first = first_commands(self.repository, chunk)
            answers = await server.run_template_many(template, chunk, first, replica=replica)
            found |= self._read_all(chunk, paired(self.repository, chunk, answers))
        return found

    async def _aset(self, digest: Digest, descriptor: Descriptor, media_type: str) -> SetResult:
        await self._server.aio.has_slots()  # the index asks later, and must not wait then
        return await self._set_by(self._server.aio, digest, descriptor, media_type)

    async def _aclear(self, digest: Digest) -> Descriptor | None:
        return await self._clear_by(self._server.aio, digest)

    # What the service implements

    @abstractmethod
    def _read(self, answers: Sequence[Reply], digest: Digest) -> Descriptor | None: ...

    @abstractmethod
    def _read_all(
        self, digests: Sequence[Digest], answers: Iterable[Sequence[Reply]]
    ) -> dict[Digest, Descriptor]: ...

    @abstractmethod
    async def _set_by(
        self, server: Sends, digest: Digest, descriptor: Descriptor, media_type: str
    ) -> SetResult: ...

    @abstractmethod
    async def _clear_by(self, server: Sends, digest: Digest) -> Descriptor | None: ...
