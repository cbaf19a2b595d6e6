"""A proxy between a client and a Redis server, and the faults that it can cause.

    with proxy(server.port) as between, between.causes(LoseReply(when=b"HSET", times=1)) as fault:
        ...  # a client of between.port sends HSET: it is executed, and the reply is lost
    assert fault.happened == 1

A fault is in effect within its block, on all connections, old and new. It counts how often it
happened, so that a test or a hunt can check that it did.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from redis import Redis

from project import embedded

__all__ = [
    "CutReply",
    "CutRequest",
    "Delay",
    "Fault",
    "LoseReply",
    "Proxy",
    "Replace",
    "Silence",
    "Trickle",
    "announce",
    "proxied",
    "proxy",
]

HOST = "127.0.0.1"

ANNOUNCED_SECONDS = 10.0
"""How long the nodes of a cluster may take to tell each other their new ports."""


class LinkCut(Exception):
    """A fault closes the connection."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


class Link:
    """A client's connection to the proxy, and the one from there to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.request = b""
        """What the client has sent since the last reply."""

        self.is_answered = True

    async def forward(self, data: bytes) -> None:
        """Send data to the server."""
        self.server.write(data)
        await self.server.drain()

    async def answer(self, data: bytes) -> None:
        """Send data to the client."""
        self.client.write(data)
        await self.client.drain()

    def close(self, *, reset: bool) -> None:
        """Close both connections; with `reset` the client sees a reset instead of an end."""
        if reset:
            sock = self.client.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.client.transport.abort()
        for writer in (self.client, self.server):
            writer.close()


class Fault:
    """What the proxy does with requests and replies. This class only passes them on."""

    def __init__(self, *, when: bytes = b"", times: int | None = None) -> None:
        """Only with requests that contain the bytes `when`, and at most so many `times`."""
        self.when = when
        self.times = times
        self.happened = 0

    def applies(self, link: Link) -> bool:
        """Whether the fault concerns what the connection carries now."""
        return self.when in link.request and (self.times is None or self.happened < self.times)

    async def on_request(self, link: Link, data: bytes) -> None:
        """Handle what the client sent. Raises LinkCut to close the connection."""
        await link.forward(data)

    async def on_reply(self, link: Link, data: bytes) -> None:
        """Handle what the server sent. Raises LinkCut to close the connection."""
        await link.answer(data)


class LoseReply(Fault):
    """The server executes the request, but the connection is closed before its reply has arrived.

    Only `after` bytes of the reply are passed on.
    """

    def __init__(
        self, *, after: int = 0, reset: bool = False, when: bytes = b"", times: int | None = None
    ) -> None:
        super().__init__(when=when, times=times)
        self.after, self.reset = after, reset

    async def on_reply(self, link: Link, data: bytes) -> None:
        self.happened += 1
        await link.answer(data[: self.after])
        raise LinkCut(reset=self.reset)


class CutReply(Fault):
    """A connection is closed when `after` bytes of replies have passed. Happens once."""

    def __init__(self, after: int, *, reset: bool = False, when: bytes = b"") -> None:
        super().__init__(when=when, times=1)
        self.left, self.reset = after, reset

    async def on_reply(self, link: Link, data: bytes) -> None:
        await link.answer(self._cut(data))
        if self.left <= 0:
            self.happened += 1
            raise LinkCut(reset=self.reset)

    def _cut(self, data: bytes) -> bytes:
        data, self.left = data[: max(self.left, 0)], self.left - len(data)
        return data


class CutRequest(CutReply):
    """A connection is closed when `after` bytes of requests have passed. Happens once."""

    async def on_request(self, link: Link, data: bytes) -> None:
        await link.forward(self._cut(data))
        if self.left <= 0:
            self.happened += 1
            raise LinkCut(reset=self.reset)

    async def on_reply(self, link: Link, data: bytes) -> None:
        await link.answer(data)


class Delay(Fault):
    """Each reply comes late by so many seconds."""

    def __init__(self, seconds: float, *, when: bytes = b"", times: int | None = None) -> None:
        super().__init__(when=when, times=times)
        self.seconds = seconds

    async def on_reply(self, link: Link, data: bytes) -> None:
        self.happened += 1
        await asyncio.sleep(self.seconds)
        await link.answer(data)


class Trickle(Delay):
    """Each reply comes byte by byte, with so many seconds between two of them."""

    async def on_reply(self, link: Link, data: bytes) -> None:
        self.happened += 1
        for position in range(len(data)):
            await link.answer(data[position : position + 1])
            await asyncio.sleep(self.seconds)


class Silence(Fault):
    """The request reaches the server, and no reply comes. The connection stays open."""

    async def on_reply(self, link: Link, data: bytes) -> None:
        self.happened += 1


class Replace(Fault):
    """Other bytes come instead of the reply: once for each request."""

    def __init__(self, words: bytes, *, when: bytes = b"", times: int | None = None) -> None:
        super().__init__(when=when, times=times)
        self.words = words

    async def on_reply(self, link: Link, data: bytes) -> None:
        if not link.is_answered:
            self.happened += 1
            await link.answer(self.words)


class Proxy:
    """Passes the bytes of connections between its own port and the server's.

    Its faults may be changed by any thread.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = 0
        self._faults: tuple[Fault, ...] = ()
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address for redis-py, or for a LOCATION of django-redis."""
        return f"redis://{HOST}:{self.port}/0"

    @contextmanager
    def causes(self, *faults: Fault) -> Iterator[Fault]:
        """Let these faults happen within the block; yields the first.

        Where several apply, the first one happens.
        """
        earlier, self._faults = self._faults, (*faults, *self._faults)
        try:
            yield faults[0]
        finally:
            self._faults = earlier

    def start(self) -> None:
        """Listen, in a thread of its own."""
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, HOST, self.port)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and the port."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.close(reset=False)
        # They end with their connections. A cancelled one would be reported as an error.
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_connection(HOST, self.server_port)
        except OSError:  # what a client of the server itself would see
            client.close()
            return
        link = Link(client, server)
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._pump(reader, link, is_request=True)),
            asyncio.ensure_future(self._pump(from_server, link, is_request=False)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            cuts = [error for task in done if isinstance(error := task.exception(), LinkCut)]
            link.close(reset=any(cut.reset for cut in cuts))
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            link.close(reset=False)
            self._links.discard(link)

    async def _pump(self, reader: asyncio.StreamReader, link: Link, *, is_request: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if is_request:
                    link.request = data if link.is_answered else link.request + data
                    link.is_answered = False
                fault = next((each for each in self._faults if each.applies(link)), None) or _NONE
                await (fault.on_request if is_request else fault.on_reply)(link, data)
                link.is_answered = not is_request


_NONE = Fault()


@contextmanager
def proxy(server_port: int | None) -> Iterator[Proxy]:
    """Run a proxy before the server on that port, within the block."""
    assert server_port is not None, "the server listens on a unix socket"
    between = Proxy(server_port)
    between.start()
    try:
        yield between
    finally:
        between.stop()


@contextmanager
def proxied(cluster: embedded.Cluster) -> Iterator[tuple[Proxy, ...]]:
    """Run a proxy before each node of a cluster within the block, in the order of its nodes.

    Those of the replicas follow. The nodes announce the proxies' ports, so clients that begin at a
    proxy know no other way.
    """
    nodes = (*cluster.nodes, *cluster.replicas)
    with ExitStack() as stack:
        proxies = [stack.enter_context(proxy(node.port)) for node in nodes]
        announce(nodes, [each.port for each in proxies])
        stack.callback(announce, nodes, [node.port or 0 for node in nodes])
        yield tuple(proxies)


def announce(nodes: Sequence[embedded.Server], ports: Sequence[int]) -> None:
    """Let each node announce its port, and wait until all nodes know all of these ports."""
    with ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in nodes]
        for client, port in zip(clients, ports, strict=True):
            client.config_set("cluster-announce-port", port)
        deadline = time.monotonic() + ANNOUNCED_SECONDS
        while any(_known_ports(client) != set(ports) for client in clients):
            if time.monotonic() > deadline:
                raise TimeoutError("The nodes do not know each other's new ports.")
            time.sleep(0.01)


def _known_ports(client: Redis) -> set[int]:
    """Return the ports of all nodes, as this node knows them."""
    slots: Any = client.execute_command("CLUSTER SLOTS")
    return {port for _first, _last, *nodes in slots for _host, port, *_ in nodes}
