"""The page of all repositories: what there is, and how the cache and its catalog are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _

from blobcache.admin.pages import Page
from blobcache.exceptions import RepositoryNameInvalid
from blobcache.models import Repository
from blobcache.redis.catalog import PAGE_BUDGET
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from django.http import HttpResponse

    from blobcache.redis.catalog import RepositoryPage as Listing

__all__ = ["RefreshPage", "RepositoriesPage"]


class RepositoriesPage(Page):
    """A listing in lexical order, searched by the beginning of the name."""

    template = "repositories.html"

    def is_allowed(self) -> bool:
        """Everybody who may view one; of the others' they see nothing."""
        return self.admin.has_view_permission(self.request)

    @property
    def home(self) -> str:
        """This page."""
        return self.url(Repository, "changelist")

    def get(self) -> HttpResponse:
        """List some repositories, below the state of the cache for who may view all of it."""
        place = ("repositories", self.query)
        page: Listing | None = None
        server = None
        with self.tolerance():
            page = self.provider.catalog.repositories(
                self.query, self.cursor(*place), self.limit, self.access.visible
            )
        sees_all = self.access.may_all("view")
        if sees_all and page is not None:
            with self.tolerance():
                server = self.provider.server_status()
        return self.render(
            title=_("Repositories"),
            page=page,
            rows=[
                {
                    "name": entry.name,
                    "blobs": entry.blobs,
                    "url": self._url(entry.name),
                    "is_name": isinstance(entry.name, RepositoryName),
                }
                for entry in (page.repositories if page else ())
            ],
            next=self.following(page.next, *place) if page else None,
            server=server,
            catalog=page.status if page and sees_all else None,
            refresh_url=self.url(Repository, "refresh"),
            exact_url=self._exact_url(),
        )

    def _url(self, name: str) -> str:
        return self.repository_url(name) if isinstance(name, RepositoryName) else ""

    def _exact_url(self) -> str:
        """The page of the very name that is searched for, which need not be cached yet."""
        try:
            return self.repository_url(RepositoryName(self.query))
        except RepositoryNameInvalid:
            return ""


class RefreshPage(Page):
    """Building the catalog's index anew, a bounded piece at a time."""

    template = "unavailable.html"

    def is_allowed(self) -> bool:
        """Who may view all repositories: it is what their listing does of itself when it is due."""
        return self.access.may_all("view")

    @property
    def home(self) -> str:
        """The listing."""
        return self.url(Repository, "changelist")

    def get(self) -> HttpResponse:
        """Nothing to see here."""
        return HttpResponseRedirect(self.home)

    def post(self) -> HttpResponse:
        """Begin a build, or go on with the one that is under way."""
        catalog = self.provider.catalog
        with self.tolerance():
            before = catalog.status()
            newer_than = before.indexed if before.building else before.begun
            status = catalog.advance(PAGE_BUDGET, newer_than=newer_than)
            if status.indexed > newer_than:
                self.say(_("The catalog is up to date."), messages.SUCCESS)
            else:
                self.say(_("The catalog is being built: go on until it is done."), messages.INFO)
        return HttpResponseRedirect(self.home)
