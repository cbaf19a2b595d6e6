"""Load generator: `wrk` if it is installed, else a client of our own.

    python -m benchmarks.load HOST PORT SECONDS CONNECTIONS < REQUEST

runs our own client: it sends the bytes of one request again and again, until it has an answer at
least. It prints the number of answers a second, the 99th percentile of their times in milliseconds,
and the share of refusals (503).
"""

from __future__ import annotations

import re
import selectors
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

__all__ = ["Load", "Request", "client_name", "load", "rate"]

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
OTHER = re.compile(r"(Non-2xx[^\n]*|Socket errors[^\n]*)")


class LoadError(RuntimeError):
    """The server did not answer every request with success."""


@dataclass(frozen=True)
class Request:
    """One request, to be sent again and again."""

    address: str
    """`host:port`."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    def raw(self) -> bytes:
        """The bytes of the request."""
        headers = {"Host": self.address, **self.headers}
        if self.body:
            headers["Content-Length"] = str(len(self.body))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", self.body]).encode()


@dataclass(frozen=True)
class Load:
    """What came of sending a request for some seconds."""

    rate: float
    """Answers a second, refusals among them."""

    p99: float
    """Milliseconds."""

    refused: float
    """The share of 503."""


def client_name(method: str, seconds: float) -> str:
    """Return the name of the client for that method and duration."""
    if not shutil.which("wrk"):
        return "a client of our own, since wrk is not installed"
    return "wrk" if _suits_wrk(method, seconds) else "a client of our own"


def _suits_wrk(method: str, seconds: float) -> bool:
    """Whether wrk can be used: for whole seconds, and not for HEAD, whose body it waits for."""
    return method != "HEAD" and seconds >= 1


def rate(request: Request, *, seconds: float, connections: int, directory: Path) -> float:
    """Measure the requests a second that the server answers over kept-alive connections.

    Raises `LoadError` if an answer is anything but a success.
    """
    if shutil.which("wrk") and _suits_wrk(request.method, seconds):
        return _wrk(request, seconds, connections, directory)
    found = load(request, seconds=seconds, connections=connections)
    if found.refused:
        raise LoadError(f"{request.method} {request.path}: {found.refused:.1%} were refused.")
    return found.rate


def load(request: Request, *, seconds: float, connections: int) -> Load:
    """Send requests over kept-alive connections with a client of our own.

    Raises `LoadError` if an answer is anything but a success or a 503.
    """
    host, _, port = request.address.rpartition(":")
    done = subprocess.run(
        [sys.executable, __file__, host, port, str(seconds), str(connections)],
        input=request.raw(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise LoadError(done.stderr.decode())
    return Load(*map(float, done.stdout.split()))


def _wrk(request: Request, seconds: float, connections: int, directory: Path) -> float:
    script = directory / "request.lua"
    lines = [f'wrk.method = "{request.method}"', f"wrk.body = {_lua(request.body)}"]
    lines += [f"wrk.headers[ {_lua(name)} ] = {_lua(it)}" for name, it in request.headers.items()]
    script.write_text("\n".join(lines))
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "-s", str(script)),
            f"http://{request.address}{request.path}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    if wrong := done.stderr or OTHER.search(done.stdout):
        raise LoadError(f"{request.method} {request.path}: {wrong}")
    match = RATE.search(done.stdout)
    if match is None:
        raise LoadError(done.stdout)
    return float(match[1])


def _lua(text: str) -> str:
    return f"[==[{text}]==]"


class _Connection:
    """One connection: it sends a request, reads the answer, and repeats."""

    def __init__(self, host: str, port: int, raw: bytes) -> None:
        self.socket = socket.create_connection((host, port))
        self._raw = raw
        self._has_body = not raw.startswith(b"HEAD ")
        self._buffer = b""
        self.asked = 0.0
        self.is_refused = False

    def ask(self) -> None:
        self.asked = monotonic()
        self.socket.sendall(self._raw)

    def hear(self) -> bool:
        """Read what has arrived; return whether the answer is complete."""
        received = self.socket.recv(1 << 18)
        if not received:
            raise LoadError("The server closed a connection.")
        self._buffer += received
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        self.is_refused = head.startswith(b"HTTP/1.1 503")
        if not self.is_refused and not head.startswith(b"HTTP/1.1 2"):
            raise LoadError(head.decode(errors="replace"))
        length = LENGTH.search(head) if self._has_body else None
        if len(rest) < (int(length[1]) if length else 0):
            return False
        self._buffer = b""
        return True


def main() -> None:
    """Run the client."""
    host, port, seconds, connections = sys.argv[1:]
    raw = sys.stdin.buffer.read()
    times: list[float] = []
    refused = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(int(connections)):
            each = _Connection(host, int(port), raw)
            selector.register(each.socket, selectors.EVENT_READ, each)
            each.ask()
        begun = monotonic()
        while monotonic() < begun + float(seconds) or not times:
            for key, _ in selector.select(1):
                if key.data.hear():
                    times.append(monotonic() - key.data.asked)
                    refused += key.data.is_refused
                    key.data.ask()
        took = monotonic() - begun
    number = len(times)
    slow = sorted(times)[number * 99 // 100]
    sys.stdout.write(f"{number / took} {slow * 1000} {refused / number}\n")


if __name__ == "__main__":
    main()
