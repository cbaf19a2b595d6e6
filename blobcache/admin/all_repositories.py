"""Find all repositories that a search in the list finds, for a job that works on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.http import QueryDict
from django.utils.translation import gettext as _

from blobcache.admin.repository_list import RepositoryQuery, list_repositories
from blobcache.jobs import MAX_REPOSITORIES
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from blobcache.services.base import BrowsableProvider
    from blobcache.visibility import Visible

__all__ = ["FoundRepositories", "find_all"]


class FoundRepositories(NamedTuple):
    """The repositories that a search finds."""

    names: list[RepositoryName]
    invalid: int
    """How many further names it finds that are not valid."""

    refusal: str = ""
    """Why a job cannot work on all of them, as a sentence; empty if it can."""


def find_all(provider: BrowsableProvider, kept: str, visible: Visible) -> FoundRepositories:
    """Find the visible repositories that the list with the parameters `kept` finds.

    Gives up after the time `Budgets.preview`, or at more repositories than one job may name. Raises
    `CacheUnavailable`.
    """
    query = RepositoryQuery.of(QueryDict(kept))
    budgets = provider.catalog.budgets
    deadline = budgets.deadline(budgets.preview)
    names: list[RepositoryName] = []
    invalid = 0
    cursor: str | None = ""
    while cursor is not None:
        page = list_repositories(provider, query, cursor, MAX_REPOSITORIES, visible)
        valid = [each.name for each in page.rows if isinstance(each.name, RepositoryName)]
        names += valid
        invalid += len(page.rows) - len(valid)
        cursor = page.next
        if not page.status.is_built:
            text = _("The index of the repositories is not complete yet: try again later.")
            return FoundRepositories([], invalid, text)
        if len(names) > MAX_REPOSITORIES or (cursor is not None and len(names) == MAX_REPOSITORIES):
            text = _(
                "There are too many repositories; at most %(limit)d can be part of one job. Narrow "
                "the search."
            )
            return FoundRepositories([], invalid, text % {"limit": MAX_REPOSITORIES})
        if cursor is not None and deadline.is_over:
            text = _("Listing the repositories took longer than a page may take. Try again.")
            return FoundRepositories([], invalid, text)
    return FoundRepositories(names, invalid)
