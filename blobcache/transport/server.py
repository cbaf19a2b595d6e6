"""The narrow way to Redis: batches of commands in, plain replies out.

Everything this app says to Redis goes through `Server`, on the client and the connection pool that
django-redis keeps for an entry of ``CACHES``. Replies are bytes whatever the entry's
``decode_responses`` says. Whatever keeps Redis from working becomes `CacheUnavailable`; a key of
the wrong type is data, and comes back as a reply.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django_redis import get_redis_connection
from redis.client import NEVER_DECODE
from redis.cluster import RedisCluster
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from blobcache.exceptions import CacheUnavailable, CursorInvalid
from blobcache.transport.exchange import can_exchange, exchange
from blobcache.transport.held import Connections
from blobcache.transport.packing import Packed, has_error, is_wrong_type, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.digest import Digest
    from blobcache.transport.packing import Call, Command, Reply, Script, Template

__all__ = ["Server", "scan_position"]

_FAILURES = (RedisError, RedisClusterException, OSError)
_RAW = {NEVER_DECODE: True}
_CLIENTS = 128
"""Clients that are remembered: an entry of ``CACHES`` has one, and one for each replica."""

_MULTI: Call = (Packed([("MULTI",)]), ())
_EXEC: Call = (Packed([("EXEC",)]), ())
_MAX_DIGITS = 20
"""Digits of the longest position in a scan, which is an unsigned number of 64 bits."""


class Server:
    """The Redis, or the cluster of them, behind one entry of ``CACHES``.

    Every method raises `CacheUnavailable` when Redis does not do what it was asked, within the
    timeouts of that entry, and `ImproperlyConfigured` when the entry has no raw client.
    """

    __slots__ = ("_holds", "_primary", "alias")

    def __init__(self, alias: str, *, hold: bool = True) -> None:
        """With `hold` threads may hold connections from call to call; see `Connections`."""
        self.alias = alias
        self._holds = hold
        self._primary: _Client | None = None
        """The client, which threads may share."""

    @property
    def is_cluster(self) -> bool:
        """Whether keys may lie in slots that no script and no transaction spans."""
        return self._client().is_cluster

    def batch(self, commands: Sequence[Command], *, own: bool = False) -> list[Reply]:
        """Run the commands one after another: one round trip, on a cluster one a node.

        With `own`, the keys are this app's own, and one of the wrong type raises `CacheUnavailable`
        too. Without it, that is a reply like any other.
        """
        replies = _checked(self._client().send([(Packed(commands), ())], repeatable=True))
        return _without_errors(replies) if own else replies

    def ask(self, template: Template, digest: Digest, *, replica: bool = False) -> list[Reply]:
        """Run the template's commands for the digest: one round trip, on a cluster one a node.

        A `replica` may be asked, if there is one.
        """
        client = self._client(write=not replica)
        if not client.is_packed:
            return _checked(client.pipe(template.commands(digest)))
        return _checked(client.exchange(template.pack(digest), template.count, repeatable=True))

    def ask_many(
        self,
        template: Template,
        digests: Sequence[Digest],
        first: Sequence[Command] = (),
        *,
        replica: bool = False,
    ) -> list[Reply]:
        """Run the commands of `first`, then those of the template for each digest; as `ask`."""
        client = self._client(write=not replica)
        if not client.is_packed:
            commands = [command for digest in digests for command in template.commands(digest)]
            return _checked(client.pipe([*first, *commands]))
        packed = b"".join([pack(first), *map(template.pack, digests)])
        count = len(first) + template.count * len(digests)
        return _checked(client.exchange(packed, count, repeatable=True))

    def transaction(self, *phases: Sequence[Call]) -> list[Reply]:
        """Run the commands of all phases isolated from other clients: one round trip.

        On a cluster, where nothing isolates keys of several slots, each phase is a batch that is
        done before the next begins.
        """
        client = self._client()
        if client.is_cluster:
            return [
                reply
                for phase in phases
                for reply in _checked(client.send(phase, repeatable=False))
            ]
        calls = [_MULTI]
        for phase in phases:
            calls += phase
        calls.append(_EXEC)
        replies = _checked(client.send(calls, repeatable=False))
        return _checked(cast("list[Reply]", replies[-1]))

    def script(
        self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | str | int] = ()
    ) -> Reply:
        """Run the script: one round trip, two where Redis does not know it yet.

        On a cluster the keys must share a slot. Raises `CacheUnavailable` too if a key has the
        wrong type and the script does not handle that.
        """
        return _without_errors([self.call(script, (Packed([script.call(keys, args)]), ()))])[0]

    def call(self, script: Script, call: Call) -> Reply:
        """Run the script, likewise, by a call of its own."""
        client = self._client()
        (reply,) = client.send([call], repeatable=False)
        if isinstance(reply, NoScriptError):
            template, values = call
            (command,) = template.commands(*values)
            whole = Packed([script.call_in_full(command)])
            (reply,) = client.send([(whole, ())], repeatable=False)
        return _checked([reply])[0]

    def scan(self, cursor: str, match: bytes, count: int) -> tuple[str, list[bytes]]:
        """Take one step through the keyspace, on the primaries; one round trip.

        Returns the cursor of the next step, empty at the end, and some keys, maybe none, maybe
        repeated. Begin with an empty cursor; one that no step gave out raises `CursorInvalid`.
        """
        client = self._client()
        node, _, position = cursor.rpartition("=")
        command = ("SCAN", scan_position(position), "MATCH", match, "COUNT", count)
        try:
            if client.is_cluster:
                nodes = {each.name: each for each in client.redis.get_primaries()}
                names = sorted(nodes)
                name = node or names[0]
                if name not in nodes:
                    raise CursorInvalid("The cursor belongs to a cluster that has changed since.")
                at, found = client.redis.execute_command(*command, target_nodes=nodes[name], **_RAW)
                at = at[name]
                following = names[names.index(name) + 1 :]
            else:
                name, following = "", []
                at, found = client.redis.execute_command(*command, **_RAW)
        except _FAILURES as error:
            raise _unavailable(error) from error
        if at:
            return f"{name}={at}", found
        return (f"{following[0]}=0" if following else ""), found

    def info(self, section: str | None = None) -> list[dict[str, Any]]:
        """Return what ``INFO`` says, node by node, as redis-py reads it; one round trip each.

        All that it says of itself, or one section: before Redis 7 it takes no more. Empty where
        Redis does not allow the question.
        """
        client = self._client()
        try:
            if client.is_cluster:
                answers = [
                    client.redis.info(section, target_nodes=node)
                    for node in client.redis.get_primaries()
                ]
            else:
                answers = [client.redis.info(section)]
        except NoPermissionError:
            return []
        except _FAILURES as error:
            raise _unavailable(error) from error
        return answers

    def config(self, pattern: str) -> list[dict[str | None, str | None]]:
        """Return the server's settings of those names, node by node; one round trip each.

        Empty where Redis does not allow the question, as hosted ones often do not.
        """
        client = self._client()
        try:
            if client.is_cluster:
                answers = [
                    client.redis.config_get(pattern, target_nodes=node)
                    for node in client.redis.get_primaries()
                ]
            else:
                answers = [client.redis.config_get(pattern)]
        except ResponseError:
            return []
        except _FAILURES as error:
            raise _unavailable(error) from error
        return answers

    def identity(self) -> str:
        """Name the server process, or the cluster's: elsewhere a scan's cursor is void.

        Where Redis does not allow the question, a cluster's by their addresses, and otherwise
        empty. One round trip a node.
        """
        processes = [str(info["run_id"]) for info in self.info("server")]
        if not processes and self.is_cluster:
            processes = [node.name for node in self._client().redis.get_primaries()]
        return " ".join(sorted(processes))

    def _client(self, *, write: bool = True) -> _Client:
        client = self._primary
        if not write or client is None or client.state != _clients.state:
            client = self._connect(write=write)
            if write:
                self._primary = client
        return client

    def _connect(self, *, write: bool) -> _Client:
        try:
            return _clients.of(get_redis_connection(self.alias, write), hold=self._holds)
        except NotImplementedError:
            raise ImproperlyConfigured(
                f"CACHES['{self.alias}'] has no raw Redis client; "
                "use django_redis.cache.RedisCache with its default, Sentinel or herd client."
            ) from None
        except _FAILURES as error:
            raise _unavailable(error) from error


class _Client:
    """A client of redis-py's, and the ways to it."""

    __slots__ = ("_connections", "_redis", "is_cluster", "is_packed", "state")

    def __init__(self, redis: Any, state: int, hold: bool) -> None:  # noqa: FBT001 - cached
        self._redis = redis
        self.state = state
        """That of `_Clients` when it was made."""

        self.is_packed = can_exchange(redis)
        self.is_cluster = isinstance(redis, RedisCluster)
        if self.is_packed:
            self._connections = _clients.connections(redis.connection_pool, hold=hold)

    @property
    def redis(self) -> Any:
        """A `Redis` or a `RedisCluster`, which share no type, for methods of their own."""
        if self.is_packed:
            self._connections.rest()
        return self._redis

    def send(self, calls: Sequence[Call], *, repeatable: bool) -> list[Reply]:
        """Send it all together; an error that is about one command stands in place of its reply."""
        if not self.is_packed:
            return self.pipe(
                [command for template, values in calls for command in template.commands(*values)]
            )
        packed, count = [], 0
        for template, values in calls:
            packed.append(template.pack(*values))
            count += template.count
        return self.exchange(b"".join(packed), count, repeatable=repeatable)

    def exchange(self, packed: bytes, count: int, *, repeatable: bool) -> list[Reply]:
        """Send what is packed, the short way."""
        try:
            return exchange(self._connections, packed, count, repeatable=repeatable)
        except _FAILURES as error:
            raise _unavailable(error) from error

    def pipe(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands the way that is open to any client, and the only one to a cluster."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                # Replies as they come: a callback would try to make sense of a QUEUED.
                pipe.response_callbacks = {}
                for command in commands:
                    pipe.execute_command(*command, **_RAW)
                return cast("list[Reply]", pipe.execute(raise_on_error=False))
        except _FAILURES as error:
            raise _unavailable(error) from error


class _Clients:
    """The clients of this process, until the setting ``CACHES`` changes, as it does in tests."""

    def __init__(self) -> None:
        self.state = 0
        self._connections: dict[tuple[Any, bool], Connections] = {}
        setting_changed.connect(self._changed)

    def of(self, redis: Any, *, hold: bool) -> _Client:
        """Return the client around one of redis-py's, the same for all who ask."""
        return _client(redis, self.state, hold)

    def connections(self, pool: Any, *, hold: bool) -> Connections:
        """Return the pool's connections, of which there are one set.

        Two entries of ``CACHES`` with one LOCATION have two clients and one pool.
        """
        known = self._connections.get((pool, hold))
        if known is None:
            if len(self._connections) >= _CLIENTS:
                self._connections = {}
            known = self._connections.setdefault((pool, hold), Connections(pool, hold=hold))
        return known

    def _changed(self, *, setting: str, **_: object) -> None:
        if setting == "CACHES":
            self.state += 1
            _client.cache_clear()
            self._connections = {}


_client = lru_cache(_CLIENTS)(_Client)
_clients = _Clients()


def scan_position(cursor: str) -> int:
    """What ``SCAN`` and its kin take for a cursor, empty at the beginning.

    Raises `CursorInvalid` if they never gave it out.
    """
    if not cursor:
        return 0
    if len(cursor) > _MAX_DIGITS or not (cursor.isascii() and cursor.isdigit()):
        raise CursorInvalid("The cursor is not one that this listing gave out.")
    return int(cursor)


def _checked(replies: list[Reply]) -> list[Reply]:
    """The replies, unless one of them is an error that is not about the data."""
    if has_error(replies):
        for reply in replies:
            if isinstance(reply, Exception) and not is_wrong_type(reply):
                raise _unavailable(reply) from reply
    return replies


def _without_errors(replies: list[Reply]) -> list[Reply]:
    """The replies; raises `CacheUnavailable` if one of them is an error."""
    if has_error(replies):
        for reply in replies:
            if isinstance(reply, Exception):
                raise _unavailable(reply) from reply
    return replies


def _unavailable(error: Exception) -> CacheUnavailable:
    return CacheUnavailable("The cache is not available at the moment; try again shortly.")
