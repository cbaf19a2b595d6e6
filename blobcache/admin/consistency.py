"""The page that tells what is wrong: with the whole cache, or with some repositories.

A diagnosis goes on a bounded step a request. How far it has come and what was counted travels in
the address, sealed, so nothing is kept between requests and a report can be shared. What a short
one found is listed at once; that of a long one is listed kind by kind, on a walk of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponseRedirect
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from blobcache.admin.pages import CURSOR, Page
from blobcache.admin.reports import Report, groups
from blobcache.cursors import seal, unseal
from blobcache.digest import Digest
from blobcache.doctor.scan import Diagnosis
from blobcache.findings import FINDING_KINDS, Finding, Kind, Place
from blobcache.models import Blob, Repository
from blobcache.parsing import parse_each
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http import HttpResponse

    from blobcache.doctor.scan import Progress, Step

__all__ = ["ConsistencyPage", "FindingsPageBase"]

RUN = "run"
"""The parameter that says how far a diagnosis has come, and what it found."""

MAX_REPOSITORIES = 100
"""So many are checked together; for more there is the check of all."""

_ROWS = 75
"""How many findings a page of one kind aims at; it may show up to twice as many. So it stays below
a megabyte, whatever other programs have written to Redis."""

_NEED_FULL_WALK = frozenset({Kind.ORPHAN_OVERRIDE, Kind.UNREFERENCED})
"""Kinds that only a walk through all keys or all repositories finds."""


class FindingsPageBase(Page):
    """What is wrong with the repositories that the address names, or with all."""

    @property
    def said(self) -> list[str]:
        """The repositories as the request names them."""
        source = self.request.POST if self.request.method == "POST" else self.request.GET
        return source.getlist("repository")

    @property
    def names(self) -> list[RepositoryName]:
        """The repositories; none for all."""
        return sorted(parse_each(self.said, RepositoryName))[:MAX_REPOSITORIES]

    def is_allowed(self) -> bool:
        """Whether the user may view each named repository, or everything if none is named.

        Some kinds are found only by a walk through the whole cache, even for one repository. How
        long the walk takes shows how much there is, so these kinds need the right to view
        everything.
        """
        if self.access.sees_all:
            return bool(self.names) or not self.said
        return (
            bool(self.names)
            and all(self.access.may_in_repository("view", name) for name in self.names)
            and self.wanted_kind not in _NEED_FULL_WALK
        )

    @property
    def wanted_kind(self) -> str:
        """The kind of findings that the request is about; empty if it is about all kinds."""
        source = self.request.POST if self.request.method == "POST" else self.request.GET
        return source.get("kind", "")

    @property
    def return_url(self) -> str:
        """The check of the same repositories, from the beginning."""
        return self.address()

    def address(self, view: str = "consistency", **parameters: str) -> str:
        """The address of a page about the same repositories."""
        pairs = [*(("repository", name) for name in self.names), *parameters.items()]
        base = self.url(Repository, view)
        return f"{base}?{urlencode(pairs)}" if pairs else base

    def crumbs(self) -> list[tuple[str, str]]:
        """The one repository, if it is one, and the check."""
        crumbs = [(name, self.repository_url(name)) for name in self.names]
        return [*(crumbs if len(crumbs) == 1 else ()), (_("Consistency"), self.return_url)]

    def diagnosis(self, kinds: Sequence[Kind] | None = None) -> Diagnosis:
        """What to look for, and where."""
        return Diagnosis(self.provider, self.names, kinds)

    def may_know(self, finding: Finding) -> bool:
        """Whether the user may know of it."""
        if finding.kind is Kind.UNREFERENCED and not self.access.sees_all:
            return False  # it depends on all repositories, hidden ones included
        if finding.repository is None:
            return self.access.may_globally("view")
        return self.access.may_in_repository("view", finding.repository)

    def may_repair(self, finding: Finding) -> bool:
        """Whether the user may take away what is wrong."""
        if self.settings.READ_ONLY or not self.may_know(finding):
            return False
        if finding.place is Place.BLOB:
            return self.access.may_clear(None)
        return self.access.may_clear(finding.repository)

    def row(self, finding: Finding, text: str) -> Mapping[str, object]:
        """A finding as a table shows it."""
        name, digest = finding.repository, finding.digest
        return {
            "id": finding.id,
            "repository": name,
            "repository_url": self.repository_url(name) if isinstance(name, RepositoryName) else "",
            "digest": digest,
            "is_digest": isinstance(digest, Digest),
            "url": self.blob_url(digest) if isinstance(digest, Digest) else "",
            "details": text,
            "is_repairable": finding.is_repairable,
            "is_long": finding.subject.is_long,
            "may_repair": finding.is_repairable
            and not finding.subject.is_long
            and self.may_repair(finding),
        }

    @property
    def may_repair_any(self) -> bool:
        """Whether there is anything that the user could repair here."""
        if self.settings.READ_ONLY:
            return False
        if self.said:
            return any(self.access.may_clear(name) for name in self.names)
        return self.access.may_in_every_repository("delete")


class ConsistencyPage(FindingsPageBase):
    """The report, or the findings of one kind."""

    template = "consistency.html"

    def get(self) -> HttpResponse:
        """Take a step, and tell what came of it."""
        text = self.wanted_kind
        return self._list(Kind(text)) if text in FINDING_KINDS else self._report()

    def post(self) -> HttpResponse:
        """Turn what was selected in a list into an address that can be shared."""
        return HttpResponseRedirect(self.return_url)

    def _report(self) -> HttpResponse:
        cursor_scope = ("consistency", *self.names)
        token = self.request.GET.get(RUN, "")
        report = Report.parse(unseal(token, "admin", *cursor_scope)) if token else Report()
        findings: Sequence[Finding] = ()
        progress: Progress | None = None
        is_first = not token
        if report.cursor is not None:
            with self.catch_redis_errors():
                step = self.diagnosis().step(report.cursor)
                findings = list(filter(self.may_know, step.findings))
                report, progress = report.plus(findings, step.next), step.progress
        is_done = report.cursor is None
        next_step_url = self.address(**{RUN: seal(str(report), "admin", *cursor_scope)})
        shows_all = is_done and is_first and len(findings) <= 2 * _ROWS
        return self.render(
            title=_("Consistency"),
            names=self.names,
            groups=[
                {"group": group, "url": self.address(kind=group.kind)}
                for group in groups(
                    report.counts, findings if shows_all else (), self.row if shows_all else None
                )
            ],
            counts=report.counts,
            is_done=is_done,
            shows_all=shows_all,
            progress=progress,
            share=_percent(progress),
            refresh_url="" if is_done or self.banners_stop else next_step_url,
            next_step_url=next_step_url,
            again=self.address(),
            report_url=next_step_url,
            may_repair=self.may_repair_any,
            repair_url=self.url(Repository, "repair"),
            unreferenced_url=""
            if self.names or not self.provider.catalog.may_write
            else self.address(kind=Kind.UNREFERENCED),
            blobs_url=self.url(Blob, "changelist"),
        )

    def _list(self, kind: Kind) -> HttpResponse:
        """Walk on until there are some findings of the kind, or for a while."""
        cursor_scope = ("findings", kind, *self.names)
        step: Step | None = None
        with self.catch_redis_errors():
            step = self.diagnosis([kind]).step(self.cursor(*cursor_scope), limit=_ROWS)
        findings = list(filter(self.may_know, step.findings)) if step else []
        next_link = self.next_link(step.next, *cursor_scope) if step else None
        return self.render(
            title=_("Consistency"),
            names=self.names,
            kind=kind,
            groups=[
                {"group": group, "url": ""}
                for group in groups({kind: max(len(findings), 1)}, findings, self.row)
            ],
            found=len(findings),
            share=_percent(step.progress) if step else None,
            next=next_link,
            # A page with nothing on it goes on by itself.
            refresh_url=next_link if next_link and not findings else "",
            again=self.address(),
            may_repair=self.may_repair_any,
            repair_url=self.url(Repository, "repair"),
            is_walk_done=bool(step) and CURSOR not in self.request.GET and next_link is None,
        )

    @property
    def banners_stop(self) -> bool:
        """Whether Redis failed, so that going on by itself would only press it."""
        return any(banner.level != "info" for banner in self.banners)


def _percent(progress: Progress | None) -> int | None:
    return None if progress is None or progress.share is None else round(100 * progress.share)
