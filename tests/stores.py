"""The stores that hold descriptors in tests: which kinds there are, and an empty one of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis

from project import embedded
from tests.servers import Encrypted, cache_at

__all__ = [
    "CLUSTER",
    "KINDS",
    "NO_SCRIPTS",
    "OTHER_CLIENT",
    "PYTHON_PARSER",
    "SENTINEL",
    "WITHOUT_SCRIPTS",
    "OtherClient",
    "store",
]


class OtherClient(Redis):
    """A subclass of the client, as hosts name in ``REDIS_CLIENT_CLASS``."""


OTHER_CLIENT = {"REDIS_CLIENT_CLASS": "tests.stores.OtherClient"}
"""The OPTIONS of a cache with such a client."""

PYTHON_PARSER = {"PARSER_CLASS": "redis._parsers.resp2._RESP2Parser"}
"""The OPTIONS of a cache as it is where hiredis is not installed."""

CLUSTER = {"CONNECTION_FACTORY": "blobcache.redis.cluster.ClusterConnectionFactory"}
"""The OPTIONS of a cache on a cluster."""

SENTINEL: dict[str, Any] = {
    "CLIENT_CLASS": "django_redis.client.SentinelClient",
    "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
    "SENTINEL_KWARGS": {"socket_timeout": 1},
}
"""The OPTIONS of a cache that asks Sentinels, but for their addresses."""

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "valkey": ("valkey", {}),
    "valkey, decoding": ("valkey", {"CONNECTION_POOL_KWARGS": {"decode_responses": True}}),
    "valkey, RESP3": ("valkey", {"CONNECTION_POOL_KWARGS": {"protocol": 3}}),
    "valkey, python parser": ("valkey", PYTHON_PARSER),
    "valkey, other client": ("valkey", OTHER_CLIENT),
    "redis": ("redis_server", {}),
    "redis, TLS": ("redis_tls", {}),
    "sentinel": ("sentinels", SENTINEL),
    "cluster": ("cluster", CLUSTER),
}
"""By kind: the fixture of its server, and the OPTIONS of the cache on it."""

NO_SCRIPTS = "valkey, no scripts"

WITHOUT_SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    NO_SCRIPTS: ("unscripted", {}),
    "valkey, no scripts, other client": ("unscripted", OTHER_CLIENT),
}
"""The kinds whose server refuses scripts, likewise; few tests need them."""


@contextmanager
def store(request: pytest.FixtureRequest, kind: str) -> Iterator[Redis]:
    """Make CACHES["default"] an empty store of that kind; yield its raw client."""
    fixture, options = {**KINDS, **WITHOUT_SCRIPTS}[kind]
    server: embedded.Server | embedded.Cluster | embedded.Sentinels | Encrypted
    server = request.getfixturevalue(fixture)
    if isinstance(server, embedded.Sentinels):
        options = {**options, "SENTINELS": server.addresses}
    with cache_at(server.url, **options) as client:
        client.flushall()
        yield client
