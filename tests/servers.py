"""Servers for tests: start them, use them as Django's cache, and count or list their commands.

The servers themselves are fixtures in conftest.py.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
import trustme
from django.conf import settings
from django.core.cache import caches
from django.test import override_settings
from django_redis import get_redis_connection
from redis import Redis
from redis.client import Monitor

from project import embedded

__all__ = [
    "Encrypted",
    "Meter",
    "Traffic",
    "cache_at",
    "chromium",
    "commands",
    "encrypted",
    "in_memory",
    "installed",
    "limited_user",
    "monitor",
]

_serial = itertools.count()


def installed(program: str) -> Path:
    """The path of an installed program. A missing one skips the test.

    With `BLOBCACHE_REQUIRE_SERVERS=1` in the environment, as in continuous integration, it fails
    the test instead, so that no run is green for want of a package.
    """
    path = shutil.which(program)
    if path:
        return Path(path)
    message = f"{program} is not installed"
    if os.environ.get("BLOBCACHE_REQUIRE_SERVERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def chromium() -> Path:
    """The path of chromium: of the one without windows, if it is installed, else of the usual one.

    Both show pages with the same engine. The former takes two thirds of the processor time.
    """
    without_windows = shutil.which("chromium-headless-shell")
    return Path(without_windows) if without_windows else installed("chromium")


@dataclass(frozen=True)
class Encrypted:
    """The address of a server with TLS, and the certificate to verify it with."""

    port: int
    authority: Path

    @property
    def url(self) -> str:
        """As a LOCATION of django-redis takes it."""
        return f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={self.authority}"


@contextmanager
def encrypted(directory: Path) -> Iterator[Encrypted]:
    """Run the system's redis-server within the block, with its own certificate."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    trusted, key, chain = (directory / name for name in ("authority", "key", "chain"))
    authority.cert_pem.write_to_path(trusted)
    issued.private_key_pem.write_to_path(key)
    for certificate in issued.cert_chain_pems:
        certificate.write_to_path(chain, append=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    files = {"--tls-cert-file": chain, "--tls-key-file": key, "--tls-ca-cert-file": trusted}
    arguments = [str(word) for option in files.items() for word in option]
    arguments += ["--tls-port", str(port), "--tls-auth-clients", "no"]
    with embedded.start(*arguments, binary=installed("redis-server")):
        yield Encrypted(port, trusted)


@contextmanager
def cache_at(url: str, alias: str = "default", **options: Any) -> Iterator[Redis]:
    """Within the block CACHES[alias] is django-redis on `url`; yields its raw client.

    django-redis keeps its connection pools by URL, for the whole process and whatever the options.
    So the URL gets a fragment that no other has; redis-py ignores it. `options` are the cache's
    OPTIONS.
    """
    cache = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{url}#{next(_serial)}",
        "OPTIONS": options,
    }
    with override_settings(CACHES={**settings.CACHES, alias: cache}):
        client = get_redis_connection(alias)
        try:
            yield client
        finally:
            caches[alias].client.connection_factory.disconnect(client)  # type: ignore[attr-defined]


@dataclass
class Traffic:
    """Commands and round trips of a block, without the measurement itself; set when it ends."""

    round_trips: int = 0
    """How often the server read from a client. A pipeline is one, unless it is longer than the
    server's buffer of 16 kB; a new connection adds those of its greeting. That a connection ends is
    none, whenever its owner's garbage is collected."""

    connections: int = 0
    """Connections that were opened."""

    calls: Counter[str] = field(default_factory=Counter)
    """Commands by name, in lower case, those in a MULTI or a script included."""


class Meter:
    """Count the commands of other clients to this client's server, from one reading to the next.

    The client must not be used by anyone else, nor share its connections. With `are_kept`, the
    others keep their connections from reading to reading, so one question is enough for most.
    """

    def __init__(self, client: Redis, *, are_kept: bool = False) -> None:
        client.ping()  # open the connection first
        self._client = client
        self._questions = 0
        self._are_kept = are_kept
        self._last: Counter[str] = Counter()
        self._last = self._snapshot()

    def read(self) -> Traffic:
        """Return the traffic since the last reading."""
        last, self._last = self._last, self._snapshot()
        asked = Counter(self._last)
        asked.subtract(last)
        opened = asked.pop(_OPENED)
        ended = opened - asked.pop(_CONNECTED)
        return Traffic(
            asked.pop(_READS) - ended,  # the server reads that there is nothing more
            opened,
            Counter(
                {name.removeprefix("cmdstat_"): calls for name, calls in asked.items() if calls}
            ),
        )

    def _snapshot(self) -> Counter[str]:
        """Return the counters without the meter's own questions, once nothing changes them."""
        found = self._counters("clients", "stats", "commandstats")
        if self._are_kept and all(found[name] == self._last[name] for name in _CONNECTIONS):
            return found
        # The server may have read that a connection has ended, but still count it as a client.
        for _ in range(100):
            again = self._counters("clients", "stats")
            if all(found[name] == again[name] for name in _TOTALS):
                break
            found = self._counters("clients", "stats", "commandstats")
        return found

    def _counters(self, *sections: str) -> Counter[str]:
        """Return the server's counters since its start, without the meter's own questions."""
        # Not client.info(), which parses some hundred lines each time.
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("INFO", *sections)
            info = connection.read_response(disable_decoding=True)
        finally:
            pool.release(connection)
        counters = Counter({name.decode(): int(number) for name, number in _COUNTER.findall(info)})
        counters.subtract({"cmdstat_info": self._questions, _READS: self._questions})
        self._questions += 1
        return counters


@contextmanager
def commands(client: Redis) -> Iterator[Traffic]:
    """Count the commands of other clients to the server of `client` within the block.

    `client` must not be used within the block by anyone, nor share its connections.
    """
    meter = Meter(client)
    traffic = Traffic()
    yield traffic
    found = meter.read()
    traffic.round_trips, traffic.connections = found.round_trips, found.connections
    traffic.calls.update(found.calls)


@contextmanager
def monitor(client: Redis) -> Iterator[list[tuple[str, ...]]]:
    """Collect the commands that the server of `client` receives within the block, in order.

    The list is filled when the block ends. Each command is a tuple of its words as they were sent,
    bytes that are not UTF-8 as surrogates; what a script does stands there too.
    """
    seen: list[tuple[str, ...]] = []
    with client.monitor() as lines:
        _words_until_echo(client, lines)
        yield seen
        seen += _words_until_echo(client, lines)


_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"')


def _words_until_echo(client: Redis, lines: Monitor) -> list[tuple[str, ...]]:
    """Send an ECHO, and return the commands before it."""
    mark = uuid4().hex
    client.echo(mark)
    seen: list[tuple[str, ...]] = []
    while True:
        # Not next_command(): it joins the words of a command with spaces.
        line = lines.connection.read_response(disable_decoding=True)
        words = tuple(_text(word) for word in _WORD.findall(line))
        if words == ("ECHO", mark):
            return seen
        seen.append(words)


def _text(word: bytes) -> str:
    """Decode one word of a command, as MONITOR quotes it."""
    if b"\\" in word:
        # The server escapes as Python does.
        word = b"'%b'" % ast.literal_eval(f"b{word.decode('ascii')}")
    return word[1:-1].decode(errors="surrogateescape")


_READS = "total_reads_processed"
_OPENED = "total_connections_received"
_CONNECTED = "connected_clients"
_CONNECTIONS = (_OPENED, _CONNECTED)
_TOTALS = (_READS, *_CONNECTIONS)
# Without "^", which would be tried at each character.
_COUNTER = re.compile(rf"\r\n({'|'.join(_TOTALS)}|cmdstat_[^:]+):(?:calls=)?([0-9]+)".encode())


@contextmanager
def in_memory() -> Iterator[Path]:
    """A directory within the block, in memory where the system has that, for thousands of files."""
    memory = Path("/dev/shm")  # noqa: S108 - a new directory in it
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


def limited_user(server: embedded.Server | embedded.Cluster, name: str, *refused: str) -> str:
    """Make a user who may run all commands but these; return the address for this user."""
    for node in server.nodes if isinstance(server, embedded.Cluster) else (server,):
        with node.client() as client:
            client.acl_setuser(
                name,
                enabled=True,
                reset=True,
                passwords=["+secret"],
                keys=["*"],
                categories=["+@all"],
                commands=[f"-{command.lower()}" for command in refused],
            )
    return server.url.replace("://", f"://{name}:secret@")
