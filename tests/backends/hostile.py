"""HTTP servers that answer whatever a test writes, byte by byte, and note what they are asked."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.client import parse_headers
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Request", "Server", "response", "serving"]


class Request(NamedTuple):
    """What a server was asked."""

    method: str
    target: str
    """The path with its query."""

    headers: Message
    has_certificate: bool
    """Whether the client has shown one."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query)


Script = Callable[[Request], bytes | Iterable[bytes]]
"""What a server answers. It closes the connection after that."""


def response(status: int, body: bytes | str = b"", **headers: str) -> bytes:
    """Return a whole response. `Docker_Content_Digest=…` is the header of that name."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Status", "Connection: close"]
    if "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(content)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Server(socketserver.ThreadingTCPServer):
    """A server on a port of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, script: Script, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.context = context
        self.requests: list[Request] = []
        self.ended = threading.Event()
        """Set when the test is over."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error here."""


class _Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        connection = self.request
        connection.settimeout(20)
        if self.server.context is not None:
            try:
                connection = self.server.context.wrap_socket(connection, server_side=True)
            except OSError:  # The client does not trust us.
                return
        has_certificate = isinstance(connection, ssl.SSLSocket) and bool(connection.getpeercert())
        with connection, connection.makefile("rb") as stream:
            method, target, _ = stream.readline().decode("latin-1").split(" ", 2)
            request = Request(method, target, parse_headers(stream), has_certificate)
            self.server.requests.append(request)
            answer = self.server.script(request)
            with suppress(OSError):
                for chunk in [answer] if isinstance(answer, bytes) else answer:
                    connection.sendall(chunk)


@contextmanager
def serving(script: Script, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server within the block, with TLS if there is a context."""
    with Server(script, context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
