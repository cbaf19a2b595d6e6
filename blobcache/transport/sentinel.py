"""Leave a primary that Sentinels have replaced while it still answers.

redis-py asks the Sentinels for the primary only when it opens a connection. After a partition, or a
failover that somebody asked for, a former primary keeps its clients until the Sentinels make it a
replica, some ten seconds later. The writes that it confirms until then are lost. So the app asks
once a second. If the answer is new, redis-py closes the idle connections of the pool at once, and
the others when they are given back.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from blobcache.transport.guarded import guard

__all__ = ["ASK_SECONDS", "PrimaryWatch", "limit_sentinels"]

ASK_SECONDS = 1.0
"""Seconds after which a process asks again which server is the primary."""

SILENT_SECONDS = 30.0
"""The same if no Sentinel answers: then a call waits for the timeout each time."""


class PrimaryWatch:
    """Asks the Sentinels of a pool for the primary, once a second."""

    __slots__ = ("_next", "_pool")

    def __init__(self, pool: SentinelConnectionPool) -> None:
        self._pool = pool
        self._next = 0.0

    @classmethod
    def of(cls, pool: Any) -> PrimaryWatch | None:
        """Return the watch for a pool; None if it does not connect to the primary of Sentinels."""
        return cls(pool) if isinstance(pool, SentinelConnectionPool) and pool.is_master else None

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return monotonic() >= self._next

    def look(self) -> None:
        """Ask if it is time: one round trip to a Sentinel. If that fails, nothing is raised."""
        now = monotonic()
        if now < self._next:
            return
        self._next = now + ASK_SECONDS  # first, so that other threads do not ask too
        try:
            self._pool.get_master_address()
        except (RedisError, OSError):
            self._next = now + SILENT_SECONDS


def limit_sentinels(pool: Any) -> None:
    """Limit the time that a pool waits for its Sentinels, if it has any.

    Each is asked once, unless ``SENTINEL_KWARGS`` contains a ``retry``. By itself, redis-py would
    wait for a silent one four times, with pauses of seconds, before it asks the next one.
    """
    if not isinstance(pool, SentinelConnectionPool):
        return
    manager = pool.sentinel_manager
    for sentinel in manager.sentinels:
        guard(sentinel.connection_pool)
        if "retry" not in manager.sentinel_kwargs:
            sentinel.set_retry(Retry(NoBackoff(), 0))
