"""``check``: find problems in the cache, by itself and beside the storage, and repair them."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from blobcache.doctor.last_run import LastRun
from blobcache.doctor.presence import missing
from blobcache.doctor.problems import Problems, errors_in
from blobcache.doctor.repair import Repair, repair
from blobcache.doctor.saved import SavedCheck
from blobcache.doctor.scan import Diagnosis
from blobcache.doctor.settled import MAX_SHARE, Safety, SettledRepair, needs_settling
from blobcache.exceptions import BlobCacheError
from blobcache.finding_texts import EXPLANATIONS, describe, describe_outcome
from blobcache.findings import (
    DEFAULT_KINDS,
    FINDING_KINDS,
    TRUTH_KINDS,
    Kind,
    Outcome,
    Severity,
)
from blobcache.management.reading import add_repositories
from blobcache.management.subcommand import Exit, Subcommand, usage_error
from blobcache.management.witness import is_independent
from blobcache.management.writing import Column
from blobcache.parsing import whole_number
from blobcache.raw import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobcache.doctor.truth import Doubtful
    from blobcache.findings import Finding
    from blobcache.management.session import Session
    from blobcache.management.writing import Table
    from blobcache.reference import RepositoryName

__all__ = ["Check"]

_REMEMBERED = 100_000
"""Digests that are kept in memory."""


class Check(Subcommand):
    """Find problems in the cache."""

    name = "check"
    takes_registries = True
    help = "find problems in the cache, and repair them with --fix"
    description = """\
Find problems in the cache. If the setting TRUTH names a backend, the cache is
compared with what the registry really stores; otherwise only the cache is
checked.

With --fix each finding is checked again, and what is still wrong is cleared.
What the storage contradicts is cleared at the end, after a second look at
least SETTLE seconds later, and not if it is too much: see --max-share."""
    example = "manage.py blobcache check --repository team/app --kind corrupt size-mismatch"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what narrows the check, and ``--fix``."""
        add_repositories(parser, "check only the blobs of these repositories")
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
        parser.add_argument(
            "--quick", action="store_true", help="judge the global descriptors alone"
        )
        parser.add_argument(
            "--deep",
            nargs="?",
            type=_percent,
            const=100,
            default=0,
            metavar="PERCENT",
            help="also read the data of that percentage of the blobs, and compare it with their "
            "digests (without a number: of all blobs)",
        )
        parser.add_argument(
            "--resume",
            action="store_true",
            help="continue where the last check with the same options was interrupted",
        )
        parser.add_argument(
            "--explain",
            action="store_true",
            help="also write what each kind that was found means for a pull, a push and a mount, "
            "and how it is repaired",
        )
        parser.add_argument("--fix", action="store_true", help="repair the findings")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="with --fix: change nothing, and write what would be done with each finding",
        )
        parser.add_argument(
            "--quiet", action="store_true", help="write only findings and warnings, no sums"
        )
        parser.add_argument(
            "--fail-on",
            choices=("error", "info"),
            default="info",
            help="the least severe findings for which the exit code is 1 (default: %(default)s)",
        )
        parser.add_argument(
            "--yes", action="store_true", help="do not ask; required if nobody can answer"
        )
        parser.add_argument(
            "--max-share",
            type=_percent,
            default=MAX_SHARE,
            metavar="PERCENT",
            help="clear nothing if the storage contradicts more than this share of the entries, "
            "of all or of one repository (default: %(default)s; 20 entries are always allowed)",
        )
        parser.add_argument("--force", action="store_true", help="ignore --max-share")
        parser.add_argument(
            "--force-primary",
            action="store_true",
            help="clear what the storage contradicts although the role is 'primary'",
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write each finding. `Exit.NO` if some are not repaired."""
        provider, backend = session.browsable, session.backend
        _require_sensible(options, has_backend=backend is not None)
        diagnosis = Diagnosis(
            provider,
            options.repositories,
            options.kinds,
            backend=backend,
            deep=options.deep,
            is_quick=options.quick,
        )
        unjudged = frozenset(options.kinds or ()) - diagnosis.kinds
        for kind in sorted(unjudged):
            session.warn(_unjudged(kind, diagnosis) % {"kind": kind})
        changes = options.fix and not options.dry_run
        if changes:
            session.confirm(_("Findings will be cleared if they are still wrong then. Continue?"))
        run = _Run(session, diagnosis, options)
        if diagnosis.is_compared and backend is not None:
            run.has_witness = is_independent(session, backend)
        changing = session.changing("repair") if changes else nullcontext()
        with changing, closing(run):
            run.check(resume=options.resume)
            run.repair_settled()
        run.note()
        run.absent = [
            name
            for name in missing(provider, diagnosis.repositories, backend)
            if name not in run.repositories
        ]
        if not options.quiet:
            run.say_sum()
        for name in run.absent:
            session.warn(_("There is no repository %(name)s. Is it misspelt?") % {"name": name})
        if run.absent or unjudged or run.doubtful or not run.has_witness:
            return Exit.FAILED
        return Exit.NO if run.left(errors_only=options.fail_on == "error") else Exit.OK


class _Run:
    """One check, with its sums."""

    def __init__(self, session: Session, diagnosis: Diagnosis, options: Namespace) -> None:
        self._session = session
        self._diagnosis = diagnosis
        self._fix = options.fix and not options.dry_run
        self._is_dry = options.dry_run
        self._explains = options.explain
        self._table: Table[_Row] = session.table(_COLUMNS if options.fix else _COLUMNS[:-1], _json)
        self._found = Problems(is_whole=not diagnosis.repositories)
        self._solved = Problems(is_whole=not diagnosis.repositories)
        """Findings that are repaired, or have gone by themselves."""

        self._deleted: set[str | None] = set()
        """Digests whose global hash this check has deleted: who holds them misses it now."""

        self._outcomes: Counter[str] = Counter()
        """How many findings had each result, by its text."""

        self._looked_at = 0
        self._compared = 0
        self._uncached = 0
        self._incomparable = 0
        self._saved = SavedCheck(diagnosis)
        self._first_doubt: Doubtful | None = None
        self.repositories: set[str] = set()
        """Of the named repositories, those with findings."""

        self.absent: list[RepositoryName] = []
        """Of the named repositories, those that are not there."""

        self.doubtful = 0
        """How many entries could not be judged."""

        self.has_witness = True
        """Whether the backend, if there is one, is independent of the cache."""

        self.settled: SettledRepair | None = None
        """The repair of what the storage contradicts, if there is a backend."""

        if options.fix and diagnosis.is_compared and diagnosis.backend is not None:
            safety = Safety(
                settle=session.settings.SETTLE,
                max_share=options.max_share,
                force=options.force,
                force_primary=options.force_primary,
            )
            self.settled = SettledRepair(diagnosis.provider, diagnosis.backend, safety)

    def left(self, *, errors_only: bool) -> int:
        """How many findings remain."""
        found = self._found.places - self._solved.places
        return errors_in(found) if errors_only else found.total()

    def check(self, *, resume: bool) -> None:
        """Write the findings, and repair those of the cache alone."""
        cursor = self._saved.read(self._found) if resume else ""
        with self._session.progress(_("Checking")) as progress, self._table:
            for step in self._diagnosis.run(cursor):
                for finding in step.findings:
                    if self._is_left_by_repair(finding):
                        continue
                    self._found.add(finding)
                    if self._diagnosis.repositories and finding.repository is not None:
                        self.repositories.add(finding.repository)
                    self._take(finding)
                if self._first_doubt is None and step.doubtful:
                    self._first_doubt = step.doubtful[0]
                now = step.progress
                self._looked_at, self.doubtful = now.looked_at, now.doubtful
                self._uncached, self._compared = now.uncached, now.judged
                self._incomparable = now.incomparable
                progress.update(now.looked_at, now.share)
                if not self._fix:
                    self._saved.write(step.next, self._found.places, self._found.counts)

    def _take(self, finding: Finding) -> None:
        """Write the finding, after its repair; what needs a second look waits for that."""
        if self.settled is not None and needs_settling(finding):
            self.settled.add(finding)
            if self._is_dry:
                self._would(finding, _AFTER_A_LOOK)
        elif self._is_dry:
            self._would(finding, _REPAIRED if finding.is_repairable else _REPORTED)
        elif self._fix:
            self._write(Repair(finding, repair(self._diagnosis.provider, finding)))
        else:
            self._table.append(_Row(finding, None))

    def _would(self, finding: Finding, what: str) -> None:
        """Write what a repair would do with a finding."""
        self._outcomes[str(_WOULD[what])] += 1
        self._table.append(_Row(finding, None, what))

    def _is_left_by_repair(self, finding: Finding) -> bool:
        """Whether it only says that a hash is missing which this check has deleted."""
        return (
            finding.kind is Kind.DANGLING_MEMBER
            and finding.facts.get("missing") == "descriptor"
            and finding.digest in self._deleted
        )

    def repair_settled(self) -> None:
        """Look at what the storage contradicts a second time, and clear it."""
        if not self.settled:
            return
        if self._is_dry:
            try:
                self.settled.require_allowed(self._compared)
            except BlobCacheError as error:
                self._session.warn(
                    _("The findings that need a second look would not be repaired: %(reason)s")
                    % {"reason": error.message}
                )
            return
        try:
            self.settled.require_allowed(self._compared)
        except BlobCacheError:
            with self._table:
                for finding in self.settled.pending:
                    self._table.append(_Row(finding, None))
            raise
        with self._session.progress(_("Looking again")) as progress, self._table:
            for number, done in enumerate(self.settled.run(), 1):
                self._write(done)
                progress.update(number, number / len(self.settled))

    def close(self) -> None:
        """Free what the findings take on disk."""
        if self.settled is not None:
            self.settled.close()

    def note(self) -> None:
        """Note the result beside the index, if it is about the whole cache."""
        if self._diagnosis.is_whole:
            run = LastRun(
                datetime.now(UTC),
                self._diagnosis.is_compared and self.has_witness,
                self._looked_at,
                self.doubtful,
                self._uncached,
                self._found.counts - self._solved.counts,
                self._found.places - self._solved.places,
            )
            run.write(self._diagnosis.provider)

    def _write(self, done: Repair) -> None:
        self._outcomes[describe_outcome(done.finding.kind, done.outcome)] += 1
        if done.outcome in {Outcome.REPAIRED, Outcome.HEALED}:
            self._solved.add(done.finding)
            if done.finding.is_of_blob and len(self._deleted) < _REMEMBERED:
                self._deleted.add(done.finding.digest)
        self.doubtful += done.outcome is Outcome.DOUBTFUL
        self._table.append(_Row(done.finding, done.outcome))

    def say_sum(self) -> None:
        """Write the sums, and what could not be judged."""
        if self._explains:
            for kind in FINDING_KINDS:
                if self._found.places[kind]:
                    for text in _explained(kind):
                        self._session.say(text)
        for text in self._sums():
            self._session.say(text)
        if self._session.as_json:
            self._session.table((), lambda row: row).add([{"summary": self._summary()}])
        if self._first_doubt is not None:
            subject, reason = self._first_doubt
            parts = (subject.repository, subject.digest) if subject else (_("the storage"),)
            about = " ".join(filter(None, parts))
            self._session.warn(
                ngettext(
                    "%(count)d entry could not be judged: %(about)s: %(reason)s",
                    "%(count)d entries could not be judged. The first is %(about)s: %(reason)s",
                    self.doubtful,
                )
                % {"count": self.doubtful, "about": about, "reason": reason}
            )

    def _summary(self) -> dict[str, object]:
        """The sums as values of JSON."""
        counts = self._found.counts
        return {
            "problems": counts.total(),
            "errors": errors_in(counts),
            "places": self._found.places.total(),
            "kinds": {kind.value: count for kind, count in counts.items() if count},
            "solved": self._solved.places.total(),
            "dry_run": self._is_dry,
            "looked_at": self._looked_at,
            "doubtful": self.doubtful,
            "uncached": self._uncached,
            "incomparable": self._incomparable,
            "compared": self._diagnosis.is_compared and self.has_witness,
        }

    def _sums(self) -> Iterator[str]:
        count = self._found.places.total()
        if count:
            text = _("Problems: %(count)d. Errors among them: %(errors)d. Places: %(places)d.") % {
                "count": self._found.counts.total(),
                "errors": errors_in(self._found.counts),
                "places": count,
            }
            outcomes = self._outcomes.items()
            done = ", ".join(f"{outcome}: {number}" for outcome, number in outcomes)
            yield f"{text} {done}." if outcomes else text
            if self._is_dry:
                yield _("This was a dry run: nothing was changed.")
        if self._uncached:
            yield ngettext(
                "%(count)d link in the storage is not cached. The registry caches it when it is "
                "asked for it.",
                "%(count)d links in the storage are not cached. The registry caches them when it "
                "is asked for them.",
                self._uncached,
            ) % {"count": self._uncached}
        if self._incomparable:
            yield ngettext(
                "%(count)d entry was not compared, because no storage can have its digest "
                "(tarsum).",
                "%(count)d entries were not compared, because no storage can have their digests "
                "(tarsum).",
                self._incomparable,
            ) % {"count": self._incomparable}
        if not self._diagnosis.is_compared:
            if not count and not self.absent:
                yield _(
                    "No problems found inside the cache. The registry's storage was not checked."
                )
        elif not (count or self.absent or self.doubtful) and self.has_witness:
            yield _("No problems found: the cache agrees with the registry's storage.")


def _require_sensible(options: Namespace, *, has_backend: bool) -> None:
    """Raise `CommandError` if some options do not go together."""
    if options.resume and options.fix:
        raise usage_error("--resume and --fix do not go together.")
    if options.dry_run and not options.fix:
        raise usage_error("--dry-run needs --fix: without it, nothing is changed anyway.")
    if options.quick and options.repositories:
        raise usage_error("--quick and --repository do not go together.")
    if options.deep and not has_backend:
        raise usage_error("--deep needs a backend: see the setting TRUTH.")


def _percent(text: str) -> int:
    number = whole_number(text.removesuffix("%"), max_digits=3)
    if number is None or number > 100:  # noqa: PLR2004
        raise ArgumentTypeError(f"{quoted(text)} is not a number from 0 to 100.")
    return number


def _explained(kind: Kind) -> Iterator[str]:
    """The texts about a kind, one a line."""
    texts = EXPLANATIONS[kind]
    yield f"{kind}: {texts.meaning}"
    for title, text in (
        (_("Pull"), texts.pull),
        (_("Push"), texts.push),
        (_("Mount"), texts.mount),
        (_("Repair"), texts.repair),
    ):
        yield f"  {title}: {text}"


def _unjudged(kind: Kind, diagnosis: Diagnosis) -> str:
    if kind in TRUTH_KINDS and diagnosis.backend is None:
        return _("%(kind)s cannot be checked without a backend: see the setting TRUTH.")
    if diagnosis.is_quick:
        return _("%(kind)s cannot be checked with --quick.")
    if diagnosis.repositories:
        return _("%(kind)s cannot be checked in single repositories.")
    return _("%(kind)s cannot be checked with the settings of this registry.")


_REPAIRED, _AFTER_A_LOOK, _REPORTED = "repair", "repair-after-second-look", "report"
_WOULD = {
    _REPAIRED: gettext_lazy("would be repaired"),
    _AFTER_A_LOOK: gettext_lazy("would be repaired if a second look at the storage confirms it"),
    _REPORTED: gettext_lazy("is only reported, never repaired"),
}
"""What a dry run says of a finding."""


class _Row(NamedTuple):
    finding: Finding
    outcome: Outcome | None
    would: str | None = None
    """What a repair would do, in a dry run."""

    @property
    def result(self) -> str | None:
        """What became of the finding, or would become of it."""
        if self.would is not None:
            return str(_WOULD[self.would])
        if self.outcome is None:
            return None
        return describe_outcome(self.finding.kind, self.outcome)


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
    Column(gettext_lazy("Result"), lambda row: row.result, may_wrap=True),
)


def _json(row: _Row) -> dict[str, object]:
    facts = row.finding.as_json()
    if row.outcome is not None:
        facts["outcome"] = row.outcome.value
    if row.would is not None:
        facts["would"] = row.would
    return facts
