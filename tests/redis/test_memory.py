"""How much of the server's memory a descriptor uses, and the warning in the status."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from redis import Redis

from blobcache.digest import Digest
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.conformance import OCTETS, A, make_descriptor
from tests.servers import cache_at
from tests.stores import CLUSTER

SETTING = "hash-max-listpack-value"
SIZE = 27_092_228
DIGESTS = [Digest(f"sha256:{number:064x}") for number in range(500)]


@pytest.fixture(params=["valkey", "redis_server"])
def client(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """The client of an empty server, whose configuration is restored afterwards."""
    server: embedded.Server = request.getfixturevalue(request.param)
    with cache_at(server.url) as client:
        client.flushall()
        before = client.config_get(SETTING)[SETTING] or ""
        yield client
        client.config_set(SETTING, before)
        client.flushall()


@pytest.mark.parametrize(("limit", "encoding"), [(64, b"hashtable"), (160, b"listpack")])
def test_a_blobs_hash_has_the_compact_encoding_only_if_the_server_allows_it(
    client: Redis, limit: int, encoding: bytes
) -> None:
    client.config_set(SETTING, limit)
    provider = RedisBlobDescriptorCacheProvider()
    provider.repository_scoped("team/app").set_descriptor(A, make_descriptor(A))
    assert client.object("encoding", b"blobs::" + A.encode()) == encoding
    override = b"repository::team/app::blobs::" + A.encode()
    assert client.object("encoding", override) == b"listpack"


def test_an_alias_hash_also_has_the_compact_encoding(client: Redis) -> None:
    client.config_set(SETTING, 160)
    digest = Digest("sha512:" + "a" * 128)
    RedisBlobDescriptorCacheProvider().set_descriptor(digest, make_descriptor(digest))
    assert client.object("encoding", b"blobs::" + digest.encode()) == b"listpack"


class TestBytesOfAPair:
    """The memory of all keys, divided by the number of blobs."""

    def originals(self, client: Redis) -> float:
        """Write the keys as a registry does."""
        for digest in DIGESTS:
            client.sadd("repository::a::blobs", digest)
            client.hset(f"blobs::{digest}", mapping={"digest": digest, "size": SIZE})
            client.hsetnx(f"blobs::{digest}", "mediatype", OCTETS)
            client.hset(f"repository::a::blobs::{digest}", "mediatype", OCTETS)
        return self.taken(client)

    def ours(self, client: Redis, *size_fields: str) -> float:
        options = RedisOptions(size_fields=size_fields)
        repository = RedisBlobDescriptorCacheProvider(options=options).repository_scoped("a")
        for digest in DIGESTS:
            repository.set_descriptor(digest, make_descriptor(digest, SIZE))
        return self.taken(client)

    def taken(self, client: Redis) -> float:
        used = [client.memory_usage(key, samples=0) or 0 for key in client.scan_iter()]
        client.flushall()
        return sum(used) / len(DIGESTS)

    def test_are_those_of_the_original_layout(self, client: Redis) -> None:
        client.config_set(SETTING, 64)
        originals = self.originals(client)
        # The index of names is added once for each repository.
        assert self.ours(client, "size") == pytest.approx(originals, rel=0.02)
        assert self.ours(client, "size", "length") <= originals * 1.08

    def test_are_a_fifth_fewer_with_the_compact_encoding(self, client: Redis) -> None:
        client.config_set(SETTING, 64)
        originals = self.originals(client)
        client.config_set(SETTING, 160)
        assert self.ours(client, "size", "length") <= originals * 0.8


class TestStatus:
    def warnings(self) -> list[str]:
        status = RedisBlobDescriptorCacheProvider().server_status()
        return [warning for warning in status.warnings if SETTING in warning]

    def test_warns_if_descriptors_use_more_memory_than_necessary(self, client: Redis) -> None:
        client.config_set(SETTING, 64)
        (warning,) = self.warnings()
        assert f"{SETTING} is 64" in warning
        assert "160" in warning

    def test_does_not_warn_if_they_do_not(self, client: Redis) -> None:
        client.config_set(SETTING, 160)
        assert self.warnings() == []

    def test_does_not_warn_if_the_configuration_cannot_be_read(self, client: Redis) -> None:
        client.config_set(SETTING, 64)
        client.acl_setuser(
            "curious",
            enabled=True,
            reset=True,
            passwords=["+secret"],
            keys=["*"],
            categories=["+@all"],
            commands=["-config"],
        )
        location = str(settings.CACHES["default"]["LOCATION"])
        with cache_at(location.replace("://", "://curious:secret@")):
            status = RedisBlobDescriptorCacheProvider().server_status()
        client.acl_deluser("curious")
        assert status.version
        assert not [warning for warning in status.warnings if SETTING in warning]

    def test_asks_every_node_of_a_cluster(self, cluster: embedded.Cluster) -> None:
        with cluster.nodes[-1].client() as node, cache_at(cluster.url, **CLUSTER) as client:
            client.config_set(SETTING, 160, target_nodes="all")
            assert self.warnings() == []
            node.config_set(SETTING, 64)
            assert len(self.warnings()) == 1
            node.config_set(SETTING, 160)
