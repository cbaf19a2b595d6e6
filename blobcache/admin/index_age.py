"""How old the index is, on every page that depends on it, and the button to look again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.pages import Page
from blobcache.models import Blob, Repository

if TYPE_CHECKING:
    from django.http import HttpResponse

    from blobcache.services.catalog import CatalogStatus

__all__ = ["BACK", "IndexAge", "RefreshPage"]

BACK = "back"
"""The address of the page where somebody looked again, to return to it."""

_MAX_BACK = 2048
"""Characters of the longest such address."""

_MINUTE = 60


class IndexAge(NamedTuple):
    """What a page says about the index that its list comes from."""

    status: CatalogStatus
    refresh_url: str
    """Where to look again; empty if the user may not, or if no index may be kept."""

    back: str
    """This page."""

    @classmethod
    def of(cls, page: Page, status: CatalogStatus) -> IndexAge:
        """Return it for the list on a page."""
        may_refresh = False
        with page.catch_redis_errors():
            may_refresh = page.access.sees_all and page.provider.catalog.may_write
        url = page.url(Repository, "refresh") if may_refresh and status.may_scan else ""
        back = f"{page.request.path}{page.link()}".removesuffix("?")
        return cls(status, url, back if len(back) <= _MAX_BACK else page.request.path)

    @property
    def text(self) -> str:
        """How old the index is."""
        if self.status.indexed_at is None:
            return _("The index is not complete yet, so some repositories may be missing.")
        seconds = max(0, int(self.status.age))
        if seconds < _MINUTE:
            return ngettext(
                "The index of repositories is %(count)d second old.",
                "The index of repositories is %(count)d seconds old.",
                seconds,
            ) % {"count": seconds}
        return _("The index of repositories is %(age)s old.") % {
            "age": timesince(self.status.indexed_at)
        }

    @property
    def bound(self) -> int:
        """The age in seconds at which lists build the index again."""
        return max(1, round(self.status.bound))

    @property
    def percent(self) -> int:
        """How much of an unfinished build is done."""
        return percent(self.status)


def percent(status: CatalogStatus) -> int:
    """Return how much of an unfinished build is done, from 0 to 100."""
    return int(100 * (status.progress or 0))


class RefreshPage(Page):
    """Build the index anew: one bounded step a request, until it is finished."""

    template = "look_again.html"

    def is_allowed(self) -> bool:
        """Users who may view all: their list starts a rebuild itself when it is due."""
        return self.access.sees_all

    @property
    def return_url(self) -> str:
        """The page where somebody looked again; the list of repositories by default."""
        back = self.request.POST.get(BACK, "")
        lists = [self.url(model, "changelist") for model in (Repository, Blob)]
        is_ours = any(own and back.startswith(own.partition("?")[0]) for own in lists)
        return back if is_ours and _is_plain(back) else lists[0]

    def crumbs(self) -> list[tuple[str, str]]:
        """This page."""
        return [(_("Look again"), "")]

    def get(self) -> HttpResponse:
        """Redirect to the list."""
        return HttpResponseRedirect(self.return_url)

    def post(self) -> HttpResponse:
        """Do a step of a new build, or of the unfinished one."""
        catalog = self.provider.catalog
        status: CatalogStatus | None = None
        with self.catch_redis_errors():
            if not catalog.may_write:
                text = _("This registry is read-only, and its index cannot be kept in its Redis.")
                return self.redirect_with_message(text, messages.ERROR)
            status = catalog.look_again()
        if status is None:
            return HttpResponseRedirect(self.return_url)
        if not status.building:
            return self.redirect_with_message(_("The index is up to date."))
        return self.render(
            title=_("Look again"),
            percent=percent(status),
            back=self.return_url,
            script="blobcache/again.js",
        )


def _is_plain(address: str) -> bool:
    """Whether it is a path without anything that a browser would take in another way."""
    if len(address) > _MAX_BACK or not address.isprintable():
        return False
    if not url_has_allowed_host_and_scheme(address, None):
        return False
    path = address.partition("?")[0]
    return "\\" not in address and not {".", ".."} & set(map(unquote, path.split("/")))
