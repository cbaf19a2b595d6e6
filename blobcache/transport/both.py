"""Steps of several commands, written once for threads and for coroutines.

Such a step is a coroutine that sends its commands by a `Sends`. For coroutines that is an
`AsyncServer`. For a thread it is a `Server`'s `Immediate`, whose methods never wait for an event
loop; so `finish` can run the step to its end without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from blobcache.transport.packing import Call, Command, Reply, Script
    from blobcache.transport.server import Server

__all__ = ["Immediate", "Sends", "finish"]

_T = TypeVar("_T")


class Sends(Protocol):
    """What sends commands, as the methods of `Server` with these names do."""

    def beside(self, server: Server) -> Sends:
        """Return what sends to another server in the same way."""
        ...

    async def has_slots(self) -> bool:
        """See `Server.is_cluster`."""
        ...

    async def batch(self, commands: Sequence[Command], *, own: bool = False) -> list[Reply]:
        """See `Server.batch`."""
        ...

    async def transaction(self, *phases: Sequence[Call]) -> list[Reply]:
        """See `Server.transaction`."""
        ...

    async def script(
        self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | str] = ()
    ) -> Reply:
        """See `Server.script`."""
        ...

    async def script_call(self, script: Script, call: Call) -> Reply:
        """See `Server.script_call`."""
        ...


class Immediate:
    """A `Sends` whose methods have ended when they return; they block the thread meanwhile."""

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        self._server = server

    def beside(self, server: Server) -> Immediate:
        """See `Sends`."""
        return server.immediate

    async def has_slots(self) -> bool:
        """See `Sends`."""
        return self._server.is_cluster

    async def batch(self, commands: Sequence[Command], *, own: bool = False) -> list[Reply]:
        """See `Sends`."""
        return self._server.batch(commands, own=own)

    async def transaction(self, *phases: Sequence[Call]) -> list[Reply]:
        """See `Sends`."""
        return self._server.transaction(*phases)

    async def script(
        self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | str] = ()
    ) -> Reply:
        """See `Sends`."""
        return self._server.script(script, keys, args)

    async def script_call(self, script: Script, call: Call) -> Reply:
        """See `Sends`."""
        return self._server.script_call(script, call)


def finish(step: Coroutine[Any, Any, _T]) -> _T:
    """Run a step that sends by an `Immediate`, and return its result."""
    try:
        step.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    step.close()
    raise RuntimeError("The step waits for an event loop.")
