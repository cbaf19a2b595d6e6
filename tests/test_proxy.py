from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError, InvalidResponse, TimeoutError  # noqa: A004
from redis.retry import Retry

from project import embedded
from tests.proxy import (
    CutReply,
    CutRequest,
    Delay,
    LoseReply,
    Proxy,
    Replace,
    Silence,
    Trickle,
    proxied,
    proxy,
)


@pytest.fixture
def between(valkey: embedded.Server) -> Iterator[Proxy]:
    with proxy(valkey.port) as between:
        yield between


@pytest.fixture
def client(between: Proxy) -> Iterator[Redis]:
    """A client with an open connection, that sends nothing twice."""
    once = Retry(NoBackoff(), 0)
    with Redis(port=between.port, retry=once, socket_timeout=0.2) as client:
        client.flushall()
        yield client


def test_without_a_fault_everything_passes(client: Redis) -> None:
    large = b"x" * 200_000
    client.set("key", large)
    assert client.get("key") == large


@pytest.mark.parametrize("reset", [False, True])
def test_a_reply_is_lost_after_the_command_was_executed(
    between: Proxy, client: Redis, reset: bool
) -> None:
    with between.causes(LoseReply(reset=reset, when=b"INCR", times=1)) as fault:
        client.ping()
        with pytest.raises(ConnectionError):
            client.incr("key")
        assert client.incr("key") == 2
    assert fault.happened == 1


@pytest.mark.parametrize("sent", range(len(":1\r\n")))
def test_a_reply_is_cut_at_each_byte(between: Proxy, client: Redis, sent: int) -> None:
    with between.causes(CutReply(sent)) as fault:
        with pytest.raises(ConnectionError):
            client.incr("key")
        assert client.get("key") == b"1"
    assert fault.happened == 1


@pytest.mark.parametrize("sent", [0, 1, 20])
def test_a_request_is_cut_and_not_executed(between: Proxy, client: Redis, sent: int) -> None:
    with between.causes(CutRequest(sent)) as fault:
        with pytest.raises(ConnectionError):
            client.incr("key")
        assert client.get("key") is None
    assert fault.happened == 1


def test_a_reply_comes_late(between: Proxy, client: Redis) -> None:
    with between.causes(Delay(0.02)):
        began = monotonic()
        client.ping()
        assert monotonic() - began >= 0.02


def test_a_reply_comes_byte_by_byte(between: Proxy, client: Redis) -> None:
    with between.causes(Trickle(0.001)) as fault:
        assert client.echo("word") == b"word"
    assert fault.happened == 1


def test_no_reply_comes(between: Proxy, client: Redis) -> None:
    with between.causes(Silence()), pytest.raises(TimeoutError):
        client.ping()
    assert client.ping()


def test_other_bytes_come_instead(between: Proxy, client: Redis) -> None:
    http = Replace(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with between.causes(http), pytest.raises((InvalidResponse, ConnectionError)):
        client.ping()


def test_a_server_that_is_gone_closes_the_connection() -> None:
    with embedded.start() as server, proxy(server.port) as between:
        server.stop()
        client = Redis(port=between.port, retry=Retry(NoBackoff(), 0))
        with client, pytest.raises(ConnectionError):
            client.ping()


def test_a_client_of_a_cluster_knows_the_proxies_alone(cluster: embedded.Cluster) -> None:
    def known(port: int | None) -> set[int]:
        with RedisCluster(host="127.0.0.1", port=port or 0) as client:
            client.set("key", 1)
            return {node.port for node in client.get_nodes()}

    with proxied(cluster) as proxies:
        assert known(proxies[0].port) == {each.port for each in proxies}
    assert known(cluster.nodes[0].port) == {node.port for node in cluster.nodes}
