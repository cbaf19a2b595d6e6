"""Which connections threads hold, when they are given back, and the effect on other threads."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
from django.conf import settings
from django.test import override_settings
from redis import CredentialProvider, Redis
from redis.connection import Connection, ConnectionPool
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py's own name

from blobcache.exceptions import CacheUnavailable
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.transport import private
from blobcache.transport.held import MAX_HELD, POOL_FRACTION, Connections
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.servers import Encrypted, cache_at
from tests.threads import held

Receive: TypeAlias = Callable[[bytearray], int]
"""How a socket receives."""


class Credentials(CredentialProvider):
    """Credentials of the default user."""

    def get_credentials(self) -> tuple[str, str]:
        return "default", ""


by_hiredis = pytest.mark.skipif(
    private.HiredisParser is None, reason="without hiredis, redis-py receives replies"
)


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    provider = RedisBlobDescriptorCacheProvider()
    provider.set_descriptor(A, make_descriptor(A))
    return provider


@contextmanager
def counted(client: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Within the block, collect the connections that the pool hands out."""
    taken: list[Any] = []
    pool = client.connection_pool
    get_connection = pool.get_connection

    def noted() -> Any:
        taken.append(get_connection())
        return taken[-1]

    with monkeypatch.context() as patch:
        patch.setattr(pool, "get_connection", noted)
        yield taken


@contextmanager
def receiving(
    provider: RedisBlobDescriptorCacheProvider, receive: Callable[[Receive, bytearray], int]
) -> Iterator[None]:
    """Let this thread's connection receive through `receive` within the block."""
    provider.stat(A)  # redis-py 6 looks for unread data by receiving, the first time
    guarded = private.socket_of(held(provider))
    sock = guarded._sock

    class Socket:
        def __getattr__(self, name: str) -> Any:
            return getattr(sock, name)

        def recv_into(self, buffer: bytearray) -> int:
            return receive(sock.recv_into, buffer)

    guarded._sock = Socket()
    yield
    guarded._sock = sock


def ours(observer: Redis) -> set[str]:
    """Return the ids of all connections except the observer's."""
    own = observer.client_id()
    return {each["id"] for each in observer.client_list() if int(each["id"]) != own}


class TestAThread:
    def test_takes_one_connection_and_holds_it(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with counted(default_cache, monkeypatch) as taken:
            for _ in range(5):
                provider.stat(A)
                provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
                provider.repository_scoped("a").clear(A)
                provider.set_descriptor(A, make_descriptor(A))
        assert taken == []

    def test_shares_it_between_providers_of_one_entry(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with counted(default_cache, monkeypatch) as taken:
            RedisBlobDescriptorCacheProvider().stat(A)
        assert taken == []

    def test_shares_it_between_entries_of_one_location(
        self, valkey: embedded.Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with cache_at(valkey.url) as client:
            entry = settings.CACHES["default"]
            with override_settings(CACHES={**settings.CACHES, "other": entry}):
                RedisBlobDescriptorCacheProvider().set_descriptor(A, make_descriptor(A))
                with counted(client, monkeypatch) as taken:
                    other = RedisBlobDescriptorCacheProvider(
                        options=RedisOptions(cache_alias="other")
                    )
                    assert other.stat(A) == make_descriptor(A)
                assert taken == []

    def test_that_ends_gives_it_back(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        observer: Redis,
    ) -> None:
        before = ours(observer)
        for _ in range(3 * MAX_HELD):
            thread = threading.Thread(target=provider.stat, args=(A,))
            thread.start()
            thread.join()
        assert len(ours(observer) - before) <= 3

    def test_holds_no_connection_if_the_limit_is_reached(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        threads = MAX_HELD + 4
        together = threading.Barrier(threads)

        def calls() -> None:
            together.wait()
            provider.stat(A)
            together.wait()
            provider.stat(A)
            together.wait()

        with (
            counted(default_cache, monkeypatch) as taken,
            ThreadPoolExecutor(threads) as pool,
        ):
            for each in [pool.submit(calls) for _ in range(threads)]:
                each.result()
        # This thread already holds one, so one fewer of the others does.
        assert len(taken) == threads + (threads - (MAX_HELD - 1))

    def test_can_be_configured_to_hold_no_connection(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(hold_connections=False))
        with counted(default_cache, monkeypatch) as taken:
            provider.set_descriptor(A, make_descriptor(A))
            provider.stat(A)
        assert len(taken) == 2


class TestAPool:
    @pytest.mark.parametrize(
        "options",
        [
            {"CONNECTION_POOL_KWARGS": {"max_connections": POOL_FRACTION - 1}},
            {"CONNECTION_POOL_KWARGS": {"credential_provider": Credentials()}},
            {
                "CONNECTION_POOL_CLASS": "redis.BlockingConnectionPool",
                "CONNECTION_POOL_KWARGS": {"max_connections": 200},
            },
        ],
    )
    def test_that_is_small_or_of_another_class_gets_each_connection_back(
        self, valkey: embedded.Server, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with cache_at(valkey.url, **options) as client:
            provider = RedisBlobDescriptorCacheProvider()
            with counted(client, monkeypatch) as taken:
                provider.set_descriptor(A, make_descriptor(A))
                provider.stat(A)
            assert len(taken) == 2

    @pytest.mark.parametrize(("size", "may"), [(POOL_FRACTION - 1, False), (POOL_FRACTION, True)])
    def test_of_four_connections_lends_one_for_longer(self, size: int, may: bool) -> None:
        assert Connections(ConnectionPool(max_connections=size), hold=True).may_be_held is may

    def test_of_one_connection_is_enough_for_every_call_of_a_thread(
        self, valkey: embedded.Server
    ) -> None:
        with cache_at(valkey.url, CONNECTION_POOL_KWARGS={"max_connections": 1}) as client:
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            client.ping()
            assert provider.stat(A) == make_descriptor(A)

    def test_of_four_is_enough_for_three_other_threads_and_every_call_of_a_thread(
        self, valkey: embedded.Server
    ) -> None:
        with cache_at(
            valkey.url, CONNECTION_POOL_KWARGS={"max_connections": POOL_FRACTION}
        ) as client:
            provider = RedisBlobDescriptorCacheProvider()
            others = [client.connection_pool.get_connection() for _ in range(POOL_FRACTION - 1)]
            provider.set_descriptor(A, make_descriptor(A))
            provider.server_status()
            provider.catalog.reindex()
            assert provider.stat(A) == make_descriptor(A)
            for each in others:
                client.connection_pool.release(each)

    def test_that_is_disconnected_connects_only_once_if_the_server_is_down(
        self, provider: RedisBlobDescriptorCacheProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It does not wait twice."""
        tried: list[object] = []

        def refuse(self: Connection) -> None:
            tried.append(self)
            raise ConnectionError("nobody there")

        held(provider).disconnect()
        monkeypatch.setattr(Connection, "connect", refuse)
        with pytest.raises(CacheUnavailable):
            provider.stat(A)
        assert len(tried) == 1

    def test_that_is_disconnected_is_connected_again(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        default_cache.connection_pool.disconnect()
        provider.set_descriptor(B, make_descriptor(B))
        assert provider.stat(B) == make_descriptor(B)


class TestAConnection:
    def test_that_the_server_closed_is_replaced_before_anything_is_sent(
        self, provider: RedisBlobDescriptorCacheProvider, observer: Redis
    ) -> None:
        for _ in range(3):
            observer.client_kill_filter(_type="normal", skipme=True)
            provider.set_descriptor(B, make_descriptor(B))
            assert provider.stat(B) == make_descriptor(B)

    def test_with_unread_data_is_replaced(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Nothing unexpected is taken for the reply to the next command."""
        connection = held(provider)
        connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"])
        assert connection.can_read(1)
        with counted(default_cache, monkeypatch) as taken:
            assert provider.stat(A) == make_descriptor(A)
        assert len(taken) == 1

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_that_is_interrupted_while_it_is_checked_is_given_back(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
        error: type[BaseException],
    ) -> None:
        def interrupt() -> bool:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(held(provider), "can_read", interrupt)
            with pytest.raises(error):
                provider.stat(A)
        assert not default_cache.connection_pool._in_use_connections
        assert provider.stat(A) == make_descriptor(A)

    def test_that_is_encrypted_is_also_held(
        self, redis_tls: Encrypted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with cache_at(redis_tls.url) as client:
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            with counted(client, monkeypatch) as taken:
                for _ in range(3):
                    assert provider.stat(A) == make_descriptor(A)
            assert taken == []

    @by_hiredis
    def test_on_which_a_call_failed_is_given_back_closed(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(*_: object) -> int:
            raise ConnectionError("lost")

        with receiving(provider, fail), pytest.raises(CacheUnavailable):
            provider.set_descriptor(B, make_descriptor(B))
        with counted(default_cache, monkeypatch) as taken:
            assert provider.stat(A) == make_descriptor(A)
            assert provider.stat(A) == make_descriptor(A)
        assert len(taken) == 1

    @by_hiredis
    def test_is_not_used_by_a_signal_handler_in_the_middle_of_a_call(
        self, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        provider.set_descriptor(B, make_descriptor(B, 7))
        seen: list[object] = []

        def interrupted(receive: Receive, buffer: bytearray) -> int:
            if not seen:
                seen.append(None)
                signal.raise_signal(signal.SIGUSR1)
            return receive(buffer)

        before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(provider.stat(B)))
        try:
            with receiving(provider, interrupted):
                assert provider.stat(A) == make_descriptor(A)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == [None, make_descriptor(B, 7)]
        assert provider.stat(B) == make_descriptor(B, 7)

    @pytest.mark.skipif(
        not hasattr(Connection, "mark_for_reconnect"), reason="redis-py 6 does not know maintenance"
    )
    def test_is_replaced_before_its_server_goes_away(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        held(provider).mark_for_reconnect()
        with counted(default_cache, monkeypatch) as taken:
            assert provider.stat(A) == make_descriptor(A)
            assert provider.stat(A) == make_descriptor(A)
        assert len(taken) == 1

    def test_that_another_thread_closes_after_the_check_is_connected_again(
        self, provider: RedisBlobDescriptorCacheProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connection = held(provider)

        def closed_after() -> bool:
            connection.disconnect()
            return False

        monkeypatch.setattr(connection, "can_read", closed_after)
        assert provider.stat(A) == make_descriptor(A)

    @by_hiredis
    def test_that_another_thread_closes_while_it_is_read_gives_no_reply(
        self, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        """Of an encrypted one, the bytes that come then are not even decrypted."""
        record = b"+\x17\x03\x03\r\n" * 20
        connection = held(provider)

        def closed_meanwhile(_: Receive, buffer: bytearray) -> int:
            connection.disconnect()
            buffer[: len(record)] = record
            return len(record)

        with receiving(provider, closed_meanwhile), pytest.raises(CacheUnavailable) as caught:
            provider.set_descriptor(B, make_descriptor(B))
        assert isinstance(caught.value.__cause__, ConnectionError)

    def test_is_health_checked_when_due(self, valkey: embedded.Server, observer: Redis) -> None:
        def pings() -> int:
            return int(observer.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"])

        with cache_at(valkey.url, CONNECTION_POOL_KWARGS={"health_check_interval": 60}):
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            before = pings()
            provider.stat(A)
            assert pings() == before
            held(provider).next_health_check = 0
            for _ in range(2):
                assert provider.stat(A) == make_descriptor(A)
            assert pings() == before + 1

    def test_passes_push_messages_between_replies_to_their_handler(
        self, valkey: embedded.Server
    ) -> None:
        """The server tells a client that tracks a key when it is changed."""
        with cache_at(valkey.url, CONNECTION_POOL_KWARGS={"protocol": 3}):
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            connection = held(provider)
            connection.send_command("CLIENT", "TRACKING", "ON")
            assert connection.read_response() == b"OK"
            pushed: list[Any] = []
            connection._parser.set_invalidation_push_handler(pushed.append)
            key = f"blobs::{A}"
            replies = provider.server.batch(
                [("HGET", key, "size"), ("HSET", key, "size", "7"), ("HGET", key, "size")]
            )
            assert replies == [b"1234", 0, b"7"]
            assert [each[1] for each in pushed] == [[key.encode()]]
            assert provider.stat(A) == make_descriptor(A, 7)


def exit_code_of(child: int, seconds: float = 5) -> int | None:
    """The process's exit code; None if it does not end, and is killed."""
    statuses: list[int] = []
    waiting = threading.Thread(target=lambda: statuses.append(os.waitpid(child, 0)[1]))
    waiting.start()
    waiting.join(seconds)
    if waiting.is_alive():
        os.kill(child, signal.SIGKILL)
        waiting.join()
        return None
    return os.waitstatus_to_exitcode(statuses[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system that does not fork")
class TestAForkedProcess:
    @pytest.mark.parametrize(
        "fork",
        [
            os.fork,
            # As uWSGI does it by default, without any of Python's hooks.
            ctypes.PyDLL(None).fork,
        ],
    )
    def test_has_separate_connections(
        self, provider: RedisBlobDescriptorCacheProvider, fork: Callable[[], int]
    ) -> None:
        provider.set_descriptor(B, make_descriptor(B, 7))
        code = None
        # Without its hooks Python itself may stand still in a child, if another thread of the
        # parent, such as that of pytest-xdist, waited for its lock at that moment.
        for _ in range(1 if fork is os.fork else 3):
            child = fork()
            if child == 0:  # pragma: no cover - another process
                wrong = True
                try:
                    wrong = any(provider.stat(B) != make_descriptor(B, 7) for _ in range(300))
                finally:
                    os._exit(wrong)
            assert all(provider.stat(A) == make_descriptor(A) for _ in range(300))
            code = exit_code_of(child)
            if code is not None:
                break
        assert code == 0

    def test_does_not_wait_for_threads_of_its_parent(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        """One thread of the parent's holds a connection, another has the pool's lock."""
        held, locked, done = threading.Event(), threading.Event(), threading.Event()

        def hold() -> None:
            provider.stat(A)
            held.set()
            done.wait()

        def lock() -> None:
            held.wait()
            with default_cache.connection_pool._lock:
                locked.set()
                done.wait()

        holder, locker = threading.Thread(target=hold), threading.Thread(target=lock)
        holder.start()
        locker.start()
        locked.wait()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            os._exit(0)
        try:
            assert exit_code_of(child) == 0
        finally:
            done.set()
            holder.join()
            locker.join()


def test_a_change_of_caches_releases_all_connections(valkey: embedded.Server) -> None:
    with cache_at(valkey.url) as client:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
    with cache_at(valkey.url) as other:
        assert provider.stat(A) == make_descriptor(A)
        assert other.connection_pool is not client.connection_pool
    assert not client.connection_pool._in_use_connections
