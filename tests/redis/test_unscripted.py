"""Servers that refuse scripts: commands between WATCH and EXEC do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, product
from typing import Any

import pytest
from redis import Redis

from blobcache.doctor.repair import repair
from blobcache.doctor.scan import Diagnosis
from blobcache.exceptions import BlobUnknown, CacheUnavailable
from blobcache.figures import store as figures
from blobcache.findings import Kind, Outcome
from blobcache.redis import index_build, keys, removals
from blobcache.redis.clears import CLEAR_GLOBAL, CLEAR_SCOPED
from blobcache.redis.fills import FILL
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.wrong_types import UNLINK_UNLESS
from blobcache.services.catalog import Budgets
from blobcache.services.figures import Order
from blobcache.transport import refused
from blobcache.transport.clients import ClientHandle
from blobcache.transport.packing import Command, Packed, Reply, Script
from blobcache.transport.server import Server
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.servers import Meter, cache_at, commands, limited_user
from tests.stores import CLUSTER, OTHER_CLIENT, WITHOUT_SCRIPTS, store

MEMBERS, BLOB = b"repository::a::blobs", b"blobs::" + A.encode()
OVERRIDE = b"repository::a::blobs::" + A.encode()

Write = tuple[object, ...]

HASHES: list[Sequence[Write]] = [
    [],
    [("HSET", BLOB, "digest", A, "size", "7", "mediatype", "a/b")],
    [("HSET", BLOB, "other", "x")],
    [("SET", BLOB, "text")],
]
SETS: list[Sequence[Write]] = [
    [],
    [("SADD", MEMBERS, A)],
    [("SADD", MEMBERS, A, B)],
    [("SADD", MEMBERS, B)],
    [("SET", MEMBERS, "text")],
]
OVERRIDES: list[Sequence[Write]] = [
    [],
    [("HSET", OVERRIDE, "mediatype", "c/d")],
    [("HSET", OVERRIDE, "other", "x")],
    [("SET", OVERRIDE, "text")],
]

PRINT = b"+%d:%b+1:7-+3:a/b" % (len(A), A.encode())
KINDS_OF_HASH = (PRINT, b"----", b"another type")

NAMES, BUILD, STATE, LOCK, OLD = b"names", b"build", b"state", b"lock", b"old"
NOW = b"1000.0"
LOCKS: list[Sequence[Write]] = [
    [],
    [("SET", LOCK, "me", "PX", "9000")],
    [("SET", LOCK, "me")],
    [("SET", LOCK, "other", "PX", "900000")],
    [("RPUSH", LOCK, "x")],
]
STATES: list[Sequence[Write]] = [
    [],
    [("HSET", STATE, "begun", "3", "indexed", "3", "indexed_at", "990.0")],
    [("HSET", STATE, "begun", "3", "indexed", "3", "indexed_at", "90.0")],
    [("HSET", STATE, "begun", "3", "indexed", "5", "indexed_at", "990.0")],
    [("HSET", STATE, "begun", "x", "indexed", "3", "indexed_at", "nan")],
    [("HSET", STATE, "begun", "4", "cursor", "=17", "identity", "me", "started_at", "980.0")],
    [("HSET", STATE, "begun", "4", "cursor", "", "identity", "me", "started_at", "980.0")],
    [("HSET", STATE, "begun", "4", "cursor", "=17", "identity", "old", "started_at", "980.0")],
    [("HSET", STATE, "begun", "4", "cursor", "what", "identity", "me", "started_at", "980.0")],
]
ZSETS: list[Sequence[Write]] = [
    [],
    [("ZADD", NAMES, "0", "a")],
    [("ZADD", BUILD, "0", "b")],
    [("ZADD", NAMES, "0", "a"), ("ZADD", BUILD, "0", "b"), ("ZADD", OLD, "0", "c")],
]
OWN = [NAMES, BUILD, STATE, LOCK]
FIGURES = [b"counting", b"figures", b"by_count", b"by_bytes"]
COUNTS: list[Sequence[Write]] = [
    [],
    [("HSET", "counting", "a", "before")],
    [("SET", "counting", "")],
]
FIGURED: list[Sequence[Write]] = [
    [],
    [("HSET", "figures", "a", "x"), ("ZADD", "by_count", "1", "a"), ("ZADD", "by_bytes", "2", "a")],
]

CASES: dict[str, tuple[Script, list[bytes], list[list[bytes]], list[list[Sequence[Write]]]]] = {
    "clear globally": (CLEAR_GLOBAL, [BLOB], [list(keys.FIELDS)], [HASHES]),
    "clear": (
        CLEAR_SCOPED,
        [MEMBERS, BLOB, OVERRIDE],
        [[A.encode(), takes, *keys.FIELDS] for takes in (b"0", b"1")],
        [SETS, HASHES, OVERRIDES],
    ),
    "fill": (
        FILL,
        [BLOB],
        [
            [state, b"60", *keys.FIELDS, keys.DIGEST, A.encode(), keys.SIZE, b"8"]
            for state in KINDS_OF_HASH
        ],
        [HASHES],
    ),
    "remove a hash": (
        removals._REMOVE_HASH,
        [BLOB],
        [[state, *keys.FIELDS] for state in KINDS_OF_HASH],
        [HASHES],
    ),
    "remove a member": (
        removals._REMOVE_MEMBER,
        [MEMBERS, BLOB, OVERRIDE],
        [
            [A.encode(), blob, override, takes, keys.MEDIA_TYPE, *keys.FIELDS]
            for blob in KINDS_OF_HASH
            for override in (b"+3:c/d", b"-")
            for takes in (b"0", b"1")
        ],
        [SETS[1:3] + SETS[4:], HASHES[:2] + HASHES[3:], OVERRIDES[:2] + OVERRIDES[3:]],
    ),
    "remove an orphan": (
        removals._REMOVE_ORPHAN,
        [MEMBERS, OVERRIDE],
        [[A.encode()]],
        [SETS, OVERRIDES],
    ),
    "remove another type": (UNLINK_UNLESS, [MEMBERS], [[b"set"], [b"hash"]], [SETS]),
    "begin to build": (
        index_build._BEGIN,
        OWN,
        [
            [b"me", b"10000", NOW, b"300", newer, b"me", b"999999999999999"]
            for newer in (b"-1", b"3")
        ],
        [LOCKS, STATES, ZSETS[::2]],
    ),
    "build": (
        index_build._ADD_NAMES,
        [*OWN, OLD],
        [
            [b"me", b"10000", cursor, pause, b"250", *names]
            for cursor in (b"", b"=5")
            for pause in (b"0", b"1")
            for names in ([], [b"x", b"y"])
        ],
        [LOCKS[:2] + LOCKS[3:], STATES[5:6], ZSETS],
    ),
    "save a count": (
        figures._SAVE,
        FIGURES[:1],
        [[b"a", b"before", b"after"], [b"a", b"", b"x"]],
        [COUNTS],
    ),
    "finish a count": (
        figures._FINISH,
        FIGURES,
        [
            [b"a", before, b"after", size, b"5"]
            for before in (b"", b"before")
            for size in (b"0", b"2")
        ],
        [COUNTS, FIGURED],
    ),
}


def outcome(
    client: Redis, writes: Sequence[Write], call: Callable[[], Reply]
) -> tuple[object, ...]:
    """Write the state, call, and return the reply and what is there."""
    with client.pipeline(transaction=False) as pipe:
        pipe.flushall()
        for words in writes:
            pipe.execute_command(*words)
        pipe.execute()
    try:
        reply: object = call()
    except CacheUnavailable:
        reply = "unavailable"
    if isinstance(reply, Exception):  # of the wrong type: `Server.script` raises it
        reply = "unavailable"
    names = sorted(client.keys())
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.dump(name)
            pipe.pttl(name)
        dumped = pipe.execute()
    has_expiry = [left > 0 for left in dumped[1::2]]
    return reply, names, dumped[::2], has_expiry


@pytest.mark.parametrize("case", CASES)
def test_a_script_and_its_commands_do_the_same(default_cache: Redis, case: str) -> None:
    script, touched, all_operands, states = CASES[case]
    server = Server("default")
    for operands in all_operands:
        call = Packed([script.call(touched, operands)])
        for chosen in product(*states):
            writes = [words for part in chosen for words in part]
            by_script, watched = [
                outcome(default_cache, writes, partial(run, script, (call, ())))
                for run in (server.script_call, server._run_watched)
            ]
            if by_script[0] == watched[0] == "unavailable":
                continue  # the script may have written before the error
            assert by_script == watched, (operands, writes)


@pytest.fixture(params=WITHOUT_SCRIPTS)
def plain(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """CACHES["default"] on a server without scripts."""
    with store(request, request.param) as client:
        yield client


class Interrupted(BaseException):
    """What a signal handler might raise."""


def between(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[ClientHandle], object]
) -> list[Sequence[Command]]:
    """Call `act` between the reads and the writes; return the writes of each attempt."""
    original, attempts = ClientHandle.send_watched, list[Sequence[Command]]()

    def send(
        self: ClientHandle,
        key: bytes,
        reads: Sequence[Command],
        decide: Callable[[list[Reply]], list[Command]],
    ) -> list[Reply]:
        def late(replies: list[Reply]) -> list[Command]:
            attempts.append(decide(replies))
            act(self)
            return list(attempts[-1])

        return original(self, key, reads, late)

    monkeypatch.setattr(ClientHandle, "send_watched", send)
    return attempts


class TestDisturbed:
    def test_it_is_repeated_with_the_changed_data(
        self, plain: Redis, unscripted: embedded.Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        repository.set_descriptor(A, make_descriptor(A, 1))
        with unscripted.client() as other:
            changes = iter([{"size": 2, "length": 2}, None])

            def change(_: ClientHandle) -> None:
                if sizes := next(changes):
                    other.hset(BLOB, mapping=sizes)

            attempts = between(monkeypatch, change)
            assert repository.clear(A) == make_descriptor(A, 2)
        assert len(attempts) == 2
        assert not plain.exists(MEMBERS, BLOB, OVERRIDE)

    def test_it_ends_as_unavailable_and_nothing_is_written(
        self, plain: Redis, unscripted: embedded.Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        repository.set_descriptor(A, make_descriptor(A))
        numbers = count()
        with unscripted.client() as other:
            attempts = between(monkeypatch, lambda _: other.sadd(MEMBERS, str(next(numbers))))
            with pytest.raises(CacheUnavailable, match="keep changing"):
                repository.clear(A)
        assert len(attempts) == 20
        assert repository.stat(A) == make_descriptor(A)

    def test_an_exception_leaves_no_watch_and_no_transaction(
        self, plain: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        repository.set_descriptor(A, make_descriptor(A))

        def interrupt(_: ClientHandle) -> None:
            raise Interrupted

        with monkeypatch.context() as patch:
            between(patch, interrupt)
            with pytest.raises(Interrupted):
                repository.clear(A)
        assert repository.stat(A) == make_descriptor(A)
        assert repository.clear(A) == make_descriptor(A)

    def test_a_connection_that_was_closed_meanwhile_writes_nothing(
        self, plain: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        repository.set_descriptor(A, make_descriptor(A))
        with monkeypatch.context() as patch:
            between(patch, lambda handle: handle.redis.connection_pool.disconnect())
            with pytest.raises(CacheUnavailable):
                repository.clear(A)
        assert repository.stat(A) == make_descriptor(A)
        assert repository.clear(A) == make_descriptor(A)


def test_a_connection_to_a_server_that_became_a_replica_is_closed(
    plain: Redis, unscripted: embedded.Server
) -> None:
    repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
    repository.set_descriptor(A, make_descriptor(A))
    with pytest.raises(BlobUnknown):
        repository.clear(B)
    with unscripted.client() as operator:
        meter = Meter(operator)
        try:
            operator.replicaof(embedded.HOST, "1")
            for _ in range(2):
                with pytest.raises(CacheUnavailable):
                    repository.clear(A)
        finally:
            operator.replicaof("NO", "ONE")
        assert meter.read().connections == 1
    assert repository.clear(A) == make_descriptor(A)


def test_a_refusal_is_remembered(plain: Redis, unscripted: embedded.Server) -> None:
    repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
    with unscripted.client() as observer:

        def errors() -> int:
            return int(observer.info("stats")["total_error_replies"])

        seen = []
        for _ in range(2):
            repository.set_descriptor(A, make_descriptor(A))
            before = errors()
            repository.clear(A)
            seen.append(errors() - before)
    assert seen == [1, 0]


def user(server: embedded.Server | embedded.Cluster, *refused: str) -> str:
    """The address of the emptied server for a user who may not run these commands."""
    for node in server.nodes if isinstance(server, embedded.Cluster) else (server,):
        with node.client() as client:
            client.flushall()
    return limited_user(server, "app", *refused)


def test_scripts_are_used_again_when_they_are_allowed(
    valkey: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused, "SECONDS", 0.0)
    with cache_at(user(valkey, "evalsha")), valkey.client() as admin:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        for allowed in (0, 1):
            repository.set_descriptor(A, make_descriptor(A))
            with commands(admin) as traffic:
                repository.clear(A)
            assert (traffic.calls["evalsha"] >= allowed, traffic.calls["exec"]) == (
                True,
                1 - allowed,
            )
            admin.acl_setuser("app", commands=["+evalsha"])


@pytest.mark.parametrize("scripts", ["allowed", "refused"])
@pytest.mark.parametrize("command", ["srem", "hdel", "unlink"])
@pytest.mark.parametrize("options", [{}, OTHER_CLIENT], ids=str)
def test_a_clear_that_may_not_delete_fails_and_deletes_nothing(
    valkey: embedded.Server, options: dict[str, Any], scripts: str, command: str
) -> None:
    others = ["eval", "evalsha"] if scripts == "refused" else []
    with cache_at(user(valkey, command, *others), **options), valkey.client() as admin:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        repository.set_descriptor(A, make_descriptor(A))
        with commands(admin) as traffic:
            for _ in range(2):
                with pytest.raises(CacheUnavailable):
                    repository.clear(A)
        assert traffic.calls["watch"] == 2 * (scripts == "refused")
        if scripts == "refused":
            assert repository.stat(A) == make_descriptor(A)


@pytest.mark.parametrize("kind", ["unscripted", "valkey", "cluster"])
def test_everything_else_works_too(request: pytest.FixtureRequest, kind: str) -> None:
    """Also for a user who may send the server no question about itself."""
    server, url = request.getfixturevalue(kind), None
    if kind != "unscripted":
        url = user(server, "eval", "evalsha", "info", "config", "client")
    with cache_at(url or server.url, **(CLUSTER if kind == "cluster" else {})) as client:
        client.flushall()
        provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(count=60))
        provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
        provider.repository_scoped("b").set_descriptor(B, make_descriptor(B))
        assert provider.clear(B) == make_descriptor(B)
        assert provider.catalog.reindex().complete
        assert provider.figures.refresh().next is None
        assert provider.figures.list_ordered(Order.BLOBS).rows
        client.set(b"blobs::" + B.encode(), "another type")
        client.set(b"repository::odd::blobs", "another type")
        client.hset(b"repository::c::blobs::" + B.encode(), "mediatype", "a/b")
        found = [finding for step in Diagnosis(provider).run() for finding in step.findings]
        assert len(found) >= 3
        assert {repair(provider, finding) for finding in found} <= {
            Outcome.REPAIRED,
            Outcome.HEALED,
        }
        (missed,) = [finding for step in Diagnosis(provider).run() for finding in step.findings]
        assert missed.kind is Kind.DANGLING_MEMBER  # of b, whose hash has been deleted
        assert repair(provider, missed) is Outcome.REPAIRED
        assert [step.findings for step in Diagnosis(provider).run() if step.findings] == []
        client.set(b"repository::d::blobs", "another type")
        provider.repository_scoped("d").set_descriptor(A, make_descriptor(A))
        assert provider.repository_scoped("d").stat(A) == make_descriptor(A)
