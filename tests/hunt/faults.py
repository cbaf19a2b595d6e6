"""The faults of a hunt. Each is counted where it happens.

A fault is a function of the `Scene`. When the servers work again, it returns how often it happened,
as the server or the proxy has counted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from time import monotonic, sleep
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from project.embedded import HOST, Server
from tests.hunt.crew import Crew
from tests.hunt.grounds import Ground, info, is_in_sync, role, wait_until
from tests.hunt.oracle import GRANTED, NEVER
from tests.hunt.worker import TIMEOUT
from tests.proxy import CutReply, CutRequest, Delay, Fault, LoseReply, Replace, Silence, Trickle

__all__ = ["FAULTS", "Kind", "Recovery", "Scene"]

_SETTLES = 3.0
"""Seconds after a failover within which failed calls still count as its effect."""

_LASTS = 0.3
"""Seconds that most faults last."""

_OTHER_WORDS = (
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x00\xff\xfe garbage",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-ERR something that nobody has seen before\r\n",
    b"*3\r\n:1\r\n",
    b"*-1\r\n",
    b"*1\r\n*1\r\n:1\r\n" * 3,
)
"""What the proxy sends instead of replies. The last ones are valid replies, but not to any command
of the app: one that fits a command could not be told from the server's own."""


class Recovery(NamedTuple):
    """How long a failover took, in seconds."""

    kind: str
    servers: float
    """Until the new primary worked, and clients could know that."""

    callers: float
    """Until the last call that failed."""


@dataclass
class Scene:
    """Where faults happen."""

    ground: Ground
    crew: Crew
    random: Random
    recoveries: list[Recovery] = field(default_factory=list)

    def primary(self) -> Server:
        """Choose a primary."""
        return self.random.choice(self.ground.primaries)


class Kind(NamedTuple):
    """A kind of fault."""

    modes: tuple[str, ...]
    counts: str
    """What is counted, and where."""

    cause: Callable[[Scene], int]


# On the way to the server


def _on_the_way(make: Callable[[Random], Fault], times: int = 1) -> Callable[[Scene], int]:
    """Let a random proxy cause a fault, and another one after that, so many times."""

    def cause(scene: Scene) -> int:
        happened = 0
        for _ in range(times):
            between = scene.random.choice(scene.ground.proxies)
            with between.causes(make(scene.random)) as fault:
                until = monotonic() + _LASTS / times
                while monotonic() < until and fault.happened != fault.times:
                    sleep(0.005)
            happened += fault.happened
        return happened

    return cause


def _cut(random: Random) -> Fault:
    kind = random.choice([CutReply, CutRequest])
    return kind(random.randrange(400), reset=random.random() < 0.5)


def _lose(random: Random) -> Fault:
    return LoseReply(when=random.choice([b"HSET", b"EVALSHA", b"SREM", b"SADD", b"EXEC"]), times=5)


def _delay(random: Random) -> Fault:
    return Delay(TIMEOUT * random.choice([0.2, 0.9, 1.1, 2]))


def _trickle(random: Random) -> Fault:
    return Trickle(random.choice([0.001, 0.01, 0.1]), times=20)


def _replace(random: Random) -> Fault:
    return Replace(random.choice(_OTHER_WORDS), times=20)


# At the server


def _kill_one(scene: Scene) -> int:
    server = scene.primary()
    scene.ground.kill(server)
    sleep(scene.random.random() * _LASTS)
    scene.ground.restart(server)
    return 1


def _stop(scene: Scene) -> int:
    longest = 1.2 if scene.ground.mode == "one" else 0.4  # no failover
    with scene.primary().frozen():
        sleep(scene.random.choice([0.1, 0.5, 1]) * longest)
    return 1


def _out_of_memory(scene: Scene) -> int:
    server = scene.primary()
    before = info(server, "errorstats", "errorstat_OOM", "count")
    with server.client() as client:
        earlier = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        sleep(_LASTS)
        client.config_set("maxmemory", earlier)
        client.config_set("maxmemory-policy", "allkeys-lru")
    return info(server, "errorstats", "errorstat_OOM", "count") - before


def _read_only(scene: Scene) -> int:
    server = scene.primary()
    before = info(server, "errorstats", "errorstat_READONLY", "count")
    with server.client() as client:
        client.replicaof(HOST, 1)
        sleep(_LASTS)
        client.replicaof("NO", "ONE")
    return info(server, "errorstats", "errorstat_READONLY", "count") - before


def _kill_clients(scene: Scene) -> int:
    killed = 0
    with scene.primary().client() as client:
        for _ in range(10):
            for each in client.client_list("normal"):
                if not each["name"].startswith("sentinel-"):  # else they begin a failover
                    killed += client.client_kill_filter(_id=each["id"])
            sleep(_LASTS / 10)
    return killed


# In the processes


def _disconnect(scene: Scene) -> int:
    pools = 0
    for _ in range(10):
        pools += scene.crew.disconnect()
        sleep(_LASTS / 10)
    return pools


def _interrupt(scene: Scene) -> int:
    for _ in range(100):
        scene.crew.interrupt(scene.random)
        sleep(_LASTS / 100)
    return 0  # the processes count those that raised


# Failovers


def _fail_over(kind: str, begin: Callable[[Scene, int], None]) -> Callable[[Scene], int]:
    """Let a replica replace its primary, and measure how long that takes."""

    def cause(scene: Scene) -> int:
        ground = scene.ground
        place = scene.random.randrange(len(ground.primaries))
        primary, replica = ground.primaries[place], ground.replicas[place]
        with scene.crew.lossy():
            began = monotonic()
            begin(scene, place)
            wait_until(lambda: role(replica) == "master" and _clients_can_know(ground, replica))
            servers = monotonic() - began
            sleep(_SETTLES)
            callers = max(0.0, scene.crew.last_failure() - began)
            scene.recoveries.append(Recovery(kind, servers, callers))
            if not role(primary):
                ground.restart(primary)
            wait_until(lambda: role(primary) == "slave" and is_in_sync(primary))
            ground.has_changed_roles()
        return 1

    return cause


def _clients_can_know(ground: Ground, replica: Server) -> bool:
    """Whether clients that ask learn of the new primary."""
    if ground.sentinels is not None:
        with suppress(RedisError, OSError), ground.sentinels.nodes[0].client() as client:
            (_, port) = client.execute_command(
                "SENTINEL GET-MASTER-ADDR-BY-NAME", ground.sentinels.name
            )
            return int(port) == replica.port
        return False
    with suppress(RedisError, OSError), replica.client() as client:
        return bool(client.cluster("INFO")["cluster_state"] == "ok")
    return False


def _kill_primary(scene: Scene, place: int) -> None:
    scene.ground.primaries[place].kill()


def _ask_for_failover(scene: Scene, place: int) -> None:
    sentinels, replica = scene.ground.sentinels, scene.ground.replicas[place]
    words = ["SENTINEL FAILOVER", sentinels.name] if sentinels else ["CLUSTER FAILOVER"]

    def is_accepted() -> bool:
        """Ask again: Sentinels refuse for some time after another failover."""
        server = sentinels.nodes[0] if sentinels else replica
        with suppress(RedisError), server.client() as client:
            return bool(client.execute_command(*words))
        sleep(0.1)
        return False

    wait_until(is_accepted)


def _partition(scene: Scene, place: int) -> None:
    """Freeze a primary until its replica has replaced it; then it does not know that yet."""
    with scene.ground.primaries[place].frozen():
        wait_until(lambda: role(scene.ground.replicas[place]) == "master")


# Slots


def _move_slots(scene: Scene) -> int:
    """Move slots with keys that are in use to another node, key by key."""
    moved_before = _redirections(scene)
    with suppress(RedisError):
        for _ in range(3):
            _move_slot(scene)
    return _redirections(scene) - moved_before


def _redirections(scene: Scene) -> int:
    return sum(
        info(server, "errorstats", f"errorstat_{name}", "count")
        for server in scene.ground.nodes
        for name in ("MOVED", "ASK", "TRYAGAIN")
    )


def _move_slot(scene: Scene) -> None:
    random, blobs = scene.random, scene.crew.blobs
    digest = blobs.canonical[random.randrange(blobs.shared)]
    repository = random.choice(GRANTED)
    key = random.choice([f"blobs::{digest}", f"repository::{repository}::blobs"])
    clients = [server.client() for server in scene.ground.primaries]
    ids = [_text(client.execute_command("CLUSTER MYID")) for client in clients]
    slot = clients[0].execute_command("CLUSTER KEYSLOT", key)
    source = next(place for place, client in enumerate(clients) if _owns(client, ids[place], slot))
    target = random.choice([place for place in range(len(clients)) if place != source])
    port = scene.ground.primaries[target].port
    clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    while keys := clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 3):
        sleep(random.random() * 0.02)
        words = ["MIGRATE", HOST, port, "", 0, 1000, "REPLACE", "KEYS", *keys]
        clients[source].execute_command(*words)
    sleep(random.random() * 0.05)
    for place in (target, source, 3 - target - source):
        clients[place].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    for client in clients:
        client.close()


def _owns(client: Redis, node: str, slot: int) -> bool:
    ranges: Any = client.execute_command("CLUSTER SLOTS")
    return any(
        first <= slot <= last and _text(primary[2]) == node for first, last, primary, *_ in ranges
    )


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


# To try the hunt itself


def _plant(scene: Scene) -> int:
    """Write wrong descriptors, which no fault may cause."""
    blobs = scene.crew.blobs
    with scene.primary().client() as client:
        for number in range(blobs.shared):
            one, other = blobs.canonical[number], blobs.canonical[(number + 1) % blobs.shared]
            client.sadd(f"repository::{NEVER}::blobs", one)
            client.hset(f"repository::{NEVER}::blobs::{one}", "mediatype", "a/b")
            client.hset(f"blobs::{one}", mapping=client.hgetall(f"blobs::{other}") or {"size": 1})
    sleep(_LASTS)
    return blobs.shared


_ANY = ("one", "sentinel", "cluster")
_PROXIED = ("one", "cluster")
_REPLICATED = ("sentinel", "cluster")

FAULTS = {
    "cut": Kind(_PROXIED, "connections, by the proxy", _on_the_way(_cut, times=10)),
    "lost reply": Kind(_PROXIED, "replies, by the proxy", _on_the_way(_lose, times=3)),
    "delay": Kind(_PROXIED, "replies, by the proxy", _on_the_way(_delay)),
    "trickle": Kind(_PROXIED, "replies, by the proxy", _on_the_way(_trickle)),
    "garbage": Kind(_PROXIED, "replies, by the proxy", _on_the_way(_replace, times=3)),
    "silence": Kind(_PROXIED, "replies, by the proxy", _on_the_way(lambda _: Silence(times=20))),
    "kill": Kind(("one",), "restarts", _kill_one),
    "stop": Kind(_ANY, "times that the server stood still", _stop),
    "out of memory": Kind(("one",), "refusals, by the server", _out_of_memory),
    "read-only": Kind(("one",), "refusals, by the server", _read_only),
    "client kill": Kind(_ANY, "connections, by the server", _kill_clients),
    "disconnect": Kind(_ANY, "pools, by the processes", _disconnect),
    "signal": Kind(_ANY, "calls that were interrupted, by the processes", _interrupt),
    "primary killed": Kind(_REPLICATED, "failovers", _fail_over("primary killed", _kill_primary)),
    "failover": Kind(_REPLICATED, "failovers", _fail_over("failover", _ask_for_failover)),
    "partition": Kind(_REPLICATED, "failovers", _fail_over("partition", _partition)),
    "slot moved": Kind(("cluster",), "redirections, by the servers", _move_slots),
    "planted": Kind((), "wrong descriptors", _plant),
}
"""By name. A fault without a mode happens only if `--faults` names it."""
