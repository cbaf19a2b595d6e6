"""Commands to a cluster on asyncio: each to the node of its key's slot, all nodes at once.

This is `blobcache.transport.cluster` for coroutines. It uses the same client of redis-py for what
that knows of slots and nodes, and follows redirections in the same way. Whatever makes the client
ask the nodes again runs in a thread, once for all callers of an event loop that need it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisClusterException,
    SlotNotCoveredError,
    TryAgainError,
)

from blobcache.exceptions import CacheUnavailable
from blobcache.transport import private
from blobcache.transport.aio.multiplexer import multiplexer_of, once
from blobcache.transport.clients import cache_unavailable
from blobcache.transport.cluster import (
    ASKING,
    MAX_ROUNDS,
    PATIENCE,
    PAUSE,
    Pending,
    key_of,
    refresh,
)
from blobcache.transport.packing import pack
from blobcache.transport.shapes import expect, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blobcache.transport.packing import Command, Reply

__all__ = ["send_to_nodes"]


async def send_to_nodes(
    cluster: Any, commands: Sequence[Command], *, replica: bool = False
) -> list[Reply]:
    """Send commands once and return their replies, an error in place of its reply.

    One round trip, and one more for each redirection. Raises `CacheUnavailable` if a reply does not
    arrive; then other commands may have been carried out. With `replica` a replica may be asked, if
    the client is configured for that.
    """
    replies: list[Reply] = [None] * len(commands)
    pending = [
        Pending(place, cluster.keyslot(key_of(command)), command)
        for place, command in enumerate(commands)
    ]
    for _ in range(MAX_ROUNDS):
        batches = await _by_node(cluster, pending, replica=replica)
        pending, replica = [], False
        errors: dict[tuple[type[Exception], int], Any] = {}
        for each, reply in await _exchange_all(cluster, batches):
            replies[each.place] = reply
            if isinstance(reply, AskError | TryAgainError | ClusterDownError):
                errors[type(reply), each.slot] = reply
                if not isinstance(reply, ClusterDownError):
                    importer = await _importer(cluster, reply)
                    pending.append(each._replace(importer=importer))
        if errors:
            await _learn(cluster, errors.values())
        if not pending:
            break
    return replies


async def _by_node(
    cluster: Any, pending: Sequence[Pending], *, replica: bool
) -> list[tuple[Any, list[Pending]]]:
    batches: dict[str, tuple[Any, list[Pending]]] = {}
    for each in pending:
        node = each.importer or await _node_of(cluster, each.slot, replica=replica)
        batches.setdefault(node.name, (node, []))[1].append(each)
    return list(batches.values())


async def _exchange_all(
    cluster: Any, batches: Sequence[tuple[Any, list[Pending]]]
) -> list[tuple[Pending, Reply]]:
    """Send to all nodes at once, and return what each command got."""
    answers: list[tuple[Pending, Reply]] = []
    failure: CacheUnavailable | None = None
    exchanges = [_exchange(cluster, node, batch) for node, batch in batches]
    found = await asyncio.gather(*exchanges, return_exceptions=True)
    for (node, batch), replies in zip(batches, found, strict=True):
        if isinstance(replies, CacheUnavailable):
            failure = failure or replies
            await _refresh(cluster, node.name)
        elif isinstance(replies, BaseException):
            raise replies
        else:
            answers += zip(batch, replies, strict=True)
    if failure is not None:
        raise failure
    answers.sort(key=lambda answer: answer[0].place)
    return answers


async def _exchange(cluster: Any, node: Any, batch: Sequence[Pending]) -> list[Reply]:
    sent: list[Command] = []
    for each in batch:
        sent += [each.command] if each.importer is None else [ASKING, each.command]
    pool = cluster.get_redis_connection(node).connection_pool
    came = await multiplexer_of(pool).exchange(pack(sent), expect(map(shape_of, sent)))
    unread = iter(came)
    replies: list[Reply] = []
    for each in batch:
        asked = None if each.importer is None else next(unread)
        reply = next(unread)
        # If ASKING is refused, the second reply is only a redirection back to the slot's node.
        replies.append(asked if isinstance(asked, Exception) else reply)
    return replies


async def _learn(cluster: Any, errors: Iterable[Exception]) -> None:
    """Prepare the client for the next round, according to the errors of this one."""
    for error in errors:
        if isinstance(error, MovedError):
            key = (cluster, error.slot_id, error.node_addr)
            await _wait_for(once(key, partial(private.move_slot, cluster, error)))
    kinds = set(map(type, errors))
    if ClusterDownError in kinds:  # maybe only this node is down, or has left the cluster
        await _refresh(cluster)
    if TryAgainError in kinds:
        await asyncio.sleep(PAUSE)


async def _node_of(cluster: Any, slot: int, *, replica: bool) -> Any:
    try:
        return private.node_of_slot(cluster, slot, replica=replica)
    except SlotNotCoveredError:
        await _refresh(cluster)
    try:
        return private.node_of_slot(cluster, slot, replica=replica)
    except SlotNotCoveredError as error:
        raise cache_unavailable(error) from error


async def _importer(cluster: Any, error: Exception) -> Any:
    """The node that an `AskError` names, which may be new; None for other errors."""
    if not isinstance(error, AskError) or isinstance(error, MovedError):  # which is a subclass
        return None
    node = cluster.get_node(host=error.host, port=error.port)
    if node is None:
        await _refresh(cluster)
        node = cluster.get_node(host=error.host, port=error.port)
    if node is None:
        unknown = RedisClusterException("A node redirected a command to an unknown node.")
        raise cache_unavailable(unknown) from unknown
    return node


async def _refresh(cluster: Any, failed: str | None = None) -> None:
    """Ask the nodes which of them has which slots, and wait a moment for the answer."""
    await _wait_for(once((cluster, "slots"), partial(refresh, cluster, failed)))


async def _wait_for(running: asyncio.Future[None]) -> None:
    """Wait a moment until it has ended; if it fails, what follows does."""
    await asyncio.wait([running], timeout=PATIENCE)
