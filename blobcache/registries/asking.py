"""Ask several registries at once, so that none of them waits for another.

Each registry has connections, time limits and a circuit breaker of its own. So a dead one answers
when its own time is up, and takes nobody else's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

from blobcache.exceptions import CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MAX_AT_ONCE", "ask_each"]

_T = TypeVar("_T")

MAX_AT_ONCE = 32
"""Registries that are asked at the same time, and so threads of one call."""


def ask_each(
    registries: Sequence[str], question: Callable[[str], _T]
) -> dict[str, _T | CacheUnavailable]:
    """Return what `question` returns for each registry, in their order, or why there is no answer.

    The question is put in a thread for each registry, with the caller's context variables. It must
    not query the database: a thread would open a connection of its own. It may take as long as the
    slowest of them. A `CacheUnavailable` is an answer; every other exception is raised, when all
    questions have ended.
    """

    def ask(registry: str) -> _T | CacheUnavailable:
        try:
            return question(registry)
        except CacheUnavailable as error:
            return error

    if len(registries) <= 1:  # no need for a thread
        return {registry: ask(registry) for registry in registries}
    with ThreadPoolExecutor(
        min(len(registries), MAX_AT_ONCE), thread_name_prefix="blobcache-registry"
    ) as threads:
        asked = {each: threads.submit(copy_context().run, ask, each) for each in registries}
    return {registry: future.result() for registry, future in asked.items()}
