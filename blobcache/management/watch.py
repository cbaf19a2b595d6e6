"""``watch``: keep the index of repository names current by the events of Redis."""

from __future__ import annotations

import signal
from argparse import ArgumentParser, Namespace
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Lock, Thread, Timer, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from blobcache.management.reading import number_up_to
from blobcache.management.subcommand import Exit, Subcommand
from blobcache.services.watching import WatchState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobcache.management.session import Session
    from blobcache.services.watching import WatchReport

__all__ = ["Watch"]

_PAUSE = 0.2
"""Seconds of one wait for the threads."""

_writing = Lock()
"""Several registries report from threads of their own."""


class Watch(Subcommand):
    """Keep the index of repositories current."""

    name = "watch"
    takes_registries = True
    help = "keep the index of repositories current, until it is stopped"
    description = """\
Listen to the events of Redis, and keep the index of repository names current:
what a registry pushes is in lists within three seconds. Redis must send the
events: CONFIG SET notify-keyspace-events Esg. Otherwise the index is built
whenever it is due. It writes a line when its state changes, and once a minute.
SIGTERM and SIGINT end it. One watch for each registry is enough; one process
can watch several."""
    example = "manage.py blobcache watch --seconds 1 --json"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add when to end."""
        parser.add_argument(
            "--seconds", type=number_up_to(10**9), metavar="N", help="end after so many seconds"
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Watch until a signal comes."""
        with _stopped_by_signals() as stop, _ended_after(options.seconds, stop):
            _watch(session, stop)
        return Exit.OK

    def run_all(self, sessions: Sequence[Session], options: Namespace) -> Exit:
        """Watch all these registries until a signal comes, each in a thread of its own."""
        results: list[Exit] = []
        failures: list[Exception] = []

        def watch(session: Session) -> Exit:
            _watch(session, stop)
            return Exit.OK

        def attempt(session: Session) -> None:
            try:
                results.append(session.attempt(watch))
            except Exception as error:  # noqa: BLE001 - raised below, such as a broken pipe
                failures.append(error)
                stop.set()

        with _stopped_by_signals() as stop, _ended_after(options.seconds, stop):
            threads = [Thread(target=attempt, args=[session]) for session in sessions]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # a signal is handled between two waits
                    thread.join(_PAUSE)
        if failures:
            raise failures[0]
        return max(results, default=Exit.FAILED)


def _watch(session: Session, stop: Event) -> None:
    table = session.table((), _json)

    def report(found: WatchReport) -> None:
        with _writing:
            if session.as_json:
                table.add([found])
            else:
                session.say(_sentence(found))

    session.browsable.catalog.watcher().run(stop, report)


@contextmanager
def _ended_after(seconds: int | None, stop: Event) -> Iterator[None]:
    """Set the event after so many seconds, if a number is given."""
    timer = Timer(seconds or 0, stop.set)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _stopped_by_signals() -> Iterator[Event]:
    """Yield an event that SIGTERM and SIGINT set within the block."""
    stop = Event()
    if current_thread() is not main_thread():  # only the main thread may handle signals
        yield stop
        return

    def end(*_: Any) -> None:
        stop.set()

    before = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _json(report: WatchReport) -> dict[str, object]:
    return {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "state": report.state.value,
        "reason": report.reason or None,
        "servers": report.servers,
        "events": report.events,
        "added": report.added,
        "removed": report.removed,
        "builds": report.builds,
    }


def _sentence(report: WatchReport) -> str:
    match report.state:
        case WatchState.STARTING:
            what = "Building the index once, to include what happened before."
        case WatchState.WATCHING:
            what = f"Watching {report.servers} {'server' if report.servers == 1 else 'servers'}."
        case WatchState.REBUILDING:
            what = f"Building the index whenever it is due. {report.reason}"
        case WatchState.WAITING:
            what = f"Waiting. {report.reason}"
    done = (
        f"{report.events} events, {report.added} names added or known, {report.removed} removed, "
        f"{report.builds} builds"
    )
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {what} ({done})"
