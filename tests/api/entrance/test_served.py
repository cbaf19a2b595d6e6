"""The entrance under a real server, which runs it in asyncio's own event loop or in uvloop."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

import pytest

from project import embedded
from tests.api.conftest import DIGEST, OTHER, UNKNOWN, fill
from tests.api.entrance.wire import Answer, masked
from tests.coroutines import LOOPS
from tests.interop.processes import Server
from tests.servers import cache_at

OURS = ("BLOBCACHE_", "DJANGO_", "GRANIAN_", "PROMETHEUS_")
JSON = {"Content-Type": "application/json"}
STAT = f"/api/repositories/team/app/blobs/{DIGEST}/"
BATCH = "/api/repositories/team/app/blobs/stat/"


class Sent(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str] | None = None
    body: bytes | None = None


def batch(*digests: str, spaces: int = 0) -> Sent:
    """A batch stat whose body ends with so many spaces."""
    body = json.dumps({"digests": digests}).encode() + b" " * spaces
    return Sent("POST", BATCH, JSON, body)


TABLE = [
    *(Sent(method, STAT) for method in ("GET", "HEAD", "OPTIONS", "DELETE")),
    Sent("GET", STAT + "?cached=only"),
    Sent("GET", STAT + "?format=json"),
    Sent("GET", STAT, {"Accept": "text/html"}),
    Sent("GET", STAT, {"Accept-Language": "de"}),
    Sent("GET", STAT, {"Authorization": "Bearer x"}),
    Sent("GET", STAT, {"Host": "evil.example"}),
    Sent("GET", STAT, {"If-None-Match": "*"}),
    Sent("GET", f"/api/blobs/{DIGEST}/"),
    Sent("HEAD", f"/api/blobs/{UNKNOWN}/"),
    Sent("GET", f"/api/repositories/team/app/blobs/{OTHER}/"),
    Sent("GET", "/api/blobs/sha256:beef/"),
    Sent("GET", f"/api/repositories/Team/blobs/{DIGEST}/"),
    Sent("GET", f"/noted/{DIGEST}/"),
    Sent("GET", "/api/repositories/team/app/blobs/"),
    Sent("GET", "/nowhere/"),
    batch(DIGEST, UNKNOWN),
    batch(*(f"sha256:{number:064x}" for number in range(90)), DIGEST),
    batch(DIGEST, spaces=100_000),  # read in a thread
    batch("sha256:beef"),
    Sent("POST", BATCH, JSON, b'{"digests": ['),
    Sent("POST", BATCH, {"Content-Type": "text/plain"}, b"[]"),
]


@contextmanager
def connection_to(port: int) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: HTTPConnection, sent: Sent) -> Answer:
    headers = {"Host": "testserver", **(sent.headers or {})}
    connection.request(sent.method, sent.path, sent.body, headers)
    response = connection.getresponse()
    named = [(name.title(), value) for name, value in response.getheaders() if name != "date"]
    return masked(str(response.status), named, response.read())


def ask_all(port: int, table: list[Sent]) -> list[Answer]:
    """Send one request after the other, over one connection."""
    with connection_to(port) as connection:
        return [ask(connection, sent) for sent in table]


def ask_at_once(port: int, table: list[Sent], clients: int) -> list[list[Answer]]:
    """Let so many clients send the requests at the same time."""
    with ThreadPoolExecutor(clients) as threads:
        return [*threads.map(lambda _: ask_all(port, table), range(clients))]


class Served(NamedTuple):
    """The ports of the servers, by event loop, and the Redis of all."""

    ports: dict[str, int]
    redis: embedded.Server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for each kind of event loop, each with one worker."""
    directory = tmp_path_factory.mktemp("served")
    with ExitStack() as stack:
        redis = stack.enter_context(embedded.start())
        started = {loop: start(loop, redis, directory / loop, stack) for loop in LOOPS}
        for port, server in started.values():
            server.wait_until(lambda port=port: listens(port))  # type: ignore[misc]
        yield Served({loop: port for loop, (port, _) in started.items()}, redis)


def start(loop: str, redis: embedded.Server, log: Path, stack: ExitStack) -> tuple[int, Server]:
    """Start the server, and return its port; it may not listen yet."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    env |= {
        "DJANGO_SETTINGS_MODULE": "tests.api.entrance.served.settings",
        "BLOBCACHE_REDIS_URL": redis.url,
        "BLOBCACHE_READ_ONLY": "0",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    granian = str(Path(sys.executable).with_name("granian"))
    address = ["--host", "127.0.0.1", "--port", str(port)]
    command = [granian, "--interface", "asgi", "--no-ws", *address, "--loop", loop]
    server = Server([*command, "tests.api.entrance.served.asgi:application"], log, env)
    stack.callback(server.stop)
    return port, server


def listens(port: int) -> bool:
    try:
        ask_all(port, [Sent("GET", "/nowhere/")])
    except (OSError, HTTPException):
        return False
    return True


@pytest.fixture
def filled(served: Served) -> None:
    with cache_at(served.redis.url) as client:
        client.flushall()
        fill()


def test_the_answers_are_the_same_in_each_event_loop(served: Served, filled: None) -> None:
    answers = {loop: ask_all(port, TABLE) for loop, port in served.ports.items()}
    for sent, *both in zip(TABLE, answers["asyncio"], answers["uvloop"], strict=True):
        assert [each.header("X-Loop") for each in both] == ["asyncio", "uvloop"]
        expected, answer = (
            each._replace(headers=tuple(pair for pair in each.headers if pair[0] != "X-Loop"))
            for each in both
        )
        assert answer == expected, sent
    statuses = {each.status for each in answers["uvloop"]}
    assert statuses == {"200", "304", "400", "401", "404", "415"}


@pytest.mark.parametrize("loop", LOOPS)
def test_clients_that_ask_at_once_get_their_own_answers(
    served: Served, filled: None, loop: str
) -> None:
    expected = ask_all(served.ports[loop], TABLE)
    for found in ask_at_once(served.ports[loop], TABLE, 4):
        assert found == expected


@pytest.mark.parametrize("loop", LOOPS)
def test_a_redis_that_is_down_for_a_while_is_asked_again(
    served: Served, filled: None, loop: str
) -> None:
    def statuses() -> list[str]:
        answers = ask_at_once(served.ports[loop], [Sent("GET", STAT)], 4)
        return [each.status for (each,) in answers]

    assert statuses() == ["200"] * 4
    served.redis.kill()
    try:
        assert statuses() == ["503"] * 4
    finally:
        served.redis.restart()
    assert statuses() == ["404"] * 4
