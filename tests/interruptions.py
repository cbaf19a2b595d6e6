"""Interrupt a call at each of its lines, as a signal handler that raises does.

    for place in interrupted(call):
        ...  # the call was interrupted there

Lines of redis-py and of `blobcache.transport` count: they are all that happens between taking a
connection and giving it back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection

import blobcache.transport
from blobcache.exceptions import BlobUnknown
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.transport import held, private
from tests.conformance import A, B, make_descriptor

__all__ = ["CALLS", "Interrupted", "interrupted", "leave_nothing_behind", "replies_are_late"]

_OURS = tuple(str(Path(str(each.__file__)).parent) for each in (redis, blobcache.transport))


class Interrupted(Exception):
    """What the signal handler raises, as a task queue's time limit does."""


def interrupted(
    call: Callable[[], object], *, first: int = 0, step: int = 1
) -> Iterator[tuple[str, int]]:
    """Interrupt the call at one of its lines after another, and yield the file and line each time.

    Begin with its `first` line and take each one that is `step` lines behind the last.
    """
    number = first
    while place := _interrupt(call, number):
        yield place
        number += step


def _interrupt(call: Callable[[], object], number: int) -> tuple[str, int] | None:
    """Raise at that line of the call; return where that was, None if it has fewer lines."""
    place: tuple[str, int] | None = None
    left = number

    def at_line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left, place
        if event == "line" and place is None:
            if not left:
                place = frame.f_code.co_filename, frame.f_lineno
                raise Interrupted
            left -= 1
        return at_line

    def at_call(frame: FrameType, _: str, __: object) -> Any:
        return at_line if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        with suppress(Interrupted, BlobUnknown):
            call()
    finally:
        sys.settrace(before)
    return place


@contextmanager
def replies_are_late() -> Iterator[None]:
    """Within the block no check sees that a connection has unread data: it may be on its way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AbstractConnection, "can_read", lambda *_, **__: False)
        patch.setattr(
            held._Slot, "is_ready", lambda _, connection: private.socket_of(connection) is not None
        )
        yield


def calls(provider: RedisBlobDescriptorCacheProvider) -> dict[str, Callable[[], object]]:
    """A call for each way to Redis, by name."""
    repository, server = provider.repository_scoped("a"), provider.server
    return {
        "stat": lambda: repository.stat(A),
        "stat_many": lambda: repository.stat_many([A, B]),
        "set": lambda: repository.set_descriptor(A, make_descriptor(A, 1)),
        "clear": lambda: repository.clear(A),
        "scan": lambda: server.scan("", b"*", 10),
        "script": lambda: provider.clear(A),
        "info": server.info,
        "config": lambda: server.config("save"),
    }


CALLS = ("stat", "stat_many", "set", "clear", "scan", "script", "info", "config")


def leave_nothing_behind(
    provider: RedisBlobDescriptorCacheProvider,
    name: str,
    prepare: Callable[[], object],
    *,
    first: int = 0,
    step: int = 1,
) -> int:
    """Interrupt that call at its lines; each time the next calls must answer for their own digest.

    Returns at how many lines it was interrupted. `prepare` is done before each. Raises
    AssertionError, which names the line.
    """
    call = calls(provider)[name]
    repository = provider.repository_scoped("a")
    descriptors = {A: make_descriptor(A, 1), B: make_descriptor(B, 2)}
    for digest, descriptor in descriptors.items():
        repository.set_descriptor(digest, descriptor)

    count = 0
    with replies_are_late():
        prepare()
        for place in interrupted(call, first=first, step=step):
            count += 1
            try:
                assert repository.stat(B) == descriptors[B]
                assert provider.stat(B) == descriptors[B]
                repository.set_descriptor(A, descriptors[A])
                assert repository.stat_many([A, B]) == descriptors
            except Exception as error:
                raise AssertionError(f"interrupted at {place}: {error!r}") from error
            prepare()
    return count
