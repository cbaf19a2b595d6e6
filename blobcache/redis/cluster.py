"""Redis or Valkey Cluster: the connection factory, and the clear of keys in several slots.

Name the factory in an entry of ``CACHES``, with any node's address as LOCATION::

    "OPTIONS": {
        "CONNECTION_FACTORY": "blobcache.redis.cluster.ClusterConnectionFactory",
        "SOCKET_CONNECT_TIMEOUT": 1,
        "SOCKET_TIMEOUT": 1,
    }
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from django_redis.pool import ConnectionFactory
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from blobcache.redis import commands, keys
from blobcache.redis.wrong_types import delete_wrong_types

if TYPE_CHECKING:
    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["ClusterConnectionFactory", "clear_in_order"]


class ClusterConnectionFactory(ConnectionFactory):
    """Makes one `RedisCluster` per process and LOCATION, which keeps a pool for each node.

    ``REDIS_CLIENT_KWARGS`` and ``CONNECTION_POOL_KWARGS`` go to that client. It asks the cluster
    for its topology when it is first used, and again when a node fails. Unless they contain a
    ``retry``, no read is tried twice: the client's own policy waits for a silent node ten times
    over. No write ever is; see `blobcache.transport.cluster`.
    """

    _clusters: ClassVar[dict[str, RedisCluster]] = {}
    _lock: ClassVar[Lock] = Lock()

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._options = options

    def connect(self, url: str) -> RedisCluster:  # type: ignore[override]
        """Return the client of the cluster that the node at `url` belongs to.

        Raises redis-py's ``RedisClusterException`` if no node answers; the next call tries again.
        """
        if url not in self._clusters:
            # Made outside the lock: threads do not wait for each other's timeouts.
            cluster = RedisCluster.from_url(url, **self._client_kwargs(url))
            with self._lock:
                if self._clusters.setdefault(url, cluster) is not cluster:
                    self.disconnect(cluster)
        return self._clusters[url]

    def disconnect(self, connection: RedisCluster) -> None:  # type: ignore[override]
        """Close the connections to all nodes; the client opens new ones when used again."""
        connection.disconnect_connection_pools()

    def _client_kwargs(self, url: str) -> dict[str, Any]:
        once = {"retry": Retry(NoBackoff(), 0)}
        params = self.make_connection_params(url)
        for name in ("url", "parser_class"):  # the client takes them in other ways
            params.pop(name, None)
        pool_kwargs = self._options.get("CONNECTION_POOL_KWARGS", {})
        client_kwargs = self._options.get("REDIS_CLIENT_KWARGS", {})
        return {**once, **params, **pool_kwargs, **client_kwargs}


def clear_in_order(
    server: Server, repository: RepositoryName, digest: Digest, *, takes_blob: bool
) -> Reply:
    """Do what `clears.CLEAR_SCOPED` does, slot after slot: four round trips, one if unknown.

    The membership is deleted first, so that nobody can read the blob, and the override last: an
    override without a membership marks an interrupted clear, which the next one finishes. If there
    is no override, nobody can read the blob either. Then the hash is also deleted before the
    membership, which is the mark in its place.
    """
    members, blob = keys.members(repository), keys.blob(digest)
    override = keys.override(repository, digest)
    reads: list[Command] = [*commands.stat(repository, digest), ("EXISTS", override)]
    member, fields, media_type, has_override = server.batch(reads)
    if member == 0 and not has_override:
        return None
    hash_delete: list[Command] = [("HDEL", blob, *keys.FIELDS)] if takes_blob else []
    deletes: list[Command] = [("SREM", members, digest), *hash_delete, ("UNLINK", override)]
    for command in deletes if has_override else [*hash_delete, *deletes]:
        delete_wrong_types(server, [command], server.batch([command]))
    return [fields if member == 1 else None, media_type]
