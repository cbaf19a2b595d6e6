"""Keep the index of repository names current by the events of Redis.

A registry that pushes a blob adds it to its repository's set, and Redis can tell that to whoever
has subscribed (``notify-keyspace-events``). Names that are new go into the index, and those whose
sets are gone leave it. Everything from before the subscription, and everything that was missed
while a connection was broken, is found by building the index to the end once.

Once a second each server is asked for an answer over the connection of its events. That answer
comes after all events before it, so when these are in the index, it was current at the time of the
question. Only then the time is noted beside the index: it is its age. Where the events cannot be
relied on, nothing is noted, and the index is built whenever it is due.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from time import monotonic, time
from typing import TYPE_CHECKING

from blobcache.exceptions import CacheUnavailable, Reason
from blobcache.redis import keys
from blobcache.redis.keys import KeyKind
from blobcache.services.rules import read_only_error
from blobcache.services.watching import Pauses, WatchReport, WatchState
from blobcache.transport.events import wait_for_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Event

    from blobcache.redis.index import NameIndex
    from blobcache.transport.events import KeyEvent, Listener
    from blobcache.transport.server import Server

__all__ = ["IndexWatcher"]

_log = logging.getLogger("blobcache.catalog")

_ADDED = frozenset(
    {"sadd", "restore", "rename_to", "copy_to", "move_to"}
    | {"sunionstore", "sinterstore", "sdiffstore"}
)
"""Events after which the key exists."""

_GONE = frozenset({"del", "rename_from", "move_from"})
"""Events after which the key does not exist.

A set that loses its last member is deleted, so ``srem`` is not needed. Events of sets that expire
or are evicted are not used: a list that meets their names removes them from the index."""

_EVENTS = tuple(sorted(_ADDED | _GONE))

_SETTING = "notify-keyspace-events"


class IndexWatcher:
    """See `blobcache.services.watching.Watcher`. It can run once at a time."""

    def __init__(self, server: Server, index: NameIndex, pauses: Pauses) -> None:
        """`server` holds the descriptors."""
        self._server = server
        self._pauses = pauses
        self._index = index
        self._listeners: Sequence[Listener] = ()
        self._report = WatchReport(WatchState.STARTING)
        self._base: int | None = None
        """The index with this serial number, and each later one, has all that events tell of."""

        self._goal: int | None = None
        """An index that is newer than that of this serial number is wanted."""

        self._has_events = False
        self._built_at = monotonic()

    def run(self, stop: Event, report: Callable[[WatchReport], None]) -> None:
        """See `Watcher.run`."""
        index = self._index
        if not index.may_write:
            raise read_only_error(index.registry, "Its index needs a CATALOG_ALIAS elsewhere.")
        self._tell = report
        self._told_at = float("-inf")
        pause = self._pauses.retry
        while not stop.is_set():
            began = monotonic()
            try:
                self._run_once(stop)
            except CacheUnavailable as error:
                self._show(WatchState.WAITING, _why(error))
                if monotonic() - began > self._pauses.longest_retry:
                    pause = self._pauses.retry
                stop.wait(pause)
                pause = min(2 * pause, self._pauses.longest_retry)

    def _run_once(self, stop: Event) -> None:
        """Subscribe, and watch until that ends or the servers change."""
        self._base = self._goal = None
        self._has_events = False
        until = float("inf")
        why = ""
        try:
            self._listeners = self._server.listen(_EVENTS)
        except CacheUnavailable as error:
            if error.reason is not Reason.DENIED:
                raise
            self._listeners = ()
            until = monotonic() + self._pauses.no_events
            why = (
                "The Redis user may not subscribe to events. An administrator can allow it: "
                "+subscribe +ping &__keyevent@*__:*"
            )
        try:
            self._watch(stop, until, why)
        finally:
            for listener in self._listeners:
                listener.close()
            self._listeners = ()

    def _watch(self, stop: Event, until: float, why: str) -> None:
        next_beat = 0.0
        while not stop.is_set() and monotonic() < until:
            if monotonic() >= next_beat:
                next_beat = monotonic() + self._pauses.beat
                if not self._beat(why):
                    return
            else:
                self._apply(self._server.hear(self._listeners))
            if self._goal is not None:
                if not self._build(self._goal):
                    stop.wait(self._pauses.gather)
            elif self._listeners:
                until_beat = max(0.0, next_beat - monotonic())
                wait_for_events(self._listeners, min(self._pauses.events, until_beat))
                stop.wait(self._pauses.gather)
            else:
                stop.wait(self._pauses.events)

    # Events

    def _apply(self, events: Sequence[KeyEvent]) -> None:
        """Write what the events tell of into the index."""
        added: dict[bytes, None] = {}
        removed: dict[bytes, None] = {}
        heard = 0
        for event in events:
            key = keys.parse(event.key)
            if key is not None and key.kind is KeyKind.MEMBERS:
                heard += 1
                names = added if event.name in _ADDED else removed
                names[keys.repository_in(event.key)] = None
        if added:
            self._index.add([*added])
        if removed:  # afterwards: it adds again those whose sets are back
            self._index.remove_missing([*removed])
        told = self._report
        self._report = replace(
            told,
            events=told.events + heard,
            added=told.added + len(added),
            removed=told.removed + len(removed),
        )

    def _beat(self, why: str) -> bool:
        """Note that the index is current, if it is; return False if the servers have changed."""
        now = time()
        if self._listeners:
            self._apply(self._server.hear_all(self._listeners, self._pauses.silence))
            if not self._server.still_has(self._listeners):
                return False
            why = self._missing_events()
        status = self._index.status()
        if why:
            self._has_events, self._base = False, None
            if not status.complete:
                self._want(status.indexed)
        elif not self._has_events or (self._base is not None and status.indexed < self._base):
            # The subscription is older than this status: what is built from now on has all.
            self._has_events, self._base = True, None
            self._goal = status.begun
        elif self._base is not None:
            self._index.watch_mark(now, self._base)
            if monotonic() - self._built_at > self._index.max_age:
                self._want(status.begun)  # as lists do where nobody watches, whatever was lost
        if why:
            state = WatchState.REBUILDING
        else:
            state = WatchState.STARTING if self._base is None else WatchState.WATCHING
        self._show(state, why)
        return True

    def _missing_events(self) -> str:
        """Why the servers do not tell of new repositories; empty if they do."""
        found = self._server.config(_SETTING)
        if not found:
            return (
                f"Redis does not say whether it sends events. An administrator can allow the "
                f"question with +config|get, and see that {_SETTING} has E, s and g."
            )
        for each in found:
            flags = str(each.get(_SETTING) or "")
            if "E" not in flags or not ("A" in flags or {"s", "g"} <= set(flags)):
                wanted = flags + "".join(
                    flag
                    for flag in "Esg"
                    if flag not in flags and (flag == "E" or "A" not in flags)
                )
                return (
                    f"A server does not send all events that are needed: its {_SETTING} is "
                    f'"{flags[:_MAX_FLAGS]}". An administrator can switch them on: '
                    f"CONFIG SET {_SETTING} {wanted[:_MAX_FLAGS]}"
                )
        return ""

    # Builds

    def _want(self, serial: int) -> None:
        """Have an index built that is newer than that one, unless one is being built."""
        if self._goal is None:
            self._goal = serial

    def _build(self, goal: int) -> bool:
        """Do a step; return False if there was nothing to do, since another process builds."""
        before = self._index.status()
        status = self._index.build_step(newer_than=goal)
        if status.indexed <= goal:
            return status != before
        self._goal, self._built_at = None, monotonic()
        self._report = replace(self._report, builds=self._report.builds + 1)
        if self._has_events and self._base is None:
            self._base = status.indexed
        return True

    # Reports

    def _show(self, state: WatchState, reason: str) -> None:
        """Report a change at once, and otherwise once a minute."""
        servers = len(self._listeners)
        before = self._report
        self._report = replace(before, state=state, reason=reason, servers=servers)
        is_first = self._told_at == float("-inf")
        is_changed = is_first or (before.state, before.reason) != (state, reason)
        if is_changed or monotonic() - self._told_at >= self._pauses.reports:
            self._told_at = monotonic()
            self._tell(self._report)
        if is_changed:
            level = logging.INFO if state is not WatchState.WAITING else logging.WARNING
            _log.log(level, "The index of %s: %s. %s", self._index.registry, state, reason)


_MAX_FLAGS = 32
"""Characters of the setting that are repeated; it has fewer."""


def _why(error: CacheUnavailable) -> str:
    """Say why nothing can be done at the moment."""
    if error.reason is Reason.NO_SCAN:
        return "Redis does not allow SCAN, without which no index can be built."
    return f"{error.message} ({error.reason})"
