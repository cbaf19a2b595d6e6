"""The connection factory for a cluster. What a cluster stores is tested for each kind of store."""

from __future__ import annotations

from typing import Any

import pytest
from redis.cluster import RedisCluster
from redis.exceptions import (
    RedisClusterException,
)

from blobcache.redis.cluster import ClusterConnectionFactory
from project import embedded

TIMEOUT = 0.3
"""Seconds of SOCKET_TIMEOUT."""

SLACK = 2.0
"""Seconds that a busy machine may add."""


def connections(client: Any) -> set[tuple[str, int]]:
    """The name of each node and the number of our connection there."""
    return {
        (node.name, client.execute_command("CLIENT ID", target_nodes=node))
        for node in client.get_nodes()
    }


def test_a_location_has_one_client_with_the_options_of_its_entry(
    cluster: embedded.Cluster,
) -> None:
    url = cluster.url + "?client_name=one"
    factory = ClusterConnectionFactory({"REDIS_CLIENT_KWARGS": {"max_connections": 3}})
    client = factory.connect(url)
    assert factory.connect(url) is ClusterConnectionFactory({}).connect(url) is client
    assert ClusterConnectionFactory({}).connect(cluster.url + "?client_name=two") is not client
    pool = client.get_primaries()[0].redis_connection.connection_pool
    assert pool.max_connections == 3
    factory.disconnect(client)


def test_disconnecting_closes_the_connections_to_all_nodes(cluster: embedded.Cluster) -> None:
    factory = ClusterConnectionFactory({})
    client = factory.connect(cluster.url + "?client_name=three")
    before = connections(client)
    assert len(before) == 3
    assert connections(client) == before
    factory.disconnect(client)
    assert connections(client).isdisjoint(before)
    factory.disconnect(client)


def test_of_two_clients_that_are_made_at_once_one_is_closed(
    cluster: embedded.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.url + "?client_name=four"
    factory = ClusterConnectionFactory({})
    from_url = RedisCluster.from_url
    made: list[Any] = []
    before: list[set[tuple[str, int]]] = []

    def overtaken(url: str, **options: Any) -> RedisCluster:
        client = from_url(url, **options)
        made.append(client)
        if len(made) == 1:
            before.append(connections(client))
            factory.connect(url)  # as another thread does
        return client

    monkeypatch.setattr(RedisCluster, "from_url", overtaken)
    client = factory.connect(url)
    assert client is factory.connect(url) is made[1]
    assert len(made) == 2
    assert connections(made[0]).isdisjoint(before[0])
    factory.disconnect(made[0])
    factory.disconnect(client)


def test_a_location_where_no_node_answers_is_tried_again() -> None:
    factory = ClusterConnectionFactory({"SOCKET_CONNECT_TIMEOUT": 1})
    for _ in range(2):
        with pytest.raises(RedisClusterException):
            factory.connect("redis://127.0.0.1:1/0")
