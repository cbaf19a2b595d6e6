"""``log`` and ``prune``: read the journal, and delete its old entries."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import timedelta
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from django.db import DatabaseError
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from blobcache.conf import PortalSettings
from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid, RepositoryNameInvalid
from blobcache.exports import csv_lines
from blobcache.jobs import prune as prune_jobs
from blobcache.journal.pruning import prune
from blobcache.journal.reading import (
    ACTIONS,
    COLUMNS,
    Filters,
    Journal,
    as_cells,
    as_object,
    parse_moment,
    utc,
)
from blobcache.management.reading import number_up_to
from blobcache.management.subcommand import Exit, Subcommand, usage_error
from blobcache.management.writing import Column
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from blobcache.management.session import Session
    from blobcache.models import JournalEntry

__all__ = ["Log", "Prune"]

_FAILED = (
    "The journal cannot be read: the project's database failed. 'manage.py migrate' creates its "
    "table."
)


class Log(Subcommand):
    """Show the journal."""

    name = "log"
    takes_registries = True
    help = "show the changes in the journal, newest first"
    description = """\
Show the changes in the journal, newest first. A purge is one row; its parts
are shown with --parts, and in lists of a repository, a digest or a purge."""
    example = """\
manage.py blobcache log --since 12h
manage.py blobcache log --repository team/app --action clear --csv"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the filters."""
        parser.add_argument(
            "--since",
            type=_moment,
            metavar="TIME",
            help="only changes from this time on: an ISO time, such as 2026-11-26T04:00:00Z, or "
            "an age, such as 12h or 2d",
        )
        parser.add_argument(
            "--until", type=_moment, metavar="TIME", help="only changes before this time"
        )
        parser.add_argument("--actor", metavar="USER", help="only changes by this user")
        parser.add_argument("--repository", type=_parsed(RepositoryName), metavar="NAME")
        parser.add_argument("--digest", type=_parsed(_digest), metavar="DIGEST")
        parser.add_argument("--action", choices=ACTIONS, help=f"one of {', '.join(ACTIONS)}")
        parser.add_argument(
            "--source", metavar="SOURCE", help="such as api, admin, command, job or notification"
        )
        parser.add_argument(
            "--operation", metavar="ID", help="the entries of one purge, as --json names it"
        )
        parser.add_argument("--parts", action="store_true", help="also show the parts of purges")
        parser.add_argument(
            "--limit", type=number_up_to(10**9), metavar="NUMBER", help="at most so many rows"
        )
        parser.add_argument("--csv", action="store_true", help="write CSV, with a heading")

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write a row for each entry."""
        return self.run_all([session], options)

    def run_all(self, sessions: Sequence[Session], options: Namespace) -> Exit:
        """Write the entries of all these registries, the newest of any first."""
        session = sessions[0]
        if options.csv and options.json:
            raise usage_error("--csv and --json do not go together.")
        names = (
            *("since", "until", "actor", "repository", "digest"),
            *("action", "source", "operation", "parts"),
        )
        filters = Filters(**{name: getattr(options, name) for name in names})
        found = merge(
            *(Journal(each.registry, filters).entries() for each in sessions),
            key=lambda row: (row.time, row.pk),
            reverse=True,
        )
        entries = islice(found, options.limit)
        try:
            if options.csv:
                for line in csv_lines(COLUMNS, map(as_cells, entries)):
                    session.write_raw(line)
                return Exit.OK
            with session.table(_COLUMNS, as_object, lambda row: row.registry) as table:
                for entry in entries:
                    table.append(entry)
        except DatabaseError as error:
            raise usage_error(_FAILED) from error
        if not PortalSettings().JOURNAL:
            session.warn("The journal is off: see the setting BLOBCACHE_PORTAL.", of_all=True)
        return Exit.OK


class Prune(Subcommand):
    """Delete old entries of the journal, and old jobs."""

    name = "prune"
    takes_registries = True
    help = "delete old entries of the journal, and old jobs"
    description = """\
Delete the entries of the journal that are older than JOURNAL_DAYS of the
setting BLOBCACHE_PORTAL, of all registries; and the jobs that nobody has
worked on for JOB_DAYS. With --registry only those of these registries are
deleted. Run it once a day."""
    example = "manage.py blobcache prune"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the age."""
        parser.add_argument(
            "--days",
            type=number_up_to(36_500),
            metavar="NUMBER",
            help="instead of JOURNAL_DAYS",
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Delete them."""
        return self.run_all([session], options)

    def run_all(self, sessions: Sequence[Session], options: Namespace) -> Exit:
        """Delete those of the registries that are named; without a name those of all."""
        session = sessions[0]
        named = [each.registry for each in sessions] if options.registry else None
        days = options.days or PortalSettings().JOURNAL_DAYS
        deleted = 0
        try:
            with session.progress(_("Deleting")) as progress:
                for number in prune(days, named):
                    deleted += number
                    progress.update(deleted)
            jobs = prune_jobs(now() - timedelta(days=PortalSettings().JOB_DAYS), named)
        except DatabaseError as error:
            raise usage_error(_FAILED) from error
        if session.as_json:
            session.write_object({"deleted": deleted, "days": days})
        text = ngettext(
            "Deleted %(count)d entry that was older than %(days)d days.",
            "Deleted %(count)d entries that were older than %(days)d days.",
            deleted,
        )
        session.say(text % {"count": deleted, "days": days}, of_all=True)
        if jobs:
            text = ngettext("Deleted %(count)d old job.", "Deleted %(count)d old jobs.", jobs)
            session.say(text % {"count": jobs}, of_all=True)
        return Exit.OK


def _moment(text: str) -> datetime:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _digest(text: str) -> Digest:
    return Digest(text, allow_tarsum=True)


def _parsed(parse: Callable[[str], str]) -> Callable[[str], str]:
    def parsed(text: str) -> str:
        try:
            return str(parse(text))
        except (DigestInvalid, RepositoryNameInvalid) as error:
            raise ArgumentTypeError(error.message) from None

    return parsed


def _describe(descriptor: object) -> str:
    if not isinstance(descriptor, dict):
        return ""
    return f"{descriptor.get('size')} {descriptor.get('mediaType') or '-'}"


def _details(entry: JournalEntry) -> str:
    before, after = _describe(entry.before), _describe(entry.after)
    parts = [f"{before or '-'} > {after or '-'}"] if before or after else []
    if entry.count != 1:
        text = ngettext("%(count)d blob", "%(count)d blobs", entry.count)
        parts.append(text % {"count": entry.count})
    if not entry.is_finished:
        parts.append(_("not finished"))
    if entry.is_part:
        parts.append(_("part of a purge"))
    return ", ".join(parts)


_COLUMNS: tuple[Column[JournalEntry], ...] = (
    Column(gettext_lazy("Time"), lambda row: f"{utc(row.time):%Y-%m-%dT%H:%M:%SZ}"),
    Column(gettext_lazy("User"), lambda row: row.actor),
    Column(gettext_lazy("Source"), lambda row: row.source),
    Column(gettext_lazy("Action"), lambda row: row.action),
    Column(gettext_lazy("Repository"), lambda row: row.repository),
    Column(gettext_lazy("Digest"), lambda row: row.digest),
    Column(gettext_lazy("Details"), _details, may_wrap=True),
)
