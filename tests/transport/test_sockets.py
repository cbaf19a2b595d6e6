"""Sockets whose timeouts the kernel keeps, and how they are given back."""

from __future__ import annotations

import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis
from redis.connection import Connection
from redis.exceptions import TimeoutError as RedisTimeoutError

from blobcache.exceptions import CacheUnavailable
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.transport import private
from blobcache.transport.sockets import send_all, use_kernel_timeout, use_python_timeout
from project import embedded
from tests.conformance import A, make_descriptor
from tests.servers import Encrypted, cache_at
from tests.stores import PYTHON_PARSER
from tests.threads import held, in_thread

TIMEOUT = 0.5
CONNECTION = SimpleNamespace(socket_timeout=TIMEOUT)
SLACK = 2.0
"""Seconds that a busy machine may add."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sys.maxsize <= 2**32, reason="a system where Python keeps them"
)


by_hiredis = pytest.mark.skipif(
    private.HiredisParser is None, reason="without hiredis, redis-py waits by Python's timeouts"
)
maintained = pytest.mark.skipif(
    not hasattr(Connection, "mark_for_reconnect"), reason="redis-py 6 does not know maintenance"
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


def kernels(sock: socket.socket) -> list[bytes]:
    """Return the kernel's timeouts as the kernel stores them."""
    options = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
    return [sock.getsockopt(socket.SOL_SOCKET, option, 16) for option in options]


def all_timeouts(redis: Redis) -> set[float | None]:
    """Return the timeouts of all open connections that the pool has available."""
    pool: Any = redis.connection_pool
    return {each._sock.gettimeout() for each in pool._available_connections if each._sock}


class TestASocket:
    def test_waits_no_longer_than_before(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, _ = ends
        assert use_kernel_timeout(ours, ours.gettimeout())
        assert ours.gettimeout() is None
        began = monotonic()
        with pytest.raises(BlockingIOError):
            ours.recv(1)
        assert TIMEOUT * 0.9 < monotonic() - began < TIMEOUT + SLACK
        with pytest.raises(BlockingIOError):
            ours.sendall(bytes(1 << 24))

    def test_is_given_back_unchanged(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, _ = ends
        before = kernels(ours)
        assert use_kernel_timeout(ours, ours.gettimeout())
        assert kernels(ours) != before
        use_python_timeout(ours, TIMEOUT)
        assert ours.gettimeout() == TIMEOUT
        assert kernels(ours) == before

    def test_that_got_another_timeout_meanwhile_keeps_it(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, _ = ends
        before = kernels(ours)
        assert use_kernel_timeout(ours, TIMEOUT)
        ours.settimeout(10)
        use_python_timeout(ours, TIMEOUT)
        assert ours.gettimeout() == 10
        assert kernels(ours) == before

    @pytest.mark.parametrize("usual", [None, 10.0])
    def test_with_a_temporary_timeout_is_not_changed(
        self, ends: tuple[socket.socket, socket.socket], usual: float | None
    ) -> None:
        """As redis-py does during a server's maintenance."""
        ours, _ = ends
        assert not use_kernel_timeout(ours, usual)
        assert ours.gettimeout() == TIMEOUT

    def test_without_a_timeout_waits_without_limit(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, _ = ends
        ours.settimeout(None)
        before = kernels(ours)
        assert use_kernel_timeout(ours, ours.gettimeout())
        assert kernels(ours) == before
        use_python_timeout(ours, None)
        assert ours.gettimeout() is None

    @pytest.mark.parametrize("seconds", [0.0, 1e-9])
    def test_keeps_a_timeout_that_the_kernel_would_round_to_zero(
        self, ends: tuple[socket.socket, socket.socket], seconds: float
    ) -> None:
        ours, _ = ends
        ours.settimeout(seconds)
        assert not use_kernel_timeout(ours, ours.gettimeout())
        assert ours.gettimeout() == seconds

    def test_that_is_closed_is_not_changed(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, _ = ends
        ours.close()
        assert not use_kernel_timeout(ours, ours.gettimeout())

    def test_of_a_library_for_green_threads_is_not_changed(self) -> None:
        class Green(socket.socket):
            """Lets other green threads run while it waits."""

            def recv_into(self, *args: Any) -> int:
                raise NotImplementedError

        with Green() as sock:
            sock.settimeout(TIMEOUT)
            assert not use_kernel_timeout(sock, TIMEOUT)
            assert sock.gettimeout() == TIMEOUT


class TestSending:
    def test_in_parts_takes_no_longer_than_the_timeout(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        """If the other end reads slowly, one timeout covers the whole, not one each part."""
        ours, theirs = ends
        done = threading.Event()

        def receive_slowly() -> None:
            while not done.wait(TIMEOUT / 5) and theirs.recv(1 << 16):
                pass

        assert use_kernel_timeout(ours, TIMEOUT)
        slow = threading.Thread(target=receive_slowly)
        slow.start()
        began = monotonic()
        try:
            with pytest.raises(TimeoutError):
                send_all(CONNECTION, ours, bytes(1 << 24))
        finally:
            done.set()
            slow.join()
        assert monotonic() - began < TIMEOUT + SLACK

    def test_in_parts_sends_all_data(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = ends
        assert use_kernel_timeout(ours, TIMEOUT)
        sent = bytes(range(256)) * (1 << 14)
        received = bytearray()

        def receive() -> None:
            while len(received) < len(sent):
                received.extend(theirs.recv(1 << 16))

        other = threading.Thread(target=receive)
        other.start()
        send_all(CONNECTION, ours, sent)
        other.join()
        assert received == sent


@by_hiredis
class TestAHeldConnection:
    @in_thread
    def test_has_its_timeout_in_the_kernel(self, client: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        for _ in range(3):
            assert provider.stat(A) == make_descriptor(A)
            assert held(provider)._sock.gettimeout() is None

    @in_thread
    def test_raises_the_usual_timeout_error(self, client: Redis, valkey: embedded.Server) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        provider.stat(A)
        assert held(provider)._sock.gettimeout() is None
        with valkey.frozen(), pytest.raises(CacheUnavailable) as caught:
            provider.stat(A)
        assert isinstance(caught.value.__cause__, RedisTimeoutError)

    @in_thread
    def test_is_given_back_with_the_timeout_that_the_pool_knows(self, client: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        for _ in range(2):
            provider.stat(A)
            assert held(provider)._sock.gettimeout() is None
            provider.server_status()
            assert all_timeouts(client) == {TIMEOUT}
            assert provider.stat(A) == make_descriptor(A)

    def test_is_given_back_with_that_timeout_when_its_thread_ends(self, client: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()

        @in_thread
        def calls() -> None:
            provider.set_descriptor(A, make_descriptor(A))
            provider.stat(A)
            assert held(provider)._sock.gettimeout() is None

        calls()
        assert all_timeouts(client) == {TIMEOUT}

    @maintained
    @in_thread
    def test_keeps_the_timeout_of_its_servers_maintenance(self, client: Redis) -> None:
        """With the calls that redis-py makes then; see its `maint_notifications`."""
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        provider.stat(A)
        connection = held(provider)
        sock = connection._sock
        before = kernels(sock)
        connection.set_tmp_settings(tmp_relaxed_timeout=10)
        connection.update_current_socket_timeout(10)
        for _ in range(2):
            assert provider.stat(A) == make_descriptor(A)
            assert sock.gettimeout() == 10
        connection.reset_tmp_settings(reset_relaxed_timeout=True)
        connection.update_current_socket_timeout(-1)
        assert provider.stat(A) == make_descriptor(A)
        assert held(provider) is connection
        assert kernels(sock) == before
        assert sock.gettimeout() is None

    @pytest.mark.parametrize("is_read", [False, True])
    @in_thread
    def test_with_unread_data_is_replaced(self, client: Redis, is_read: bool) -> None:
        """Whether the data is still in the socket or already in the parser."""
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        provider.stat(A)
        connection = held(provider)
        sock = connection._sock
        connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"])
        assert select.select([sock], [], [], 1)[0]
        if is_read:
            connection._parser.read_from_socket()
        assert provider.stat(A) == make_descriptor(A)
        assert held(provider)._sock is not sock

    @maintained
    @in_thread
    def test_is_replaced_before_its_server_goes_away(self, client: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        provider.stat(A)
        sock = held(provider)._sock
        held(provider).mark_for_reconnect()
        assert provider.stat(A) == make_descriptor(A)
        assert held(provider)._sock is not sock

    def test_of_the_thread_that_handles_signals_keeps_pythons_timeout(
        self, client: Redis, valkey: embedded.Server
    ) -> None:
        """Each signal would restart the kernel's timeout."""
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        provider.stat(A)
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        began = monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, TIMEOUT / 5, TIMEOUT / 5)
            with valkey.frozen(), pytest.raises(CacheUnavailable):
                provider.stat(A)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert monotonic() - began < TIMEOUT + SLACK

    @pytest.mark.parametrize("way", ["python parser", "TLS", "health checks"])
    @in_thread
    def test_of_another_kind_keeps_pythons_timeout(
        self, valkey: embedded.Server, redis_tls: Encrypted, way: str
    ) -> None:
        url = redis_tls.url if way == "TLS" else valkey.url
        options: dict[str, dict[str, Any]] = {
            "TLS": {},
            "python parser": PYTHON_PARSER,
            "health checks": {"CONNECTION_POOL_KWARGS": {"health_check_interval": 60}},
        }
        with cache_at(url, SOCKET_TIMEOUT=TIMEOUT, **options[way]):
            provider = RedisBlobDescriptorCacheProvider()
            for _ in range(3):
                provider.set_descriptor(A, make_descriptor(A))
            assert provider.stat(A) == make_descriptor(A)
            assert held(provider)._sock.gettimeout() == TIMEOUT
