"""``check``: find problems in the cache, by itself and beside the storage, and repair them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from blobcache.doctor.repair import Repair, repair
from blobcache.doctor.scan import Diagnosis
from blobcache.doctor.settled import MAX_SHARE, Safety, SettledRepair, needs_settling
from blobcache.finding_texts import OUTCOMES, describe
from blobcache.findings import DEFAULT_KINDS, FINDING_KINDS, TRUTH_KINDS, Kind, Outcome, Severity
from blobcache.management.subcommand import Exit, Subcommand
from blobcache.management.writing import Column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobcache.doctor.truth import Doubtful
    from blobcache.findings import Finding
    from blobcache.management.session import Session
    from blobcache.management.writing import Table

__all__ = ["Check"]


class Check(Subcommand):
    """Find problems in the cache."""

    name = "check"
    help = "find problems in the cache, and repair them with --fix"
    description = """\
Find problems in the cache. If the setting TRUTH names a backend, the cache is
compared with what the registry really stores; else the storage is not checked.

With --fix each finding is checked again, and what is still wrong is cleared.
What is wrong by the storage is cleared at the end, after a second look at
least SETTLE seconds later, and never if it is too much: see --max-share."""
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
        parser.add_argument(
            "--yes", action="store_true", help="do not ask; needed where nobody can answer"
        )
        parser.add_argument(
            "--max-share",
            type=_percent,
            default=MAX_SHARE,
            metavar="PERCENT",
            help="clear nothing if the storage contradicts more than this share of the entries, "
            "of all or of one repository (default: %(default)s; 20 entries are always allowed)",
        )
        parser.add_argument("--force", action="store_true", help="clear more than that")
        parser.add_argument(
            "--force-primary",
            action="store_true",
            help="clear what the storage contradicts although the role is 'primary'",
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write each finding. `Exit.NO` if some are not repaired."""
        provider, backend = session.browsable, session.backend
        diagnosis = Diagnosis(provider, options.repositories or (), options.kinds, backend=backend)
        unjudged = frozenset(options.kinds or ()) - diagnosis.kinds
        for kind in sorted(unjudged):
            session.warn(_unjudged(kind, has_backend=backend is not None) % {"kind": kind})
        if options.fix:
            session.confirm(_("What is found is cleared, if it is still wrong then. Go on?"))
        run = _Run(session, diagnosis, options)
        changing = session.changing() if options.fix else nullcontext()
        with changing:
            run.check()
            if run.settled:
                run.repair_settled()
        run.say_sum()
        if unjudged or run.doubtful:
            return Exit.FAILED
        return Exit.NO if run.left else Exit.OK


class _Run:
    """One check, with its sums."""

    def __init__(self, session: Session, diagnosis: Diagnosis, options: Namespace) -> None:
        self._session = session
        self._diagnosis = diagnosis
        self._fix = options.fix
        self._table: Table[_Row] = session.table(_COLUMNS if self._fix else _COLUMNS[:-1], _json)
        self._found: Counter[str] = Counter()
        self._outcomes: Counter[Outcome] = Counter()
        self._looked_at = 0
        self._first_doubt: Doubtful | None = None
        self.doubtful = 0
        """How many entries could not be judged."""

        self.settled: SettledRepair | None = None
        """The repair of what the storage contradicts, if there is a backend."""

        if self._fix and diagnosis.is_compared and diagnosis.backend is not None:
            safety = Safety(
                settle=session.settings.SETTLE,
                max_share=options.max_share,
                force=options.force,
                force_primary=options.force_primary,
            )
            self.settled = SettledRepair(diagnosis.provider, diagnosis.backend, safety)

    @property
    def left(self) -> int:
        """How many findings remain."""
        outcomes = self._outcomes
        return self._found.total() - outcomes[Outcome.REPAIRED] - outcomes[Outcome.HEALED]

    def check(self) -> None:
        """Write the findings, and repair those of the cache alone."""
        with self._session.progress(_("Checking")) as progress, self._table:
            for step in self._diagnosis.run():
                for finding in step.findings:
                    self._found[finding.severity] += 1
                    if self.settled is not None and needs_settling(finding):
                        self.settled.add(finding)
                    elif self._fix:
                        self._write(Repair(finding, repair(self._diagnosis.provider, finding)))
                    else:
                        self._table.append(_Row(finding, None))
                if self._first_doubt is None and step.doubtful:
                    self._first_doubt = step.doubtful[0]
                self._looked_at, self.doubtful = step.progress.looked_at, step.progress.doubtful
                progress.update(step.progress.looked_at, step.progress.share)

    def repair_settled(self) -> None:
        """Look at what the storage contradicts a second time, and clear it."""
        if not self.settled:
            return
        self.settled.require_allowed(self._looked_at)
        with self._session.progress(_("Looking again")) as progress, self._table:
            for number, done in enumerate(self.settled.run(), 1):
                self._write(done)
                progress.update(number, number / len(self.settled))

    def _write(self, done: Repair) -> None:
        self._outcomes[done.outcome] += 1
        self.doubtful += done.outcome is Outcome.DOUBTFUL
        self._table.append(_Row(done.finding, done.outcome))

    def say_sum(self) -> None:
        """Write the sums, and what could not be judged."""
        for text in self._sums():
            self._session.say(text)
        if self._first_doubt is not None:
            subject, reason = self._first_doubt
            about = " ".join(filter(None, (subject.repository, subject.digest)))
            self._session.warn(
                ngettext(
                    "%(count)d entry could not be judged: %(about)s: %(reason)s",
                    "%(count)d entries could not be judged. The first is %(about)s: %(reason)s",
                    self.doubtful,
                )
                % {"count": self.doubtful, "about": about, "reason": reason}
            )

    def _sums(self) -> Iterator[str]:
        count = self._found.total()
        if count:
            text = ngettext(
                "%(count)d finding, %(errors)d of them an error.",
                "%(count)d findings, %(errors)d of them errors.",
                count,
            ) % {"count": count, "errors": self._found["error"]}
            outcomes = self._outcomes.items()
            done = ", ".join(f"{OUTCOMES[outcome]}: {number}" for outcome, number in outcomes)
            yield f"{text} {done}." if self._fix else text
        if not self._diagnosis.is_compared:
            if not count:
                yield _(
                    "No problems found inside the cache. The registry's storage was not checked."
                )
        elif not count and not self.doubtful:
            yield _("No problems found: the cache agrees with the registry's storage.")


def _percent(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 100:  # noqa: PLR2004 - percent
        raise ValueError(text)
    return number


def _unjudged(kind: Kind, *, has_backend: bool) -> str:
    if kind in TRUTH_KINDS and not has_backend:
        return _("%(kind)s cannot be checked without a backend: see the setting TRUTH.")
    return _("%(kind)s cannot be checked in single repositories.")


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
