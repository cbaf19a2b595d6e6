"""``repositories``, ``blobs`` and ``holders``: lists, read page by page and written at once."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from blobcache.findings import SEVERITIES, Severity
from blobcache.management.descriptors import descriptor_columns, descriptor_json
from blobcache.management.reading import add_digests, add_limit, add_repository, read_digests
from blobcache.management.reindex import add_fresh, require_index
from blobcache.management.subcommand import Exit, Subcommand
from blobcache.management.writing import Column
from blobcache.reference import RepositoryName
from blobcache.services.catalog import Holder, RepositoryEntry
from blobcache.services.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobcache.digest import Digest
    from blobcache.management.session import Session
    from blobcache.services.base import BrowsableProvider

__all__ = ["Blobs", "Holders", "Repositories"]

_PAGE = 500
"""Rows that are read at a time."""


class Repositories(Subcommand):
    """List the repositories."""

    name = "repositories"
    takes_registries = True
    help = "list the repositories"
    description = """\
List the repositories by name, each with its number of blobs. If the index of
names is missing or too old, it is built first."""
    example = "manage.py blobcache repositories --prefix team/"

    _COLUMNS: tuple[Column[RepositoryEntry], ...] = (
        Column(gettext_lazy("Repository"), lambda row: row.name),
        Column(gettext_lazy("Blobs"), lambda row: row.blobs, is_number=True),
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what narrows the list."""
        parser.add_argument(
            "--prefix", default="", metavar="TEXT", help="only names that begin with this"
        )
        add_fresh(parser)
        add_limit(parser)

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write all of them."""
        provider = session.browsable
        is_complete = require_index(session, provider, fresh=options.fresh)
        with session.table(self._COLUMNS, RepositoryEntry._asdict) as table:
            for entry in islice(_entries(provider, options.prefix), options.limit):
                table.append(entry)
        return Exit.OK if is_complete else Exit.FAILED


def _entries(provider: BrowsableProvider, prefix: str) -> Iterator[RepositoryEntry]:
    cursor: str | None = ""
    while cursor is not None:
        page = provider.catalog.repositories(prefix, cursor, _PAGE)
        yield from page.repositories
        cursor = page.next


class Blobs(Subcommand):
    """List blobs."""

    name = "blobs"
    takes_registries = True
    help = "list the blobs of a repository, or in the global scope"
    description = """\
List blobs, in no particular order: those of a repository, or those with a
global descriptor. A blob that comes or goes meanwhile may be listed twice, or
not at all. The exit code is 1 if the repository has no blobs."""
    example = "manage.py blobcache blobs --repository team/app"

    _COLUMNS: tuple[Column[Record], ...] = (
        Column(gettext_lazy("Digest"), lambda row: row.digest),
        *descriptor_columns(lambda row: row.digest, lambda row: row.descriptor),
        Column(
            gettext_lazy("State"),
            lambda row: row.kind,
            is_alarming=lambda row: SEVERITIES[row.kind] is Severity.ERROR,
        ),
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what narrows the list."""
        add_repository(parser, "list the blobs of this repository")
        add_limit(parser)

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write all of them."""
        name = None if options.repository is None else RepositoryName(options.repository)
        written = 0
        with session.table(self._COLUMNS, _record_json) as table:
            for record in islice(_records(session.browsable, name), options.limit):
                table.append(record)
                written += 1
        return Exit.NO if name is not None and not written else Exit.OK


def _records(provider: BrowsableProvider, name: RepositoryName | None) -> Iterator[Record]:
    cursor: str | None = ""
    scope = provider if name is None else provider.repository_scoped(name)
    digests: Sequence[str]
    while cursor is not None:
        if name is None:
            page = provider.catalog.blobs(cursor, _PAGE)
            digests, cursor = page.blobs, page.next
        else:
            members = provider.catalog.members(name, cursor, _PAGE)
            digests, cursor = members.members, members.next
        yield from scope.records(digests)


def _record_json(record: Record) -> dict[str, object]:
    return {**descriptor_json(record.digest, record.descriptor), "state": record.kind.value}


class _HolderRow(NamedTuple):
    digest: Digest
    holder: Holder


class Holders(Subcommand):
    """List the repositories that may read blobs."""

    name = "holders"
    takes_registries = True
    help = "list the repositories that may read a blob"
    description = """\
List the repositories that may read each blob, by name, with their own media
type of it. If the index of names is missing or too old, it is built first.
The exit code is 1 if no repository may read one of the blobs."""
    example = (
        "manage.py blobcache holders "
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )

    _COLUMNS: tuple[Column[_HolderRow], ...] = (
        Column(gettext_lazy("Repository"), lambda row: row.holder.name),
        Column(gettext_lazy("Digest"), lambda row: row.digest),
        Column(gettext_lazy("Media type"), lambda row: row.holder.media_type, may_wrap=True),
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the digests."""
        add_digests(parser, pairs=False)
        add_fresh(parser)

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write the holders of one blob after another."""
        provider = session.browsable
        digests = read_digests(session, options.digests)
        is_complete = require_index(session, provider, fresh=options.fresh)
        result = Exit.OK if is_complete else Exit.FAILED
        table = session.table(self._COLUMNS, _holder_json)
        with table, session.progress(_("Searching")) as progress:
            for number, digest in enumerate(digests):
                progress.update(number, number / len(digests))
                is_held = False
                for holder in _holders(provider, digest):
                    table.append(_HolderRow(digest, holder))
                    is_held = True
                if not is_held:
                    result = max(result, Exit.NO)
        return result


def _holders(provider: BrowsableProvider, digest: Digest) -> Iterator[Holder]:
    cursor: str | None = ""
    while cursor is not None:
        page = provider.catalog.holders(digest, cursor, _PAGE)
        yield from page.holders
        cursor = page.next


def _holder_json(row: _HolderRow) -> dict[str, object]:
    return {
        "name": row.holder.name,
        "digest": row.digest,
        "mediaType": row.holder.media_type,
    }
