from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from blobcache.redis.listings import RedisCatalog
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.conformance import A, B
from tests.redis.keyspace import (
    CORRUPT_NAMES,
    NAMES,
    ODD_NAMES,
    REPOSITORIES,
    SPECIAL,
    digests_of,
    name_of,
    write_as_a_registry,
)
from tests.servers import cache_at


@pytest.fixture
def observer(valkey: embedded.Server) -> Iterator[Redis]:
    """A client of the same server with separate connections."""
    with valkey.client() as client:
        yield client


@pytest.fixture(scope="session")
def registry(valkey: embedded.Server) -> Iterator[str]:
    """The URL of a server with 30,000 keys that a registry wrote, and some that it did not."""
    with embedded.start() as server, server.client() as client:
        for number in range(REPOSITORIES):
            write_as_a_registry(client, name_of(number), digests_of(number))
        write_as_a_registry(client, SPECIAL, [A])
        write_as_a_registry(client, NAMES[-1], [A])
        for odd in ODD_NAMES:
            write_as_a_registry(client, odd, [B])
        for corrupt in CORRUPT_NAMES:
            client.sadd(b"repository::%b::blobs" % corrupt, "member")
        client.set(b"repository::not-a-set::blobs", "text")
        with client.pipeline(transaction=False) as pipe:
            for number in range(2000):
                pipe.set(f"session:{number}", "foreign")
            pipe.execute()
        assert client.dbsize() >= 30_000
        yield server.url


@pytest.fixture
def catalog(registry: str) -> Iterator[RedisCatalog]:
    """The catalog of that keyspace, not yet indexed."""
    with cache_at(registry) as client:
        client.delete(*client.keys(b"blobcache::*"), b"none")
        yield RedisBlobDescriptorCacheProvider().catalog
