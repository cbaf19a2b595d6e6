"""The driver: starts jobs, takes their steps, cancels and prunes them.

A driver claims a job by one UPDATE that only one driver can win: it writes a lease, a random text
with a time limit, where there is none. If its process is killed, the lease expires and the next
driver repeats the step. If it was only slow, two drivers take the same step: the result of the one
that ends it first is stored. A step that was begun three times, and that nobody has ended, is not
begun again: it may be what kills its process. Then the job fails.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from secrets import token_hex
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db import DatabaseError, InterfaceError
from django.db.models import F, Q
from django.utils.timezone import now

from blobcache.access import Access
from blobcache.conf import PortalSettings, RegistrySettings
from blobcache.doctor.settled import RepairRefused
from blobcache.exceptions import (
    BackendUnavailable,
    CacheUnavailable,
    CatalogUnsupported,
    CursorInvalid,
    OperationUnsupported,
)
from blobcache.findings import Outcome
from blobcache.history import recorded
from blobcache.jobs.background import hand_over
from blobcache.jobs.kinds import KINDS, Run, Step
from blobcache.models import MAX_NAME, OPEN_STATES, Job
from blobcache.services import get_browsable, get_usable_backend

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from uuid import UUID

    from django.contrib.auth.base_user import AbstractBaseUser
    from django.db.models import QuerySet

__all__ = [
    "LEASE",
    "MAX_ATTEMPTS",
    "MAX_OPEN",
    "JobRefused",
    "advance",
    "cancel",
    "due",
    "prune",
    "start",
]

_log = logging.getLogger("blobcache.jobs")

LEASE = 60
"""Seconds after which a driver that has stored nothing is assumed dead."""

MAX_OPEN = 50
"""Jobs with steps left that one user may have in a registry."""

MAX_ATTEMPTS = 3
"""How often a step is begun while nobody ends it."""

_LONGEST_WAIT = 300
"""Seconds between two tries of a step that fails, at the most."""

_MAX_REASON = 1000

_DONE_ONCE = ("cleared", Outcome.REPAIRED.value)
"""What a job that begins again does not find again. All else of its progress is counted anew."""


class JobRefused(ValueError):
    """The job cannot be started; the text says why."""


def start(
    access: Access, kind: str, parameters: Mapping[str, object], size: int, *, source: str
) -> Job:
    """Put a job into the database, and return it. Nothing is done yet, but old jobs are deleted.

    With `JOB_TASKS` it is handed over to a task.

    Raises `JobRefused` if the user is not in the database, may not do this, or has too many jobs.
    """
    user = access.user
    if not isinstance(user, get_user_model()):
        raise JobRefused("Only a user of this portal can start a job.")
    if not KINDS[kind].is_allowed(access, parameters):
        raise JobRefused("You do not have the permission to do this.")
    prune(now() - timedelta(days=PortalSettings().JOB_DAYS))
    theirs = Job.objects.filter(registry=access.registry, owner=str(user.pk), state__in=OPEN_STATES)
    if theirs.count() >= MAX_OPEN:
        raise JobRefused(
            f"You have {MAX_OPEN} unfinished jobs, which is the limit. Finish or cancel some first."
        )
    job = Job.objects.create(
        registry=access.registry,
        kind=kind,
        owner=str(user.pk),
        actor=user.get_username()[:MAX_NAME],
        source=source,
        parameters=parameters,
        size=size,
    )
    hand_over(job.pk)
    return job


def due(registry: str | None = None) -> QuerySet[Job]:
    """Return the jobs whose next step can be taken now, the longest waiting first."""
    at = now()
    jobs = Job.objects.filter(_free(at), state__in=OPEN_STATES)
    if registry is not None:
        jobs = jobs.filter(registry=registry)
    return jobs.order_by("changed_at").defer("parameters", "cursor", "progress")


def advance(key: UUID) -> bool:
    """Take one step of the job, unless another driver is at it, or it is too early.

    Returns whether a step was tried. What fails is stored with the job, and never raised; only an
    error of the database is.
    """
    lease, at = token_hex(16), now()
    is_claimed = Job.objects.filter(_free(at), pk=key, state__in=OPEN_STATES).update(
        lease=lease,
        lease_until=at + timedelta(seconds=LEASE),
        state=Job.State.RUNNING,
        attempts=F("attempts") + 1,
    )
    if not is_claimed:
        return False
    try:
        job = Job.objects.get(pk=key)
    except Job.DoesNotExist:  # pruned
        return False
    if not job.is_open:  # cancelled since
        Job.objects.filter(pk=key, lease=lease).update(lease="", lease_until=None)
        return False
    is_hopeless = job.attempts > MAX_ATTEMPTS
    _store(job, lease, _failed("killed") if is_hopeless else _step(job))
    return True


def cancel(key: UUID) -> bool:
    """Cancel the job; return whether it had steps left. A step that is being taken is finished."""
    at = now()
    return bool(
        Job.objects.filter(pk=key, state__in=OPEN_STATES).update(
            state=Job.State.CANCELLED, ended_at=at, changed_at=at
        )
    )


def prune(before: datetime, registries: Collection[str] | None = None) -> int:
    """Delete the jobs that nobody has worked on since then; return how many.

    Those of all registries, or of the given ones.
    """
    old = Job.objects.filter(changed_at__lt=before)
    if registries is not None:
        old = old.filter(registry__in=registries)
    return old.filter(Q(lease="") | Q(lease_until__lt=now())).delete()[0]


def _free(at: datetime) -> Q:
    """The jobs that no driver is at, and whose time has come."""
    is_free = Q(lease="") | Q(lease_until__lte=at)
    return is_free & (Q(not_before=None) | Q(not_before__lte=at))


class _Denied(Exception):
    """The job may not go on; the text is the reason's code."""


def _step(job: Job) -> dict[str, object]:  # noqa: PLR0911 - one for each way to end
    """Take a step; return what to store."""
    try:
        return _succeeded(_take(job))
    except _Denied as denied:
        return _failed(str(denied))
    except RepairRefused as error:
        return _failed(f"refused:{error.message}")
    except OperationUnsupported:
        return _failed("read-only")
    except CatalogUnsupported:
        return _failed("catalog")
    except CacheUnavailable:
        return _try_again(job, "redis")
    except BackendUnavailable:
        return _try_again(job, "backend")
    except CursorInvalid:  # such as of a server that has been replaced: begin again
        kept = {name: job.progress[name] for name in _DONE_ONCE if name in job.progress}
        return {**_try_again(job, "cursor"), "cursor": "", "progress": kept}
    except (DatabaseError, InterfaceError):  # the step is repeated when the lease has expired
        raise
    except Exception:  # noqa: BLE001 - the outer edge of a job, which must not be tried forever
        _log.exception("A step of the job %s failed.", job.pk)
        return _failed("error")


def _take(job: Job) -> Step:
    """Take a step as the user who started the job. Raises `_Denied`, and whatever a step raises."""
    kind = KINDS.get(job.kind)
    if kind is None:
        raise _Denied("kind")
    user = _owner(job)
    if user is None:
        raise _Denied("user")
    access = Access(user, job.registry)
    if not kind.is_allowed(access, job.parameters):
        raise _Denied("permission")
    run = Run(
        get_browsable(job.registry),
        get_usable_backend(job.registry) if kind.asks_backend(job.parameters) else None,
        access,
        RegistrySettings(job.registry),
        job.parameters,
        job.cursor,
        job.progress,
    )
    with recorded(user, source="job", task=kind.task):
        return kind.step(run)


def _owner(job: Job) -> AbstractBaseUser | None:
    """Return the user who started the job; None if they may not do anything any more."""
    model = get_user_model()
    try:
        user = model._default_manager.get(pk=job.owner)  # noqa: SLF001 - Django's documented name
    except (model.DoesNotExist, ValueError, TypeError):
        return None
    # Another user may have got the key of a deleted one.
    return user if user.is_active and user.get_username()[:MAX_NAME] == job.actor else None


def _succeeded(step: Step) -> dict[str, object]:
    values: dict[str, object] = {
        "cursor": step.cursor or "",
        "progress": step.progress,
        "failures": 0,
        "reason": "settle" if step.wait else "",
        "not_before": now() + timedelta(seconds=step.wait) if step.wait else None,
    }
    return values if step.cursor is not None else {**values, "state": Job.State.DONE}


def _failed(reason: str) -> dict[str, object]:
    return {"state": Job.State.FAILED, "reason": reason[:_MAX_REASON]}


def _try_again(job: Job, reason: str) -> dict[str, object]:
    _log.warning("A step of the job %s did not succeed (%s).", job.pk, reason, exc_info=True)
    seconds = min(2 ** min(job.failures + 1, 16), _LONGEST_WAIT)
    return {
        "failures": job.failures + 1,
        "reason": reason,
        "not_before": now() + timedelta(seconds=seconds),
    }


def _store(job: Job, lease: str, values: dict[str, object]) -> None:
    """Store what a step did, unless another driver has stored its result of the same step.

    Its lease may have expired: whoever ends the step first has done it. A job that was cancelled
    stays cancelled.
    """
    at = now()
    mine = Job.objects.filter(pk=job.pk, lease=lease)
    same_step = Job.objects.filter(pk=job.pk, changed_at=job.changed_at)
    given_up: dict[str, object] = {
        "lease": "",
        "lease_until": None,
        "changed_at": at,
        "attempts": 0,
    }
    if "state" in values:
        given_up["ended_at"] = at
    if same_step.filter(state=Job.State.RUNNING).update(**values, **given_up):
        return
    progress = {name: values[name] for name in ("progress",) if name in values}
    mine.update(lease="", lease_until=None, **progress)
