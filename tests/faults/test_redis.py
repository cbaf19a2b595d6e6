"""Failures of Redis: refused, silent, loading, locked, full, not a Redis at all.

Every failure is `CacheUnavailable`, comes within the configured timeout, says nothing of the
server, and the next call after recovery works.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004 - redis-py's own names
from redis.retry import Retry

from blobcache.exceptions import BlobUnknown, CacheUnavailable
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.transport.server import Server
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.proxy import CutReply, CutRequest, proxy
from tests.servers import Meter, cache_at
from tests.stores import CLUSTER, OTHER_CLIENT, PYTHON_PARSER

TIMEOUT = 0.5
"""Seconds that are configured for connecting and for each reply."""

SHORT = 0.2
"""The same where a test waits until they are over."""

SLACK = 2.0
"""Seconds that a busy machine may add."""


def impatient(seconds: float) -> dict[str, Any]:
    """The OPTIONS that bound connecting and each reply."""
    return {"SOCKET_TIMEOUT": seconds, "SOCKET_CONNECT_TIMEOUT": seconds}


OPTIONS = impatient(TIMEOUT)


def calls() -> dict[str, Callable[[], object]]:
    """Every call that uses Redis, by name."""
    provider = RedisBlobDescriptorCacheProvider()
    repository = provider.repository_scoped("a")
    catalog = provider.catalog
    return {
        "global stat": lambda: provider.stat(A),
        "scoped stat": lambda: repository.stat(A),
        "stat_many": lambda: repository.stat_many([A, B]),
        "set": lambda: repository.set_descriptor(A, make_descriptor(A)),
        "global clear": lambda: provider.clear(A),
        "scoped clear": lambda: repository.clear(A),
        "purge": lambda: provider.purge(A),
        "inspect": lambda: repository.records([A]),
        "status": provider.server_status,
        "reindex": catalog.reindex,
        "repositories": catalog.repositories,
        "members": lambda: catalog.members("a"),
        "blobs": catalog.blobs,
        "holders": lambda: catalog.holders(A),
    }


CALLS = list(calls())


def assert_unavailable(name: str, unsaid: str = "127.0.0.1", *, timeout: float = TIMEOUT) -> None:
    began = monotonic()
    with pytest.raises(CacheUnavailable) as caught:
        calls()[name]()
    assert monotonic() - began < timeout + SLACK
    assert unsaid not in str(caught.value)
    assert caught.value.__cause__ is not None


def assert_works() -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
    assert provider.repository_scoped("a").stat(A) == make_descriptor(A)


WAYS: dict[str, dict[str, Any]] = {
    "packed": OPTIONS,
    "packed, nothing held": {**OPTIONS, "CONNECTION_POOL_KWARGS": {"max_connections": 3}},
    "packed, python parser": {**OPTIONS, **PYTHON_PARSER},
    "pipeline": {**OPTIONS, **OTHER_CLIENT},
}
"""By name: the OPTIONS that make the service speak to Redis in that way."""


def with_pool(way: dict[str, Any], **more: object) -> dict[str, Any]:
    """Add keyword arguments for the pool."""
    return {**way, "CONNECTION_POOL_KWARGS": way.get("CONNECTION_POOL_KWARGS", {}) | more}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = WAYS[request.param]
    return options


@pytest.fixture
def server(way: dict[str, Any]) -> Iterator[embedded.Server]:
    """A server of the test's own, whose configuration it may change."""
    with embedded.start() as server, cache_at(server.url, **way):
        yield server


@pytest.fixture(scope="module")
def module_server() -> Iterator[embedded.Server]:
    """A server for the tests that freeze or kill one, and change nothing of its configuration."""
    with embedded.start() as server:
        yield server


@pytest.fixture
def shared(module_server: embedded.Server, way: dict[str, Any]) -> Iterator[embedded.Server]:
    """The module's server, running and empty, and connections of the test's own."""
    try:
        assert module_server.pid
    except embedded.ServerError:  # killed by a test that failed
        module_server.restart()
    with module_server.client() as client:
        client.flushall()
    with cache_at(module_server.url, **way):
        yield module_server


def test_a_refused_connection(shared: embedded.Server) -> None:
    assert_works()
    shared.kill()
    for name in CALLS:
        assert_unavailable(name)
    shared.restart()
    assert_works()


def test_a_server_that_does_not_answer(shared: embedded.Server, way: dict[str, Any]) -> None:
    """Three calls at a time, since each of them waits."""
    with cache_at(shared.url, **{**way, **impatient(SHORT)}):
        assert_works()
        with shared.frozen(), ThreadPoolExecutor(3) as callers:
            list(callers.map(partial(assert_unavailable, timeout=SHORT), CALLS))
        for name in CALLS:
            with suppress(BlobUnknown):
                calls()[name]()
        assert_works()


CUT_CALLS = ["scoped stat", "stat_many", "set", "scoped clear"]


@pytest.mark.parametrize(("direction", "stride"), [(CutRequest, 31), (CutReply, 9)])
@pytest.mark.parametrize("name", CUT_CALLS)
def test_a_connection_that_is_cut_anywhere(
    module_server: embedded.Server, name: str, direction: type[CutReply], stride: int
) -> None:
    """A call whose connection is cut is unavailable, and has done all of its work or none.

    At every byte, they take minutes: `make hunt` cuts at random ones.
    """

    def prepare() -> None:
        client.flushall()
        repository.set_descriptor(B, make_descriptor(B))
        if name != "set":
            repository.set_descriptor(A, make_descriptor(A))

    with (
        module_server.client() as client,
        proxy(module_server.port) as between,
        cache_at(between.url, **OPTIONS),
    ):
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        prepare()
        before = everything(client)
        calls()[name]()
        after = everything(client)
        for cut_after in range(0, 10_000, stride):
            prepare()
            with between.causes(direction(cut_after, reset=cut_after % 2 == 0)) as fault:
                with suppress(CacheUnavailable):
                    calls()[name]()
                assert everything(client) in (before, after)
                if not fault.happened:
                    break
        assert cut_after >= 2 * stride


def everything(client: Redis) -> dict[bytes, object]:
    """Return the keys of blobs and repositories with their contents."""
    found: dict[bytes, object] = {}
    for key in client.scan_iter(count=1000):
        if not key.startswith(b"blobcache::"):
            is_set = client.type(key) == b"set"
            found[key] = client.smembers(key) if is_set else client.hgetall(key)
    return found


@pytest.mark.parametrize("retries", [0, 2])
def test_the_retry_policy_of_the_pool_is_respected(way: dict[str, Any], retries: int) -> None:
    with hung_up_on(way, retries) as asked:
        assert_unavailable("scoped stat")
    assert len(asked) == retries + 1


def test_a_late_reply_is_not_taken_for_the_next_one(shared: embedded.Server) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.set_descriptor(A, make_descriptor(A, 1))
    provider.set_descriptor(B, make_descriptor(B, 2))
    with shared.frozen(), pytest.raises(CacheUnavailable):
        provider.stat(A)
    assert provider.stat(B) == make_descriptor(B, 2)


def test_restarted_in_between(shared: embedded.Server) -> None:
    """Pooled connections to the old process are replaced without an error."""
    for _ in range(3):
        assert_works()
        shared.restart()


def test_wrong_password(server: embedded.Server) -> None:
    with server.client() as client:
        client.config_set("requirepass", "right")
    with cache_at(server.url, **OPTIONS, PASSWORD="wrong-secret"):
        assert_unavailable("scoped stat", "secret")
    with cache_at(server.url, **OPTIONS):
        assert_unavailable("set")
    with cache_at(server.url, **OPTIONS, PASSWORD="right"):
        assert_works()


@pytest.mark.parametrize("refused", ["hmget", "hset", "sadd", "srem", "scan"])
def test_not_permitted(server: embedded.Server, refused: str) -> None:
    needed_by = {
        "hmget": "scoped stat",
        "hset": "set",
        "sadd": "set",
        "srem": "scoped clear",
        "scan": "blobs",
    }
    with server.client() as client:
        client.acl_setuser(
            "app",
            enabled=True,
            passwords=["+pw"],
            keys=["*"],
            categories=["+@all"],
            commands=[f"-{refused}"],
        )
    with cache_at(server.url.replace("://", "://app:pw@"), **OPTIONS):
        assert_unavailable(needed_by[refused], "app")


def test_out_of_memory_refuses_writes_whole_and_answers_reads(server: embedded.Server) -> None:
    assert_works()
    with server.client() as client:
        client.config_set("maxmemory", 1)
        before = sorted(client.scan_iter())
        provider = RedisBlobDescriptorCacheProvider()
        with pytest.raises(CacheUnavailable):
            provider.repository_scoped("b").set_descriptor(B, make_descriptor(B))
        assert sorted(client.scan_iter()) == before
        assert provider.stat(A) == make_descriptor(A)
        client.config_set("maxmemory", 0)
    assert_works()


def test_out_of_memory_a_clear_still_works(server: embedded.Server) -> None:
    assert_works()
    with server.client() as client:
        client.config_set("maxmemory", 1)
    assert RedisBlobDescriptorCacheProvider().repository_scoped("a").clear(A) == make_descriptor(A)


def test_a_replica_that_lost_its_primary_refuses_writes(server: embedded.Server) -> None:
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)
        assert_unavailable("set")
        client.replicaof("NO", "ONE")
    assert_works()


def test_a_connection_to_a_server_that_became_a_replica_is_closed(server: embedded.Server) -> None:
    """After a failover the same name may lead to another server: to the new primary."""
    assert_works()
    with server.client() as client, server.client() as observer:
        client.replicaof("127.0.0.1", 1)
        meter = Meter(observer)
        for name in ("set", "scoped clear"):
            assert_unavailable(name)
        assert meter.read().connections == 1
        client.replicaof("NO", "ONE")
    assert_works()


def test_a_disk_that_cannot_be_written_refuses_writes(server: embedded.Server) -> None:
    """MISCONF: the server stops taking writes when its snapshots fail."""
    assert_works()
    with server.client() as client:
        client.config_set("save", "1 1")
        shutil.rmtree(server.directory)
        client.bgsave()
        deadline = monotonic() + 10
        while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
            assert monotonic() < deadline
        assert_unavailable("set")
        client.config_set("save", "")
    assert_works()


def test_busy_with_a_script_of_another_program(server: embedded.Server) -> None:
    with server.client() as client:
        client.config_set("busy-reply-threshold", 1)

    def block() -> None:
        with server.client(timeout=30) as client, suppress(Exception):
            client.eval("while true do end", 0)

    blocker = threading.Thread(target=block)
    blocker.start()
    try:
        deadline = monotonic() + 10
        provider = RedisBlobDescriptorCacheProvider()
        with suppress(CacheUnavailable):
            while monotonic() < deadline:
                with suppress(BlobUnknown):
                    provider.stat(A)
        assert_unavailable("scoped stat")
    finally:
        with server.client() as client:
            client.script_kill()
        blocker.join()
    assert_works()


@contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that handles each connection with this function; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@contextmanager
def hung_up_on(way: dict[str, Any], retries: int) -> Iterator[list[bytes]]:
    """Within the block the server greets, and hangs up on who asks for more; yields what they ask.

    The pool's policy is to try again so many times.
    """
    asked: list[bytes] = []

    def hang_up(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            if b"CLIENT" not in data:
                asked.append(data)
                return
            connection.sendall(b"+OK\r\n" * data.count(b"CLIENT"))

    policy = Retry(NoBackoff(), retries, supported_errors=(ConnectionError, TimeoutError))
    with listener(hang_up) as url, cache_at(url, **with_pool(way, retry=policy, protocol=2)):
        yield asked


def say(*words: bytes) -> Callable[[socket.socket], None]:
    """Answer the first command with these bytes, and close the connection."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        for word in words:
            connection.sendall(word)

    return answer


@pytest.mark.parametrize(
    "words",
    [
        [],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"\x00\xff\xfe garbage"],
        [b"-LOADING Redis is loading the dataset in memory\r\n" * 3],
        [b"-CLUSTERDOWN The cluster is down\r\n" * 3],
        [b"-MASTERDOWN Link with MASTER is down\r\n" * 3],
        [b"-NOAUTH Authentication required.\r\n" * 3],
        [b"-MISCONF Errors writing to the AOF file\r\n" * 3],
        [b"-ERR something that nobody has seen before\r\n" * 3],
        [b"*3\r\n:1\r\n"],
    ],
    ids=lambda words: words[0][:12].decode("latin-1").strip() if words else "hangs up",
)
@pytest.mark.parametrize("name", ["global stat", "scoped stat", "set", "scoped clear"])
def test_a_server_with_another_protocol(way: dict[str, Any], words: list[bytes], name: str) -> None:
    with listener(say(*words)) as url, cache_at(url, **way):
        assert_unavailable(name)


def test_a_server_that_accepts_connections_and_sends_nothing(way: dict[str, Any]) -> None:
    done = threading.Event()

    def hold(_: socket.socket) -> None:
        done.wait(10)

    with listener(hold) as url, cache_at(url, **way):
        assert_unavailable("scoped stat")
        done.set()


def test_a_cluster_without_any_reachable_node() -> None:
    with embedded.start() as gone:
        location = gone.url
    cache = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": location,
        "OPTIONS": {**OPTIONS, **CLUSTER},
    }
    with override_settings(CACHES={"default": cache}):
        assert_unavailable("scoped stat")


def test_a_cluster_that_lost_a_node() -> None:
    with embedded.cluster() as nodes, cache_at(nodes.url, **OPTIONS, **CLUSTER):
        assert_works()
        nodes.nodes[-1].kill()
        provider = RedisBlobDescriptorCacheProvider()
        answers = set()
        for number in range(30):
            try:
                provider.stat(f"sha256:{number:064x}")
            except CacheUnavailable:
                answers.add("unavailable")
            except BlobUnknown:
                answers.add("unknown")
        assert "unavailable" in answers


def test_a_cluster_with_a_silent_node_keeps_to_the_timeout() -> None:
    """The default retry policy of redis-py for clusters would wait for it repeatedly."""
    with embedded.cluster() as nodes, cache_at(nodes.url, **OPTIONS, **CLUSTER):
        assert_works()
        provider = RedisBlobDescriptorCacheProvider()
        with nodes.nodes[1].frozen():
            for number in range(6):
                began = monotonic()
                with suppress(BlobUnknown, CacheUnavailable):
                    provider.stat(f"sha256:{number:064x}")
                # The first to meet it waits for the topology as well.
                assert monotonic() - began < 4 * TIMEOUT + SLACK


@pytest.mark.parametrize("call", ["set", "scoped clear"])
def test_a_write_is_sent_once_whatever_the_policy_and_leaves_a_trace(
    way: dict[str, Any], call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Sent again, it would report its own change as an earlier one."""
    with hung_up_on(way, retries=2) as asked:
        assert_unavailable(call)
    assert len(asked) == 1
    assert "outcome=unknown" in caplog.text


@pytest.mark.parametrize(
    ("command", "sent"), [("EXISTS", 3), ("ZADD", 1), ("SREM", 1), ("UNLINK", 1)]
)
def test_a_batch_is_repeated_if_it_only_reads(way: dict[str, Any], command: str, sent: int) -> None:
    with hung_up_on(way, retries=2) as asked, pytest.raises(CacheUnavailable):
        Server("default").batch([("EXISTS", "key"), (command, "key")])
    assert len(asked) == sent


@pytest.mark.parametrize("way", ["pipeline"], indirect=True)
def test_after_a_write_the_policy_of_the_connection_is_as_before(
    shared: embedded.Server, way: dict[str, Any]
) -> None:
    policy = Retry(NoBackoff(), 2, supported_errors=(ConnectionError, TimeoutError))
    with cache_at(shared.url, **with_pool(way, retry=policy)) as client:
        assert_works()
        connection = client.connection_pool.get_connection()
        assert connection.retry.get_retries() == 2
        client.connection_pool.release(connection)
