"""Commands to a cluster: each to the node of its key's slot, all nodes at once.

redis-py's own pipeline for clusters sends a command again if its reply is lost, even if the retry
policy forbids it. A second clear would find nothing, and a second set would report what the first
one wrote. So this module sends the commands itself, over the connections of the nodes' pools. It
follows redirections, since a command that is redirected was not carried out.

redis-py's documentation does not mention these public names, and there is no documented way:

| name | why |
|---|---|
| `RedisCluster.nodes_manager.initialize` | ask the nodes which of them has which slots |
| `RedisCluster.retry`, `read_from_replicas` | what the entry of ``CACHES`` has configured |
"""

from __future__ import annotations

from contextlib import suppress
from os import getpid
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MaxConnectionsError,
    MovedError,
    RedisClusterException,
    RedisError,
    SlotNotCoveredError,
    TryAgainError,
)

from blobcache.transport.connections import Deadline, read_reply
from blobcache.transport.packing import pack
from blobcache.transport.shapes import check, expect, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from blobcache.transport.connections import Connections
    from blobcache.transport.packing import Command

__all__ = ["MAX_ROUNDS", "PATIENCE", "refresh", "send_to_nodes"]

MAX_ROUNDS = 16
"""How often a command that is redirected each time is sent, the first time included."""

_PAUSE = 0.05
"""Seconds to wait for a slot whose keys are being moved to another node."""

PATIENCE = 0.5
"""Seconds that a thread waits for another one that asks the nodes for their slots."""

_ASKING: Command = ("ASKING",)
"""Lets the next command use a slot that the node is importing."""

_FAILURES = (RedisError, RedisClusterException, OSError)


class _Pending(NamedTuple):
    """A command whose reply is still missing."""

    place: int
    """Where the reply belongs."""

    command: Command
    node: Any = None
    """The node that a redirection named; None for the one that has the slot."""

    is_asking: bool = False
    """Whether that node is still importing the slot."""


class _Batch:
    """The commands of one round for one node, and the connection that they are sent over."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.pending: list[_Pending] = []
        self.connection: Any = None

    def send(self) -> None:
        commands: list[Command] = []
        for each in self.pending:
            commands += [_ASKING, each.command] if each.is_asking else [each.command]
        self.connection.send_packed_command((pack(commands),))

    def receive(self, deadline: Deadline) -> list[Any]:
        replies = []
        for each in self.pending:
            deadline.check()
            asked = read_reply(self.connection) if each.is_asking else None
            reply = read_reply(self.connection)
            # If ASKING is refused, the second reply is only a redirection back to the slot's node.
            replies.append(asked if isinstance(asked, Exception) else reply)
        check(replies, expect(shape_of(each.command) for each in self.pending))
        return replies

    def end(self, *, is_clean: bool) -> None:
        """Give the connection back, closed if its replies were not all read."""
        connection, self.connection = self.connection, None
        if connection is not None:
            (self.connections.give_back if is_clean else self.connections.drop)(connection)


def send_to_nodes(
    cluster: Any,
    commands: Sequence[Command],
    connections_of: Callable[[Any], Connections],
    *,
    repeatable: bool,
    replica: bool,
) -> list[Any]:
    """Send commands and return their replies, an error in place of its reply.

    One round trip, and one more for each redirection. Raises redis-py's errors if a reply does not
    arrive; then other commands may have been carried out. Commands that are not `repeatable` are
    sent once, whatever the client's retry policy says. With `replica` a replica may be asked, if
    the client is configured for that.
    """
    replica = replica and cluster.read_from_replicas

    def attempt() -> list[Any]:
        return _send_and_follow(cluster, commands, connections_of, replica=replica)

    if not repeatable:
        return attempt()
    replies: list[Any] = cluster.retry.call_with_retry(attempt, lambda _: None)
    return replies


def _send_and_follow(
    cluster: Any,
    commands: Sequence[Command],
    connections_of: Callable[[Any], Connections],
    *,
    replica: bool,
) -> list[Any]:
    """Send all commands once; send those again that were redirected."""
    replies: list[Any] = [None] * len(commands)
    pending = [_Pending(place, command) for place, command in enumerate(commands)]
    for _ in range(MAX_ROUNDS):
        batches: dict[str, _Batch] = {}
        for each in pending:
            node = each.node or _node_of(cluster, each.command, replica=replica)
            if node.name not in batches:
                pool = cluster.get_redis_connection(node).connection_pool
                batches[node.name] = _Batch(connections_of(pool))
            batches[node.name].pending.append(each)
        answers = _exchange(cluster, list(batches.values()))
        pending, replica = [], False
        for each, reply in answers:
            replies[each.place] = reply
            if isinstance(reply, AskError | TryAgainError):  # MovedError is an AskError
                pending.append(each)
        redirected = [replies[each.place] for each in pending]
        if any(isinstance(reply, MovedError | ClusterDownError) for _, reply in answers):
            refresh(cluster)  # of a cluster that is down, maybe only this node is, or has left it
        if TryAgainError in map(type, redirected):
            sleep(_PAUSE)
        pending = [
            _redirected(cluster, each, reply)
            for each, reply in zip(pending, redirected, strict=True)
        ]
        if not pending:
            break
    return replies


def _exchange(cluster: Any, batches: Sequence[_Batch]) -> list[tuple[_Pending, Any]]:
    """Send to all nodes, then receive from all: one round trip."""
    answers: list[tuple[_Pending, Any]] = []
    try:
        for batch in batches:
            batch.connection = batch.connections.take()
        deadline = Deadline(batches[0].connection)
        for batch in batches:
            batch.send()
        for batch in batches:
            answers += zip(batch.pending, batch.receive(deadline), strict=True)
            batch.end(is_clean=True)
    except BaseException as error:
        for batch in batches:
            batch.connections.note(error)
            batch.end(is_clean=False)
        if isinstance(error, _FAILURES) and not isinstance(error, MaxConnectionsError):
            refresh(cluster)
        raise
    answers.sort(key=lambda answer: answer[0].place)
    return answers


_KEY_PLACES: Mapping[bytes | str, int] = {"EVAL": 3, "EVALSHA": 3, "MEMORY": 2, "OBJECT": 2}
"""Where the key is in a command; the second word of all others."""


def _node_of(cluster: Any, command: Command, *, replica: bool) -> Any:
    """The node of the command's first key; all others must be in the same slot."""
    key = command[_KEY_PLACES.get(command[0], 1)]
    try:
        found = cluster.get_node_from_key(key, replica=True) if replica else None
        return found or cluster.get_node_from_key(key)
    except SlotNotCoveredError:
        refresh(cluster)
        return cluster.get_node_from_key(key)


def _redirected(cluster: Any, pending: _Pending, error: Exception) -> _Pending:
    """Return what to send after a redirection, which may name a node that is new."""
    if not isinstance(error, AskError):
        return pending  # the same again, after a pause
    node = cluster.get_node(host=error.host, port=error.port)
    if node is None:
        refresh(cluster)
        node = cluster.get_node(host=error.host, port=error.port)
    if node is None:
        raise RedisClusterException("A node redirected a command to a node that no other knows.")
    return pending._replace(node=node, is_asking=not isinstance(error, MovedError))


_locks: WeakKeyDictionary[Any, tuple[int, Lock]] = WeakKeyDictionary()
"""For each cluster, the process that made the lock, and the lock of the thread that refreshes."""


def refresh(cluster: Any) -> None:
    """Ask the nodes which of them has which slots. Raises nothing of redis-py's.

    If another thread is asking, wait a moment for it instead. redis-py itself would let one thread
    after another ask, and if no node answers, each would wait for the timeouts of all nodes.
    """
    pid, lock = _locks.get(cluster) or (0, Lock())
    if pid != getpid():  # a forked process does not have the thread that holds it
        pid, lock = _locks[cluster] = getpid(), Lock()
    if not lock.acquire(blocking=False):
        if lock.acquire(timeout=PATIENCE):
            lock.release()
        return
    try:
        with suppress(*_FAILURES):
            cluster.nodes_manager.initialize()
    finally:
        lock.release()
