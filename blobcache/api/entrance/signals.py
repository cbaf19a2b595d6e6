"""The signals of a request, without the receivers that would find nothing to do.

Django's own receivers close the database connections and caches that a request has opened. Most
stats open none, but each receiver takes as long as a permission check to find that out. Here it is
found out first, in a cheaper way, and a receiver is only called if it has something to do.

If a signal has any receiver that is not known here, it is sent as always.
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
from django.core.signals import request_finished, request_started, setting_changed
from django.db import close_old_connections, connections, reset_queries
from django.utils.module_loading import import_string

from blobcache.journal.storing import write_after_rollback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.dispatch import Signal
    from django.http.response import HttpResponseBase

__all__ = ["RequestSignals"]


class RequestSignals:
    """Sends the signals of requests that one kind of handler answers."""

    def __init__(self, sender: type) -> None:
        self._sender = sender
        self._started = _Quiet(request_started, sender)
        self._finished = _Quiet(request_finished, sender)

    @property
    def are_known(self) -> bool:
        """Whether they have only receivers that have nothing to do if nothing asks a database."""
        return self._started.known is not None and self._finished.known is not None

    def started(self, **named: Any) -> None:
        """Say that a request has begun: with its `environ` or `scope`."""
        self._started.send(named)

    def finish(self, response: HttpResponseBase) -> None:
        """Do what `response.close()` does."""
        for closer in response._resource_closers:  # type: ignore[attr-defined] # noqa: SLF001
            with suppress(Exception):  # as Django's own method does
                closer()
        response._resource_closers.clear()  # type: ignore[attr-defined] # noqa: SLF001
        response.closed = True
        self._finished.send({})


class _Known(NamedTuple):
    """Receivers, and what says whether they have anything to do."""

    is_needed: Callable[[], bool] | None
    calls: list[Callable[..., Any]]


class _Quiet:
    """A signal that is only sent to receivers that have something to do."""

    def __init__(self, signal: Signal, sender: type) -> None:
        self._signal = signal
        self._sender = sender
        self._looked: tuple[list[Any], list[_Known] | None] = [], None
        """The receivers that were looked at, and the same as they are known; None if one is not."""

    @property
    def known(self) -> list[_Known] | None:
        """The receivers; None if there is one that is not known."""
        seen, known = self._looked
        return known if self._signal.receivers == seen else self._look()

    def send(self, named: Mapping[str, Any]) -> None:
        """Send it. An error of a receiver is raised, as by Django."""
        signal, sender = self._signal, self._sender
        known = self.known
        if known is None:
            signal.send(sender=sender, **named)
            return
        for is_needed, calls in known:
            if is_needed is None or is_needed():
                for call in calls:
                    call(signal=signal, sender=sender, **named)

    def _look(self) -> list[_Known] | None:
        """Find out who the receivers are now."""
        seen = [*self._signal.receivers]
        plain, asynchronous = self._signal._live_receivers(self._sender)  # noqa: SLF001
        is_known = not asynchronous and all(each in _NEEDED for each in plain)
        groups = groupby(plain, _NEEDED.get) if is_known else ()
        known = [_Known(each, [*calls]) for each, calls in groups] if is_known else None
        self._looked = seen, known
        return known


def _has_used_connections() -> bool:
    """Whether this thread has a database connection that is open, or that has logged queries."""
    return any(each.connection is not None or each.queries_log for each in _connections())


def _connections() -> Sequence[BaseDatabaseWrapper]:
    """What ``connections.all(initialized_only=True)`` returns.

    That raises and catches an error or two for each database, so it takes as long as a permission
    check. The connections of a thread are in a `threading.local`, unless the thread runs
    coroutines; that can be looked at directly.
    """
    storage = getattr(getattr(connections, "_connections", None), "_storage", None)
    if type(storage) is not local or _get_running_loop() is not None:
        return connections.all(initialized_only=True)
    found = vars(storage)
    return [found[alias] for alias in connections if alias in found] if found else []


def _has_caches_to_close() -> bool:
    """Whether any cache in ``CACHES`` does something at the end of a request."""
    found = _CACHES.get("found")
    if found is None or found[0] is not caches.settings:
        entries = caches.settings
        found = _CACHES["found"] = entries, any(map(_is_closed, entries.values()))
    return found[1]


_CACHES: dict[str, tuple[Mapping[str, Any], bool]] = {}
"""What `_has_caches_to_close` has found, and for which settings."""


def _is_closed(entry: Mapping[str, Any]) -> bool:
    """Whether a cache of these settings does something when it is closed.

    That of django-redis does only if the project says so.
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


def _forget(**_: object) -> None:
    _CACHES.clear()


setting_changed.connect(_forget)

_NEEDED: dict[Callable[..., Any], Callable[[], bool] | None] = {
    close_caches: _has_caches_to_close,
    close_old_connections: _has_used_connections,
    reset_queries: _has_used_connections,
    reset_urlconf: None,
    write_after_rollback: None,
}
"""The receivers that are known, each with what says whether it has anything to do."""
