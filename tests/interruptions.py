"""Cause something at each line of a call: an exception, or a pool that is disconnected.

    for place in walked(call, interrupt):
        ...  # it happened there

Only lines of redis-py and of `blobcache.transport` count, since no other code runs between taking a
connection and giving it back. The suite tries some lines of each call; to try all takes an hour::

    DJANGO_SETTINGS_MODULE=tests.settings python -m tests.interruptions
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

import django
import pytest
import redis
from redis.connection import AbstractConnection

import blobcache.transport
from blobcache.exceptions import BlobUnknown, CacheUnavailable
from blobcache.redis import commands
from blobcache.redis.clears import CLEAR_GLOBAL
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.servers import cache_at
from tests.stores import OTHER_CLIENT, PYTHON_PARSER

__all__ = [
    "CALLS",
    "WAYS",
    "Interrupted",
    "Walk",
    "interrupt",
    "replies_are_late",
    "walked",
]

_OURS = tuple(str(Path(str(each.__file__)).parent) for each in (redis, blobcache.transport))


class Interrupted(Exception):
    """What the signal handler raises, as a task queue's time limit does."""


def interrupt() -> None:
    """Raise, as a signal handler."""
    raise Interrupted


def walked(
    call: Callable[[], object], act: Callable[[], object], *, first: int = 0, step: int = 1
) -> Iterator[tuple[str, int]]:
    """Make the call again and again, each time with `act` at another line; yield file and line.

    Begin at the `first` line and go on in steps of `step` lines. The call may end with
    `Interrupted`, `BlobUnknown` or `CacheUnavailable`.
    """
    number = first
    while place := _act_at(call, act, number):
        yield place
        number += step


def _act_at(
    call: Callable[[], object], act: Callable[[], object], number: int
) -> tuple[str, int] | None:
    """Act at that line of the call; return file and line, or None if it has fewer lines."""
    place: tuple[str, int] | None = None
    left = number

    def at_line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left, place
        if event == "line" and place is None:
            if not left:
                place = frame.f_code.co_filename, frame.f_lineno
                act()
            left -= 1
        return at_line

    def at_call(frame: FrameType, _: str, __: object) -> Any:
        return at_line if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        with suppress(Interrupted, BlobUnknown, CacheUnavailable):
            call()
    except Exception as error:
        raise AssertionError(f"{act} at {place}: {error!r}") from error
    finally:
        sys.settrace(before)
    return place


@contextmanager
def replies_are_late() -> Iterator[None]:
    """Within the block no check sees unread data, as if it were still on its way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AbstractConnection, "can_read", lambda *_, **__: False)
        yield


def calls(provider: RedisBlobDescriptorCacheProvider) -> dict[str, Callable[[], object]]:
    """A call for each way to Redis, by name."""
    repository, server = provider.repository_scoped("a"), provider.server
    clear = commands.clear_template(None, takes_blob=True)
    return {
        "stat": lambda: repository.stat(A),
        "stat_many": lambda: repository.stat_many([A, B]),
        "set": lambda: repository.set_descriptor(A, make_descriptor(A, 1)),
        "clear": lambda: repository.clear(A),
        "scan": lambda: server.scan("", b"*", 10),
        "script": lambda: provider.clear(A),
        "watched": lambda: server._run_watched(CLEAR_GLOBAL, (clear, (A,))),
        "info": server.info,
        "config": lambda: server.config("save"),
    }


CALLS = ("stat", "stat_many", "set", "clear", "scan", "script", "watched", "info", "config")


WAYS: dict[str, dict[str, Any]] = {
    "packed": {},
    "python parser": PYTHON_PARSER,
    "other client": OTHER_CLIENT,
    "RESP2": {"CONNECTION_POOL_KWARGS": {"protocol": 2}},
    "one connection": {"CONNECTION_POOL_KWARGS": {"max_connections": 1}},
}
"""The OPTIONS of a cache for each way in which the app sends commands and parses replies."""


@dataclass(frozen=True)
class Walk:
    """What is caused at the lines of a call, of which call, and in which way."""

    way: str
    call: str
    is_new: bool
    """Whether each call begins with a new connection."""

    holds: bool
    """Whether the thread may hold its connection."""

    disconnects: bool
    """Whether the pool is disconnected; otherwise an exception is raised."""

    def run(self, server: embedded.Server, *, first: int = 0, step: int = 1) -> int:
        """Cause it at each line; after that, the next calls must answer for their own digest.

        Returns the number of lines. Raises AssertionError, which names the line.
        """
        with server.client() as other:
            other.flushall()
            # What a connection to a wrong database would find.
            other.hset(f"blobs::{B}", mapping={"digest": B, "size": 77})
        with cache_at(server.url.removesuffix("0") + "1", **WAYS[self.way]) as client:
            options = RedisOptions(hold_connections=self.holds)
            provider = RedisBlobDescriptorCacheProvider(options=options)
            disconnect = client.connection_pool.disconnect
            act = disconnect if self.disconnects else interrupt
            prepare = disconnect if self.is_new else (lambda: None)
            return self._walk(provider, act, prepare, first, step)

    def _walk(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        act: Callable[[], object],
        prepare: Callable[[], object],
        first: int,
        step: int,
    ) -> int:
        repository = provider.repository_scoped("a")
        descriptors = {A: make_descriptor(A, 1), B: make_descriptor(B, 2)}
        for digest, descriptor in descriptors.items():
            repository.set_descriptor(digest, descriptor)
        count = 0
        with replies_are_late():
            prepare()
            for place in walked(calls(provider)[self.call], act, first=first, step=step):
                count += 1
                try:
                    assert repository.stat(B) == descriptors[B]
                    assert provider.stat(B) == descriptors[B]
                    repository.set_descriptor(A, descriptors[A])
                    assert repository.stat_many([A, B]) == descriptors
                except Exception as error:
                    raise AssertionError(f"{self} at {place}: {error!r}") from error
                prepare()
        return count


def main() -> None:
    """Try every line of every call in every way."""
    django.setup()
    logging.disable()
    warnings.simplefilter("ignore", ResourceWarning)
    sys.unraisablehook = lambda _: None
    with embedded.start() as server:
        for parts in product(WAYS, CALLS, *[(True, False)] * 3):
            each = Walk(*parts)
            sys.stdout.write(f"{each.run(server):5} lines: {each}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
