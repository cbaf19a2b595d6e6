"""Hands jobs over to Django's tasks, so that they continue without an open page.

`BLOBCACHE_PORTAL["JOB_TASKS"]` names the backend in ``TASKS``. A task takes steps for a limited
time, and then puts the next task into the queue, until the job has ended: see `tasks`. Each task
has a random token, which is also in `Job.task`. A task with another token than the job's ends at
once. So only one chain of tasks works on a job, even if a queue delivers a task twice or the job is
handed over again.

Django 5.2 has no tasks: `django.tasks` is imported only where `JOB_TASKS` is set.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from importlib import import_module
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from django.db import router, transaction
from django.utils.timezone import now

from blobcache.conf import PortalSettings
from blobcache.models import OPEN_STATES, Job

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["IDLE", "hand_over", "hand_over_again", "has_tasks", "put", "put_next"]

_log = logging.getLogger("blobcache.jobs")

IDLE = 60
"""Seconds without a step after which `hand_over_again` assumes that the task of a job is lost."""


def has_tasks() -> bool:
    """Whether jobs are handed to tasks: `JOB_TASKS` is set, and its backend runs them later.

    Raises `ImportError` before Django 6.0, and `ImproperlyConfigured` if ``TASKS`` has no such
    backend.
    """
    alias = PortalSettings().JOB_TASKS
    return alias is not None and runs_later(backend(alias))


def backend(alias: str) -> Any:
    """Return the backend of that name in ``TASKS``. Raises the same as `has_tasks`."""
    return import_module("django.tasks").task_backends[alias]


def runs_later(task_backend: object) -> bool:
    """Whether a backend runs tasks in another process or thread.

    Django's own two do not: one runs a task at once, in the request, and the other one never.
    """
    immediate = import_module("django.tasks.backends.immediate").ImmediateBackend
    dummy = import_module("django.tasks.backends.dummy").DummyBackend
    return not isinstance(task_backend, (immediate, dummy))


def hand_over(key: UUID) -> None:
    """Let tasks take the steps of the job, when the transaction is committed.

    Without `JOB_TASKS` nothing happens. If the backend fails, that is logged, and the job waits for
    its page, for a worker, or until it is handed over again.
    """
    if PortalSettings().JOB_TASKS is not None:
        transaction.on_commit(partial(_begin, key), using=router.db_for_write(Job))


def hand_over_again(job: Job) -> None:
    """Hand the job over again if no step was taken for `IDLE` seconds: its task may be lost."""
    since = max(job.changed_at, job.not_before or job.changed_at, job.lease_until or job.changed_at)
    if job.is_open and now() - since > timedelta(seconds=IDLE):
        hand_over(job.pk)


def _begin(key: UUID) -> None:
    try:
        token = token_hex(16)
        if has_tasks() and Job.objects.filter(pk=key, state__in=OPEN_STATES).update(task=token):
            put(key, token)
    except Exception:  # noqa: BLE001 - a backend may raise anything; the job can go on without it
        _log.exception("The job %s could not be handed over to a task.", key)


def put_next(key: UUID, token: str, wait: float) -> None:
    """Put the task that follows this one into the queue, unless there is one already.

    It waits for `wait` seconds.
    """
    following = token_hex(16)
    if not Job.objects.filter(pk=key, task=token).update(task=following):
        return
    try:
        put(key, following, wait)
    except Exception:  # the copy of this task in the queue continues
        Job.objects.filter(pk=key, task=following).update(task=token)
        raise


def put(key: UUID, token: str, wait: float = 0) -> None:
    """Put a task into the queue. It waits only if the backend can defer tasks."""
    portal = PortalSettings()
    advance_job = import_module("blobcache.jobs.tasks").advance_job
    options: dict[str, Any] = {"backend": portal.JOB_TASKS, "queue_name": portal.JOB_TASKS_QUEUE}
    if wait > 0 and defers():
        options["run_after"] = now() + timedelta(seconds=wait)
    advance_job.using(**options).enqueue(str(key), token)


def defers() -> bool:
    """Whether the backend can run a task at a later time."""
    alias = PortalSettings().JOB_TASKS
    return alias is not None and bool(backend(alias).supports_defer)
