"""``compare``: what a repository has in one registry and not in another."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from blobcache.conf import registries
from blobcache.exceptions import CatalogUnsupported
from blobcache.management.descriptors import descriptor_json
from blobcache.management.subcommand import Exit, Subcommand, usage_error
from blobcache.management.writing import Column
from blobcache.reference import RepositoryName
from blobcache.registries.asking import problem_of
from blobcache.registries.compare import Comparison, DifferentBlob

if TYPE_CHECKING:
    from blobcache.descriptor import Descriptor
    from blobcache.management.session import Session

__all__ = ["Compare"]

_PAGE = 500
"""Blobs that are compared at a time."""


class Compare(Subcommand):
    """Compare a repository in two registries."""

    name = "compare"
    help = "compare a repository in two registries"
    description = """\
List the blobs of a repository that are not the same in two registries, in no
particular order: missing in the other one, additional there, or different in
size, media type or canonical digest. Nothing is changed. The exit code is 1 if
there is a difference, and 2 if one of the registries does not answer."""
    example = "manage.py blobcache compare team/app --with staging"

    _COLUMNS: tuple[Column[DifferentBlob], ...] = (
        Column(gettext_lazy("Digest"), lambda row: row.digest),
        Column(gettext_lazy("Difference"), lambda row: row.difference.value),
        Column(gettext_lazy("Size"), lambda row: _size(row.here), is_number=True),
        Column(gettext_lazy("Size there"), lambda row: _size(row.there), is_number=True),
        Column(gettext_lazy("Media type"), lambda row: _media_type(row.here), may_wrap=True),
        Column(gettext_lazy("Media type there"), lambda row: _media_type(row.there), may_wrap=True),
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the repository and the other registry."""
        parser.add_argument("name", metavar="NAME", help="the name of a repository")
        parser.add_argument(
            "--with",
            dest="other",
            required=True,
            metavar="REGISTRY",
            help="the other registry in the setting BLOBCACHE",
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write the differences."""
        name, other = RepositoryName(options.name), options.other
        if other not in (known := registries()):
            raise usage_error(
                f"There is no registry {other!r} to compare with; there is {', '.join(known)}."
            )
        if other == session.registry:
            raise usage_error(
                f"'{other}' is the registry itself: name another one with --with or --registry."
            )
        here = session.browsable
        try:
            comparison = Comparison(here, other, name)
        except CatalogUnsupported:
            raise usage_error(f"The provider of the registry '{other}' keeps no index.") from None
        is_different = False
        table = session.table(self._COLUMNS, _as_json)
        with table, session.progress(_("Comparing")) as progress:
            cursor: str | None = ""
            compared = 0
            while cursor is not None:
                page = comparison.page(cursor, _PAGE)
                for blob in page.blobs:
                    table.append(blob)
                is_different = is_different or bool(page.blobs)
                compared += _PAGE
                progress.update(compared, None)
                cursor = page.next
        if comparison.error is not None:
            problem = problem_of(other, comparison.error, names_settings=True)
            session.warn(f"{problem} {_('The list is not complete.')}")
            return Exit.FAILED
        return Exit.NO if is_different else Exit.OK


def _size(descriptor: Descriptor | None) -> int | None:
    return descriptor.size if descriptor else None


def _media_type(descriptor: Descriptor | None) -> str | None:
    return descriptor.media_type if descriptor else None


def _as_json(blob: DifferentBlob) -> dict[str, object]:
    return {
        "digest": blob.digest,
        "difference": blob.difference.value,
        "here": blob.here and descriptor_json(blob.digest, blob.here),
        "there": blob.there and descriptor_json(blob.digest, blob.there),
    }
