"""Commands to a cluster: each to the node of its key's slot, all nodes at once.

redis-py's own pipeline for clusters sends a command again if its reply is lost, even if the retry
policy forbids it. A second clear would find nothing, and a second set would report what the first
one wrote. So this module sends the commands itself, over the connections of the nodes' pools. It
follows redirections, since a command that is redirected was not carried out.
"""

from __future__ import annotations

from contextlib import suppress
from os import getpid
from threading import Event
from time import monotonic, sleep
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

from blobcache.transport import private
from blobcache.transport.exchange import read_reply
from blobcache.transport.guarded import limit
from blobcache.transport.packing import pack
from blobcache.transport.shapes import check, expect, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from blobcache.transport.held import Connections
    from blobcache.transport.packing import Command

__all__ = [
    "ASKING",
    "MAX_ROUNDS",
    "PATIENCE",
    "PAUSE",
    "Pending",
    "key_of",
    "refresh",
    "send_to_nodes",
]

MAX_ROUNDS = 16
"""How often a command that is redirected each time is sent, the first time included."""

PAUSE = 0.05
"""Seconds to wait for a slot whose keys are being moved to another node."""

PATIENCE = 0.5
"""Seconds that a thread waits for another one that asks the nodes for their slots."""

_MAX_SECONDS = 30.0
"""Seconds after which another thread no longer counts as asking: maybe it was interrupted."""

ASKING: Command = ("ASKING",)
"""Lets the next command use a slot that the node is importing."""

_FAILURES = (RedisError, RedisClusterException, OSError)


class Pending(NamedTuple):
    """A command whose reply is still missing."""

    place: int
    """Where the reply belongs."""

    slot: int
    command: Command
    importer: Any = None
    """The node that is importing the slot, if it must be asked instead of the slot's own."""


class _Batch:
    """The commands of one round for one node, and the connection that they are sent over."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.pending: list[Pending] = []
        self.connections: Connections
        self.connection: Any = None

    def take(self, connections: Connections) -> None:
        self.connections = connections
        self.connection = connections.take()

    def send(self) -> None:
        commands: list[Command] = []
        for each in self.pending:
            commands += [each.command] if each.importer is None else [ASKING, each.command]
        limit(self.connection, together=True)
        self.connection.send_packed_command((pack(commands),))

    def receive(self) -> list[Any]:
        replies = []
        for each in self.pending:
            asked = None if each.importer is None else read_reply(self.connection)
            reply = read_reply(self.connection)
            # If ASKING is refused, the second reply is only a redirection back to the slot's node.
            replies.append(asked if isinstance(asked, Exception) else reply)
        check(replies, expect(shape_of(each.command) for each in self.pending))
        return replies

    def end(self, *, is_clean: bool) -> None:
        """Give the connection back, closed if its replies were not all read."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if is_clean:
            limit(connection, together=False)
            self.connections.keep(connection)
        else:
            self.connections.drop(connection)


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
    pending = [
        Pending(place, cluster.keyslot(key_of(command)), command)
        for place, command in enumerate(commands)
    ]
    for _ in range(MAX_ROUNDS):
        batches = _by_node(cluster, pending, replica=replica)
        pending, replica = [], False
        errors: dict[tuple[type[Exception], int], Any] = {}
        for each, reply in _exchange(cluster, batches, connections_of):
            replies[each.place] = reply
            if isinstance(reply, AskError | TryAgainError | ClusterDownError):
                errors[type(reply), each.slot] = reply
                if not isinstance(reply, ClusterDownError):
                    pending.append(each._replace(importer=_importer(cluster, reply)))
        if errors:
            _learn(cluster, errors.values())
        if not pending:
            break
    return replies


def _learn(cluster: Any, errors: Iterable[Exception]) -> None:
    """Prepare the client for the next round, according to the errors of this one."""
    for error in errors:
        if isinstance(error, MovedError):
            private.move_slot(cluster, error)
    kinds = set(map(type, errors))
    if ClusterDownError in kinds:  # maybe only this node is down, or has left the cluster
        refresh(cluster)
    if TryAgainError in kinds:
        sleep(PAUSE)


def _by_node(cluster: Any, pending: Sequence[Pending], *, replica: bool) -> list[_Batch]:
    batches: dict[str, _Batch] = {}
    for each in pending:
        node = each.importer or _node_of(cluster, each.slot, replica=replica)
        batches.setdefault(node.name, _Batch(node)).pending.append(each)
    return list(batches.values())


def _exchange(
    cluster: Any, batches: Sequence[_Batch], connections_of: Callable[[Any], Connections]
) -> list[tuple[Pending, Any]]:
    """Send to all nodes, then receive from all: one round trip."""
    answers: list[tuple[Pending, Any]] = []
    current = None
    try:
        for current in batches:
            pool = cluster.get_redis_connection(current.node).connection_pool
            current.take(connections_of(pool))
        for current in batches:
            current.send()
        for current in batches:
            answers += zip(current.pending, current.receive(), strict=True)
            current.end(is_clean=True)
    except BaseException as error:
        for batch in batches:
            batch.end(is_clean=False)
        if isinstance(error, _FAILURES) and not isinstance(error, MaxConnectionsError):
            refresh(cluster, None if current is None else current.node.name)
        raise
    answers.sort(key=lambda answer: answer[0].place)
    return answers


_KEY_PLACES: Mapping[bytes | str, int] = {"EVAL": 3, "EVALSHA": 3, "MEMORY": 2, "OBJECT": 2}
"""Where the key is in a command; the second word of all others."""


def key_of(command: Command) -> bytes | str | int:
    """The key that determines the node: the first one; all others must be in the same slot."""
    return command[_KEY_PLACES.get(command[0], 1)]


def _node_of(cluster: Any, slot: int, *, replica: bool) -> Any:
    try:
        return private.node_of_slot(cluster, slot, replica=replica)
    except SlotNotCoveredError:
        refresh(cluster)
        return private.node_of_slot(cluster, slot, replica=replica)


def _importer(cluster: Any, error: Exception) -> Any:
    """The node that an `AskError` names, which may be new; None for other errors."""
    if not isinstance(error, AskError) or isinstance(error, MovedError):  # which is a subclass
        return None
    node = cluster.get_node(host=error.host, port=error.port)
    if node is None:
        refresh(cluster)
        node = cluster.get_node(host=error.host, port=error.port)
    if node is None:
        raise RedisClusterException("A node redirected a command to a node that no other knows.")
    return node


class _Refresh(NamedTuple):
    """A thread that asks the nodes which of them has which slots."""

    pid: int
    until: float
    done: Event

    @property
    def is_running(self) -> bool:
        """Whether the thread is still asking; a forked process does not have it."""
        return self.pid == getpid() and not self.done.is_set() and monotonic() < self.until


_refreshes: WeakKeyDictionary[Any, _Refresh] = WeakKeyDictionary()


def refresh(cluster: Any, failed: str | None = None) -> None:
    """Ask the nodes which of them has which slots; ask the `failed` one last.

    If another thread is asking, wait a moment for it instead. redis-py itself would let one thread
    after another ask, and if no node answers, each would wait for the timeouts of all nodes.
    """
    last = _refreshes.get(cluster)
    if last is not None and last.is_running:
        last.done.wait(PATIENCE)
        return
    own = _refreshes[cluster] = _Refresh(getpid(), monotonic() + _MAX_SECONDS, Event())
    try:
        with suppress(*_FAILURES):
            private.refresh_slots(cluster, failed)
    finally:
        own.done.set()
