"""Watching a registry's Redis, to keep the index of repository names current."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

__all__ = ["Pauses", "WatchReport", "WatchState", "Watcher"]


class WatchState(StrEnum):
    """What a watch does."""

    STARTING = "starting"
    """It hears the events, and builds an index that has everything from before."""

    WATCHING = "watching"
    """It hears the events, and the index is current."""

    REBUILDING = "rebuilding"
    """It cannot rely on events, so it builds the index again whenever that is due."""

    WAITING = "waiting"
    """Redis cannot be reached, or does not allow what is needed."""


@dataclass(frozen=True, slots=True)
class WatchReport:
    """What a watch does, and what it has done since it began."""

    state: WatchState
    reason: str = ""
    """Why it does not watch, and what would change that; empty if it does."""

    servers: int = 0
    """Primaries whose events it hears."""

    events: int = 0
    """Events about repositories that it has heard."""

    added: int = 0
    """Names that it has written into the index, or found there."""

    removed: int = 0
    """Names whose sets were gone."""

    builds: int = 0
    """Builds of the index that have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """How long a watch waits, and for what, in seconds."""

    beat: float = 1.0
    """Time between two checks that the index is current."""

    silence: float = 5.0
    """Time after which a server is lost that does not answer over the connection of its events."""

    gather: float = 0.05
    """Time in which events are gathered: a push adds many blobs to one repository."""

    events: float = 0.2
    """Longest wait for events, and for another process that builds the index."""

    retry: float = 0.5
    """Time until the next attempt after a failure; it doubles with each further failure."""

    longest_retry: float = 10.0
    """Longest time until the next attempt after a failure."""

    no_events: float = 60.0
    """Time until the next attempt to subscribe if Redis does not allow that."""

    reports: float = 60.0
    """Time between two reports while nothing changes."""


class Watcher(Protocol):
    """Keeps the index of one registry current."""

    def run(self, stop: Event, report: Callable[[WatchReport], None]) -> None:
        """Watch until `stop` is set.

        Failures of Redis do not end it. Calls `report` when the state changes, and once a minute.
        Raises `OperationUnsupported` if no index may be kept.
        """
        ...
