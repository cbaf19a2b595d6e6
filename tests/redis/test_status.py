"""The status of a server, and which of its values are unknown."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from django.test import Client, override_settings
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from blobcache.services.status import ServerStatus
from blobcache.transport.server import Server
from project import embedded
from tests.servers import cache_at
from tests.stores import CLUSTER

FIELDS = (
    "redis_version",
    "valkey_version",
    "server_name",
    "used_memory",
    "maxmemory",
    "maxmemory_policy",
    "aof_enabled",
)


def status(role: Any = "primary") -> ServerStatus:
    return RedisBlobDescriptorCacheProvider(Rules(role=role)).server_status()


def warns(of: ServerStatus) -> bool:
    return any("to disk" in warning for warning in of.warnings)


@pytest.fixture
def server() -> Iterator[embedded.Server]:
    """A separate server without persistence."""
    with embedded.start("--save", "") as server, cache_at(server.url):
        yield server
        # Otherwise it waits for what it still writes to disk.
        server.kill()


class TestPersistence:
    def test_is_known_from_the_rules_for_snapshots(self, server: embedded.Server) -> None:
        assert status().is_persistent is False
        assert warns(status())
        with server.client() as client:
            client.config_set("save", "900 1")
        assert status().is_persistent is True
        assert not warns(status())

    def test_is_known_from_the_append_only_file(self, server: embedded.Server) -> None:
        with server.client() as client:
            client.config_set("appendonly", "yes")
        assert status().is_persistent is True

    def test_is_not_on_because_of_a_manual_snapshot(self, server: embedded.Server) -> None:
        with server.client() as client:
            client.bgsave()
            deadline = monotonic() + 10
            while not client.info("persistence").get("rdb_saves"):
                assert monotonic() < deadline
        assert status().is_persistent is False
        assert warns(status())

    def test_is_unknown_if_the_configuration_cannot_be_read(self, server: embedded.Server) -> None:
        with server.client() as client:
            client.execute_command("ACL SETUSER", "default", "-config")
        assert status().is_persistent is None
        assert not warns(status())
        with server.client() as client:
            client.execute_command("ACL SETUSER", "default", "+config")
            client.config_set("appendonly", "yes")
            client.execute_command("ACL SETUSER", "default", "-config")
        assert status().is_persistent is True

    def test_is_checked_on_every_node(self, cluster: embedded.Cluster) -> None:
        with cluster.nodes[-1].client() as node, cache_at(cluster.url, **CLUSTER) as client:
            before = node.config_get("save")["save"]
            client.config_set("save", "900 1", target_nodes="all")
            assert status().is_persistent is True
            node.config_set("save", "")
            assert status().is_persistent is False
            client.config_set("save", before, target_nodes="all")


@pytest.mark.django_db
@pytest.mark.parametrize("missing", [*([field] for field in FIELDS), FIELDS], ids=str)
def test_values_that_a_server_does_not_report_are_unknown(
    missing: list[str],
    default_cache: Redis,
    admin_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replies = [
        {name: value for name, value in node.items() if name not in missing}
        for node in Server("default").info()
    ]
    monkeypatch.setattr(Server, "info", lambda *_: replies)
    for role in ("cache", "primary"):
        assert not [each for each in status(role).warnings if "None" in each]
    with override_settings(ROOT_URLCONF="tests.api.urls"):
        server = admin_client.get("/api/status/").json()["server"]
    named = {"maxmemory": "max_memory", "maxmemory_policy": "eviction_policy"}
    for name in {named.get(field, field) for field in missing} & server.keys():
        assert server[name] is None
    with override_settings(ROOT_URLCONF="tests.admin.urls"):
        assert admin_client.get("/admin/blobcache/repository/").status_code == 200


def test_a_setting_that_is_no_number_is_no_limit(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy, or a server that is only like Redis, may answer anything."""
    nodes = [{"hash-max-listpack-value": "unlimited"}, {"hash-max-ziplist-value": ""}]
    monkeypatch.setattr(Server, "config", lambda *_: nodes)
    assert not [each for each in status("cache").warnings if "hash-max" in each]
    nodes.append({"hash-max-listpack-value": "64"})
    (warning,) = (each for each in status("cache").warnings if "hash-max" in each)
    assert "hash-max-listpack-value is 64" in warning
