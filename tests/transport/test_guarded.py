"""Connections that are closed after an interruption, and whose waits end in time."""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import count, repeat
from time import monotonic
from typing import Any

import pytest
from redis import Redis
from redis.connection import Connection, ConnectionPool, HiredisRespSerializer
from redis.exceptions import TimeoutError as RedisTimeoutError

from blobcache.exceptions import CacheUnavailable
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.transport import guarded, private
from blobcache.transport.guarded import GuardedSocket, limit, prepare
from blobcache.transport.held import Connections
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.interruptions import Interrupted, replies_are_late
from tests.proxy import Proxy, Trickle, proxy
from tests.servers import cache_at
from tests.stores import OTHER_CLIENT, PYTHON_PARSER
from tests.threads import held

TIMEOUT = 0.3
"""Seconds of SOCKET_TIMEOUT."""

SLACK = 2.0
"""Seconds that a busy machine may add."""

SHORT: dict[str, Any] = {"SOCKET_TIMEOUT": TIMEOUT, "SOCKET_CONNECT_TIMEOUT": TIMEOUT}

WAYS: dict[str, dict[str, Any]] = {
    "packed": SHORT,
    "python parser": {**SHORT, **PYTHON_PARSER},
    "other client": {**SHORT, **OTHER_CLIENT},
}


@pytest.fixture
def ends() -> Iterator[tuple[GuardedSocket, socket.socket]]:
    """Both ends of a connection; the first has a timeout."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(TIMEOUT)
        yield GuardedSocket(ours), theirs


@pytest.fixture(scope="module")
def between(valkey: embedded.Server) -> Iterator[Proxy]:
    with proxy(valkey.port) as between:
        yield between


def in_parts(write: Callable[[int], object]) -> Callable[[], None]:
    """Call `write` with 0, 1, 2 and so on, some times in each timeout, until this is called."""
    done = threading.Event()

    def write_slowly() -> None:
        number = 0
        while not done.wait(TIMEOUT / 5):
            write(number)
            number += 1

    thread = threading.Thread(target=write_slowly)
    thread.start()

    def stop() -> None:
        done.set()
        thread.join()

    return stop


class TestASocket:
    def test_waits_for_many_small_parts_no_longer_than_its_timeout(
        self, ends: tuple[GuardedSocket, socket.socket]
    ) -> None:
        ours, theirs = ends
        stop = in_parts(lambda _: theirs.send(b"x"))
        ours.begin()
        began = monotonic()
        try:
            with pytest.raises(TimeoutError):
                deque(iter(partial(ours.recv_into, bytearray(9)), 0))
        finally:
            stop()
        assert TIMEOUT * 0.9 < monotonic() - began < TIMEOUT + SLACK
        ours.end()
        assert ours.gettimeout() == TIMEOUT

    def test_sends_many_small_parts_no_longer_than_its_timeout(
        self, ends: tuple[GuardedSocket, socket.socket]
    ) -> None:
        ours, theirs = ends
        stop = in_parts(lambda _: theirs.recv(1 << 16))
        ours.begin()
        began = monotonic()
        try:
            with pytest.raises(TimeoutError):
                deque(map(ours.sendall, repeat(bytes(1 << 15))))
        finally:
            stop()
        assert monotonic() - began < TIMEOUT + SLACK

    def test_changes_nothing_while_there_is_time(
        self, ends: tuple[GuardedSocket, socket.socket]
    ) -> None:
        ours, theirs = ends
        theirs.send(b"1234")
        ours.begin_with(b"ask")
        assert [ours.recv(1), ours.recv(3)] == [b"1", b"234"]
        assert ours.gettimeout() == TIMEOUT
        ours.finish()
        assert theirs.recv(9) == b"ask"

    def test_gets_the_whole_time_again_with_another_timeout(
        self, ends: tuple[GuardedSocket, socket.socket]
    ) -> None:
        """As redis-py sets one during a server's maintenance."""
        ours, _ = ends
        ours.begin()
        ours.settimeout(TIMEOUT / 3)
        began = monotonic()
        with pytest.raises(TimeoutError):
            ours.recv(1)
        with pytest.raises(TimeoutError):
            ours.recv(1)
        assert monotonic() - began < TIMEOUT * 2 / 3 + SLACK
        ours.end()
        assert ours.gettimeout() == pytest.approx(TIMEOUT / 3)

    def test_without_a_timeout_has_no_limit(
        self, ends: tuple[GuardedSocket, socket.socket]
    ) -> None:
        ours, theirs = ends
        ours.settimeout(None)
        theirs.send(b"x")
        ours.begin_with(b"ask")
        assert ours.recv(1) == b"x"
        ours.finish()
        assert ours.gettimeout() is None


@pytest.mark.parametrize("together", [True, False])
def test_replies_of_one_exchange_share_the_time_if_they_are_limited_together(
    valkey: embedded.Server, monkeypatch: pytest.MonkeyPatch, *, together: bool
) -> None:
    with valkey.client() as client:
        connections = Connections(client.connection_pool, hold=False)
        connection = connections.take()
        limit(connection, together=together)
        connection.send_command("PING")
        assert connection.read_response() == b"PONG"
        monkeypatch.setattr(guarded, "monotonic", lambda: monotonic() + 3600)
        with pytest.raises(RedisTimeoutError) if together else nullcontext():
            connection.send_command("PING")
            assert connection.read_response() == b"PONG"
        connections.drop(connection)


class TestACall:
    @pytest.mark.parametrize("way", WAYS)
    def test_ends_in_time_although_the_reply_comes_byte_by_byte(
        self, between: Proxy, way: str
    ) -> None:
        with cache_at(between.url, **WAYS[way]):
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            assert provider.stat(A) == make_descriptor(A)
            began = monotonic()
            with (
                between.causes(Trickle(TIMEOUT / 10)) as fault,
                pytest.raises(CacheUnavailable),
            ):
                provider.stat(A)
            assert monotonic() - began < TIMEOUT + SLACK
            assert fault.happened
            assert provider.stat(A) == make_descriptor(A)

    @pytest.mark.parametrize("way", WAYS)
    def test_ends_in_time_although_the_greeting_comes_byte_by_byte(
        self, between: Proxy, way: str
    ) -> None:
        with cache_at(between.url, **WAYS[way]):
            provider = RedisBlobDescriptorCacheProvider()
            began = monotonic()
            with (
                between.causes(Trickle(TIMEOUT / 10)) as fault,
                pytest.raises(CacheUnavailable),
            ):
                provider.stat(A)
            # redis-py connects again if the first greeting fails.
            assert monotonic() - began < 4 * TIMEOUT + SLACK
            assert fault.happened

    def test_shares_its_time_between_sending_and_receiving(
        self, valkey: embedded.Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with cache_at(valkey.url, **WAYS["python parser"]):
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            clock = count(step=TIMEOUT * 0.6)
            monkeypatch.setattr(guarded, "monotonic", lambda: next(clock))
            with pytest.raises(CacheUnavailable):
                provider.stat(A)

    @pytest.mark.parametrize("holds", [True, False])
    def test_ends_in_time_although_signals_come(self, valkey: embedded.Server, holds: bool) -> None:
        """In a thread that handles none: there a wait that the kernel limits would begin again."""
        done: list[float] = []

        def work() -> None:
            provider = RedisBlobDescriptorCacheProvider(
                options=RedisOptions(hold_connections=holds)
            )
            for _ in range(2):
                provider.set_descriptor(A, make_descriptor(A))
            ready.set()
            frozen.wait()
            began = monotonic()
            with pytest.raises(CacheUnavailable):
                provider.stat(A)
            done.append(monotonic() - began)

        ready, frozen = threading.Event(), threading.Event()
        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            with cache_at(valkey.url, **SHORT):
                thread = threading.Thread(target=work)
                thread.start()
                ready.wait()
                with valkey.frozen():
                    frozen.set()
                    began = monotonic()
                    while thread.is_alive() and monotonic() - began < TIMEOUT + SLACK:
                        signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
                        thread.join(TIMEOUT / 10)
                thread.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert len(done) == 1
        assert done[0] < TIMEOUT + SLACK


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    provider = RedisBlobDescriptorCacheProvider()
    for digest, size in ((A, 1), (B, 2)):
        provider.set_descriptor(digest, make_descriptor(digest, size))
    return provider


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The words that hiredis has packed."""
    words: list[object] = []
    pack = HiredisRespSerializer.pack

    def seen(self: HiredisRespSerializer, *args: Any) -> Any:
        words.extend(args)
        return pack(self, *args)

    monkeypatch.setattr(HiredisRespSerializer, "pack", seen)
    return words


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("credentials", [{}, {"username": "default", "password": "secret"}])
def test_hiredis_gets_no_numbers(
    packed: list[object],
    protocol: int,
    credentials: dict[str, str],
    valkey: embedded.Server,
    default_cache: Redis,
) -> None:
    """It crashes the interpreter if a signal handler raises while it packs one."""
    default_cache.config_set("requirepass", credentials.get("password", ""))
    pool = ConnectionPool.from_url(
        valkey.url.removesuffix("0") + "1", protocol=protocol, client_name="x", **credentials
    )
    guarded.guard(pool)
    packed.clear()
    try:
        client = Redis(connection_pool=pool)
        assert client.set("a", 1)
        with client.pipeline() as pipe:
            pipe.incrbyfloat("a", 0.5)
            pipe.expire("a", 60)
            assert pipe.execute() == [1.5, True]
        assert {"SELECT", "1", "0.5"} <= set(packed)
        assert [word for word in packed if type(word) not in {str, bytes}] == []
    finally:
        default_cache.config_set("requirepass", "")
        pool.disconnect()


class TestAConnection:
    def test_with_an_unread_reply_is_connected_again(self, valkey: embedded.Server) -> None:
        with valkey.client() as client:
            connections = Connections(client.connection_pool, hold=False)
            connection = connections.take()
            ours = private.socket_of(connection)
            ours.send(b"PING\r\n")  # unnoticed by the guard
            assert select.select([ours], [], [], 5)[0]
            prepare(client.connection_pool, connection)
            connection.send_command("ECHO", "ours")
            assert connection.read_response() == b"ours"
            connections.drop(connection)

    @pytest.mark.parametrize("reply", [0, 1])
    def test_whose_greeting_was_interrupted_is_not_used(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
        reply: int,
    ) -> None:
        """Before its reply came; redis-py gives such a connection back to the pool."""
        default_cache.connection_pool.disconnect()
        read = Connection.read_response
        left = [reply]

        def interrupt(self: Connection, *args: Any, **kwargs: Any) -> Any:
            if not left[0]:
                raise Interrupted
            left[0] -= 1
            return read(self, *args, **kwargs)

        with replies_are_late():
            with monkeypatch.context() as patch:
                patch.setattr(Connection, "read_response", interrupt)
                with pytest.raises(Interrupted):
                    provider.stat(A)
            assert provider.stat(B) == make_descriptor(B, 2)
            assert provider.stat(A) == make_descriptor(A, 1)

    def test_whose_command_another_program_left_unanswered_is_not_used(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Such as the host's own use of its cache, in the same process and of the same pool."""
        options = RedisOptions(hold_connections=False)
        provider = RedisBlobDescriptorCacheProvider(options=options)

        def interrupt(*_: object, **__: object) -> None:
            raise Interrupted

        with replies_are_late():
            with monkeypatch.context() as patch:
                patch.setattr(default_cache, "parse_response", interrupt)
                with pytest.raises(Interrupted):
                    default_cache.hmget(f"blobs::{A}", "digest", "size", "length", "mediatype")
            assert provider.stat(B) == make_descriptor(B, 2)

    def test_whose_pipeline_another_program_left_unanswered_is_not_used(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Between two of its replies."""
        options = RedisOptions(hold_connections=False)
        provider = RedisBlobDescriptorCacheProvider(options=options)
        with replies_are_late():
            with default_cache.pipeline(transaction=False) as pipe:
                parse: Callable[..., Any] = pipe.parse_response
                left = [1]

                def interrupt(*args: Any, **kwargs: Any) -> Any:
                    if not left[0]:
                        raise Interrupted
                    left[0] -= 1
                    return parse(*args, **kwargs)

                monkeypatch.setattr(pipe, "parse_response", interrupt)
                for _ in range(3):
                    pipe.hmget(f"blobs::{A}", "digest", "size", "length", "mediatype")
                with pytest.raises(Interrupted):
                    pipe.execute()
            assert provider.stat(B) == make_descriptor(B, 2)

    def test_that_was_left_without_a_timeout_to_wait_is_not_used(
        self, valkey: embedded.Server
    ) -> None:
        """As redis-py 6 leaves one if a signal handler raises while it looks for data."""
        with cache_at(valkey.url, **SHORT) as client:
            options = RedisOptions(hold_connections=False)
            provider = RedisBlobDescriptorCacheProvider(options=options)
            provider.set_descriptor(A, make_descriptor(A))
            (connection,) = client.connection_pool._available_connections
            connection._sock.settimeout(0)
            assert provider.stat(A) == make_descriptor(A)
            assert connection._sock.gettimeout() == TIMEOUT

    def test_that_is_older_than_the_first_call_is_connected_anew(
        self, valkey: embedded.Server
    ) -> None:
        with cache_at(valkey.url) as client:
            client.ping()
            (connection,) = client.connection_pool._available_connections
            assert not isinstance(connection._sock, GuardedSocket)
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            assert held(provider) is connection
            assert isinstance(connection._sock, GuardedSocket)

    def test_stays_connected_for_other_users_of_the_pool(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        default_cache.ping()
        before = default_cache.client_id()
        with default_cache.pipeline() as pipe:
            pipe.set("key", "x")
            pipe.get("key")
            assert pipe.execute() == [True, b"x"]
        assert default_cache.client_id() == before

    def test_lets_subscribers_wait_longer_than_a_timeout_between_messages(
        self, valkey: embedded.Server
    ) -> None:
        with cache_at(valkey.url, **SHORT) as client:
            RedisBlobDescriptorCacheProvider().set_descriptor(A, make_descriptor(A))
            with client.pubsub() as subscriber, valkey.client() as publisher:
                subscriber.subscribe("channel")
                assert subscriber.get_message(timeout=5)
                assert subscriber.get_message(timeout=TIMEOUT * 1.5) is None
                publisher.publish("channel", "x")
                message: Any = subscriber.get_message(timeout=5)
                assert message["data"] == b"x"
