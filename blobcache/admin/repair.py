"""Repair findings: a confirmation page, then each finding is checked again and repaired.

Selected findings are repaired one by one. All findings of a kind are repaired by a walk that finds
and repairs them, one step per request; each step is a POST with the cursor of the one before. The
first step asks again if the number of findings has grown too much since the page showed it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.confirmation import SHOWN, UNCOUNTED, has_grown, shown_number
from blobcache.admin.consistency import FindingsPageBase
from blobcache.admin.jobs import StartsJobs
from blobcache.admin.pages import CURSOR
from blobcache.admin.reports import groups
from blobcache.doctor.settled import (
    ALWAYS_ALLOWED,
    RepairRefused,
    is_allowed_share,
    needs_two_looks,
)
from blobcache.doctor.steps import RepairStep, repair_step
from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import FINDING_KINDS, TRUTH_KINDS, Finding, Kind, Outcome
from blobcache.history import recorded
from blobcache.parsing import parse_each, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django.http import HttpResponse

    from blobcache.doctor.repair import Repair

__all__ = ["RepairPage"]


_FIRST = 20
"""Findings that the page shows before all of a kind are repaired."""


class _Count(NamedTuple):
    """How many findings of a kind there are."""

    found: int
    is_all: bool
    """Whether there was time to count all of them."""

    compared: int = 0
    """Entries among which they were counted."""

    first: Sequence[Finding] = ()
    """The first ones that were found, to be shown."""


class RepairPage(FindingsPageBase, StartsJobs):
    """Repair some findings, or all of a kind."""

    template = "repair.html"
    writes = True

    def is_allowed(self) -> bool:
        """Users who may view the findings, and may repair some of them."""
        return super().is_allowed() and (self.settings.READ_ONLY or self.may_repair_any)

    def crumbs(self) -> list[tuple[str, str]]:
        """The check and this page."""
        return [*super().crumbs(), (_("Repair"), "")]

    @property
    def tally(self) -> dict[Outcome, int]:
        """The totals of earlier steps. They are only displayed."""
        return {
            outcome: whole_number(self.request.POST.get(outcome, ""), max_digits=9) or 0
            for outcome in Outcome
        }

    def get(self) -> HttpResponse:
        """Redirect to the check, where findings are selected."""
        return HttpResponseRedirect(self.return_url)

    def post(self) -> HttpResponse:
        """Ask for confirmation or, if it is confirmed, take a step."""
        try:
            return self._post()
        except RepairRefused as error:
            return self.redirect_with_message(error.message, messages.ERROR)

    def _post(self) -> HttpResponse:
        is_confirmed = "confirmed" in self.request.POST or "job" in self.request.POST
        kind = self.request.POST.get("kind", "")
        if kind in FINDING_KINDS:
            if not self.may_repair_kind(Kind(kind)):
                return self._nothing_selected()
            is_later_step = is_confirmed and any(each in self.request.POST for each in Outcome)
            if is_later_step:
                return self._walk(Kind(kind))
            return self._first_step(Kind(kind), is_confirmed=is_confirmed)
        found = parse_each(self.request.POST.getlist("finding"), Finding.parse)
        findings = [finding for finding in found if self.may_repair(finding)]
        if not findings:
            return self._nothing_selected()
        return self._repair(findings) if is_confirmed else self._ask(findings)

    def _nothing_selected(self) -> HttpResponse:
        text = _("Select at least one finding that you may repair.")
        return self.redirect_with_message(text, messages.WARNING)

    def _ask(self, findings: list[Finding]) -> HttpResponse:
        counts = dict.fromkeys((finding.kind for finding in findings), 0)
        for finding in findings:
            counts[finding.kind] += 1
        return self.render(
            title=_("Repair"),
            names=self.names,
            groups=groups(counts, findings, self.row),
            count=len(findings),
            return_url=self.return_url,
            **_looks(counts, self.settings.SETTLE),
        )

    def _first_step(self, kind: Kind, *, is_confirmed: bool) -> HttpResponse:
        """Take the first step if the number of findings is about the one shown, else ask again."""
        if is_confirmed and self.request.POST.get(SHOWN) == UNCOUNTED:
            return self._begin(kind)
        count = self._count(kind)
        shown = shown_number(self.request.POST) if is_confirmed else None
        if shown is not None and count is not None:
            if count.is_all and not has_grown(shown, count.found):
                return self._begin(kind, shown * 11 // 10)
            self.add_message(_not_as_shown(shown, count))
        if count is not None and count.is_all and not count.found:
            return self.redirect_with_message(
                _("There are no findings of this kind to repair."), messages.INFO
            )
        if needs_two_looks(kind) and count is not None and not _is_allowed(count):
            return self.redirect_with_message(
                _(
                    "The storage contradicts so many entries that it may be the wrong one. If it "
                    "is not, repair them on the command line, with --max-share or --force."
                ),
                messages.ERROR,
            )
        number = "" if count is None else str(count.found) if count.is_all else UNCOUNTED
        return self.render(
            title=_("Repair"),
            names=self.names,
            kind=kind,
            explanation=EXPLANATIONS[kind],
            found=count,
            first=groups({kind: len(count.first)}, count.first, self.row)
            if count and count.first
            else (),
            shown=number,
            return_url=self.return_url,
            **_looks([kind], self.settings.SETTLE),
        )

    def _begin(self, kind: Kind, most: int | None = None) -> HttpResponse:
        """Take the first step, or start a job that repairs `most` findings."""
        if "job" not in self.request.POST:
            return self._walk(kind)
        parameters = {"finding": kind.value, "repositories": self.names, "most": most}
        return self.start_job("repair", parameters, most or 0)

    def _count(self, kind: Kind) -> _Count | None:
        """Count the findings that the user may repair; None if Redis fails."""
        found: dict[str, Finding] = {}
        cursor: str | None = ""
        compared = 0
        budgets = self.provider.catalog.budgets
        deadline = budgets.deadline(budgets.preview)
        with self.catch_redis_errors():
            while cursor is not None and (left := deadline.left) > 0:
                step = self.diagnosis([kind]).step(cursor, left)
                found.update((each.id, each) for each in step.findings if self.may_repair(each))
                cursor, compared = step.next, step.progress.judged
            first = tuple(islice(found.values(), _FIRST))
            return _Count(len(found), cursor is None, compared, first)
        return None

    def _repair(self, findings: list[Finding]) -> HttpResponse:
        absent = [each for each in findings if needs_two_looks(each.kind)]
        if len(absent) > ALWAYS_ALLOWED:
            return self.redirect_with_message(
                _("Select at most %(count)d findings about what the storage does not have.")
                % {"count": ALWAYS_ALLOWED},
                messages.WARNING,
            )
        step: RepairStep | None = None
        with self.catch_redis_errors(), recorded(self.request.user, source="admin", task="repair"):
            step = repair_step(self.provider, findings, self.backend)
        tally = self._add(step.done if step else ())
        left = step.left if step else findings
        if not left:
            return self._finish(tally)
        return self._show_progress(
            tally, left=left, is_stuck=step is None, wait=step.wait if step else 0
        )

    def _walk(self, kind: Kind) -> HttpResponse:
        cursor_scope = ("repair", kind, *self.names)
        token = self.request.POST.get(CURSOR, "")
        cursor = self.unseal(token, *cursor_scope) if token else ""
        done = RepairStep([], [])
        next_cursor: str | None = cursor
        failed = True
        with self.catch_redis_errors(), recorded(self.request.user, source="admin", task="repair"):
            step = self.diagnosis([kind]).step(cursor)
            findings = list(filter(self.may_repair, step.findings))
            if findings:
                done = repair_step(self.provider, findings, self.backend)
            if not done.left:  # else the same step again, for the rest
                next_cursor = step.next
            failed = False
        tally = self._add(done.done)
        if next_cursor is None:
            return self._finish(tally)
        return self._show_progress(
            tally,
            kind=kind,
            cursor=self.seal(next_cursor, *cursor_scope) if next_cursor else "",
            is_stuck=failed,
            wait=done.wait,
        )

    def _add(self, done: Iterable[Repair]) -> dict[Outcome, int]:
        tally = self.tally
        for each in done:
            tally[each.outcome] += 1
        return tally

    def _show_progress(
        self,
        tally: dict[Outcome, int],
        *,
        left: Sequence[Finding] = (),
        wait: int = 0,
        **context: object,
    ) -> HttpResponse:
        return self.render(
            title=_("Repair"),
            names=self.names,
            is_under_way=True,
            tally=tally,
            repaired=tally[Outcome.REPAIRED],
            left=left,
            wait=wait,
            due=datetime.now(UTC) + timedelta(seconds=wait),
            return_url=self.return_url,
            **context,
        )

    def _finish(self, tally: dict[Outcome, int]) -> HttpResponse:
        repaired, healed, kept, doubtful = (tally[outcome] for outcome in Outcome)
        if repaired or not (healed or kept or doubtful):
            text = ngettext("Repaired %(count)d finding.", "Repaired %(count)d findings.", repaired)
            self.add_message(text % {"count": repaired}, messages.SUCCESS)
        if healed:
            text = ngettext(
                "%(count)d finding had already been resolved and was skipped.",
                "%(count)d findings had already been resolved and were skipped.",
                healed,
            )
            self.add_message(text % {"count": healed}, messages.INFO)
        if kept:
            text = ngettext(
                "%(count)d finding was skipped because its data could not be restored.",
                "%(count)d findings were skipped because their data could not be restored.",
                kept,
            )
            self.add_message(text % {"count": kept})
        if doubtful:
            text = ngettext(
                "%(count)d finding was skipped because the storage could not be asked again.",
                "%(count)d findings were skipped because the storage could not be asked again.",
                doubtful,
            )
            self.add_message(text % {"count": doubtful})
        return HttpResponseRedirect(self.return_url)


def _is_allowed(count: _Count) -> bool:
    """Whether so many entries may be cleared because of the storage."""
    return count.is_all and is_allowed_share(count.found, count.compared)


def _looks(kinds: Iterable[Kind], settle: int) -> dict[str, object]:
    """What a page says about looks at the storage, before findings of these kinds are repaired."""
    kinds = set(kinds)
    return {
        "asks_storage": not TRUTH_KINDS.isdisjoint(kinds),
        "settle": settle if any(map(needs_two_looks, kinds)) else 0,
    }


def _not_as_shown(shown: int, count: _Count) -> str:
    if not has_grown(shown, count.found):
        return _(
            "Nothing was repaired: the findings could not be counted again in time. "
            "Check this page and confirm again."
        )
    return _(
        "Nothing was repaired: the number of findings has grown from %(shown)d to %(now)d or more "
        "since you opened this page. Check it and confirm again."
    ) % {"shown": shown, "now": count.found}
