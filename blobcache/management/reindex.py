"""``reindex``: build the index of repository names."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import UTC
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.management.subcommand import Exit, Subcommand, usage_error

if TYPE_CHECKING:
    from blobcache.management.session import Session
    from blobcache.services.base import BrowsableProvider
    from blobcache.services.catalog import CatalogStatus

__all__ = ["Reindex", "add_fresh", "require_index"]


class Reindex(Subcommand):
    """Rebuild the index of repositories."""

    name = "reindex"
    takes_registries = True
    help = "rebuild the index of repositories"
    description = """\
Build the index of repository names again from the keys that are in Redis now.
Lists of repositories come from that index."""
    example = "manage.py blobcache reindex"

    def run(self, session: Session, options: Namespace) -> Exit:
        """Rebuild it to the end."""
        provider = session.browsable
        status = _build(session, provider)
        count = provider.catalog.repositories(limit=1).count
        if status.indexed_at is None:
            raise usage_error("The index could not be built.")
        as_of = f"{status.indexed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        if session.as_json:
            session.table((), lambda row: row).add([{"repositories": count, "indexed_at": as_of}])
        session.say(f"Indexed {count} repositories as of {as_of}.")
        return Exit.OK


def add_fresh(parser: ArgumentParser) -> None:
    """Add the option that builds the index first, however old it is."""
    parser.add_argument(
        "--fresh", action="store_true", help="first build the index again, however old it is"
    )


def require_index(session: Session, provider: BrowsableProvider, *, fresh: bool = False) -> bool:
    """Build the index to the end if it is missing or too old; return whether it is complete.

    With `fresh` it is built in any case.

    If it is not, a warning is written: a list that comes from it may lack names. Otherwise a line
    on the terminal says how old it is.
    """
    catalog = provider.catalog
    status = catalog.status()
    if fresh or (not status.complete and catalog.may_write):
        status = _build(session, provider)
    elif not status.complete:
        session.warn(
            "The index of repositories is not complete and cannot be written here, so names may "
            "be missing."
        )
        return False
    session.remark(_age_line(status))
    return status.is_built


def _age_line(status: CatalogStatus) -> str:
    """Say how old the index is."""
    seconds, watched = round(max(0.0, status.age)), _("watch keeps it current.")
    text = ngettext(
        "The index of repositories is %(count)d second old.",
        "The index of repositories is %(count)d seconds old.",
        seconds,
    ) % {"count": seconds}
    return f"{text} {watched}" if status.is_watched else text


def _build(session: Session, provider: BrowsableProvider) -> CatalogStatus:
    """Build the index to the end. Raises `CommandError` if it may not be written."""
    catalog = provider.catalog
    if not catalog.may_write:
        raise usage_error(
            f"The registry '{session.registry}' is read-only and keeps its index in the same "
            "Redis. Set CATALOG_ALIAS to an entry of CACHES that uses another Redis."
        )
    steps = 0
    with session.progress(_("Indexing")) as progress:

        def show(status: CatalogStatus) -> None:
            nonlocal steps
            steps += 1
            progress.update(steps, status.progress)

        return catalog.reindex(show)
