from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from django.core.cache import caches
from django_redis import get_redis_connection
from redis import Redis

from project import embedded
from tests.servers import cache_at, commands, installed, monitor


@pytest.fixture(params=["valkey", "redis_server"])
def server(request: pytest.FixtureRequest) -> embedded.Server:
    found: embedded.Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(server: embedded.Server) -> Iterator[Redis]:
    """A client with an open connection, so that its greeting is not counted."""
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def observer(server: embedded.Server) -> Iterator[Redis]:
    with server.client() as client:
        yield client


def test_the_end_of_a_connection_is_no_round_trip(
    client: Redis, observer: Redis, server: embedded.Server
) -> None:
    others = [server.client() for _ in range(20)]
    for other in others:
        other.ping()
    with commands(observer) as traffic:
        client.ping()
        for other in others:
            other.close()
    assert traffic.round_trips == 1
    assert traffic.connections == 0
    assert traffic.calls == Counter(ping=1)


def test_an_installed_program_is_found() -> None:
    assert installed("sh").name == "sh"


def test_a_missing_program_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLOBCACHE_REQUIRE_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        installed("no-such-program")


def test_a_missing_program_fails_the_test_if_servers_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BLOBCACHE_REQUIRE_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        installed("no-such-program")


def test_the_default_cache_is_the_embedded_server(
    default_cache: Redis, valkey: embedded.Server
) -> None:
    assert get_redis_connection("default").info("server")["process_id"] == valkey.pid
    assert default_cache.dbsize() == 0


def test_a_cache_on_the_same_server_has_options_of_its_own(valkey: embedded.Server) -> None:
    with cache_at(valkey.url, SOCKET_TIMEOUT=1) as one, cache_at(valkey.url, "two") as two:
        assert one.connection_pool is not two.connection_pool
        assert one.get_connection_kwargs()["socket_timeout"] == 1
        assert two.get_connection_kwargs().get("socket_timeout") is None


def test_a_cache_also_works_through_django(valkey: embedded.Server) -> None:
    with cache_at(valkey.url, "two"):
        caches["two"].set("key", "value")
        assert caches["two"].get("key") == "value"


def test_a_cache_also_works_on_a_unix_socket() -> None:
    with embedded.start(unix=True) as server, cache_at(server.url) as client:
        assert client.info("server")["process_id"] == server.pid


def test_a_cache_leaves_no_connection_behind(client: Redis, server: embedded.Server) -> None:
    def connected() -> int:
        clients: int = client.info("clients")["connected_clients"]
        return clients

    before = connected()
    with cache_at(server.url) as cache:
        cache.ping()
        assert connected() == before + 1
    assert any(connected() == before for _ in range(1000))


def test_an_empty_block_counts_nothing(observer: Redis) -> None:
    with commands(observer) as traffic:
        pass
    assert traffic.round_trips == 0
    assert traffic.connections == 0
    assert traffic.calls == Counter()


def test_each_command_is_a_round_trip(client: Redis, observer: Redis) -> None:
    with commands(observer) as traffic:
        client.set("key", "value")
        client.get("key")
        client.get("other")
    assert traffic.round_trips == 3
    assert traffic.calls == Counter(set=1, get=2)


def test_a_transaction_is_one_round_trip(client: Redis, observer: Redis) -> None:
    with commands(observer) as traffic, client.pipeline(transaction=True) as pipeline:
        pipeline.sadd("set", "member")
        pipeline.hset("hash", "field", "value")
        pipeline.execute()
    assert traffic.round_trips == 1
    assert traffic.calls == Counter(multi=1, sadd=1, hset=1, exec=1)


def test_a_script_is_one_round_trip_and_its_commands_count(client: Redis, observer: Redis) -> None:
    with commands(observer) as traffic:
        client.eval("return redis.call('GET', KEYS[1])", 1, "key")
    assert traffic.round_trips == 1
    assert traffic.calls == Counter(eval=1, get=1)


def test_a_new_connection_is_counted(server: embedded.Server, observer: Redis) -> None:
    with commands(observer) as traffic, server.client() as newcomer:
        newcomer.get("key")
    assert traffic.connections == 1
    assert traffic.calls["get"] == 1


def test_info_commands_of_other_clients_are_counted(client: Redis, observer: Redis) -> None:
    with commands(observer) as traffic:
        client.info()
    assert traffic.round_trips == 1
    assert traffic.calls == Counter(info=1)


def test_traffic_is_counted_for_all_clients(client: Redis, observer: Redis) -> None:
    with commands(observer) as traffic:
        threads = [threading.Thread(target=client.get, args=["key"]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert traffic.calls["get"] == 4


def test_the_monitor_returns_commands_word_by_word(client: Redis, observer: Redis) -> None:
    with monitor(observer) as seen:
        client.hset("a key", mapping={"back\\slash": 'quo"te', "ü": b"\xff\x00\r\n"})
        client.delete("a key")
    assert seen == [
        ("HSET", "a key", "back\\slash", 'quo"te', "ü", "\udcff\x00\r\n"),
        ("DEL", "a key"),
    ]


def test_the_monitor_returns_the_commands_of_a_script(client: Redis, observer: Redis) -> None:
    script = "return redis.call('GET', KEYS[1])"
    with monitor(observer) as seen:
        client.eval(script, 1, "key")
    assert seen == [("EVAL", script, "1", "key"), ("GET", "key")]


def test_the_monitor_does_not_return_its_own_commands(observer: Redis) -> None:
    with monitor(observer) as seen:
        pass
    assert seen == []
