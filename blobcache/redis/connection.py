"""The narrow way to Redis: batches of commands in, plain replies out.

Everything this app says to Redis goes through `Server`, on the client and the connection pool that
django-redis keeps for an entry of ``CACHES``. Replies are bytes whatever the entry's
``decode_responses`` says. Whatever keeps Redis from working becomes `CacheUnavailable`; a key of
the wrong type is data, and comes back as a reply.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django_redis import get_redis_connection
from redis.client import NEVER_DECODE, Redis
from redis.cluster import RedisCluster
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from blobcache.exceptions import CacheUnavailable, CursorInvalid
from blobcache.redis.exchange import can_exchange, exchange
from blobcache.redis.wire import is_wrong_type, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.digest import Digest
    from blobcache.redis.wire import Command, Reply, Script, Template

__all__ = ["Server", "scan_position"]

_FAILURES = (RedisError, RedisClusterException, OSError)
_RAW = {NEVER_DECODE: True}
_POSITION = re.compile(r"[0-9]{1,20}")


class Server:
    """The Redis, or the cluster of them, behind one entry of ``CACHES``.

    Every method raises `CacheUnavailable` when Redis does not do what it was asked, within the
    timeouts of that entry, and `ImproperlyConfigured` when the entry has no raw client.
    """

    __slots__ = ("_primary", "alias")

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._primary: tuple[int, Any] = (-1, None)
        """The client, which threads may share, and the state of CACHES that it is of."""

    @property
    def is_cluster(self) -> bool:
        """Whether keys may lie in slots that no script and no transaction spans."""
        return _is_cluster(self._client())

    def batch(self, commands: Sequence[Command]) -> list[Reply]:
        """Run the commands one after another: one round trip, on a cluster one a node."""
        return _checked(_send(self._client(), commands, repeatable=True))

    def ask(
        self,
        template: Template,
        digests: Sequence[Digest],
        first: Sequence[Command] = (),
        *,
        replica: bool = False,
    ) -> list[Reply]:
        """Run the commands of `first`, then those of the template for each of the digests.

        One round trip, on a cluster one a node. A `replica` may be asked, if there is one.
        """
        client = self._client(write=not replica)
        if not can_exchange(client):
            commands = [command for digest in digests for command in template.commands(digest)]
            return _checked(_pipe(client, [*first, *commands]))
        packed = b"".join([pack(first), *map(template.pack, digests)])
        count = len(first) + template.count * len(digests)
        return _checked(_exchange(client, packed, count, repeatable=True))

    def transaction(self, *phases: Sequence[Command]) -> list[Reply]:
        """Run the commands of all phases isolated from other clients: one round trip.

        On a cluster, where nothing isolates keys of several slots, each phase is a batch that is
        done before the next begins.
        """
        client = self._client()
        if _is_cluster(client):
            return [reply for phase in phases for reply in _checked(_pipe(client, phase))]
        commands = [command for phase in phases for command in phase]
        replies = _checked(_send(client, [("MULTI",), *commands, ("EXEC",)], repeatable=False))
        return _checked(cast("list[Reply]", replies[-1]))

    def script(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Reply:
        """Run the script: one round trip, two where Redis does not know it yet.

        On a cluster the keys must share a slot.
        """
        client = self._client()
        operands = (len(keys), *keys, *args)
        (reply,) = _send(client, [("EVALSHA", script.sha, *operands)], repeatable=False)
        if isinstance(reply, NoScriptError):
            (reply,) = _send(client, [("EVAL", script.body, *operands)], repeatable=False)
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
            if _is_cluster(client):
                nodes = {each.name: each for each in client.get_primaries()}
                names = sorted(nodes)
                name = node or names[0]
                if name not in nodes:
                    raise CursorInvalid("The cursor belongs to a cluster that has changed since.")
                at, found = client.execute_command(*command, target_nodes=nodes[name], **_RAW)
                at = at[name]
                following = names[names.index(name) + 1 :]
            else:
                name, following = "", []
                at, found = client.execute_command(*command, **_RAW)
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
            if _is_cluster(client):
                primaries = client.get_primaries()
                answers = [client.info(section, target_nodes=node) for node in primaries]
            else:
                answers = [client.info(section)]
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
            if _is_cluster(client):
                primaries = client.get_primaries()
                answers = [client.config_get(pattern, target_nodes=node) for node in primaries]
            else:
                answers = [client.config_get(pattern)]
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
            processes = [node.name for node in self._client().get_primaries()]
        return " ".join(sorted(processes))

    def _client(self, *, write: bool = True) -> Any:
        """The entry's `Redis` or `RedisCluster`, which share no type."""
        if not write:
            return self._connect(write=False)
        state, client = self._primary
        if state != _caches.state:
            client = self._connect(write=True)
            self._primary = _caches.state, client
        return client

    def _connect(self, *, write: bool) -> Any:
        try:
            return get_redis_connection(self.alias, write)
        except NotImplementedError:
            raise ImproperlyConfigured(
                f"CACHES['{self.alias}'] has no raw Redis client; "
                "use django_redis.cache.RedisCache with its default, Sentinel or herd client."
            ) from None
        except _FAILURES as error:
            raise _unavailable(error) from error


class _Caches:
    """Counts the changes of the setting ``CACHES``, of which tests make many."""

    def __init__(self) -> None:
        self.state = 0
        setting_changed.connect(self._changed)

    def _changed(self, *, setting: str, **_: object) -> None:
        self.state += setting == "CACHES"


_caches = _Caches()


def scan_position(cursor: str) -> int:
    """What ``SCAN`` and its kin take for a cursor, empty at the beginning.

    Raises `CursorInvalid` if they never gave it out.
    """
    if cursor and not _POSITION.fullmatch(cursor):
        raise CursorInvalid("The cursor is not one that this listing gave out.")
    return int(cursor or "0")


def _is_cluster(client: Any) -> bool:
    # redis-py's own isinstance takes a microsecond to say no.
    return type(client) is not Redis and isinstance(client, RedisCluster)


def _send(client: Any, commands: Sequence[Command], *, repeatable: bool) -> list[Reply]:
    """Send the commands together; an error that is about one stands in place of its reply."""
    if can_exchange(client):
        return _exchange(client, pack(commands), len(commands), repeatable=repeatable)
    return _pipe(client, commands)


def _exchange(client: Any, packed: bytes, count: int, *, repeatable: bool) -> list[Reply]:
    try:
        return exchange(client, packed, count, repeatable=repeatable)
    except _FAILURES as error:
        raise _unavailable(error) from error


def _pipe(client: Any, commands: Sequence[Command]) -> list[Reply]:
    """`_send` for a client of any kind, and the only way to a cluster."""
    try:
        with client.pipeline(transaction=False) as pipe:
            # Replies as they come: a callback would try to make sense of a QUEUED.
            pipe.response_callbacks = {}
            for command in commands:
                pipe.execute_command(*command, **_RAW)
            return cast("list[Reply]", pipe.execute(raise_on_error=False))
    except _FAILURES as error:
        raise _unavailable(error) from error


def _checked(replies: list[Reply]) -> list[Reply]:
    """The replies, unless one of them is an error that is not about the data."""
    for reply in replies:
        if isinstance(reply, Exception) and not is_wrong_type(reply):
            raise _unavailable(reply) from reply
    return replies


def _unavailable(error: Exception) -> CacheUnavailable:
    return CacheUnavailable("The cache is not available at the moment; try again shortly.")
