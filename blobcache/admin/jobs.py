"""The pages of jobs: the list, and one job, whose page takes its steps.

A GET changes nothing. Each POST takes a step; with JavaScript the page sends them by itself. A job
that the user may not see is answered like one that does not exist.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.timezone import now
from django.utils.translation import gettext as _

from blobcache.admin.pages import NUMBER, Page
from blobcache.admin.registries import address, with_registry
from blobcache.jobs import (
    KINDS,
    JobAccess,
    JobRefused,
    advance,
    cancel,
    hand_over_again,
    start,
    texts,
)
from blobcache.models import Job, Repository
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from django.contrib.admin import ModelAdmin
    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse

__all__ = ["JobPage", "JobsPage", "StartsJobs"]

_SECONDS = 1.5
"""How long a POST without JavaScript takes steps: one press of the button should do a lot."""

_IDLE = 10
"""Seconds after which nobody seems to be working on a job."""

_LINKED = 25
"""How many repositories a link to their findings names at most: its address must not be too long.
With the longest names it has 7,000 characters."""

_NAMES = 20
"""Names of repositories that the page of a job shows."""


class StartsJobs(Page):
    """A page that can start a job."""

    def start_job(self, kind: str, parameters: Mapping[str, object], size: int) -> HttpResponse:
        """Start a job and redirect to its page; if that is refused, to where the user was."""
        try:
            job = start(self.access, kind, parameters, size, source="admin")
        except JobRefused as error:
            return self.redirect_with_message(str(error), messages.ERROR)
        return HttpResponseRedirect(job_url(self, job.pk))


def job_url(page: Page, key: UUID) -> str:
    """The address of a job's page."""
    name = f"admin:{Repository._meta.app_label}_repository_job"  # noqa: SLF001 - Django's way
    url = reverse(name, args=[key], current_app=page.admin.admin_site.name)
    return with_registry(url, page.registry)


_STARTED_HERE = ("reindex", "sizes")
"""Kinds that need nothing but the permission, so the list of jobs can start them."""


class JobsPage(StartsJobs):
    """The jobs that the user may see, the latest first; it starts those that need no selection."""

    template = "jobs.html"

    def is_allowed(self) -> bool:
        """Every user of the site: the list has only what they may see."""
        return True

    @property
    def return_url(self) -> str:
        """This page."""
        return self.url(Repository, "jobs")

    def crumbs(self) -> list[tuple[str, str]]:
        """This page."""
        return [(_("Jobs"), "")]

    def post(self) -> HttpResponse:
        """Start a job."""
        kind = self.request.POST.get("kind", "")
        if kind not in _STARTED_HERE:
            return self.redirect_with_message(_("Choose what to start."), messages.ERROR)
        return self.start_job(kind, {}, 0)

    def get(self) -> HttpResponse:
        """Show a page of the list."""
        part = Paginator(JobAccess(self.access).visible(), self.limit).get_page(
            self.request.GET.get(NUMBER, "")
        )
        return self.render(
            title=_("Jobs"),
            startable=[
                (name, KINDS[name].title)
                for name in _STARTED_HERE
                if KINDS[name].is_allowed(self.access, {})
            ],
            rows=[
                {
                    "job": job,
                    "title": texts.title(job),
                    "url": job_url(self, job.pk),
                    "share": texts.share(job),
                    "is_idle": _is_idle(job),
                }
                for job in part
            ],
            page_links=self.page_links(part),
            previous_url=self.page_link(part, -1),
            next_url=self.page_link(part, +1),
        )


class JobPage(Page):
    """One job: how far it is; its steps; and its end."""

    template = "job.html"

    def __init__(self, admin: ModelAdmin[Model], request: HttpRequest, key: UUID) -> None:
        super().__init__(admin, request)
        self.key = key

    def url_in(self, registry: str) -> str:
        """The jobs of another registry: this one is not there. For its own, this page."""
        if registry == self.registry:
            return job_url(self, self.key)
        return address(self.admin.admin_site, registry, Repository, "jobs")

    def is_allowed(self) -> bool:
        """Who may see the job. Raises `Http404` for everybody else, as if it did not exist."""
        return self.job is not None

    @cached_property
    def job(self) -> Job:
        """The job. Raises `Http404`."""
        found = JobAccess(self.access).visible().defer("cursor").filter(pk=self.key).first()
        if found is None:
            raise Http404(_("There is no such job."))
        return found

    @property
    def may_control(self) -> bool:
        """Whether the user may advance and cancel the job."""
        return JobAccess(self.access).may_control(self.job)

    @property
    def return_url(self) -> str:
        """This page."""
        return job_url(self, self.key)

    def crumbs(self) -> list[tuple[str, str]]:
        """The list of jobs, and this page."""
        return [(_("Jobs"), self.url(Repository, "jobs")), (texts.title(self.job), "")]

    def post(self) -> HttpResponse:
        """Take a step, or some; or cancel the job."""
        if not self.may_control:
            return self.redirect_with_message(
                _("Only the user who started this job can continue or cancel it."), messages.ERROR
            )
        if "cancel" in self.request.POST:
            if cancel(self.key):
                self.add_message(
                    _("The job was cancelled. What it has already done is not undone.")
                )
            return HttpResponseRedirect(self.return_url)
        hand_over_again(self.job)
        end = monotonic() + (0 if "one" in self.request.POST else _SECONDS)
        while advance(self.key) and monotonic() < end:
            pass
        return HttpResponseRedirect(self.return_url)

    def get(self) -> HttpResponse:
        """Show how far it is."""
        job = self.job
        names = self._names()
        wait = job.not_before and (job.not_before - now()).total_seconds()
        return self.render(
            title=texts.title(job),
            job=job,
            share=texts.share(job),
            lines=texts.progress_lines(job),
            reason=texts.reason(job, shows_place=self.access.sees_all),
            names=[(name, self.repository_url(name)) for name in names[:_NAMES]],
            more_names=max(0, len(names) - _NAMES),
            may_control=self.may_control,
            is_idle=_is_idle(job),
            is_taken=_is_taken(job),
            pause=max(0, round(wait or 0)) or (2 if _is_taken(job) else 0),
            list_of_jobs_url=self.url(Repository, "jobs"),
            findings_url=self._findings_url(),
        )

    def _names(self) -> list[RepositoryName]:
        """The repositories that the job is about, of those that the user may view."""
        parameters = self.job.parameters
        one = parameters.get("repository")
        texts_ = [one] if one else parameters.get("repositories", [])
        names = [RepositoryName(text) for text in texts_]
        return [name for name in names if self.access.may_in_repository("view", name)]

    def _findings_url(self) -> str:
        """Where the findings of a check can be seen and repaired."""
        if self.job.kind != "check" or not any(self.job.progress.get("counts", {}).values()):
            return ""
        names = self._names()
        if len(names) > _LINKED or len(names) < len(self.job.parameters["repositories"]):
            return ""
        query = [("repository", name) for name in names]
        return address(self.admin.admin_site, self.registry, Repository, "consistency", query=query)


def _is_taken(job: Job) -> bool:
    """Whether a driver is taking a step now."""
    return job.is_open and job.lease_until is not None and job.lease_until > now()


def _is_idle(job: Job) -> bool:
    """Whether nobody seems to be working on it."""
    since = max(job.changed_at, job.not_before or job.changed_at)
    return job.is_open and not _is_taken(job) and (now() - since).total_seconds() > _IDLE
