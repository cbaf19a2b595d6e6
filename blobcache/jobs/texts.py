"""What a job is about, how far it is and why it stopped, in sentences for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import FINDING_KINDS, Outcome
from blobcache.jobs.kinds import KINDS
from blobcache.models import Job
from blobcache.services.base import Certainty

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["progress_lines", "reason", "share", "title"]


def title(job: Job) -> str:
    """What the job does."""
    kind = KINDS.get(job.kind)
    return job.kind if kind is None else str(kind.title)


def share(job: Job) -> int | None:
    """The share that is done, in percent; None if it is not known."""
    if job.state == Job.State.DONE:
        return 100
    found = job.progress.get("share")
    if found is None and job.kind in {"clear-blobs", "clear-repositories"} and job.size:
        found = job.progress.get("done", 0) / job.size
    return None if found is None else min(100, int(100 * found))


def reason(job: Job, *, shows_place: bool = True) -> str:
    """Why it failed, or why its next step waits; empty if there is no reason.

    Without `shows_place` it names no path and no address of the storage.
    """
    code, _colon, text = job.reason.partition(":")
    if code == "refused":
        if shows_place or "/" not in text:
            return text
        return _("The repair was refused. Who may view every repository can see the reason.")
    return {
        "user": _("The user who started it was deleted, renamed or deactivated."),
        "permission": _("The user who started it no longer has the permission."),
        "read-only": _("This registry is read-only."),
        "catalog": _("This registry cannot list what it holds."),
        "kind": _("This version of the app does not know this kind of job."),
        "killed": _(
            "Three attempts at the same step did not end: their processes were killed, or the "
            "database failed. The server's log may say why."
        ),
        "error": _("An unexpected error occurred. The server's log has the details."),
        "redis": _("Redis did not answer. The step is tried again."),
        "backend": _("The storage did not answer. The step is tried again."),
        "cursor": _("Another Redis server has taken over, so the work begins again."),
        "settle": _("The job waits for the second look at the storage."),
    }.get(code, "")


def progress_lines(job: Job) -> list[str]:
    """What was done so far."""
    lines = {
        "purge": _purge,
        "clear-blobs": _clear_blobs,
        "clear-repositories": _clear_repositories,
        "check": _check,
        "repair": _repair,
        "sizes": _sizes,
    }.get(job.kind)
    return [] if lines is None or not job.progress else list(lines(job))


def _number(job: Job, name: str) -> int:
    found = job.progress.get(name, 0)
    return found if isinstance(found, int) else 0


def _purge(job: Job) -> Iterator[str]:
    stored, doubtful = _number(job, "stored"), _number(job, "doubtful")
    if stored:
        text = ngettext(
            "%(count)d blob is still stored, and is left out.",
            "%(count)d blobs are still stored, and are left out.",
            stored,
        )
        yield text % {"count": stored}
    if doubtful:
        text = ngettext(
            "%(count)d blob may still be stored, and is left out.",
            "%(count)d blobs may still be stored, and are left out.",
            doubtful,
        )
        yield text % {"count": doubtful}
    cleared = _number(job, "cleared")
    text = ngettext(
        "Cleared %(count)d time in repositories that you may view.",
        "Cleared %(count)d times in repositories that you may view.",
        cleared,
    )
    yield text % {"count": cleared}
    where = {
        Certainty.GLOBAL: _("The global descriptors are cleared."),
        Certainty.INDEXED: _("The global descriptors and all indexed repositories are cleared."),
        Certainty.EVERYWHERE: _("All blobs are cleared everywhere."),
    }
    if reached := where.get(job.progress.get("certain", "")):
        yield reached


def _cleared(job: Job) -> str:
    count = _number(job, "cleared")
    return ngettext("Cleared %(count)d blob.", "Cleared %(count)d blobs.", count) % {"count": count}


def _clear_blobs(job: Job) -> Iterator[str]:
    yield _("%(done)d of %(size)d blobs are done.") % {
        "done": _number(job, "done"),
        "size": job.size,
    }
    yield _cleared(job)


def _clear_repositories(job: Job) -> Iterator[str]:
    yield _("%(done)d of %(size)d repositories are done.") % {
        "done": _number(job, "done"),
        "size": job.size,
    }
    yield _cleared(job)
    if damaged := _number(job, "damaged"):
        text = ngettext(
            "%(count)d repository is damaged. Run a check to repair it.",
            "%(count)d repositories are damaged. Run a check to repair them.",
            damaged,
        )
        yield text % {"count": damaged}


def _check(job: Job) -> Iterator[str]:
    looked = _number(job, "looked_at")
    text = ngettext("%(count)d item checked.", "%(count)d items checked.", looked)
    yield text % {"count": looked}
    counts = job.progress.get("counts", {})
    for kind in FINDING_KINDS:
        if counts.get(kind):
            yield f"{EXPLANATIONS[kind].label}: {counts[kind]}"
    if job.state == Job.State.DONE and not any(counts.values()):
        yield _("No problems found.")
    if doubtful := _number(job, "doubtful"):
        text = ngettext(
            "%(count)d entry could not be judged, because the storage could not be asked about it.",
            "%(count)d entries could not be judged, because the storage could not be asked about "
            "them.",
            doubtful,
        )
        yield text % {"count": doubtful}


def _repair(job: Job) -> Iterator[str]:
    texts = {
        Outcome.REPAIRED: ngettext(
            "%(count)d finding was repaired.",
            "%(count)d findings were repaired.",
            _number(job, Outcome.REPAIRED),
        ),
        Outcome.HEALED: ngettext(
            "%(count)d finding had already been resolved.",
            "%(count)d findings had already been resolved.",
            _number(job, Outcome.HEALED),
        ),
        Outcome.KEPT: ngettext(
            "%(count)d finding was skipped because its data could not be restored.",
            "%(count)d findings were skipped because their data could not be restored.",
            _number(job, Outcome.KEPT),
        ),
        Outcome.DOUBTFUL: ngettext(
            "%(count)d finding was skipped because the storage could not be asked again.",
            "%(count)d findings were skipped because the storage could not be asked again.",
            _number(job, Outcome.DOUBTFUL),
        ),
    }
    for outcome, text in texts.items():
        if outcome is Outcome.REPAIRED or _number(job, outcome):
            yield text % {"count": _number(job, outcome)}


def _sizes(job: Job) -> Iterator[str]:
    done = _number(job, "done")
    text = ngettext("%(count)d repository calculated.", "%(count)d repositories calculated.", done)
    yield text % {"count": done}
