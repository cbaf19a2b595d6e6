"""The clients that django-redis keeps for ``CACHES``, and the ways to send commands with them.

`handle_for` returns the `ClientHandle` around a client of redis-py. The registry behind it forgets
all handles when the setting ``CACHES`` changes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django_redis import get_redis_connection
from redis.cluster import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TimeoutError,  # noqa: A004 - redis-py's own name
)
from redis.exceptions import ConnectionError as RedisConnectionError

from blobcache.exceptions import CacheUnavailable, Reason
from blobcache.transport.cluster import send_to_nodes
from blobcache.transport.connections import CLOSED, Connections, exchange, exchange_watched
from blobcache.transport.packing import DATA_TYPES, has_error, is_wrong_type, pack
from blobcache.transport.refused import Refusals
from blobcache.transport.shapes import check, expect, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.transport.packing import Call, Command, Reply
    from blobcache.transport.shapes import Expected, Shape

__all__ = [
    "FAILURES",
    "ClientHandle",
    "cache_unavailable",
    "handle_for",
    "raise_all_errors",
    "raise_server_errors",
    "registry",
]

_ERRORS = (RedisError, RedisClusterException, OSError, UnicodeDecodeError)

FAILURES = (*_ERRORS, *CLOSED)
"""What redis-py raises if Redis does not answer, or if its answer cannot be parsed."""

_REASONS: tuple[tuple[tuple[type[Exception], ...], Reason], ...] = (
    ((AuthenticationError, AuthorizationError, NoPermissionError), Reason.DENIED),
    ((BusyLoadingError,), Reason.LOADING),
    ((TimeoutError,), Reason.TIMEOUT),
    ((ReadOnlyError,), Reason.REPLICA),
    ((OutOfMemoryError,), Reason.FULL),
    ((RedisConnectionError, OSError, *CLOSED), Reason.DOWN),
)
"""The reasons by redis-py's errors; the first match counts, since some are subclasses."""

_MAX_CLIENTS = 128
"""How many clients are kept: an entry of ``CACHES`` has one, and one for each replica."""


class ClientHandle:
    """A client of redis-py, and the ways to send commands with it.

    Each method is one round trip, on a cluster one a node, and raises `CacheUnavailable` if Redis
    fails. An error that concerns one command stands in place of its reply.
    """

    __slots__ = ("connections", "is_cluster", "redis", "refusals", "version")

    def __init__(self, redis: Any, version: int, keep: bool) -> None:  # noqa: FBT001 - cached
        self.redis = redis
        """The `Redis` or `RedisCluster`, which have no common type."""

        self.version = version
        """The registry's version when this handle was made."""

        self.is_cluster = isinstance(redis, RedisCluster)
        self.refusals = Refusals()
        """The commands that the server has refused lately."""

        if not self.is_cluster:
            pool = redis.connection_pool
            # So that a wrong option fails here, and not at the first command.
            pool.connection_class(**pool.connection_kwargs)
            self.connections = registry.connections(pool, keep=keep)

    def nodes(self) -> dict[str, ClientHandle]:
        """Return a handle for each primary of a cluster, by their names in order; sends nothing.

        Otherwise itself, under no name.
        """
        if not self.is_cluster:
            return {"": self}
        primaries = sorted(self.redis.get_primaries(), key=lambda node: node.name)
        return {node.name: self._node(node) for node in primaries}

    def _node(self, node: Any) -> ClientHandle:
        return _handle_for(self.redis.get_redis_connection(node), self.version, False)  # noqa: FBT003

    def send_calls(self, calls: Sequence[Call], *, repeatable: bool) -> list[Reply]:
        """Send all calls together; once, unless they are `repeatable`."""
        if self.is_cluster:
            commands = [each for template, values in calls for each in template.commands(*values)]
            return self.send_to_nodes(commands, repeatable=repeatable)
        packed: list[bytes] = []
        shapes: list[Shape] = []
        for template, values in calls:
            packed.append(template.pack(*values))
            shapes += template.expected.shapes
        return self.send_packed(b"".join(packed), expect(shapes), repeatable=repeatable)

    def send_packed(self, packed: bytes, expected: Expected, *, repeatable: bool) -> list[Reply]:
        """Send packed commands, whose replies are as `expected`; not on a cluster."""
        if not expected.count:
            return []
        try:
            return exchange(self.connections, packed, expected, repeatable=repeatable)
        except FAILURES as error:
            raise cache_unavailable(error) from error

    def send_to_nodes(
        self, commands: Sequence[Command], *, repeatable: bool, replica: bool = False
    ) -> list[Reply]:
        """Send commands to the nodes of a cluster; once, unless they are `repeatable`.

        `replica` allows to ask a replica.
        """
        if not commands:
            return []
        try:
            return send_to_nodes(
                self.redis, commands, _connections, repeatable=repeatable, replica=replica
            )
        except FAILURES as error:
            raise cache_unavailable(error) from error

    def send_watched(
        self, key: bytes, reads: Sequence[Command], decide: Callable[[list[Reply]], list[Command]]
    ) -> list[Reply]:
        """Send commands that begin with WATCH, then those that `decide` makes of their replies.

        All on one connection, which nobody else uses meanwhile: two round trips. On a cluster it is
        a connection to the node that has `key`.
        """

        def decide_on(found: list[Reply]) -> tuple[bytes, int]:
            check(found, expect(map(shape_of, reads)))
            commands = decide(found)
            return pack(commands), len(commands)

        try:
            if self.is_cluster:
                handle = self._node(self.redis.get_node_from_key(key))
                return handle.send_watched(key, reads, decide)
            return exchange_watched(self.connections, pack(reads), len(reads), decide_on)
        except FAILURES as error:
            raise cache_unavailable(error) from error


class _ClientRegistry:
    """The handles and connections of this process, until the setting ``CACHES`` changes."""

    def __init__(self) -> None:
        self.version = 0
        """The number of changes of the setting; handles with another number are outdated."""

        self._connections: dict[tuple[Any, bool], Connections] = {}
        setting_changed.connect(self._forget)

    def connections(self, pool: Any, *, keep: bool) -> Connections:
        """Return the `Connections` of the pool, the same for all its clients.

        Two entries of ``CACHES`` with the same LOCATION have two clients and one pool.
        """
        known = self._connections.get((pool, keep))
        if known is None:
            if len(self._connections) >= _MAX_CLIENTS:
                self._connections = {}
            known = self._connections.setdefault((pool, keep), Connections(pool, keep=keep))
        return known

    def _forget(self, *, setting: str, **_: object) -> None:
        if setting == "CACHES":
            self.version += 1
            _handle_for.cache_clear()
            self._connections = {}


registry = _ClientRegistry()


def _connections(pool: Any) -> Connections:
    return registry.connections(pool, keep=False)


_handle_for = lru_cache(_MAX_CLIENTS)(ClientHandle)


def handle_for(alias: str, *, write: bool, keep: bool) -> ClientHandle:
    """Return the handle of a client of ``CACHES[alias]``, the same for all callers.

    That of the primary if it is to `write`, else maybe that of a replica. Raises
    `CacheUnavailable` if the client cannot be made, `ImproperlyConfigured` if the entry is wrong or
    has no raw client, and `ImportError` if it names a class that is missing.
    """
    try:
        return _handle_for(get_redis_connection(alias, write), registry.version, keep)
    except _ERRORS as error:
        raise cache_unavailable(error) from error
    except (LookupError, TypeError, ValueError) as error:  # such as its address or its options
        raise ImproperlyConfigured(
            f"CACHES['{alias}'] is wrong: no client of Redis can be made with it."
        ) from error
    except (AttributeError, NotImplementedError):
        # The first is what django-redis makes the second of; it may also be a factory's mistake.
        if hasattr(getattr(caches[alias], "client", None), "get_client"):
            raise
        raise ImproperlyConfigured(
            f"CACHES['{alias}'] has no raw Redis client; "
            "use django_redis.cache.RedisCache with its default, Sentinel or herd client."
        ) from None


def cache_unavailable(error: Exception) -> CacheUnavailable:
    """Return the error that callers get for one of redis-py's, without the text of that one."""
    reason = next((reason for kinds, reason in _REASONS if isinstance(error, kinds)), Reason.OTHER)
    return CacheUnavailable(
        "The cache is not available at the moment; try again shortly.", reason=reason
    )


def raise_server_errors(replies: list[Reply]) -> list[Reply]:
    """Return the replies; raises `CacheUnavailable` for an error that is not about the data."""
    if not DATA_TYPES.issuperset(map(type, replies)):  # has_error(), without a call
        for reply in replies:
            if isinstance(reply, Exception) and not is_wrong_type(reply):
                raise cache_unavailable(reply) from reply
    return replies


def raise_all_errors(replies: list[Reply]) -> list[Reply]:
    """Return the replies; raises `CacheUnavailable` if one of them is an error."""
    if has_error(replies):
        for reply in replies:
            if isinstance(reply, Exception):
                raise cache_unavailable(reply) from reply
    return replies
