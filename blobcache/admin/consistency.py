"""The doctor: the check of the whole cache, or of some repositories.

Each request takes one bounded step. The cursor and the counts so far are in the address,
encrypted, so nothing is stored between requests and a report can be shared. The findings of a short
check are listed at once; those of a long one are listed per kind, by a walk of their own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, cast

from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _

from blobcache.admin import exports
from blobcache.admin.all_repositories import FoundRepositories, find_all
from blobcache.admin.banners import NO_BACKEND
from blobcache.admin.base_pages import REPOSITORIES_KEPT
from blobcache.admin.exports import EXPORT
from blobcache.admin.jobs import StartsJobs
from blobcache.admin.pages import CURSOR, Page
from blobcache.admin.registries import address
from blobcache.admin.reports import Report, groups
from blobcache.digest import Digest
from blobcache.doctor.last_run import LastRun
from blobcache.doctor.permissions import CheckAccess
from blobcache.doctor.presence import missing
from blobcache.doctor.scan import Diagnosis
from blobcache.doctor.witness import ask_witness, known_witness
from blobcache.exceptions import BackendUnavailable
from blobcache.exports import Format, export_response
from blobcache.finding_texts import EXPLANATIONS, describe
from blobcache.findings import FINDING_KINDS, REPORT_ONLY_KINDS, Finding, Kind
from blobcache.models import Blob, Repository
from blobcache.parsing import parse_each
from blobcache.reference import RepositoryName
from blobcache.services import get_usable_backend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http import HttpResponse

    from blobcache.doctor.scan import Progress, Step
    from blobcache.services.base import Backend
    from blobcache.services.truth import Witness

__all__ = ["ConsistencyPage", "FindingsPageBase"]

RUN = "run"
"""The parameter with the progress of a check and its counts so far."""

WITNESS = "witness"
"""The button that asks whether the backend reads this very cache."""

MAX_REPOSITORIES = 100
"""How many repositories can be checked together; for more, check the whole cache."""

_ROWS = 75
"""How many findings a page of one kind aims at; it may show up to twice as many. So it stays below
a megabyte, whatever other programs have written to Redis."""


class FindingsPageBase(Page):
    """A page about the findings in the repositories that the address names, or in all."""

    @property
    def repository_params(self) -> list[str]:
        """The names of repositories in the request, valid or not."""
        source = self.request.POST if self.request.method == "POST" else self.request.GET
        return list(filter(None, source.getlist("repository")))  # an empty field names nothing

    @property
    def names(self) -> list[RepositoryName]:
        """The repositories to check; empty for all."""
        return sorted(parse_each(self.repository_params, RepositoryName))[:MAX_REPOSITORIES]

    @property
    def check_access(self) -> CheckAccess:
        """What the user may do with findings."""
        return CheckAccess(self.access, read_only=self.settings.READ_ONLY)

    def is_allowed(self) -> bool:
        """Whether the user may view each named repository, or everything if none is named."""
        # Names that are all invalid do not stand for everything.
        is_about_something = bool(self.names) or not self.repository_params
        return is_about_something and self.check_access.may_check(self.names, [self.kind_param])

    @property
    def kind_param(self) -> str:
        """The kind of findings that the request is about; empty if it is about all kinds."""
        source = self.request.POST if self.request.method == "POST" else self.request.GET
        return source.get("kind", "")

    @property
    def return_url(self) -> str:
        """The check of the same repositories, from the start."""
        return self.address()

    def address(self, view: str = "consistency", **parameters: str) -> str:
        """The address of a page about the same repositories."""
        query = [*(("repository", name) for name in self.names), *parameters.items()]
        return address(self.admin.admin_site, self.registry, Repository, view, query=query)

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository, if there is only one, and the check."""
        crumbs = [(name, self.repository_url(name)) for name in self.names]
        return [*(crumbs if len(crumbs) == 1 else ()), (_("Doctor"), self.return_url)]

    def diagnosis(self, kinds: Sequence[Kind] | None = None) -> Diagnosis:
        """The check to run."""
        return Diagnosis(self.provider, self.names, kinds, backend=self.backend)

    @cached_property
    def backend(self) -> Backend | None:
        """What the registry really stores; None, with a banner, if it cannot be asked."""
        try:
            return get_usable_backend(self.settings.registry)
        except BackendUnavailable:
            self.banners.append(NO_BACKEND)
            return None

    @cached_property
    def witness(self) -> Witness | None:
        """Whether the backend is independent of the cache; None if nobody has asked yet."""
        if self.backend is not None:
            with self.catch_redis_errors():
                return known_witness(self.provider, self.backend)
        return None

    @property
    def is_compared(self) -> bool:
        """Whether the cache is compared with a backend that is known to be independent of it."""
        is_witness = self.witness is not None and self.witness.is_independent
        return is_witness and self.diagnosis().is_compared

    def compared_context(self) -> dict[str, object]:
        """Return what the template `parts/compared.html` needs."""
        return {
            "names": self.names,
            "backend": type(self.backend).__name__ if self.backend else "",
            "is_complete": self.backend is not None and self.backend.is_complete,
            "is_compared": self.is_compared,
            "witness": self.witness,
            "witness_param": WITNESS,
            "check_url": self.url(Repository, "consistency"),
        }

    def may_view_finding(self, finding: Finding) -> bool:
        """Whether the user may view the finding."""
        return self.check_access.may_view(finding)

    def may_repair(self, finding: Finding) -> bool:
        """Whether the user may repair the finding."""
        return self._is_ever_repaired(finding.kind) and self.check_access.may_repair(finding)

    def _is_ever_repaired(self, kind: Kind) -> bool:
        if kind is Kind.UNREFERENCED and self.settings.REGISTRY_VERSION == 2:  # noqa: PLR2004
            return False
        return kind not in REPORT_ONLY_KINDS

    def row(self, finding: Finding) -> Mapping[str, object]:
        """A finding as the row of a table."""
        name, digest = finding.repository, finding.digest
        return {
            "id": finding.id,
            "repository": name,
            "repository_url": self.repository_url(name) if isinstance(name, RepositoryName) else "",
            "digest": digest,
            "is_digest": isinstance(digest, Digest),
            "url": self.blob_url(digest) if isinstance(digest, Digest) else "",
            "details": describe(finding, shows_place=self.access.sees_all),
            "is_repairable": finding.is_repairable,
            "is_long": finding.subject.is_long,
            "may_repair": finding.is_repairable
            and not finding.subject.is_long
            and self.may_repair(finding),
        }

    @property
    def may_repair_any(self) -> bool:
        """Whether the user may repair any finding of this check."""
        if self.repository_params and not self.names:
            return False
        return self.check_access.may_repair_any(self.names)

    def may_repair_kind(self, kind: Kind) -> bool:
        """Whether the user may repair findings of the kind in this check."""
        return self._is_ever_repaired(kind) and self.may_repair_any


class ConsistencyPage(FindingsPageBase, StartsJobs):
    """The report, or the findings of one kind."""

    template = "consistency.html"
    parameters = ("repository", "kind")

    def is_allowed(self) -> bool:
        """See `FindingsPageBase`; to check all that a search finds, users who may view the list."""
        if self._asks_for_all:
            return self.admin.has_view_permission(self.request)
        return super().is_allowed()

    @property
    def _asks_for_all(self) -> bool:
        return "all" in self.request.POST

    def get(self) -> HttpResponse:
        """Take a step and show the result."""
        text = self.kind_param
        self.require_choice("kind", FINDING_KINDS)
        if text == Kind.UNREFERENCED and self.diagnosis().asks_about_unreferenced:
            # What the storage has is normal there, and the rest is of this kind.
            return HttpResponseRedirect(self.address(kind=Kind.STALE_MANIFEST))
        if (file := self._export(Kind(text) if text in FINDING_KINDS else None)) is not None:
            return file
        return self._list(Kind(text)) if text in FINDING_KINDS else self._report()

    def post(self) -> HttpResponse:
        """Redirect to an address that can be shared, ask for the witness, or start a job.

        Nothing selected in a list does not stand for everything.
        """
        if self._asks_for_all:  # users may do this who may do nothing else here
            return self._check_all()
        if WITNESS in self.request.POST:
            if self.backend is not None:
                with self.catch_redis_errors():
                    ask_witness(self.provider, self.backend)
        elif "job" in self.request.POST:
            return self.start_job("check", {"repositories": self.names}, len(self.names))
        elif not self.names:
            self.add_message(_("Select at least one repository to check."))
            return HttpResponseRedirect(self.list_url)
        return HttpResponseRedirect(self.return_url)

    def _check_all(self) -> HttpResponse:
        """Start a job that checks all repositories that the search in the list finds."""
        kept = self.request.POST.get("kept", "")
        found: FoundRepositories | None = None
        with self.catch_redis_errors():
            found = find_all(self.provider, kept, self.access.visible)
        if found is None:
            self.add_message(_("Redis failed, so the repositories could not be listed."))
        elif found.names:
            return self.start_job("check", {"repositories": found.names}, len(found.names))
        else:
            self.add_message(found.refusal or _("Select at least one repository to check."))
        return HttpResponseRedirect(self.url_with_filters(kept, REPOSITORIES_KEPT, Repository))

    def _export(self, kind: Kind | None) -> HttpResponse | None:
        """The response with all findings, if the address asks for a format.

        The check is run to its end while they are sent. That the backend is a witness must be
        known already: a GET does not ask.
        """
        self.require_choice(EXPORT, list(Format))
        asked = self.request.GET.get(EXPORT, "")
        if asked not in list(Format):
            return None
        with self.catch_redis_errors():
            export = exports.findings(
                self.diagnosis(None if kind is None else [kind]),
                self.may_view_finding,
                shows_place=self.access.sees_all,
            )
            response = export_response(
                self.request, Format(asked), export.name, export.columns, export.rows
            )
            return cast("HttpResponse", response)  # Django's views may return either
        return None

    def _report(self) -> HttpResponse:
        cursor_scope = ("consistency", *self.names)
        token = self.request.GET.get(RUN, "")
        report = Report.parse(self.unseal(token, *cursor_scope)) if token else Report()
        findings: Sequence[Finding] = ()
        progress: Progress | None = None
        is_first = not token
        last = self._last()
        if report.cursor is not None:
            with self.catch_redis_errors():
                step = self.diagnosis().step(report.cursor)
                findings = list(filter(self.may_view_finding, step.findings))
                report, progress = self._plus(report, findings, step), step.progress
                if step.next is None:
                    self._note(report, step.progress)
        is_done = report.cursor is None
        next_step_url = self.address(**{RUN: self.seal(str(report), *cursor_scope)})
        shows_all = is_done and is_first and len(findings) <= 2 * _ROWS
        return self.render(
            title=_("Doctor"),
            missing=self._missing(),
            **self._scope(),
            last=last,
            last_counts=[
                {"group": group, "url": self.address(kind=group.kind)}
                for group in groups(
                    last.counts if last else {}, places=last.places if last else None
                )
            ],
            groups=[
                {
                    "group": group,
                    "url": self.address(kind=group.kind),
                    "may_repair": self.may_repair_kind(group.kind),
                }
                for group in groups(
                    report.counts,
                    findings if shows_all else (),
                    self.row if shows_all else None,
                    report.places,
                )
            ],
            is_done=is_done,
            shows_all=shows_all,
            progress=progress,
            doubtful=report.doubtful,
            share=_percent(progress),
            refresh_url="" if is_done or self.banners_stop else next_step_url,
            next_step_url=next_step_url,
            again=self.address(),
            exports=self.export_links() if report.counts else (),
            report_url=next_step_url,
            may_repair=self.may_repair_any,
            repair_url=self.url(Repository, "repair"),
            unreferenced_url=""
            if self.names
            or not self.provider.catalog.may_write
            or self.diagnosis().asks_about_unreferenced
            else self.address(kind=Kind.UNREFERENCED),
            blobs_url=self.url(Blob, "changelist"),
        )

    def _plus(self, report: Report, findings: Sequence[Finding], step: Step) -> Report:
        # A user who may not view global descriptors sees their problems in the repositories alone.
        is_whole = not self.names and self.access.may_globally("view")
        return report.plus(findings, step, is_whole=is_whole)

    def _last(self) -> LastRun | None:
        """What the last check of the whole cache has shown, on the page that is about all of it."""
        if self.names or not self.check_access.may_view_last:
            return None
        with self.catch_redis_errors():
            return LastRun.read(self.provider)
        return None

    def _missing(self) -> list[RepositoryName]:
        """The named repositories that are not there."""
        with self.catch_redis_errors():
            return missing(self.provider, self.names, self.backend)
        return []

    def _scope(self) -> dict[str, object]:
        """What is looked at, and what else can be looked for."""
        kinds = self.diagnosis(FINDING_KINDS).kinds
        return {
            **self.compared_context(),
            "check_path": self.url(Repository, "consistency").partition("?")[0],
            "kinds": [
                EXPLANATIONS[kind]
                for kind in FINDING_KINDS
                if kind in kinds
                and self.check_access.may_check(self.names, [kind])
                and not (kind is Kind.UNREFERENCED and self.diagnosis().asks_about_unreferenced)
            ],
        }

    def _note(self, report: Report, progress: Progress) -> None:
        """Note the result beside the index, if it is about everything and nothing is hidden."""
        diagnosis = self.diagnosis()
        if diagnosis.is_whole and self.check_access.may_view_last:
            LastRun(
                datetime.now(UTC),
                self.is_compared,
                progress.looked_at,
                progress.doubtful,
                progress.uncached,
                report.counts,
                report.places,
            ).write(self.provider)

    def _list(self, kind: Kind) -> HttpResponse:
        """Search for findings of the kind, for a bounded time."""
        cursor_scope = ("findings", kind, *self.names)
        step: Step | None = None
        with self.catch_redis_errors():
            step = self.diagnosis([kind]).step(self.cursor(*cursor_scope), limit=_ROWS)
        findings = list(filter(self.may_view_finding, step.findings)) if step else []
        next_link = self.next_link(step.next, *cursor_scope) if step else None
        return self.render(
            title=_("Doctor"),
            missing=self._missing(),
            **self._scope(),
            kind=kind,
            can_be_found=kind in self.diagnosis([kind]).kinds,
            doubtful=step.progress.doubtful if step else 0,
            groups=[
                {"group": group, "url": ""}
                for group in groups({kind: max(len(findings), 1)}, findings, self.row)
            ],
            found=len(findings),
            share=_percent(step.progress) if step else None,
            next=next_link,
            # A page without findings continues by itself.
            refresh_url=next_link if next_link and not findings else "",
            again=self.address(),
            exports=self.export_links() if findings else (),
            may_repair=self.may_repair_kind(kind),
            repair_url=self.url(Repository, "repair"),
            is_walk_done=bool(step) and CURSOR not in self.request.GET and next_link is None,
        )

    @property
    def banners_stop(self) -> bool:
        """Whether Redis failed, so the page must not continue by itself."""
        return any(banner.level != "info" for banner in self.banners if banner != NO_BACKEND)


def _percent(progress: Progress | None) -> int | None:
    return None if progress is None or progress.share is None else round(100 * progress.share)
