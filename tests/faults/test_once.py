"""A write is sent once: if its reply is lost, the call reports that its outcome is unknown.

The servers count what they executed. Redirections are followed, since a node that redirects a
command has not executed it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import NodesManager
from redis.crc import key_slot
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004 - redis-py's own names
from redis.retry import Retry

from blobcache.exceptions import BlobUnknown, CacheUnavailable, Reason
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.wrong_types import UNLINK_UNLESS
from blobcache.reference import RepositoryName
from blobcache.services.catalog import Budgets
from blobcache.transport import cluster as transport
from blobcache.transport.packing import Decision, Packed, Script, Watched
from blobcache.transport.server import Server
from project import embedded
from tests.conformance import ALIAS, A, make_descriptor
from tests.coroutines import ThroughCoroutines, event_loop
from tests.proxy import Fault, LoseReply, Proxy, proxied
from tests.servers import Meter, cache_at
from tests.stores import CLUSTER

POLICY = Retry(NoBackoff(), 3, supported_errors=(ConnectionError, TimeoutError))

WRITES = ("hset", "hsetnx", "hdel", "sadd", "srem", "unlink", "zadd", "eval", "evalsha")


@pytest.fixture(scope="module")
def nodes() -> Iterator[embedded.Cluster]:
    """A cluster of this module's own, since its slots are moved."""
    with embedded.cluster() as cluster:
        for node in cluster.nodes:
            with node.client() as client:  # a busy machine must not cause a failover
                client.config_set("cluster-node-timeout", 60_000)
        yield cluster


@pytest.fixture(scope="module")
def proxies(nodes: embedded.Cluster) -> Iterator[tuple[Proxy, ...]]:
    with proxied(nodes) as between:
        yield between


@pytest.fixture
def policy() -> Retry | None:
    """The caller's retry policy."""
    return POLICY


@pytest.fixture
def store(
    request: pytest.FixtureRequest, policy: Retry | None, proxies: Sequence[Proxy]
) -> Iterator[Redis]:
    """The cache, by way of the proxies, emptied; a parameter may have options of the client."""
    kwargs = {"retry": policy} if policy else {}
    kwargs |= getattr(request, "param", {})
    with cache_at(proxies[0].url, **CLUSTER, REDIS_CLIENT_KWARGS=kwargs) as client:
        client.flushall()
        yield client


@pytest.fixture
def count(nodes: embedded.Cluster) -> Iterator[Callable[[], Counter[str]]]:
    """Return the writes that the nodes executed since the last call."""
    with ExitStack() as stack:
        meters = [Meter(stack.enter_context(node.client())) for node in nodes.nodes]

        def read() -> Counter[str]:
            total: Counter[str] = Counter()
            for meter in meters:
                total.update(meter.read().calls)
            return Counter({name: total[name] for name in WRITES if total[name]})

        yield read


@contextmanager
def lost(proxies: Sequence[Proxy], command: str) -> Iterator[list[Fault]]:
    """Within the block, each node loses its reply to the first such command."""
    with ExitStack() as stack:
        when = b"\r\n%b\r\n" % command.upper().encode()
        yield [stack.enter_context(each.causes(LoseReply(when=when, times=1))) for each in proxies]


def name_on(node: int) -> RepositoryName:
    """A repository whose set is on that node of three."""
    return next(
        RepositoryName(f"r{number}")
        for number in range(1000)
        if key_slot(b"repository::r%d::blobs" % number) * 3 // 16384 == node
    )


def damage(raw: Any) -> None:
    raw.hset(f"blobs::{A}", "size", "many")


class Calls:
    """What is called on a blob, in a repository where it is set before."""

    def __init__(self, name: RepositoryName, runner: asyncio.Runner | None = None) -> None:
        """With a `runner` the calls are coroutines."""
        self.name = name
        # A purge ends in one step, however busy the machine is.
        self.provider: Any = RedisBlobDescriptorCacheProvider(budgets=Budgets(purge=60))
        if runner is not None:
            self.provider = ThroughCoroutines(self.provider, runner)
        self.repository = self.provider.repository_scoped(name)

    def set(self) -> object:
        return self.repository.set_descriptor(ALIAS, make_descriptor(A))

    def global_set(self) -> object:
        return self.provider.set_descriptor(A, make_descriptor(A))

    def clear(self) -> object:
        return self.repository.clear(A)

    def global_clear(self) -> object:
        return self.provider.clear(A)

    def purge(self) -> object:
        result = self.provider.purge(A)
        if result.next is not None:  # a step that has made progress returns what it did
            raise CacheUnavailable("The purge is not finished.")
        return result

    def repair(self) -> object:
        (record,) = self.repository.records([A])
        return self.provider.removals().remove_member(record)

    def index(self) -> None:
        self.provider.catalog.index.index_name(self.name)


CALLS = {
    "set": ("hset", "sadd", "zadd"),
    "global_set": ("hset",),
    "clear": ("srem", "hdel", "unlink"),
    "global_clear": ("evalsha",),
    "purge": ("evalsha", "srem", "hdel", "unlink"),
    "repair": ("srem", "evalsha"),
    "index": ("zadd",),
}
"""By the name of a call: the writes that it sends by themselves or in a batch of their own."""


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with event_loop() as runner:
        yield runner


@pytest.mark.parametrize(
    ("call", "is_coroutine"),
    [*((call, False) for call in CALLS), *((call, True) for call in list(CALLS)[:4])],
)
def test_a_write_whose_reply_is_lost_was_sent_once(
    store: Redis,
    proxies: Sequence[Proxy],
    count: Callable[[], Counter[str]],
    call: str,
    is_coroutine: bool,
    runner: asyncio.Runner,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for node in range(3):
        calls = Calls(name_on(node), runner if is_coroutine else None)

        def prepare(calls: Calls = calls) -> None:
            calls.repository.set_descriptor(A, make_descriptor(A))
            if call == "repair":
                damage(store)
            caplog.clear()
            count()

        for _ in range(2):  # the scripts are known the second time
            prepare()
            getattr(calls, call)()
            usual = count()
        for command in CALLS[call]:
            prepare()
            caplog.clear()
            with lost(proxies, command) as faults:
                if command == "zadd":
                    getattr(calls, call)()
                    assert "could not be indexed" in caplog.text
                else:
                    with suppress(CacheUnavailable):
                        getattr(calls, call)()
                        pytest.fail(f"{call} succeeded without the reply to {command}")
            assert any(fault.happened for fault in faults)
            sent = count()
            assert not sent - usual, (command, sent, usual)
            assert sent[command], command
            if command != "zadd" and call not in ("purge", "repair"):
                assert "outcome=unknown" in caplog.text


@pytest.mark.parametrize("command", ["sismember", "srem", "hdel", "unlink"])
def test_the_next_clear_finishes_one_whose_reply_was_lost(
    store: Redis, proxies: Sequence[Proxy], command: str
) -> None:
    repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
    repository.set_descriptor(A, make_descriptor(A))
    with lost(proxies, command), suppress(CacheUnavailable):
        repository.clear(A)
    if command in {"srem", "hdel"}:
        repository.clear(A)
    else:  # the read is repeated, if the policy says so, and after the last step nothing is left
        with suppress(BlobUnknown):
            repository.clear(A)
    assert not list(store.scan_iter(f"*{A}"))
    assert not store.exists(b"repository::a::blobs")
    with pytest.raises(BlobUnknown):
        repository.clear(A)


@pytest.mark.parametrize("command", ["srem", "evalsha"])
def test_a_clear_finishes_a_repair_whose_reply_was_lost(
    store: Redis, proxies: Sequence[Proxy], command: str
) -> None:
    calls = Calls(name_on(0))
    for _ in range(2):  # the script is known the second time
        calls.repository.set_descriptor(A, make_descriptor(A))
        damage(store)
        with lost(proxies, command), suppress(CacheUnavailable):
            calls.repair()
        assert calls.repository.clear(A) is None
        assert not list(store.scan_iter(f"*{A}"))


@pytest.mark.parametrize("policy", [None, POLICY], ids=["no policy", "policy"])
def test_a_read_is_repeated_as_the_policy_says(
    store: Redis, proxies: Sequence[Proxy], policy: Retry | None
) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.set_descriptor(A, make_descriptor(A))
    with lost(proxies, "hmget"):
        if policy:
            assert provider.stat(A) == make_descriptor(A)
        else:
            with pytest.raises(CacheUnavailable):
                provider.stat(A)
    assert provider.stat(A) == make_descriptor(A)


class Slot:
    """A slot of the cluster, and its way from its node to another one."""

    def __init__(self, nodes: embedded.Cluster, key: bytes, stack: ExitStack) -> None:
        self.slot = key_slot(key)
        clients = [stack.enter_context(node.client()) for node in nodes.nodes]
        home = self.slot * 3 // 16384
        self.source, self.target = clients[home], clients[(home + 1) % 3]
        self.target_node = nodes.nodes[(home + 1) % 3]
        self.owner = self.source
        self.clients = clients
        stack.callback(self.give_back)

    def begin(self) -> None:
        """Let the target import the slot."""
        self._set_slot(self.target, "IMPORTING", self._id(self.source))
        self._set_slot(self.source, "MIGRATING", self._id(self.target))

    def finish(self) -> None:
        """Move the keys and the slot."""
        port = self.target.info("server")["tcp_port"]
        keys: Any = self.source.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 100)
        if keys:
            self.source.migrate("127.0.0.1", port, keys, 0, 1000)
        self.give_to(self.target)

    def give_to(self, owner: Redis) -> None:
        """Tell all nodes who has the slot, which it has been importing."""
        for client in (owner, *self.clients):
            self._set_slot(client, "NODE", self._id(owner))
        self.owner = owner

    def give_back(self) -> None:
        """Delete all keys of the slot, and restore its first node."""
        for client in (self.source, self.target):
            client.flushall()
            self._set_slot(client, "STABLE")
        if self.owner is not self.source:
            self._set_slot(self.source, "IMPORTING", self._id(self.owner))
            self.give_to(self.source)

    def _set_slot(self, client: Redis, state: str, *node: str) -> None:
        client.execute_command("CLUSTER SETSLOT", self.slot, state, *node)

    def _id(self, client: Redis) -> str:
        answer: Any = client.execute_command("CLUSTER MYID")
        return bytes(answer).decode()


@pytest.mark.parametrize("is_coroutine", [False, True])
@pytest.mark.parametrize("missing", [(), ("move_slot", "update_moved_exception")])
def test_redirections_are_followed(
    store: Any,
    nodes: embedded.Cluster,
    proxies: Sequence[Proxy],
    count: Callable[[], Counter[str]],
    missing: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    is_coroutine: bool,
    runner: asyncio.Runner,
) -> None:
    for name in missing:
        monkeypatch.delattr(NodesManager, name, raising=False)
    calls = Calls(RepositoryName("a"), runner if is_coroutine else None)
    repository = calls.repository
    usual = []
    for _ in range(2):
        count()
        assert repository.set_descriptor(A, make_descriptor(A)).created
        usual.append(count())
        repository.clear(A)
    with ExitStack() as stack:
        slot = Slot(nodes, b"blobs::" + A.encode(), stack)
        slot.begin()  # ASK: the key does not exist on its node
        other = proxies[nodes.nodes.index(slot.target_node)]  # is not known yet
        del store.nodes_manager.nodes_cache[f"127.0.0.1:{other.port}"]
        count()
        assert repository.set_descriptor(A, make_descriptor(A)).created
        assert count() == usual[1]
        assert repository.stat(A) == make_descriptor(A)
        slot.finish()  # MOVED
        meters = [Meter(stack.enter_context(node.client())) for node in nodes.nodes]
        assert repository.clear(A) == make_descriptor(A)
        assert not any(each.read().calls["asking"] for each in meters)
        count()
        assert repository.set_descriptor(A, make_descriptor(A)).created
        assert count() == usual[1]
        repository.clear(A)


def test_a_slot_that_has_moved_is_followed_where_scripts_are_refused(
    store: Redis, nodes: embedded.Cluster
) -> None:
    store.set("{t}one", "text")
    call = Packed([UNLINK_UNLESS.call([b"{t}one"], ["set"])])
    with ExitStack() as stack:
        slot = Slot(nodes, b"{t}", stack)
        slot.begin()
        slot.finish()
        assert Server("default")._run_watched(UNLINK_UNLESS, (call, ())) == 1
        assert not store.exists("{t}one")


NOTHING = Watched(lambda keys, _: [("WATCH", *keys)], lambda *_: Decision([], None))


@pytest.mark.parametrize("is_coroutine", [False, True])
@pytest.mark.parametrize("knows_what_failed", [True, False])
@pytest.mark.parametrize("store", [{"require_full_coverage": False}], indirect=True)
def test_a_slot_without_a_node_is_looked_for_again(
    store: Redis,
    nodes: embedded.Cluster,
    knows_what_failed: bool,
    monkeypatch: pytest.MonkeyPatch,
    is_coroutine: bool,
    runner: asyncio.Runner,
) -> None:
    if not knows_what_failed:
        initialize = NodesManager.initialize

        def read_all(self: NodesManager) -> None:
            initialize(self)

        monkeypatch.setattr(NodesManager, "initialize", read_all)
    provider = Calls(RepositoryName("a"), runner if is_coroutine else None).provider
    provider.set_descriptor(A, make_descriptor(A))
    with ExitStack() as stack:
        slot = Slot(nodes, b"blobs::" + A.encode(), stack)
        for client in slot.clients:
            client.config_set("cluster-require-full-coverage", "no")
            client.execute_command("CLUSTER DELSLOTS", slot.slot)
        for _ in range(2):  # first the node says that it has no such slot
            with pytest.raises(CacheUnavailable):
                provider.stat(A)
        slot.give_to(slot.source)
        assert provider.clear(A) == make_descriptor(A)


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_without_the_right_to_asking_the_error_is_reported(
    store: Redis,
    nodes: embedded.Cluster,
    proxies: Sequence[Proxy],
    is_coroutine: bool,
    runner: asyncio.Runner,
) -> None:
    with ExitStack() as stack:
        slot = Slot(nodes, b"blobs::" + A.encode(), stack)
        for client in slot.clients:
            client.execute_command("ACL SETUSER", "app", "on", "nopass", "~*", "+@all", "-asking")
            stack.callback(client.acl_deluser, "app")
        slot.begin()
        url = proxies[0].url.replace("://", "://app:any@")
        stack.enter_context(cache_at(url, **CLUSTER))
        with pytest.raises(CacheUnavailable) as caught:
            Calls(RepositoryName("a"), runner if is_coroutine else None).global_set()
        assert caught.value.reason is Reason.DENIED


def test_a_node_that_nobody_knows_is_not_asked(
    store: Any, nodes: embedded.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "refresh", lambda _: None)
    with ExitStack() as stack:
        Slot(nodes, b"blobs::" + A.encode(), stack).begin()
        store.nodes_manager.nodes_cache.clear()
        with pytest.raises(CacheUnavailable):
            RedisBlobDescriptorCacheProvider().set_descriptor(A, make_descriptor(A))


def test_a_client_without_a_free_connection_does_not_ask_for_the_topology(
    proxies: Sequence[Proxy], nodes: embedded.Cluster
) -> None:
    with (
        cache_at(proxies[0].url, **CLUSTER, REDIS_CLIENT_KWARGS={"max_connections": 1}) as client,
        nodes.nodes[0].client() as observer,
        ExitStack() as stack,
    ):
        cluster: Any = client
        pools = [node.redis_connection.connection_pool for node in cluster.get_primaries()]
        for pool in pools:
            stack.callback(pool.release, pool.get_connection())
        meter = Meter(observer)
        with pytest.raises(CacheUnavailable):
            RedisBlobDescriptorCacheProvider().stat(A)
        assert not meter.read().calls["cluster|slots"]


def test_while_a_thread_asks_for_the_topology_others_do_not_ask_too(
    store: Redis, proxies: Sequence[Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py would let them wait for the timeouts of all nodes, one thread after another."""
    asked: list[None] = []
    begun, done = Event(), Event()

    def ask(*_: object, last_failed_node_name: str | None = None) -> None:
        asked.append(None)
        begun.set()
        done.wait(10)

    def fail() -> None:
        with pytest.raises(CacheUnavailable):
            provider.set_descriptor(A, make_descriptor(A))

    provider = RedisBlobDescriptorCacheProvider()
    provider.set_descriptor(A, make_descriptor(A))
    monkeypatch.setattr(transport, "PATIENCE", 0.01)
    monkeypatch.setattr(NodesManager, "initialize", ask)
    with ExitStack() as stack:
        stack.callback(done.set)
        for each in proxies:
            stack.enter_context(each.causes(LoseReply(when=b"HSET")))
        other = Thread(target=fail)
        other.start()
        begun.wait()
        fail()
        assert len(asked) == 1
        done.set()
        other.join()
        fail()
        assert len(asked) == 2


def test_keys_that_are_being_moved_are_waited_for(
    store: Redis, nodes: embedded.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRYAGAIN: one key of the script is on its old node, the other is not."""
    store.set("{t}one", "text")
    with ExitStack() as stack:
        slot = Slot(nodes, b"{t}", stack)
        slot.begin()
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            slot.finish()

        monkeypatch.setattr(transport, "sleep", pause)
        script = Script("return redis.call('INCR', KEYS[2])", NOTHING)
        assert Server("default").script(script, [b"{t}one", b"{t}two"]) == 1
        assert len(pauses) == 1


def test_redirections_end(
    store: Redis, nodes: embedded.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("{t}one", "text")
    with ExitStack() as stack:
        Slot(nodes, b"{t}", stack).begin()
        pauses: list[float] = []
        monkeypatch.setattr(transport, "sleep", pauses.append)
        with pytest.raises(CacheUnavailable):
            Server("default").script(Script("return 1", NOTHING), [b"{t}one", b"{t}two"])
        assert len(pauses) == transport.MAX_ROUNDS
