"""The servers of each mode of the hunt, and their clients' settings.

Half of the processes reach a single server through a proxy, the others directly. The nodes of a
cluster announce the ports of their proxies, so all processes use these. With Sentinels, clients
connect directly to the servers that the Sentinels name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from redis.exceptions import RedisError

from project import embedded
from project.embedded import Server
from tests.hunt.worker import TIMEOUT
from tests.proxy import Proxy, announce, proxied, proxy
from tests.stores import CLUSTER, SENTINEL

__all__ = ["MODES", "Ground", "info", "is_in_sync", "role", "wait_until"]

MEMORY = "4mb"
"""The memory limit of each server: beyond it, the server evicts keys."""

ARGUMENTS = (
    *("--maxmemory", MEMORY, "--maxmemory-policy", "allkeys-lru"),
    *("--repl-backlog-size", "64kb"),
)

WAIT_SECONDS = 60.0
"""How long the servers may take to recover from a fault, before the hunt gives up."""

DOWN_MILLISECONDS = 2000
"""How long a server may be silent before a replica replaces it. A busy machine must not cause
failovers by itself, since the hunt does not expect the writes that these lose."""

COUNTED = "cmdstat_sadd"
"""The command that only a set sends: once for each membership."""

OPTIONS = {"SOCKET_TIMEOUT": TIMEOUT, "SOCKET_CONNECT_TIMEOUT": TIMEOUT}


@dataclass
class Ground:
    """The servers of a hunt."""

    mode: str
    primaries: list[Server]
    replicas: list[Server]
    """The replica of each primary, in the same order; the roles change with each failover."""

    caches: list[tuple[str, dict[str, Any]]]
    """LOCATION and OPTIONS for the processes, in turn."""

    proxies: tuple[Proxy, ...] = ()
    sentinels: embedded.Sentinels | None = None
    round_trips: int = 1
    """Replies that one read may wait for when something fails: a client also asks the nodes of a
    cluster for their slots, or the Sentinels for the primary."""

    _lost_calls: int = 0
    """Calls of `COUNTED` that killed servers had counted."""

    @property
    def nodes(self) -> list[Server]:
        """All servers that hold data."""
        return [*self.primaries, *self.replicas]

    def executed(self) -> int:
        """Return how often a single server executed `COUNTED`, as it counts it itself."""
        return self._lost_calls + info(self.primaries[0], "commandstats", COUNTED, "calls")

    def kill(self, server: Server) -> None:
        """Kill a server, but keep its count."""
        self._lost_calls += info(server, "commandstats", COUNTED, "calls")
        server.kill()

    def restart(self, server: Server) -> None:
        """Start a server again; one of a cluster has forgotten to announce its proxy."""
        server.restart()
        if self.mode == "cluster":
            ports = {each.server_port: each.port for each in self.proxies}
            announce(self.nodes, [ports[each.port or 0] for each in self.nodes])

    def has_changed_roles(self) -> bool:
        """Whether a replica has replaced its primary; if so, exchange the two."""
        changed = False
        for place, (primary, replica) in enumerate(
            zip(self.primaries, self.replicas, strict=False)
        ):
            if role(replica) == "master" and role(primary) != "master":
                self.primaries[place], self.replicas[place] = replica, primary
                changed = True
        return changed


def info(server: Server, section: str, name: str, value: str) -> int:
    """Return a number from ``INFO``; 0 if the server is not there, or has not counted any."""
    with suppress(RedisError, OSError), server.client() as client:
        return int(client.info(section).get(name, {}).get(value, 0))
    return 0


def role(server: Server) -> str:
    """Return ``master`` or ``slave``; empty if the server is not there."""
    with suppress(RedisError, OSError), server.client(timeout=1) as client:
        return str(client.info("replication")["role"])
    return ""


def is_in_sync(server: Server) -> bool:
    """Whether a replica has all data of its primary."""
    with suppress(RedisError, OSError), server.client(timeout=1) as client:
        return bool(client.info("replication").get("master_link_status") == "up")
    return False


@contextmanager
def _one() -> Iterator[Ground]:
    with embedded.start(*ARGUMENTS) as server, proxy(server.port) as between:
        caches = [(between.url, OPTIONS), (server.url, OPTIONS)]
        yield Ground("one", [server], [], caches, (between,))


@contextmanager
def _sentinel() -> Iterator[Ground]:
    with embedded.sentinels(*ARGUMENTS) as watched:
        for node in watched.nodes:
            with node.client() as client:
                down = ("down-after-milliseconds", DOWN_MILLISECONDS)
                client.execute_command("SENTINEL SET", watched.name, *down)
        options = {**OPTIONS, **SENTINEL, "SENTINELS": watched.addresses}
        sides = [watched.primary], [watched.replica]
        yield Ground("sentinel", *sides, [(watched.url, options)], (), watched, round_trips=3)


@contextmanager
def _cluster() -> Iterator[Ground]:
    arguments = (*ARGUMENTS, "--cluster-node-timeout", str(DOWN_MILLISECONDS))
    with embedded.cluster(3, *arguments, replicated=True) as cluster, proxied(cluster) as proxies:
        caches = [(each.url, {**OPTIONS, **CLUSTER}) for each in proxies[:3]]
        sides = [*cluster.nodes], [*cluster.replicas]
        yield Ground("cluster", *sides, caches, proxies, round_trips=7)


MODES = {"one": _one, "sentinel": _sentinel, "cluster": _cluster}


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds; raises TimeoutError after `WAIT_SECONDS`."""
    deadline = monotonic() + WAIT_SECONDS
    while not condition():
        if monotonic() > deadline:
            raise TimeoutError("The servers did not recover from a fault.")
        sleep(0.01)
