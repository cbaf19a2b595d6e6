"""``purge``: clear blobs in every repository and globally."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, NamedTuple

from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from blobcache.doctor.collection import clear_links
from blobcache.management.collected import Collected, read_collected
from blobcache.management.reading import add_digests, chunked, read_digests
from blobcache.management.reindex import require_index
from blobcache.management.subcommand import Exit, Subcommand, add_confirmation
from blobcache.management.writing import Column
from blobcache.services.base import Certainty
from blobcache.services.catalog import STEP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobcache.digest import Digest
    from blobcache.doctor.collection import Link
    from blobcache.management.session import Session
    from blobcache.reference import RepositoryName
    from blobcache.services.base import BrowsableProvider

__all__ = ["Purge"]


class _Row(NamedTuple):
    repository: RepositoryName | None
    """None in a dry run, for the global descriptor."""

    digest: Digest


_COLUMNS: tuple[Column[_Row], ...] = (
    Column(gettext_lazy("Repository"), lambda row: row.repository),
    Column(gettext_lazy("Digest"), lambda row: row.digest),
)


def _json(row: _Row) -> dict[str, object]:
    return row._asdict()


_REACHED = {
    Certainty.NOTHING: "not even all global descriptors are cleared",
    Certainty.GLOBAL: "the global descriptors are cleared, but not all repositories",
    Certainty.INDEXED: "the global descriptors and the indexed repositories are cleared",
    Certainty.EVERYWHERE: "all blobs are cleared, but perhaps not all links",
}


class Purge(Subcommand):
    """Clear blobs in every repository and globally."""

    name = "purge"
    help = "clear blobs in every repository and globally"
    description = """\
Clear each blob globally and in every repository, in one walk over all keys for
all of them, such as after a garbage collection. Writes a row for each
repository that held a blob. An unknown blob is not an error. If a purge is
interrupted, run it again.

With --gc-log the blobs are those that a garbage collection has printed, with
their aliases, and the links that it deleted are cleared in their repository.
If the setting TRUTH names a backend, what is still stored is not cleared."""
    example = """\
manage.py blobcache purge - --yes < digests.txt
manage.py blobcache purge --gc-log - --yes < gc.log"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the digests, or the log of a collection."""
        add_digests(parser, pairs=False, is_needed=False)
        parser.add_argument(
            "--gc-log",
            metavar="FILE",
            help="the output of 'registry garbage-collect'; '-' reads it from standard input",
        )
        add_confirmation(parser)

    def run(self, session: Session, options: Namespace) -> Exit:
        """Purge to the end."""
        session.require_writable()
        if (options.gc_log is None) == (not options.digests):
            raise CommandError("Give digests, or --gc-log and no digests.", returncode=Exit.FAILED)
        if options.gc_log is not None:
            found = read_collected(session, options.gc_log)
        else:
            found = Collected(read_digests(session, options.digests))
        # Each step of a purge sorts them, which takes least time if they are sorted.
        digests, links = sorted(found.digests), found.links
        if options.dry_run:
            return max(_try(session, digests, links), found.exit)
        if digests or links:
            session.confirm(
                ngettext(
                    "Clear %(count)d blob in every repository and globally?",
                    "Clear %(count)d blobs in every repository and globally?",
                    len(digests),
                )
                % {"count": len(digests)}
            )
        cleared = _purge(session, digests, links)
        text = ngettext("Purged %(count)d blob.", "Purged %(count)d blobs.", len(digests))
        more = ngettext(
            "Removed from a repository %(count)d time.",
            "Removed from repositories %(count)d times.",
            cleared,
        )
        session.say(f"{text % {'count': len(digests)}} {more % {'count': cleared}}")
        return found.exit


def _purge(session: Session, digests: Sequence[Digest], links: Sequence[Link]) -> int:
    """Purge, write what was cleared, and return how many memberships that were."""
    count, certain = 0, Certainty.NOTHING
    cursor: str | None = ""
    with session.changing(), session.progress(_("Purging")) as progress:
        table = session.table(_COLUMNS, _json)
        try:
            while digests and cursor is not None:
                result = session.provider.purge_many(digests, cursor)
                rows = [
                    _Row(name, each) for each, names in result.cleared.items() for name in names
                ]
                count += len(rows)
                cursor, certain = result.next, result.certain
                table.add(rows)
                progress.update(count)
            for link in clear_links(session.provider, links):
                count += 1
                table.add([_Row(*link)])
                progress.update(count)
        except BaseException:
            session.warn(
                f"The purge is not complete: {_REACHED[certain]}. Run it again with the same "
                "digests."
            )
            raise
    return count


def _try(session: Session, digests: Sequence[Digest], links: Sequence[Link]) -> Exit:
    """Write what a purge would clear, as far as the index knows the repositories."""
    provider = session.browsable
    is_complete = require_index(session, provider)
    with session.table(_COLUMNS, _json) as table, session.progress(_("Searching")) as progress:
        for chunk in chunked(digests):
            for digest, record in zip(chunk, provider.records(chunk), strict=True):
                if record.exists_globally:
                    table.append(_Row(None, digest))
        for count, row in enumerate(_held(provider, digests), start=1):
            table.append(row)
            progress.update(count)
        for link in links:
            if provider.walk().holding([link.repository.encode()], [link.digest]):
                table.append(_Row(*link))
    return Exit.OK if is_complete else Exit.FAILED


def _held(provider: BrowsableProvider, digests: Sequence[Digest]) -> Iterator[_Row]:
    """Yield the blobs in the repositories of the index: `STEP` questions in one round trip."""
    walk, after, more = provider.walk(), b"", bool(digests)
    while more:
        names, more = provider.catalog.names(after)
        after = names[-1] if names else after
        for chunk in chunked(digests):
            for group in chunked(names, max(1, STEP // len(chunk))):
                yield from (_Row(*membership) for membership in walk.holding(group, chunk))
