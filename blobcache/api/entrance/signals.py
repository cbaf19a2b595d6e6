"""Sends the signals of a request only to receivers that have something to do.

Django's own receivers close the database connections and caches that a request has opened. Most
stats open none, but each receiver takes as long as a permission check to find that out. Here a
cheaper test decides first whether a receiver has something to do; only then it is called.

If a signal has any receiver that this module does not know, Django sends it to all as usual.
"""

from __future__ import annotations

from asyncio import _get_running_loop
from contextlib import suppress
from itertools import groupby
from threading import local
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.core.cache import BaseCache, caches, close_caches
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, reset_queries
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from blobcache.journal.storing import write_after_rollback
from blobcache.remembered import remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.dispatch import Signal

__all__ = ["RequestSignals", "closes_as_usual"]


class RequestSignals:
    """Sends the signals of requests that one kind of handler answers."""

    def __init__(self, sender: type) -> None:
        self._sender = sender
        self._started = _FilteredSignal(request_started, sender)
        self._finished = _FilteredSignal(request_finished, sender)

    @property
    def are_known(self) -> bool:
        """Whether all receivers are known: these have nothing to do if no database is queried."""
        return self._started.known is not None and self._finished.known is not None

    def started(self, **named: Any) -> None:
        """Send `request_started`, with the request's `environ` or `scope`."""
        self._started.send(named)

    def finish(self, response: HttpResponseBase) -> None:
        """Do what `response.close()` does."""
        if not closes_as_usual(response):
            response.close()
            return
        for closer in response._resource_closers:  # type: ignore[attr-defined] # noqa: SLF001
            with suppress(Exception):  # as Django's own method does
                closer()
        response._resource_closers.clear()  # type: ignore[attr-defined] # noqa: SLF001
        response.closed = True
        self.finished()

    def finished(self) -> None:
        """Send `request_finished`."""
        self._finished.send({})

    def finished_brief(self, after_brief: Callable[[Any], None], request: Any) -> None:
        """Do the same after a `Brief`, for which no URLconf was set.

        `after_brief` is called before a receiver that is not known, which may look at the thread.
        """
        if self._finished.known is None:
            after_brief(request)
        self._finished.send({}, without=reset_urlconf)


def closes_as_usual(response: HttpResponseBase) -> bool:
    """Whether `response.close` is Django's own method."""
    return getattr(response.close, "__func__", None) is HttpResponseBase.close


class _Known(NamedTuple):
    """Receivers, and the test whether they have anything to do; None if they always have."""

    is_needed: Callable[[], bool] | None
    calls: list[Callable[..., Any]]


class _FilteredSignal:
    """A signal that is only sent to receivers that have something to do."""

    def __init__(self, signal: Signal, sender: type) -> None:
        self._signal = signal
        self._sender = sender
        self._looked: tuple[list[Any], list[_Known] | None] = [], None
        """The signal's receivers at the last look, and what `known` was then."""

    @property
    def known(self) -> list[_Known] | None:
        """The receivers with their tests; None if this module does not know one of them."""
        seen, known = self._looked
        return known if self._signal.receivers == seen else self._look()

    def send(self, named: Mapping[str, Any], without: object = None) -> None:
        """Send it. If a receiver raises an error, that is raised, as Django does.

        `without` is a known receiver that has nothing to do this time: it is not called, unless
        Django sends the signal, since another receiver is not known.
        """
        signal, sender = self._signal, self._sender
        known = self.known
        if known is None:
            signal.send(sender=sender, **named)
            return
        for is_needed, calls in known:
            if is_needed is None or is_needed():
                for call in calls:
                    if call is not without:
                        call(signal=signal, sender=sender, **named)

    def _look(self) -> list[_Known] | None:
        """Read the signal's receivers again."""
        seen = [*self._signal.receivers]
        plain, asynchronous = self._signal._live_receivers(self._sender)  # noqa: SLF001
        is_known = not asynchronous and all(each in _NEEDED for each in plain)
        groups = groupby(plain, _NEEDED.get) if is_known else ()
        known = [_Known(each, [*calls]) for each, calls in groups] if is_known else None
        self._looked = seen, known
        return known


def _has_used_connections() -> bool:
    """Whether this thread has a database connection that is open, or that has logged queries."""
    found = _connections()
    return bool(found) and any(each.connection is not None or each.queries_log for each in found)


def _connections() -> Sequence[BaseDatabaseWrapper]:
    """What ``connections.all(initialized_only=True)`` returns.

    That raises and catches one or two exceptions for each database, so it takes as long as a
    permission check. A thread that runs no coroutines has its connections in a `threading.local`,
    which is read here directly.
    """
    storage = getattr(getattr(connections, "_connections", None), "_storage", None)
    if type(storage) is not local or _get_running_loop() is not None:
        return connections.all(initialized_only=True)
    found = vars(storage)
    return [found[alias] for alias in connections if alias in found] if found else []


@remembered
def _has_caches_to_close() -> bool:
    """Whether any cache in ``CACHES`` does something at the end of a request."""
    return any(map(_is_closed, caches.settings.values()))


def _is_closed(entry: Mapping[str, Any]) -> bool:
    """Whether a cache with these settings does something when it is closed.

    django-redis does only if a setting of the project tells it to.
    """
    path = entry.get("BACKEND", "")
    if path != "django_redis.cache.RedisCache":
        return getattr(import_string(path), "close", None) is not BaseCache.close
    options = entry.get("OPTIONS") or {}
    return (
        options.get("CLIENT_CLASS", _CLIENTS[0]) not in _CLIENTS
        or options.get("CLOSE_CONNECTION", False)
        or getattr(settings, "DJANGO_REDIS_CLOSE_CONNECTION", False)
    )


_CLIENTS = ("django_redis.client.DefaultClient", "django_redis.client.SentinelClient")


_NEEDED: dict[Callable[..., Any], Callable[[], bool] | None] = {
    close_caches: _has_caches_to_close,
    close_old_connections: _has_used_connections,
    reset_queries: _has_used_connections,
    reset_urlconf: None,
    write_after_rollback: None,
}
"""The receivers that are known, each with the test whether it has anything to do."""
