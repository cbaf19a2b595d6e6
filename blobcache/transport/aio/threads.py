"""Run what blocks in a thread, for a coroutine that waits for it.

What is done here is rare: opening a connection, or asking Sentinels or a cluster's nodes for their
addresses. Each call has a thread of its own, so no busy pool of threads delays it, and a thread
that hangs does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_thread"]

_T = TypeVar("_T")


def in_thread(
    call: Callable[[], _T], discard: Callable[[_T], object] | None = None
) -> asyncio.Future[_T]:
    """Start the call, and return the future of its result.

    A result that nobody can take any more, because the future was cancelled or the event loop was
    closed, is passed to `discard`. Raises `RuntimeError` if no thread can be started.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def give(result: _T) -> None:
        if not future.done():
            future.set_result(result)
        elif discard is not None:
            discard(result)

    def fail(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(fail, error)
            return
        try:
            loop.call_soon_threadsafe(give, result)
        except RuntimeError:
            if discard is not None:
                discard(result)

    Thread(target=run, name="blobcache-aio", daemon=True).start()
    return future
