"""The task that takes steps of a job. It needs Django 6.0, so only `background` imports it.

A worker may be killed in the middle of a task. Therefore each task first puts a copy of itself into
the queue, deferred to a time when the task must have ended. Usually the next task has followed by
then, and the copy ends at once; otherwise the copy continues. If the backend cannot defer tasks,
there is no such copy, and a task waits in its worker until the next step may be taken.
"""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING
from uuid import UUID

from django.tasks import task
from django.utils.timezone import now

from blobcache.conf import PortalSettings
from blobcache.jobs.background import defers, has_tasks, put, put_next
from blobcache.jobs.driver import LEASE, advance
from blobcache.models import OPEN_STATES, Job

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["SECONDS", "advance_job"]

SECONDS = 20
"""How long one task takes steps, in seconds. If tasks cannot be deferred, it also waits in them."""

_COPY = LEASE + 2 * SECONDS
"""Seconds after which the copy of a task runs."""

_LOOK_AGAIN = 10
"""Seconds after which a task looks again whether another driver has ended its step."""


@task(backend=PortalSettings().JOB_TASKS or "default", queue_name=PortalSettings().JOB_TASKS_QUEUE)
def advance_job(key: str, token: str) -> None:
    """Take steps of a job for a limited time, unless other tasks have taken over."""
    job = UUID(key)
    mine = Job.objects.filter(pk=job, task=token, state__in=OPEN_STATES)
    if not (token and has_tasks() and mine.exists()):
        return
    can_defer = defers()
    if can_defer:
        put(job, token, _COPY)
    wait = _work(job, may_wait=not can_defer)
    if wait is not None:
        put_next(job, token, wait)


def _work(key: UUID, *, may_wait: bool) -> float | None:
    """Take steps; return how long the next one has to wait, in seconds, or None at the end."""
    end = monotonic() + SECONDS
    while True:
        while advance(key):
            if monotonic() >= end:
                break
        job = Job.objects.defer("parameters", "cursor").filter(pk=key).first()
        if job is None or not job.is_open:
            return None
        wait = _wait(job, now())
        left = end - monotonic()
        if left <= 0 or not may_wait:
            return wait
        sleep(min(max(wait, 1), left))


def _wait(job: Job, at: datetime) -> float:
    """Seconds until a step can be taken."""
    waits = [0.0]
    if job.not_before is not None:
        waits.append((job.not_before - at).total_seconds())
    if job.lease and job.lease_until is not None:
        waits.append(min(_LOOK_AGAIN, (job.lease_until - at).total_seconds()))
    return max(waits)
