from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from project import embedded
from tests.servers import installed

ROOT = Path(__file__).parent.parent

PARENT = """
from project import embedded
with embedded.start() as server:
    print(server.pid, flush=True)
    input()
"""


def ends(pid: int, seconds: float = 10) -> bool:
    """Return whether the process has ended, or ends in time."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


def is_alive(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a server, prints its pid, and ends on request."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=ROOT,
        # The directory in which a killed process leaves its server's directory.
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_a_server_answers_on_a_port_of_its_own() -> None:
    with embedded.start() as one, embedded.start() as other:
        assert one.port != other.port
        for server in (one, other):
            with server.client() as client:
                assert client.info("server")["process_id"] == server.pid


def test_a_server_can_listen_only_on_a_unix_socket() -> None:
    with embedded.start(unix=True) as server, server.client() as client:
        assert server.port is None
        assert server.url == f"unix://{server.socket}?db=0"
        assert client.config_get("port") == {"port": "0"}


@pytest.mark.parametrize("unix", [False, True])
def test_a_server_with_a_password_refuses_others(unix: bool) -> None:
    with embedded.start(unix=unix, password="s3cret") as server:
        with server.client() as client:
            assert client.ping()
        stranger = Redis.from_url(server.url.replace("s3cret", "other"))
        with stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        assert not any("s3cret" in each for each in server.arguments)
        server.kill()
        with pytest.raises(embedded.ServerError) as stopped:
            _ = server.pid
        assert "s3cret" not in str(stopped.value)


def test_nothing_is_left_after_the_block() -> None:
    with embedded.start() as server:
        pid = server.pid
    assert not is_alive(pid)
    assert not server.directory.exists()


def test_arguments_override_the_defaults() -> None:
    arguments = ["--maxmemory", "50mb", "--save", "60 1"]
    with embedded.start(*arguments) as server, server.client() as client:
        assert client.config_get("maxmemory", "save") == {
            "maxmemory": str(50 * 1024 * 1024),
            "save": "60 1",
        }


def test_another_binary_can_be_named() -> None:
    with embedded.start(binary=installed("redis-server")) as server, server.client() as client:
        assert client.info("server")["executable"] == str(installed("redis-server"))


@pytest.mark.parametrize("unix", [False, True])
def test_a_restart_keeps_the_address_and_loses_the_data(unix: bool) -> None:
    with embedded.start(unix=unix) as server, server.client() as client:
        before = server.pid
        client.set("key", "value")
        server.restart()
        assert server.pid != before
        assert client.get("key") is None


def test_a_restart_keeps_what_the_server_saves() -> None:
    with embedded.start("--appendonly", "yes") as server, server.client() as client:
        client.set("key", "value")
        server.restart()
        assert client.get("key") == b"value"


def test_a_killed_server_can_be_restarted() -> None:
    with embedded.start() as server, server.client() as client:
        server.kill()
        with pytest.raises(RedisConnectionError):
            client.ping()
        with pytest.raises(embedded.ServerError, match="was stopped"):
            _ = server.pid
        server.restart()
        assert client.ping()


def test_a_frozen_server_keeps_the_caller_waiting() -> None:
    with embedded.start() as server, server.client(timeout=0.1) as client:
        client.ping()
        with server.frozen(), pytest.raises(RedisTimeoutError):
            client.ping()
        assert client.ping()


def test_a_server_outlives_the_thread_that_started_it() -> None:
    with embedded.start() as server, server.client() as client:
        thread = threading.Thread(target=server.restart)
        thread.start()
        thread.join()
        assert not ends(server.pid, seconds=0.2)
        assert client.ping()


def test_an_error_about_a_wrong_argument_has_the_servers_log() -> None:
    refused = pytest.raises(embedded.ServerError, match="no-such-option")
    with refused, embedded.start("--no-such-option", "yes"):
        pass


def test_a_missing_binary_is_named() -> None:
    refused = pytest.raises(
        (embedded.ServerError, FileNotFoundError), match="/nowhere/valkey-server"
    )
    with refused, embedded.start(binary=Path("/nowhere/valkey-server")):
        pass


def test_a_port_in_use_is_an_error_if_it_was_requested() -> None:
    with embedded.start() as server:
        refused = pytest.raises(embedded.ServerError, match="Address already in use")
        with refused, embedded.start(port=server.port):
            pass
        assert server.pid


def test_a_free_port_that_was_taken_meanwhile_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    free_port = embedded._free_port
    with embedded.start() as server:
        assert server.port
        ports = iter([server.port, server.port, free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        with embedded.start() as other, other.client() as client:
            assert client.info("server")["process_id"] == other.pid


def test_starting_fails_if_the_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", 0.3)
    refused = pytest.raises(embedded.ServerError, match="did not answer in time")
    with refused, embedded.start("--requirepass", "secret"):
        pass


def test_a_unix_socket_with_too_long_a_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    refused = pytest.raises(embedded.ServerError, match="too long")
    with refused, embedded.start(unix=True):
        pass


def test_a_server_ends_with_its_parent(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.communicate("end\n")
    assert not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux can tell a child so.")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_dies_with_its_killed_parent(
    parent: subprocess.Popen[str], how: signal.Signals
) -> None:
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.send_signal(how)
    parent.communicate()
    assert ends(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux can tell a child so.")
def test_a_server_does_not_start_if_its_parent_has_already_ended() -> None:
    another = str(os.getppid())
    launched = subprocess.run(
        [
            sys.executable,
            "-c",
            embedded._DIES_WITH_PARENT,
            another,
            sys.executable,
            "-c",
            "print('started')",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert launched.stdout == ""
    assert "The parent ended first." in launched.stderr


def test_a_cluster_serves_every_slot(cluster: embedded.Cluster) -> None:
    with cluster.client() as client:
        client.flushall()
        for number in range(100):
            client.set(f"key{number}", number)
    sizes = []
    for node in cluster.nodes:
        with node.client() as client_of_node:
            sizes.append(client_of_node.dbsize())
            client_of_node.flushall()
    assert len(sizes) == 3
    assert min(sizes) > 0
    assert sum(sizes) == 100
