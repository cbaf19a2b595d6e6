"""All repositories that the search of the list shows, for work on all of them as a job."""

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
    """What the search shows."""

    names: list[RepositoryName]
    invalid: int
    """Further names, which are not valid."""

    refusal: str = ""
    """Why not all of them could be found; empty if they were."""


def find_all(provider: BrowsableProvider, kept: str, visible: Visible) -> FoundRepositories:
    """Find the visible repositories that the list with the parameters `kept` shows.

    It takes `Budgets.preview` at most, and finds as many as one job may name. Raises
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
        if len(names) > MAX_REPOSITORIES or (cursor is not None and len(names) == MAX_REPOSITORIES):
            text = _(
                "There are too many repositories; at most %(limit)d can be part of one job. Narrow "
                "the search."
            )
            return FoundRepositories([], invalid, text % {"limit": MAX_REPOSITORIES})
        if cursor is not None and deadline.is_over:
            text = _("The repositories could not be listed in the time of one page: try again.")
            return FoundRepositories([], invalid, text)
    return FoundRepositories(names, invalid)
