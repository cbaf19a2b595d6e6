"""``work``: take the steps of jobs."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser, Namespace
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from blobcache.jobs import advance, due
from blobcache.management.subcommand import Exit, Subcommand, usage_error
from blobcache.management.writing import Column
from blobcache.models import OPEN_STATES, Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from blobcache.management.session import Session
    from blobcache.management.writing import Table

__all__ = ["Work"]

_PAUSE = 2
"""Seconds between two looks for jobs, when there was nothing to do."""

_COLUMNS: tuple[Column[Job], ...] = (
    Column(gettext_lazy("Job"), lambda job: str(job.pk)),
    Column(gettext_lazy("Kind"), lambda job: job.kind),
    Column(gettext_lazy("State"), lambda job: str(job.get_state_display())),
)


def _json(job: Job) -> dict[str, object]:
    return {
        "job": str(job.pk),
        "kind": job.kind,
        "state": job.state,
        "reason": job.reason,
        "progress": job.progress,
    }


class Work(Subcommand):
    """Work on jobs."""

    name = "work"
    takes_registries = True
    help = "work on the jobs that were started on the admin's pages"
    description = """\
Take the steps of jobs, with the permissions of the users who started them,
until SIGTERM or SIGINT; then the current step is finished. Several workers may
run at once. It writes a row for each job that has ended. With --once it ends
when no job can be continued now: use that in cron."""
    example = "manage.py blobcache work --once"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add how long it works."""
        parser.add_argument(
            "--once", action="store_true", help="end when no job can be continued now"
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Work until there is nothing to do, or until it is stopped."""
        return self.run_all([session], options)

    def run_all(self, sessions: Sequence[Session], options: Namespace) -> Exit:
        """Work on the jobs of all these registries, one step after another."""
        with _stoppable() as stopped:
            table = sessions[0].table(_COLUMNS, _json, lambda job: job.registry)
            while not stopped.is_set():
                close_old_connections()
                try:
                    worked = [_take_steps(each.registry, stopped, table) for each in sessions]
                except (DatabaseError, InterfaceError) as error:
                    if options.once:
                        raise usage_error(f"The database failed: {error}") from error
                    text = f"The database failed, and is tried again: {error}"
                    sessions[0].warn(text, of_all=True)
                    worked = []
                if not any(worked) and options.once:
                    for session in sessions:
                        _say_what_is_left(session)
                    break
                if not any(worked):
                    stopped.wait(_PAUSE)
        return Exit.OK


def _take_steps(registry: str, stopped: threading.Event, table: Table[Job]) -> bool:
    """Take one step of each job that is due; return whether there was any."""
    keys = list(due(registry).values_list("pk", flat=True)[:100])
    has_worked = False
    for key in keys:
        if stopped.is_set():
            break
        has_worked |= advance(key)
        ended = Job.objects.defer("parameters", "cursor").filter(pk=key).exclude(ended_at=None)
        table.add(list(ended))
    return has_worked


def _say_what_is_left(session: Session) -> None:
    left = Job.objects.filter(registry=session.registry, state__in=OPEN_STATES).count()
    text = ngettext(
        "%(count)d job is left. It cannot continue now.",
        "%(count)d jobs are left. They cannot continue now.",
        left,
    )
    session.say(text % {"count": left} if left else _("No job is left."))


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set, so that a step is never cut."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # only the main thread gets signals
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
