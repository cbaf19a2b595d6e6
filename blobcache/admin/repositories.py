"""The page of all repositories: what there is, and how the cache and its catalog are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from blobcache.admin.pages import COUNTING, KEPT, Page
from blobcache.admin.repository_list import Listing, Wanted, list_repositories
from blobcache.cursors import seal, unseal
from blobcache.exceptions import RepositoryNameInvalid
from blobcache.models import Repository
from blobcache.reference import RepositoryName
from blobcache.services.figures import Order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpResponse

    from blobcache.services.figures import OrderedRepository

__all__ = ["RefreshPage", "RepositoriesPage"]


class RepositoriesPage(Page):
    """All of them, by name, number of blobs or size, and those whose names are searched for."""

    template = "repositories.html"

    def is_allowed(self) -> bool:
        """Everybody who may view one; of the others' they see nothing."""
        return self.admin.has_view_permission(self.request)

    @property
    def return_url(self) -> str:
        """This page."""
        return self.url(Repository, "changelist")

    def get(self) -> HttpResponse:
        """List some repositories, below the state of the cache for who may view all of it."""
        wanted = Wanted.of(self.request.GET)
        listing: Listing | None = None
        server = None
        sees_all = self.access.sees_all
        with self.catch_redis_errors():
            counting = self.request.GET.get(COUNTING) if sees_all else None
            if counting and (going := self._count_all(counting)) is not None:
                return going
            listing = list_repositories(
                self.provider,
                wanted,
                self.cursor(*wanted.cursor_scope),
                self.limit,
                self.access.visible,
            )
        if sees_all and listing is not None:
            with self.catch_redis_errors():
                server = self.provider.server_status()
        may_write = not self.settings.READ_ONLY
        return self.render(
            title=_("Repositories"),
            wanted=wanted,
            page=listing,
            rows=[self._row(entry) for entry in (listing.rows if listing else ())],
            columns=list(self._columns(wanted)),
            orders=_orders(),
            next=self.next_link(listing.next, *wanted.cursor_scope) if listing else None,
            server=server,
            catalog=listing.status if listing and sees_all else None,
            counted=listing.counted if listing and sees_all else None,
            count_url=self.link(**{COUNTING: "on"})
            if sees_all and listing and self.provider.catalog.may_write
            else "",
            refresh_catalog_url=self.url(Repository, "refresh"),
            check_url=self.url(Repository, "consistency"),
            consistency_url=self.url(Repository, "consistency") if sees_all else "",
            empty_url=may_write and self.url(Repository, "empty"),
            may_empty=may_write
            and any(
                isinstance(row.name, RepositoryName) and self.access.may_clear(row.name)
                for row in (listing.rows if listing else ())
            ),
            everything=self.link(q="", m=""),
            inside_url=self.link(m="in"),
            kept=self.kept_query,
            exact_url=self._exact_url(),
        )

    def _count_all(self, said: str) -> HttpResponse | None:
        """Add up some repositories and say how far it is; None once all are done."""
        cursor_scope = ("count",)
        cursor = "" if said == "on" else unseal(said, "admin", *cursor_scope)
        store = self.provider.figures
        if not store.may_keep:
            return None
        result = store.refresh(cursor)
        if result.next is None:
            self.add_message(_("The figures of all repositories are up to date."), messages.SUCCESS)
            return HttpResponseRedirect(self.request.path + self.link(**{COUNTING: ""}))
        status = store.list_ordered(limit=1)
        return self.render(
            title=_("Calculating all sizes"),
            counted=status,
            is_counting=True,
            refresh_url=self.link(**{COUNTING: seal(result.next, "admin", *cursor_scope)}),
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

    def _columns(self, wanted: Wanted) -> Iterator[dict[str, object]]:
        """The table's head: what each column is called, and the way to have it in order."""
        for order, title in zip(
            (Order.NAME, Order.BLOBS, Order.BYTES),
            (_("Repository"), _("Blobs"), _("Size")),
            strict=True,
        ):
            is_current = wanted.order is order
            # Names from A to Z first, numbers from the largest down.
            first, second = ("", "-") if order is Order.NAME else ("-", "")
            turned = is_current and wanted.is_descending is (first == "-")
            sign = second if turned else first
            yield {
                "title": title,
                "is_number": order is not Order.NAME,
                "url": self.link(o="" if sign + order == "name" else sign + order),
                "sorted": is_current and ("ascending", "descending")[wanted.is_descending],
            }

    def _url(self, name: str) -> str:
        if not isinstance(name, RepositoryName):
            return ""
        address, kept = self.repository_url(name), self.kept_query
        return f"{address}?{urlencode({KEPT: kept})}" if address and kept else address

    def _exact_url(self) -> str:
        """The page of the very name that is searched for, which need not be cached yet."""
        try:
            return self.repository_url(RepositoryName(self.query))
        except RepositoryNameInvalid:
            return ""


def _orders() -> list[tuple[str, str]]:
    """What the listing can be sorted by, as one chooses it."""
    return [
        ("", _("by name")),
        ("-name", _("by name, descending")),
        ("-bytes", _("largest first")),
        ("bytes", _("smallest first")),
        ("-blobs", _("most blobs first")),
        ("blobs", _("fewest blobs first")),
    ]


class RefreshPage(Page):
    """Building the catalog's index anew, a bounded piece at a time."""

    template = "unavailable.html"

    def is_allowed(self) -> bool:
        """Who may view all repositories: it is what their listing does of itself when it is due."""
        return self.access.sees_all

    @property
    def return_url(self) -> str:
        """The listing."""
        return self.url(Repository, "changelist")

    def get(self) -> HttpResponse:
        """Nothing to see here."""
        return HttpResponseRedirect(self.return_url)

    def post(self) -> HttpResponse:
        """Begin a build, or go on with the one that is under way."""
        catalog = self.provider.catalog
        with self.catch_redis_errors():
            before = catalog.status()
            newer_than = before.indexed if before.building else before.begun
            status = catalog.build_step(catalog.budgets.page, newer_than=newer_than)
            if status.indexed > newer_than:
                self.add_message(_("The index is up to date."), messages.SUCCESS)
            else:
                self.add_message(
                    _("The index is being built. Continue until it is finished."), messages.INFO
                )
        return HttpResponseRedirect(self.return_url)
