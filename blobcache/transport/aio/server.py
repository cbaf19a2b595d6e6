"""`AsyncServer`: the commands that the descriptor service sends, on asyncio.

| method | sends | round trips |
|---|---|---|
| `AsyncServer.batch` | commands, one after another | 1 |
| `AsyncServer.run_template` | the commands of a template for one digest | 1 |
| `AsyncServer.run_template_many` | some commands, then those of a template for each digest | 1 |
| `AsyncServer.transaction` | commands, isolated from other clients by MULTI and EXEC | 1 |
| `AsyncServer.script`, `script_call` | a Lua script | 1, the first time 2 |

They mean the same as those of `Server`, and differ in this: nothing is sent again if its reply does
not come, not even a read, because the event loop notices at once when a connection is closed.

On a cluster there is one round trip for each node.
"""

from __future__ import annotations

from asyncio import to_thread
from functools import partial
from typing import TYPE_CHECKING, cast

from redis.exceptions import NoScriptError, ResponseError

from blobcache.exceptions import CacheUnavailable
from blobcache.transport.aio.cluster import send_to_nodes
from blobcache.transport.aio.multiplexer import multiplexer_of
from blobcache.transport.aio.threads import in_thread
from blobcache.transport.clients import raise_all_errors, raise_server_errors, registry
from blobcache.transport.packing import EXEC, MULTI, Packed, pack
from blobcache.transport.refused import SCRIPTING
from blobcache.transport.shapes import Repeated, expect, shape_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from blobcache.digest import Digest
    from blobcache.transport.clients import ClientHandle
    from blobcache.transport.packing import Call, Command, Reply, Script, Template
    from blobcache.transport.server import Server
    from blobcache.transport.shapes import Shape

__all__ = ["AsyncServer"]


class AsyncServer:
    """The Redis behind a `Server`, for coroutines. Event loops and threads may share it.

    If the client in ``CACHES`` is one whose commands cannot be sent in this way, because it is of a
    class of the host's own, or because parts of redis-py are missing, the methods call those of the
    `Server` in a thread.
    """

    __slots__ = ("_primary", "_replica", "_server")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._primary: ClientHandle | None = None
        self._replica: ClientHandle | None = None

    def beside(self, server: Server) -> AsyncServer:
        """See `blobcache.transport.both.Sends`."""
        return server.aio

    async def has_slots(self) -> bool:
        """See `Server.is_cluster`."""
        return (await self._client()).is_cluster

    async def batch(self, commands: Sequence[Command], *, own: bool = False) -> list[Reply]:
        """See `Server.batch`."""
        client = await self._client()
        if not client.is_native:
            return await to_thread(self._server.batch, commands, own=own)
        replies = raise_server_errors(await _send(client, [(Packed(commands), ())]))
        return raise_all_errors(replies) if own else replies

    def run_template(
        self, template: Template, digest: Digest, *, replica: bool = False
    ) -> Awaitable[list[Reply]]:
        """See `Server.run_template`, but apply `raise_server_errors` to the replies."""
        client = self._primary
        if (
            replica
            or client is None
            or client.version != registry.version
            or client.is_cluster
            or not client.is_native
        ):
            return self._run_template(template, digest, replica=replica)
        # Usually: not another coroutine, as in `Multiplexer.exchange`.
        return multiplexer_of(client.pool).exchange(template.pack(digest), template.expected)

    async def _run_template(
        self, template: Template, digest: Digest, *, replica: bool
    ) -> list[Reply]:
        client = await self._client(replica=replica)
        if not client.is_native:
            return await to_thread(self._server.run_template, template, digest, replica=replica)
        try:
            if client.is_cluster:
                sent = template.commands(digest)
                replies = await send_to_nodes(client.cluster, sent, replica=replica)
            else:
                packed = template.pack(digest)
                replies = await multiplexer_of(client.pool).exchange(packed, template.expected)
            return raise_server_errors(replies)
        except CacheUnavailable:
            self._replica = None  # the next stat may find another one
            raise

    async def run_template_many(
        self,
        template: Template,
        digests: Sequence[Digest],
        first: Sequence[Command] = (),
        *,
        replica: bool = False,
    ) -> list[Reply]:
        """See `Server.run_template_many`."""
        client = await self._client(replica=replica)
        if not client.is_native:
            call = partial(self._server.run_template_many, replica=replica)
            return await to_thread(call, template, digests, first)
        try:
            if client.is_cluster:
                sent = [command for digest in digests for command in template.commands(digest)]
                replies = await send_to_nodes(client.cluster, [*first, *sent], replica=replica)
            else:
                packed = pack(first) + template.pack_all(digests)
                shapes = expect(map(shape_of, first))
                expected = Repeated(shapes, template.expected, len(digests))
                replies = await multiplexer_of(client.pool).exchange(packed, expected)
            return raise_server_errors(replies)
        except CacheUnavailable:
            self._replica = None  # likewise
            raise

    async def transaction(self, *phases: Sequence[Call]) -> list[Reply]:
        """See `Server.transaction`."""
        client = await self._client()
        if not client.is_native:
            return await to_thread(self._server.transaction, *phases)
        if client.is_cluster:
            answers: list[Reply] = []
            for phase in phases:
                answers += raise_server_errors(await _send(client, phase))
            return answers
        calls = [MULTI]
        for phase in phases:
            calls += phase
        calls.append(EXEC)
        replies = raise_server_errors(await _send(client, calls))
        return raise_server_errors(cast("list[Reply]", replies[-1]))

    async def script(
        self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | str] = ()
    ) -> Reply:
        """See `Server.script`."""
        reply = await self.script_call(script, (Packed([script.call(keys, args)]), ()))
        return raise_all_errors([reply])[0]

    async def script_call(self, script: Script, call: Call) -> Reply:
        """See `Server.script_call`. In a thread where the server refuses scripts.

        The commands that replace the script need a connection of their own from ``WATCH`` on.
        """
        client = await self._client()
        if not client.is_native or client.refusals.has(*SCRIPTING):
            return await to_thread(self._server.script_call, script, call)
        (reply,) = await _send(client, [call])
        if isinstance(reply, NoScriptError):
            template, values = call
            (command,) = template.commands(*values)
            (reply,) = await _send(client, [(Packed([script.call_in_full(command)]), ())])
        if isinstance(reply, ResponseError) and client.refusals.note(reply) in SCRIPTING:
            return await to_thread(self._server.script_call, script, call)
        return raise_server_errors([reply])[0]

    async def _client(self, *, replica: bool = False) -> ClientHandle:
        """Return the handle of the client; find it the first time, which may ask the server."""
        handle = self._replica if replica else self._primary
        if handle is None or handle.version != registry.version:
            handle = await in_thread(partial(self._server.client, write=not replica))
            if replica:
                self._replica = handle
            else:
                self._primary = handle
        return handle


async def _send(client: ClientHandle, calls: Sequence[Call]) -> list[Reply]:
    """Send all calls together, once."""
    if client.is_cluster:
        sent = [each for template, values in calls for each in template.commands(*values)]
        return await send_to_nodes(client.cluster, sent)
    packed: list[bytes] = []
    shapes: list[Shape] = []
    for template, values in calls:
        packed.append(template.pack(*values))
        shapes += template.expected.shapes
    return await multiplexer_of(client.pool).exchange(b"".join(packed), expect(shapes))
