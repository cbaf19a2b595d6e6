"""The keys, byte for byte, and what each call costs the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, CacheUnavailable, OperationUnsupported
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.base import BlobDescriptorService
from blobcache.services.catalog import Budgets
from blobcache.services.rules import Rules
from blobcache.transport.packing import Call, Reply
from blobcache.transport.server import Server
from project import embedded
from tests.conformance import ALIAS, LAYER, OCTETS, A, B, make_descriptor
from tests.servers import cache_at, commands, limited_user, monitor
from tests.stores import KINDS, store

NAMES, BUILD = b"blobcache::{catalog}::names", b"blobcache::{catalog}::build"


def keyspace(client: Redis) -> dict[bytes, object]:
    read: dict[bytes | str, Callable[[bytes], object]] = {
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter()}


class TestLayout:
    def test_of_a_scoped_set(self, default_cache: Redis) -> None:
        RedisBlobDescriptorCacheProvider().repository_scoped("a/b").set_descriptor(
            A, make_descriptor(A, 7)
        )
        assert keyspace(default_cache) == {
            b"blobs::" + A.encode(): {
                b"digest": A.encode(),
                b"size": b"7",
                b"length": b"7",
                b"mediatype": OCTETS.encode(),
            },
            b"repository::a/b::blobs": {A.encode()},
            b"repository::a/b::blobs::" + A.encode(): {b"mediatype": OCTETS.encode()},
            NAMES: [b"a/b"],
            BUILD: [b"a/b"],
        }

    def test_of_a_global_set(self, default_cache: Redis) -> None:
        RedisBlobDescriptorCacheProvider().set_descriptor(A, make_descriptor(A, 7))
        assert keyspace(default_cache).keys() == {b"blobs::" + A.encode()}

    def test_of_an_alias(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.repository_scoped("a").set_descriptor(ALIAS, make_descriptor(A, 7, LAYER))
        keys = keyspace(default_cache)
        whole = {
            b"digest": A.encode(),
            b"size": b"7",
            b"length": b"7",
            b"mediatype": LAYER.encode(),
        }
        assert keys[b"repository::a::blobs"] == {A.encode(), ALIAS.encode()}
        for digest in (A, ALIAS):
            assert keys[b"blobs::" + digest.encode()] == whole
            override = keys[b"repository::a::blobs::" + digest.encode()]
            assert override == {b"mediatype": LAYER.encode()}

    def test_a_clear_leaves_no_key(self, default_cache: Redis) -> None:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        repository.set_descriptor(ALIAS, make_descriptor(A))
        repository.clear(ALIAS)
        repository.clear(A)
        assert keyspace(default_cache).keys() == {NAMES, BUILD}

    def test_a_clear_keeps_fields_of_other_programs(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        default_cache.hset(b"blobs::" + A.encode(), "extra", "kept")
        provider.clear(A)
        assert default_cache.hgetall(b"blobs::" + A.encode()) == {b"extra": b"kept"}

    @pytest.mark.parametrize("field", ["size", "length"])
    def test_a_setting_can_limit_writes_to_one_size_field(
        self, default_cache: Redis, field: str
    ) -> None:
        """The other field is removed, so that it cannot contradict the written one."""
        RedisBlobDescriptorCacheProvider().set_descriptor(A, make_descriptor(A, 1))
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(size_fields=(field,)))
        provider.set_descriptor(A, make_descriptor(A, 2))
        fields = default_cache.hgetall(b"blobs::" + A.encode())
        assert fields.keys() == {b"digest", field.encode(), b"mediatype"}
        assert provider.stat(A).size == 2

    def test_prefix_and_version_of_the_cache_are_ignored(self, valkey: embedded.Server) -> None:
        with cache_at(valkey.url, SERIALIZER="django_redis.serializers.json.JSONSerializer") as raw:
            raw.flushall()
            RedisBlobDescriptorCacheProvider().set_descriptor(A, make_descriptor(A))
            assert raw.keys() == [b"blobs::" + A.encode()]


class TestTtl:
    def test_is_set_on_every_key_that_a_write_touches(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(Rules(ttl=100))
        provider.repository_scoped("a").set_descriptor(ALIAS, make_descriptor(A))
        ttls = {key: default_cache.ttl(key) for key in default_cache.scan_iter()}
        assert {key for key, ttl in ttls.items() if ttl == -1} == {NAMES, BUILD}
        assert all(90 < ttl <= 100 for key, ttl in ttls.items() if key not in (NAMES, BUILD))

    def test_restarts_at_each_write(self, default_cache: Redis) -> None:
        RedisBlobDescriptorCacheProvider(Rules(ttl=100)).set_descriptor(A, make_descriptor(A))
        RedisBlobDescriptorCacheProvider(Rules(ttl=500)).set_descriptor(A, make_descriptor(A))
        assert default_cache.ttl(b"blobs::" + A.encode()) > 400

    def test_is_not_set_if_the_setting_is_none(self, default_cache: Redis) -> None:
        RedisBlobDescriptorCacheProvider().repository_scoped("a").set_descriptor(
            A, make_descriptor(A)
        )
        assert {default_cache.ttl(key) for key in default_cache.scan_iter()} == {-1}


class TestCost:
    """Counted by the server itself."""

    def cost(
        self, observer: Redis, call: Callable[[], object], *, warm: bool = True
    ) -> tuple[int, dict[str, int]]:
        if warm:
            # The connection's greeting, and the scripts that the server does not know yet.
            unheard_of = "sha384:" + "d" * 96
            RedisBlobDescriptorCacheProvider().stat_many([unheard_of])
            for scope in (
                RedisBlobDescriptorCacheProvider(),
                RedisBlobDescriptorCacheProvider().repository_scoped("warm"),
            ):
                with pytest.raises(BlobUnknown):
                    scope.clear(unheard_of)
        with commands(observer) as traffic:
            call()
        return traffic.round_trips, dict(traffic.calls)

    def test_of_a_global_stat(self, default_cache: Redis, observer: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        assert self.cost(observer, lambda: provider.stat(A)) == (1, {"hmget": 1})

    def test_of_a_scoped_stat(self, default_cache: Redis, observer: Redis) -> None:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        repository.set_descriptor(A, make_descriptor(A))
        assert self.cost(observer, lambda: repository.stat(A)) == (
            1,
            {"sismember": 1, "hmget": 1, "hget": 1},
        )

    @pytest.mark.parametrize("digest", [A, ALIAS])
    def test_of_a_scoped_set(self, default_cache: Redis, observer: Redis, digest: Digest) -> None:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        trips, calls = self.cost(
            observer, lambda: repository.set_descriptor(digest, make_descriptor(A))
        )
        assert trips == 1
        assert (calls["multi"], calls["exec"]) == (1, 1)

    def test_of_a_global_set(self, default_cache: Redis, observer: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        trips, calls = self.cost(observer, lambda: provider.set_descriptor(A, make_descriptor(A)))
        assert trips == 1
        assert calls.keys() == {"multi", "exec", "hmget", "hset", "hsetnx"}

    def test_of_a_clear(self, default_cache: Redis, observer: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
        provider.set_descriptor(B, make_descriptor(B))
        trips, _ = self.cost(observer, lambda: provider.repository_scoped("a").clear(A))
        assert trips == 1
        provider.set_descriptor(B, make_descriptor(B))
        trips, _ = self.cost(observer, lambda: provider.clear(B), warm=False)
        assert trips == 1

    def test_of_the_first_clear_includes_loading_the_script(
        self, default_cache: Redis, observer: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        default_cache.script_flush()
        trips, calls = self.cost(observer, lambda: provider.clear(A), warm=False)
        assert (trips, calls["evalsha"], calls["eval"]) == (2, 1, 1)

    @pytest.mark.parametrize("repository", [None, "a"])
    def test_of_a_batch_is_one_round_trip_a_chunk(
        self, default_cache: Redis, observer: Redis, repository: str | None
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(stat_chunk_size=10))
        scope = provider.repository_scoped(repository) if repository else provider
        digests = [Digest(f"sha256:{number:064x}") for number in range(25)]
        trips, calls = self.cost(observer, lambda: scope.stat_many(digests))
        assert trips == 3
        assert calls["hmget"] == 25
        assert calls.get("smismember", 0) == (3 if repository else 0)

    def test_of_a_repair_is_a_round_trip_for_each_key_and_one_for_the_set(
        self, default_cache: Redis, observer: Redis
    ) -> None:
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        for _ in range(2):  # the first time Redis does not know the script yet
            default_cache.set(b"repository::a::blobs", "text")
            trips, calls = self.cost(
                observer, lambda: repository.set_descriptor(A, make_descriptor(A))
            )
        assert trips == 3
        assert calls["unlink"] == 1
        assert repository.stat(A) == make_descriptor(A)


def test_a_batch_continues_past_a_corrupt_blob(any_store: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.set_descriptor(B, make_descriptor(B))
    any_store.hset(f"blobs::{A}", mapping={"digest": A, "size": "no number"})
    assert provider.stat_many([A, B]) == {B: make_descriptor(B)}


class TestRepairOfKeys:
    @pytest.mark.parametrize("damage", ["wrong type", "corrupt media type"])
    def test_an_alias_set_repairs_the_canonical_digests_hash(
        self, any_store: Redis, damage: str
    ) -> None:
        key = b"blobs::" + A.encode()
        if damage == "wrong type":
            any_store.set(key, "text")
        else:
            any_store.hset(key, mapping={"digest": A, "size": 1, "mediatype": b"\xff"})
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        assert repository.set_descriptor(ALIAS, make_descriptor(A)).descriptor == make_descriptor(A)
        assert repository.stat(A) == repository.stat(ALIAS) == make_descriptor(A)

    def test_an_index_of_the_wrong_type_is_repaired(self, any_store: Redis) -> None:
        any_store.set(NAMES, "text")
        provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(build=60))
        provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
        assert [entry.name for entry in provider.catalog.repositories().repositories] == ["a"]


class TestRepairByAnotherProgram:
    """Another program repairs the key between our read and our repair."""

    @pytest.mark.parametrize("kind", ["valkey", "cluster"])
    def test_a_set_repaired_meanwhile_keeps_its_members(
        self, request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with store(request, kind) as client:
            key = b"repository::a::blobs"
            client.set(key, "text")
            repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
            transaction = Server.transaction
            done: list[object] = []

            def repaired(self: Server, *phases: Sequence[Call]) -> list[Reply]:
                answers = transaction(self, *phases)
                if not done:
                    done.append(client.delete(key))
                    client.sadd(key, B)
                return answers

            monkeypatch.setattr(Server, "transaction", repaired)
            repository.set_descriptor(A, make_descriptor(A))
            assert client.smembers(key) == {A.encode(), B.encode()}

    def test_a_set_fails_if_another_key_is_damaged_meanwhile(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        default_cache.set(b"repository::a::blobs", "text")
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        transaction = Server.transaction

        def damaged(self: Server, *phases: Sequence[Call]) -> list[Reply]:
            answers = transaction(self, *phases)
            default_cache.set(f"blobs::{A}", "text")
            return answers

        monkeypatch.setattr(Server, "transaction", damaged)
        with pytest.raises(CacheUnavailable, match="keeps writing keys of the wrong type"):
            repository.set_descriptor(A, make_descriptor(A))


class TestReadOnly:
    def test_sends_no_write(self, default_cache: Redis, observer: Redis) -> None:
        RedisBlobDescriptorCacheProvider().repository_scoped("a").set_descriptor(
            A, make_descriptor(A)
        )
        provider = RedisBlobDescriptorCacheProvider(Rules(read_only=True))
        repository = provider.repository_scoped("a")
        default_cache.ping()
        with monitor(observer) as seen:
            repository.stat(A)
            provider.stat_many([A, B])
            provider.catalog.repositories()
            provider.catalog.members("a")
            provider.catalog.holders(A)
            provider.catalog.blobs()
            provider.catalog.reindex()
            provider.server_status()
            for write in (
                lambda: repository.clear(A),
                lambda: provider.set_descriptor(A, make_descriptor(A)),
                lambda: provider.purge(A),
            ):
                with pytest.raises(OperationUnsupported):
                    write()
        sent = {words[0].upper() for words in seen}
        assert sent <= {
            *("SISMEMBER", "HMGET", "HGET", "SCARD", "SSCAN", "SCAN", "INFO", "ZRANGEBYLEX"),
            *("ZLEXCOUNT", "CLIENT", "CONFIG"),
        }


class TestWriterWithoutPermission:
    """A write that is refused half way leaves nothing that gives a wrong answer."""

    @contextmanager
    def restricted(
        self, request: pytest.FixtureRequest, kind: str, refused: str
    ) -> Iterator[tuple[Redis, BlobDescriptorService]]:
        """A client that may do all, and a service of a user who may not do one command."""
        fixture, options = KINDS[kind]
        server = request.getfixturevalue(fixture)
        url = limited_user(server, "writer", refused)
        with store(request, kind) as raw, cache_at(url, "writer", **options):
            provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(cache_alias="writer"))
            yield raw, provider.repository_scoped("a")

    @pytest.mark.parametrize("refused", ["sadd", "hset"])
    def test_set_writes_all_or_nothing(self, request: pytest.FixtureRequest, refused: str) -> None:
        with self.restricted(request, "valkey", refused) as (raw, repository):
            with pytest.raises(CacheUnavailable):
                repository.set_descriptor(A, make_descriptor(A))
            assert raw.keys() == []

    def test_on_a_cluster_a_digest_becomes_a_member_last(
        self, request: pytest.FixtureRequest
    ) -> None:
        with self.restricted(request, "cluster", "hset") as (raw, repository):
            with pytest.raises(CacheUnavailable):
                repository.set_descriptor(A, make_descriptor(A))
            assert not raw.exists(b"repository::a::blobs")
        with self.restricted(request, "cluster", "sadd") as (raw, repository):
            with pytest.raises(CacheUnavailable):
                repository.set_descriptor(A, make_descriptor(A))
            assert raw.exists(b"blobs::" + A.encode())
            with pytest.raises(BlobUnknown):
                repository.stat(A)

    def test_on_a_cluster_a_digest_stops_being_a_member_first(
        self, request: pytest.FixtureRequest
    ) -> None:
        with self.restricted(request, "cluster", "unlink") as (raw, repository):
            repository.set_descriptor(A, make_descriptor(A))
            with pytest.raises(CacheUnavailable):
                repository.clear(A)
            assert not raw.exists(b"repository::a::blobs")
            with pytest.raises(BlobUnknown):
                repository.stat(A)


class TestClusterCost:
    def test_three_phases_for_a_set_and_four_for_a_clear(
        self, request: pytest.FixtureRequest, cluster: embedded.Cluster
    ) -> None:
        with store(request, "cluster"), ExitStack() as stack:
            repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
            repository.set_descriptor(A, make_descriptor(A))
            repository.clear(A)
            counted = [
                stack.enter_context(commands(stack.enter_context(node.client())))
                for node in cluster.nodes
            ]
            repository.set_descriptor(A, make_descriptor(A))
            repository.clear(A)
            stack.close()
            # Two hashes in slots of their own, the set, the index; then all three are read, and
            # deleted one after another.
            assert sum(each.round_trips for each in counted) <= 4 + 3 + 3
