"""``check``: find problems inside the cache, and repair them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from blobcache.doctor.repair import repair
from blobcache.doctor.scan import Diagnosis
from blobcache.finding_texts import OUTCOMES, describe
from blobcache.findings import DEFAULT_KINDS, FINDING_KINDS, Kind, Outcome, Severity
from blobcache.management.subcommand import Exit, Subcommand
from blobcache.management.writing import Column

if TYPE_CHECKING:
    from blobcache.findings import Finding
    from blobcache.management.session import Session

__all__ = ["Check"]


class Check(Subcommand):
    """Find problems inside the cache."""

    name = "check"
    help = "find problems in the cache, and repair them with --fix"
    description = """\
Find problems inside the cache. The registry's storage is not checked. With
--fix each finding is checked again, and what is still wrong is cleared."""
    example = "manage.py blobcache check --repository team/app --kind corrupt size-mismatch"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what narrows the check, and ``--fix``."""
        parser.add_argument(
            "--repository",
            dest="repositories",
            nargs="+",
            action="extend",
            metavar="NAME",
            help="check only the blobs of these repositories",
        )
        parser.add_argument(
            "--kind",
            dest="kinds",
            nargs="+",
            action="extend",
            type=Kind,
            choices=FINDING_KINDS,
            metavar="KIND",
            help=f"check only for these kinds: {', '.join(FINDING_KINDS)} (default: all but "
            f"{', '.join(sorted(frozenset(FINDING_KINDS) - DEFAULT_KINDS))}, which checks every "
            "blob in every repository)",
        )
        parser.add_argument("--fix", action="store_true", help="repair the findings")

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write each finding. `Exit.NO` if some are not repaired."""
        provider, fix = session.browsable, options.fix
        diagnosis = Diagnosis(provider, options.repositories or (), options.kinds)
        unjudged = frozenset(options.kinds or ()) - diagnosis.kinds
        for kind in sorted(unjudged):
            session.warn(_("%(kind)s cannot be checked in single repositories.") % {"kind": kind})
        table = session.table(_COLUMNS if fix else _COLUMNS[:-1], _json)
        found: Counter[str] = Counter()
        outcomes: Counter[Outcome] = Counter()
        changing = session.changing() if fix else nullcontext()
        with changing, session.progress(_("Checking")) as progress:
            for step in diagnosis.run():
                for finding in step.findings:
                    outcome = repair(provider, finding) if fix else None
                    found[finding.severity] += 1
                    if outcome is not None:
                        outcomes[outcome] += 1
                    table.add([_Row(finding, outcome)])
                progress.update(step.progress.looked_at, step.progress.share)
        session.say(_sum(found, outcomes if fix else None))
        if unjudged:
            return Exit.FAILED
        left = found.total() - outcomes[Outcome.REPAIRED] - outcomes[Outcome.HEALED]
        return Exit.NO if left else Exit.OK


class _Row(NamedTuple):
    finding: Finding
    outcome: Outcome | None


_COLUMNS: tuple[Column[_Row], ...] = (
    Column(
        gettext_lazy("Severity"),
        lambda row: row.finding.severity,
        is_alarming=lambda row: row.finding.severity is Severity.ERROR,
    ),
    Column(gettext_lazy("Kind"), lambda row: row.finding.kind),
    Column(gettext_lazy("Repository"), lambda row: row.finding.repository),
    Column(gettext_lazy("Digest"), lambda row: row.finding.digest),
    Column(gettext_lazy("Details"), lambda row: describe(row.finding), may_wrap=True),
    Column(
        gettext_lazy("Result"),
        lambda row: None if row.outcome is None else OUTCOMES[row.outcome],
        may_wrap=True,
    ),
)


def _json(row: _Row) -> dict[str, object]:
    facts = row.finding.as_json()
    if row.outcome is not None:
        facts["outcome"] = row.outcome.value
    return facts


def _sum(found: Counter[str], outcomes: Counter[Outcome] | None) -> str:
    count = found.total()
    if not count:
        return _("No problems found inside the cache. The registry's storage was not checked.")
    text = ngettext(
        "%(count)d finding, %(errors)d of them an error.",
        "%(count)d findings, %(errors)d of them errors.",
        count,
    ) % {"count": count, "errors": found["error"]}
    if outcomes is None:
        return text
    done = ", ".join(f"{OUTCOMES[outcome]}: {number}" for outcome, number in outcomes.items())
    return f"{text} {done}."
