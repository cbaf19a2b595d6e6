"""The stores that hold descriptors in tests: which kinds there are, and an empty one of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis

from project import embedded
from tests.servers import cache_at

__all__ = ["CLUSTER", "KINDS", "store"]

CLUSTER = {"CONNECTION_FACTORY": "blobcache.redis.cluster.ClusterConnectionFactory"}
"""The OPTIONS of a cache on a cluster."""

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "valkey": ("valkey", {}),
    "valkey, decoding": ("valkey", {"CONNECTION_POOL_KWARGS": {"decode_responses": True}}),
    "valkey, RESP3": ("valkey", {"CONNECTION_POOL_KWARGS": {"protocol": 3}}),
    "redis": ("redis_server", {}),
    "cluster": ("cluster", CLUSTER),
}
"""By kind: the fixture of its server, and the OPTIONS of the cache on it."""


@contextmanager
def store(request: pytest.FixtureRequest, kind: str) -> Iterator[Redis]:
    """Within the block CACHES["default"] is an empty store of that kind; yields its raw client."""
    fixture, options = KINDS[kind]
    server: embedded.Server | embedded.Cluster = request.getfixturevalue(fixture)
    with cache_at(server.url, **options) as client:
        client.flushall()
        yield client
