"""``warm``: fill the cache from what the registry stores."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from blobcache.management.reading import add_repositories, number_up_to
from blobcache.management.subcommand import Exit, Subcommand
from blobcache.management.writing import Column
from blobcache.warming.report import Case, Outcome, Report
from blobcache.warming.warm import MAX_THREADS, THREADS, Warm

if TYPE_CHECKING:
    from blobcache.management.session import Session

__all__ = ["Warming"]

_COLUMNS: tuple[Column[Case], ...] = (
    Column(gettext_lazy("Repository"), lambda row: row.repository),
    Column(gettext_lazy("Digest"), lambda row: row.digest),
    Column(gettext_lazy("Result"), lambda row: str(row.outcome)),
    Column(gettext_lazy("Reason"), lambda row: row.reason, may_wrap=True),
)

_REMAINING = (Outcome.DIFFERS, Outcome.CHANGED, Outcome.NO_LINKS)


class Warming(Subcommand):
    """Fill the cache from the storage."""

    name = "warm"
    help = "fill the cache from what the registry stores"
    description = """\
Read the links and the data of the registry's storage, which the setting TRUTH
names, and write the descriptors that the cache does not have. Nothing that is
there is changed. What was written is looked at again SETTLE seconds later, and
taken back if it is gone. Run it again after it was stopped: it goes on."""
    example = "manage.py blobcache warm --repository team/app --dry-run"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what narrows it."""
        add_repositories(parser, "warm only these repositories")
        parser.add_argument(
            "--dry-run", action="store_true", help="only count what would be written"
        )
        parser.add_argument(
            "--threads",
            type=number_up_to(MAX_THREADS),
            metavar="NUMBER",
            help="threads that read the storage "
            f"(default: 1 for a file system, else {THREADS}; more for S3)",
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Warm to the end. `Exit.NO` if the cache has something else, or a name has no links."""
        warm = Warm.from_settings(
            session.registry, threads=options.threads, dry_run=options.dry_run
        )
        if not warm.is_complete:
            session.warn("This backend lists only what is tagged. Nothing else is warmed.")

        def interrupted(waiting: int) -> None:
            session.warn(
                f"Stopping. {waiting} descriptors wait for their second look, for at most "
                f"{session.settings.SETTLE} seconds. Press Ctrl-C again to leave them to the next "
                "warm."
            )

        changing = nullcontext() if options.dry_run else session.changing("warm")
        try:
            with changing, session.progress(_("Warming")) as progress:
                warm.run(options.repositories, progress.update, interrupted)
        finally:
            if warm.has_begun:
                _show(session, warm.report, dry_run=options.dry_run)
        return _exit(warm.report)


def _show(session: Session, report: Report, *, dry_run: bool) -> None:
    counts = report.counts
    with session.table(_COLUMNS, _case) as table:
        for case in report.cases:
            table.append(case)
    if session.as_json:
        total = {"links": report.links, "resumed": report.is_resumed, "waiting": report.waiting}
        sums = {str(outcome): counts[outcome] for outcome in Outcome}
        session.table((), lambda row: row).add([total | sums])
        return
    if report.is_resumed:
        session.say("It continued where an earlier warm had stopped.")
    added = "would be added" if dry_run else "added"
    session.say(
        f"Read {report.links} links: {counts[Outcome.ADDED]} {added}, "
        f"{counts[Outcome.KNOWN]} already there."
    )
    others = [
        f"{counts[outcome]} {outcome}"
        for outcome in Outcome
        if counts[outcome] and outcome not in (Outcome.ADDED, Outcome.KNOWN)
    ]
    if others:
        session.say(f"Also: {', '.join(others)}.")
    if report.waiting:
        session.say("Run it again for the second looks that could not be made.")


def _exit(report: Report) -> Exit:
    if not report.is_judged:
        return Exit.FAILED
    return Exit.NO if any(report.counts[each] for each in _REMAINING) else Exit.OK


def _case(case: Case) -> dict[str, object]:
    return {
        "repository": case.repository,
        "digest": case.digest,
        "outcome": case.outcome,
        "reason": case.reason,
    }
