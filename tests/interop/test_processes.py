"""The harness keeps its word: nothing is green for want of a program, nothing is left running."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import redis

from tests.interop.processes import Server, find_program, free_port, run, wait_until
from tests.interop.redis_server import RedisServer, running_redis
from tests.interop.registry import running_registry

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_program_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLOBCACHE_REQUIRE_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        find_program("no-such-program")


def test_a_missing_program_fails_the_test_where_servers_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BLOBCACHE_REQUIRE_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        find_program("no-such-program")


def test_a_failed_command_tells_what_it_said() -> None:
    with pytest.raises(AssertionError, match=r"exit 3\nalas"):
        run(["/bin/sh", "-c", "echo alas >&2; exit 3"])


def test_waiting_ends_at_the_deadline() -> None:
    with pytest.raises(TimeoutError, match=r"doomsday: not within 0\.05 s"):
        wait_until(lambda: False, "doomsday", seconds=0.05)


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    server = Server(["/bin/sh", "-c", "echo no such option; exit 1"], tmp_path / "log")
    with pytest.raises(AssertionError, match=r"ended on its own\nno such option"):
        server.wait_until(lambda: False)


def test_redis_moves_on_when_its_port_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = free_port()
        ports = [free, taken.getsockname()[1]]
        monkeypatch.setattr("tests.interop.redis_server.free_port", ports.pop)
        with running_redis(tmp_path) as server:
            assert server.port == free


def test_redis_is_gone_after_the_context(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, server.client() as client:
        assert client.ping()
    with server.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_the_registry_ignores_settings_in_the_environment(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP_ADDR", "no address")
    directory = tmp_path / "registry"
    directory.mkdir()
    with running_registry(directory, redis_server.address) as registry:
        assert registry.client.is_up()
    assert not registry.client.is_up()
