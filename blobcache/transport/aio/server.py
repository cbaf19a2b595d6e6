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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from redis.exceptions import NoScriptError, ResponseError

from blobcache.exceptions import CacheUnavailable
from blobcache.transport.aio.multiplexer import multiplexer_of
from blobcache.transport.aio.threads import in_thread
from blobcache.transport.clients import (
    handle_for,
    raise_all_errors,
    raise_server_errors,
    registry,
)
from blobcache.transport.packing import EXEC, MULTI, Packed, pack
from blobcache.transport.refused import SCRIPTING
from blobcache.transport.shapes import Repeated, expect, shape_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.digest import Digest
    from blobcache.transport.clients import ClientHandle
    from blobcache.transport.packing import Call, Command, Reply, Script, Template
    from blobcache.transport.server import Server
    from blobcache.transport.shapes import Shape

__all__ = ["AsyncServer"]


class AsyncServer:
    """The Redis behind a `Server`, for coroutines. Event loops and threads may share it.

    Await `prepare` first, unless `is_native`. If that is false afterwards, the client is one whose
    commands cannot be sent in this way: use the `Server` in a thread.
    """

    __slots__ = ("_primary", "_replica", "_server")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._primary: ClientHandle | None = None
        self._replica: ClientHandle | None = None

    async def prepare(self, *, replica: bool = False) -> bool:
        """Find the client, the first time in a thread; return whether it `is_native`."""
        handle = self._known(replica=replica)
        if handle is None:
            alias, hold = self._server.alias, self._server.holds
            handle = await in_thread(lambda: handle_for(alias, write=not replica, hold=hold))
            if replica:
                self._replica = handle
            else:
                self._primary = handle
        return handle.is_native

    def is_native(self, *, replica: bool = False) -> bool:
        """Whether the methods here may be used now; asks nothing."""
        handle = self._known(replica=replica)
        return handle is not None and handle.is_native

    @property
    def is_cluster(self) -> bool:
        """See `Server.is_cluster`."""
        return self._client().is_cluster

    async def batch(self, commands: Sequence[Command], *, own: bool = False) -> list[Reply]:
        """See `Server.batch`."""
        replies = raise_server_errors(await self._send([(Packed(commands), ())]))
        return raise_all_errors(replies) if own else replies

    async def run_template(
        self, template: Template, digest: Digest, *, replica: bool = False
    ) -> list[Reply]:
        """See `Server.run_template`."""
        client = self._client(replica=replica)
        multiplexer = multiplexer_of(client.pool)
        try:
            return raise_server_errors(
                await multiplexer.exchange(template.pack(digest), template.expected)
            )
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
        client = self._client(replica=replica)
        packed = b"".join([pack(first), *map(template.pack, digests)])
        expected = Repeated(expect(map(shape_of, first)), template.expected, len(digests))
        try:
            return raise_server_errors(await multiplexer_of(client.pool).exchange(packed, expected))
        except CacheUnavailable:
            self._replica = None  # likewise
            raise

    async def transaction(self, *phases: Sequence[Call]) -> list[Reply]:
        """See `Server.transaction`."""
        calls = [MULTI]
        for phase in phases:
            calls += phase
        calls.append(EXEC)
        replies = raise_server_errors(await self._send(calls))
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
        refusals = self._client().refusals
        if refusals.has(*SCRIPTING):
            return await in_thread(lambda: self._server.script_call(script, call))
        (reply,) = await self._send([call])
        if isinstance(reply, NoScriptError):
            template, values = call
            (command,) = template.commands(*values)
            (reply,) = await self._send([(Packed([script.call_in_full(command)]), ())])
        if isinstance(reply, ResponseError) and refusals.note(reply) in SCRIPTING:
            return await in_thread(lambda: self._server.script_call(script, call))
        return raise_server_errors([reply])[0]

    async def _send(self, calls: Sequence[Call]) -> list[Reply]:
        """Send all calls together, once."""
        packed: list[bytes] = []
        shapes: list[Shape] = []
        for template, values in calls:
            packed.append(template.pack(*values))
            shapes += template.expected.shapes
        multiplexer = multiplexer_of(self._client().pool)
        return await multiplexer.exchange(b"".join(packed), expect(shapes))

    def _client(self, *, replica: bool = False) -> ClientHandle:
        handle = self._known(replica=replica)
        if handle is None:
            raise RuntimeError("Await prepare() first.")
        return handle

    def _known(self, *, replica: bool) -> ClientHandle | None:
        handle = self._replica if replica else self._primary
        return None if handle is None or handle.version != registry.version else handle
