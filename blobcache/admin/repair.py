"""Repairing what a diagnosis found: after a look at what that will do, and after a look again.

Selected findings are repaired one by one; all of a kind on a walk that finds and repairs them step
by step, each step a POST with the cursor of the one before. The first step asks again if the number
of findings has grown too much since the page showed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.confirmation import SHOWN, UNCOUNTED, has_grown, shown_number
from blobcache.admin.consistency import FindingsPageBase
from blobcache.admin.pages import CURSOR
from blobcache.admin.reports import groups
from blobcache.cursors import seal, unseal
from blobcache.doctor.repair import repair_many
from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import FINDING_KINDS, Finding, Kind, Outcome
from blobcache.history import recorded
from blobcache.parsing import parse_each, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpResponse

    from blobcache.doctor.repair import Repair

__all__ = ["RepairPage"]

_MAX_DIGITS = 9


class _Count(NamedTuple):
    """How many findings of a kind there are."""

    found: int
    is_all: bool
    """Whether there was time to count all of them."""


_NOTHING = _Count(0, is_all=True)


class RepairPage(FindingsPageBase):
    """Repairing some findings, or all of a kind."""

    template = "repair.html"
    writes = True

    def is_allowed(self) -> bool:
        """Who may view them, and clear in one of them at least."""
        return super().is_allowed() and (self.settings.READ_ONLY or self.may_repair_any)

    def crumbs(self) -> list[tuple[str, str]]:
        """Below the check."""
        return [*super().crumbs(), (_("Repair"), "")]

    @property
    def tally(self) -> dict[Outcome, int]:
        """What earlier steps came to; it is shown, and nothing else."""
        return {
            outcome: whole_number(self.request.POST.get(outcome, ""), max_digits=_MAX_DIGITS) or 0
            for outcome in Outcome
        }

    def get(self) -> HttpResponse:
        """There is nothing selected: back to the page where one does."""
        return HttpResponseRedirect(self.return_url)

    def post(self) -> HttpResponse:
        """Show what will happen and, when that is confirmed, do it."""
        is_confirmed = "confirmed" in self.request.POST
        kind = self.request.POST.get("kind", "")
        if kind in FINDING_KINDS:
            if not self.may_repair_any:
                return self._nothing()
            is_further = is_confirmed and any(each in self.request.POST for each in Outcome)
            if is_further:
                return self._walk(Kind(kind))
            return self._begin(Kind(kind), is_confirmed=is_confirmed)
        found = parse_each(self.request.POST.getlist("finding"), Finding.parse)
        findings = [finding for finding in found if self.may_repair(finding)]
        if not findings:
            return self._nothing()
        return self._repair(findings) if is_confirmed else self._ask(findings)

    def _nothing(self) -> HttpResponse:
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
        )

    def _begin(self, kind: Kind, *, is_confirmed: bool) -> HttpResponse:
        """Take the first step if what was shown is still true; else show what there is now."""
        if is_confirmed and self.request.POST.get(SHOWN) == UNCOUNTED:
            return self._walk(kind)
        count = self._count(kind)
        shown = shown_number(self.request.POST) if is_confirmed else None
        if shown is not None and count is not None:
            if count.is_all and not has_grown(shown, count.found):
                return self._walk(kind)
            self.add_message(_not_as_shown(shown, count))
        if count == _NOTHING:
            return self.redirect_with_message(
                _("There are no findings of this kind to repair."), messages.INFO
            )
        number = "" if count is None else str(count.found) if count.is_all else UNCOUNTED
        return self.render(
            title=_("Repair"),
            names=self.names,
            kind=kind,
            explanation=EXPLANATIONS[kind],
            found=count,
            shown=number,
            return_url=self.return_url,
        )

    def _count(self, kind: Kind) -> _Count | None:
        """Count the findings that the user may repair; None if Redis fails."""
        found: set[str] = set()
        cursor: str | None = ""
        budgets = self.provider.catalog.budgets
        deadline = budgets.deadline(budgets.preview)
        with self.catch_redis_errors():
            while cursor is not None and (left := deadline.left) > 0:
                step = self.diagnosis([kind]).step(cursor, left)
                found.update(each.id for each in step.findings if self.may_repair(each))
                cursor = step.next
            return _Count(len(found), cursor is None)
        return None

    def _repair(self, findings: list[Finding]) -> HttpResponse:
        done: list[Repair] = []
        failed = True
        with self.catch_redis_errors(), recorded(self.request.user, source="admin"):
            done = repair_many(self.provider, findings)
            failed = False
        tally = self._add(done)
        left = findings[len(done) :]
        if not left:
            return self._leave(tally)
        return self._go_on(tally, left=left, is_stuck=failed)

    def _walk(self, kind: Kind) -> HttpResponse:
        cursor_scope = ("admin", "repair", kind, *self.names)
        token = self.request.POST.get(CURSOR, "")
        cursor = unseal(token, *cursor_scope) if token else ""
        done: list[Repair] = []
        next_cursor: str | None = cursor
        failed = True
        with self.catch_redis_errors(), recorded(self.request.user, source="admin"):
            step = self.diagnosis([kind]).step(cursor)
            findings = list(filter(self.may_repair, step.findings))
            if findings:
                done = repair_many(self.provider, findings)
            if len(done) == len(findings):  # else the same step again, for the rest
                next_cursor = step.next
            failed = False
        tally = self._add(done)
        if next_cursor is None:
            return self._leave(tally)
        return self._go_on(
            tally,
            kind=kind,
            cursor=seal(next_cursor, *cursor_scope) if next_cursor else "",
            is_stuck=failed,
        )

    def _add(self, done: Iterable[Repair]) -> dict[Outcome, int]:
        tally = self.tally
        for each in done:
            tally[each.outcome] += 1
        return tally

    def _go_on(self, tally: dict[Outcome, int], **context: object) -> HttpResponse:
        left = context.pop("left", ())
        return self.render(
            title=_("Repair"),
            names=self.names,
            is_under_way=True,
            tally=tally,
            repaired=tally[Outcome.REPAIRED],
            left=left,
            return_url=self.return_url,
            **context,
        )

    def _leave(self, tally: dict[Outcome, int]) -> HttpResponse:
        repaired, healed, kept = (tally[outcome] for outcome in Outcome)
        if repaired or not (healed or kept):
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
        return HttpResponseRedirect(self.return_url)


def _not_as_shown(shown: int, count: _Count) -> str:
    if not has_grown(shown, count.found):
        return _(
            "Nothing was repaired: the findings could not be counted again in time. "
            "Read what this page says now and confirm again."
        )
    return _(
        "Nothing was repaired: the number of findings has grown from %(shown)d to %(now)d or more "
        "since you opened this page. Check it and confirm again."
    ) % {"shown": shown, "now": count.found}
