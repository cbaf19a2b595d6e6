"""The page of all repositories: the list, and the status of the cache and its index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from blobcache.admin import exports
from blobcache.admin.index_age import IndexAge
from blobcache.admin.pages import COUNTING, CURSOR, KEPT, Page
from blobcache.admin.repository_list import (
    PARAMETERS,
    RepositoryListing,
    RepositoryQuery,
    list_repositories,
)
from blobcache.admin.sorting import Column, ColumnHead, column_heads, orders
from blobcache.exceptions import RepositoryNameInvalid
from blobcache.jobs import MAX_REPOSITORIES
from blobcache.models import Repository
from blobcache.reference import RepositoryName
from blobcache.services.figures import Order

if TYPE_CHECKING:
    from django.http import HttpResponse

    from blobcache.services.figures import OrderedRepository

__all__ = ["RepositoriesPage"]


class RepositoriesPage(Page):
    """The list, sorted by name, number of blobs or size, with a search by name."""

    template = "repositories.html"
    parameters = (*PARAMETERS, COUNTING)

    def is_allowed(self) -> bool:
        """Everybody who may view a repository; the list has only those that the user may view."""
        return self.admin.has_view_permission(self.request)

    @property
    def return_url(self) -> str:
        """This page."""
        return self.url(Repository, "changelist")

    def get(self) -> HttpResponse:
        """Show a page of the list, and the status of the cache to users who may view all."""
        query = RepositoryQuery.of(self.request.GET)
        self.require_choice("m", ["in"])
        self.require_choice("o", orders(list(Order)))
        listing: RepositoryListing | None = None
        server = None
        sees_all = self.access.sees_all
        with self.catch_redis_errors():
            counting = self.request.GET.get(COUNTING) if sees_all else None
            if counting and (response := self._count_all(counting)) is not None:
                return response
            asked = exports.repositories(self.provider, query, self.access.visible)
            if (file := self.export(asked)) is not None:
                return file
            listing = list_repositories(
                self.provider,
                query,
                self.cursor(*query.cursor_scope),
                self.limit,
                self.access.visible,
            )
        if sees_all and listing is not None:
            with self.catch_redis_errors():
                server = self.provider.server_status()
        may_write = not self.settings.READ_ONLY
        may_clear = may_write and any(
            isinstance(row.name, RepositoryName) and self.access.may_clear(row.name)
            for row in (listing.rows if listing else ())
        )
        return self.render(
            title=_("Repositories"),
            search=query,
            page=listing,
            rows=[self._row(entry) for entry in (listing.rows if listing else ())],
            columns=self._columns(query),
            orders=_orders(),
            next=self.next_link(listing.next, *query.cursor_scope) if listing else None,
            exports=self.export_links() if listing and listing.rows else (),
            server=server,
            catalog=listing.status if listing and sees_all else None,
            counted=listing.counted if listing and sees_all else None,
            count_url=self.link(**{COUNTING: "on"})
            if sees_all and listing and self.provider.catalog.may_write
            else "",
            index=IndexAge.of(self, listing.status) if listing else None,
            check_url=self.url(Repository, "consistency"),
            consistency_url=self.url(Repository, "consistency") if sees_all else "",
            jobs_url=self.url(Repository, "jobs"),
            clear_url=may_write and self.url(Repository, "empty"),
            may_clear=may_clear,
            may_clear_all=may_clear
            or (may_write and self.access.may_in_every_repository("delete")),
            has_pages=listing is not None
            and (listing.next is not None or CURSOR in self.request.GET),
            is_within_limit=listing is not None and (listing.count or 0) <= MAX_REPOSITORIES,
            job_limit=MAX_REPOSITORIES,
            everything=self.link(q="", m=""),
            inside_url=self.link(m="in"),
            kept=self.kept_query,
            exact_url=self._exact_url(),
        )

    def _count_all(self, progress: str) -> HttpResponse | None:
        """Calculate some repositories and show the progress; None if this is not possible."""
        cursor_scope = ("count",)
        cursor = "" if progress == "on" else self.unseal(progress, *cursor_scope)
        store = self.provider.figures
        if not store.may_keep:
            return None
        result = store.refresh(cursor)
        if result.next is None:
            self.add_message(_("The sizes of all repositories are up to date."), messages.SUCCESS)
            return HttpResponseRedirect(self.request.path + self.link(**{COUNTING: ""}))
        status = store.list_ordered(limit=1)
        return self.render(
            title=_("Calculating all sizes"),
            counted=status,
            is_counting=True,
            refresh_url=self.link(**{COUNTING: self.seal(result.next, *cursor_scope)}),
            stop_url=self.link(**{COUNTING: ""}),
        )

    def _row(self, entry: OrderedRepository) -> dict[str, object]:
        """A repository as the table shows it."""
        is_name, figures = isinstance(entry.name, RepositoryName), entry.figures
        return {
            "name": entry.name,
            "blobs": entry.blobs,
            "figures": figures,
            "is_changed": figures is not None and figures.sums.blobs != entry.blobs,
            "url": self._url(entry.name),
            "is_name": is_name,
        }

    def _columns(self, query: RepositoryQuery) -> list[ColumnHead]:
        """The head of the table; numbers are sorted from the largest down first."""
        columns = (
            Column(Order.NAME, _("Repository")),
            Column(Order.BLOBS, _("Blobs"), is_number=True, starts_descending=True),
            Column(Order.BYTES, _("Size"), is_number=True, starts_descending=True),
        )
        return column_heads(
            columns,
            query.order,
            is_descending=query.is_descending,
            link=lambda param: self.link(o=param),
        )

    def _url(self, name: str) -> str:
        if not isinstance(name, RepositoryName):
            return ""
        address, kept = self.repository_url(name), self.kept_query
        return f"{address}?{urlencode({KEPT: kept})}" if address and kept else address

    def _exact_url(self) -> str:
        """The page of the repository that has exactly the name searched for, cached or not."""
        try:
            return self.repository_url(RepositoryName(self.query))
        except RepositoryNameInvalid:
            return ""


def _orders() -> list[tuple[str, str]]:
    """The options of the selection of an order."""
    return [
        ("", _("by name")),
        ("-name", _("by name, descending")),
        ("-bytes", _("largest first")),
        ("bytes", _("smallest first")),
        ("-blobs", _("most blobs first")),
        ("blobs", _("fewest blobs first")),
    ]
