"""Sockets whose timeouts the kernel keeps, and what they are to whoever gets them back."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import TimeoutError  # noqa: A004 - redis-py's own name

from blobcache.exceptions import CacheUnavailable
from blobcache.redis import exchange as exchanges
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.sockets import let_kernel_time, let_python_time
from project import embedded
from tests.conformance import A, B, of
from tests.servers import Encrypted, cache_at
from tests.stores import PYTHON_PARSER

TIMEOUT = 0.5
SLACK = 2.0
"""Seconds that a busy machine may add."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sys.maxsize <= 2**32, reason="a system where Python keeps them"
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection; the first has a timeout."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(TIMEOUT)
        yield ours, theirs


@pytest.fixture
def client(valkey: embedded.Server) -> Iterator[Redis]:
    with cache_at(valkey.url, SOCKET_TIMEOUT=TIMEOUT) as client:
        client.flushall()
        yield client


def held(provider: RedisBlobDescriptorCacheProvider) -> Any:
    """The connection that this thread holds."""
    place = provider.server._client()._connections._own.place
    assert place is not None
    return place.connection


def kernels(sock: socket.socket) -> list[bytes]:
    """The kernel's timeouts, in its own form."""
    options = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
    return [sock.getsockopt(socket.SOL_SOCKET, option, 16) for option in options]


def all_timeouts(redis: Redis) -> set[float | None]:
    """Those of all open connections that are the pool's to give."""
    pool: Any = redis.connection_pool
    return {each._sock.gettimeout() for each in pool._available_connections if each._sock}


class TestASocket:
    def test_waits_no_longer_than_it_did(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, _ = ends
        assert let_kernel_time(ours, ours.gettimeout())
        assert ours.gettimeout() is None
        began = monotonic()
        with pytest.raises(BlockingIOError):
            ours.recv(1)
        assert TIMEOUT * 0.9 < monotonic() - began < TIMEOUT + SLACK
        with pytest.raises(BlockingIOError):
            ours.sendall(bytes(1 << 24))

    def test_is_given_back_as_it_was(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, _ = ends
        before = kernels(ours)
        assert let_kernel_time(ours, ours.gettimeout())
        assert kernels(ours) != before
        let_python_time(ours, TIMEOUT)
        assert ours.gettimeout() == TIMEOUT
        assert kernels(ours) == before

    def test_that_got_another_timeout_meanwhile_keeps_that(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, _ = ends
        before = kernels(ours)
        assert let_kernel_time(ours, TIMEOUT)
        ours.settimeout(10)
        let_python_time(ours, TIMEOUT)
        assert ours.gettimeout() == 10
        assert kernels(ours) == before

    @pytest.mark.parametrize("usual", [None, 10.0])
    def test_that_has_another_timeout_for_a_while_is_left_alone(
        self, ends: tuple[socket.socket, socket.socket], usual: float | None
    ) -> None:
        """As while a server is maintained."""
        ours, _ = ends
        assert not let_kernel_time(ours, usual)
        assert ours.gettimeout() == TIMEOUT

    def test_without_a_timeout_has_none(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, _ = ends
        ours.settimeout(None)
        before = kernels(ours)
        assert let_kernel_time(ours, ours.gettimeout())
        assert kernels(ours) == before
        let_python_time(ours, None)
        assert ours.gettimeout() is None

    @pytest.mark.parametrize("seconds", [0.0, 1e-9])
    def test_keeps_a_timeout_that_the_kernel_would_take_for_none(
        self, ends: tuple[socket.socket, socket.socket], seconds: float
    ) -> None:
        ours, _ = ends
        ours.settimeout(seconds)
        assert not let_kernel_time(ours, ours.gettimeout())
        assert ours.gettimeout() == seconds

    def test_that_is_closed_is_left_alone(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, _ = ends
        ours.close()
        assert not let_kernel_time(ours, ours.gettimeout())

    def test_of_a_library_for_green_threads_is_left_alone(self) -> None:
        class Green(socket.socket):
            """Waits by letting others go on, whatever its file descriptor would do."""

            def recv_into(self, *args: Any) -> int:
                raise NotImplementedError

        with Green() as sock:
            sock.settimeout(TIMEOUT)
            assert not let_kernel_time(sock, TIMEOUT)
            assert sock.gettimeout() == TIMEOUT


class TestAHeldConnection:
    def test_leaves_its_timeouts_to_the_kernel(self, client: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, of(A))
        for _ in range(3):
            assert provider.stat(A) == of(A)
            assert held(provider)._sock.gettimeout() is None

    def test_runs_into_them_as_into_any(self, client: Redis, valkey: embedded.Server) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, of(A))
        provider.stat(A)
        assert held(provider)._sock.gettimeout() is None
        with valkey.frozen(), pytest.raises(CacheUnavailable) as caught:
            provider.stat(A)
        assert isinstance(caught.value.__cause__, TimeoutError)

    def test_is_given_back_with_the_timeout_that_the_pool_knows(self, client: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, of(A))
        for _ in range(2):
            provider.stat(A)
            assert held(provider)._sock.gettimeout() is None
            provider.server_status()
            assert all_timeouts(client) == {TIMEOUT}
            assert provider.stat(A) == of(A)

    def test_is_given_back_so_when_its_thread_ends(self, client: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, of(A))
        provider.server_status()

        def calls() -> None:
            for _ in range(3):
                provider.stat(A)
            assert held(provider)._sock.gettimeout() is None

        with ThreadPoolExecutor(1) as pool:
            pool.submit(calls).result()
        assert all_timeouts(client) == {TIMEOUT}

    def test_goes_on_while_a_signal_handler_has_calls_of_its_own(
        self, client: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the two connections one is held afterwards, and the other as the pool knows it."""
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, of(A))
        provider.set_descriptor(B, of(B))
        provider.stat(A)
        attempt = exchanges._attempt
        seen: list[object] = []

        def interrupted(*args: Any) -> list[Any]:
            if not seen:
                seen.append(None)
                signal.raise_signal(signal.SIGUSR1)
            return attempt(*args)

        def handle(*_: object) -> None:
            seen.extend(provider.stat(B) for _ in range(3))

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            monkeypatch.setattr(exchanges, "_attempt", interrupted)
            assert provider.stat(A) == of(A)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == [None, of(B), of(B), of(B)]
        assert all_timeouts(client) == {TIMEOUT}
        assert provider.stat(A) == of(A)

    @pytest.mark.parametrize("way", ["python parser", "TLS"])
    def test_of_another_kind_keeps_its_own(
        self, valkey: embedded.Server, redis_tls: Encrypted, way: str
    ) -> None:
        url = redis_tls.url if way == "TLS" else valkey.url
        options = PYTHON_PARSER if way == "python parser" else {}
        with cache_at(url, SOCKET_TIMEOUT=TIMEOUT, **options):
            provider = RedisBlobDescriptorCacheProvider()
            for _ in range(3):
                provider.set_descriptor(A, of(A))
            assert provider.stat(A) == of(A)
            assert held(provider)._sock.gettimeout() == TIMEOUT
