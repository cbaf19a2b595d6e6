"""The sorted copy of a large repository's blobs: its age on the page, and the button to make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.contrib import messages
from django.http import HttpResponseRedirect, QueryDict
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.base_pages import RepositoryPageBase
from blobcache.admin.member_query import MemberQuery
from blobcache.exceptions import DescriptorCorrupt
from blobcache.models import Repository

if TYPE_CHECKING:
    from django.http import HttpResponse

    from blobcache.admin.member_list import MemberListing
    from blobcache.admin.pages import Page
    from blobcache.services.sorted_members import CopyStatus

__all__ = ["CopyAge", "SortPage"]

_MINUTE = 60


class CopyAge(NamedTuple):
    """What the page of a large repository says about the order of its list."""

    status: CopyStatus
    url: str
    """Where the copy is made."""

    kept: str
    """The search, the filters and the order."""

    is_used: bool
    """Whether the list comes from the copy."""

    is_asked: bool
    """Whether the address asks for an order, a search or a filter."""

    @classmethod
    def of(cls, page: Page, listing: MemberListing, query: MemberQuery) -> CopyAge | None:
        """Return it; None if the list needs no copy, or if none can be made."""
        if listing.copy is None or not isinstance(page, RepositoryPageBase):
            return None
        return cls(
            listing.copy,
            page.url(Repository, "sort", page.name),
            page.query_string(*page.parameters),
            listing.is_whole,
            query.is_sorted or query.is_narrowed,
        )

    @property
    def text(self) -> str:
        """How old the copy is."""
        if self.status.copied_at is None:
            return ""
        seconds = max(0, int(self.status.age))
        if seconds < _MINUTE:
            return ngettext(
                "This order is %(count)d second old.",
                "This order is %(count)d seconds old.",
                seconds,
            ) % {"count": seconds}
        return _("This order is %(age)s old.") % {"age": timesince(self.status.copied_at)}


class SortPage(RepositoryPageBase):
    """Make the sorted copy: one bounded step a request, until it is finished."""

    template = "sort_members.html"

    def is_allowed(self) -> bool:
        """Users who may view the repository."""
        return self.access.may_in_repository("view", self.name)

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository and this page."""
        return [*super().crumbs(), (_("Sort all blobs"), "")]

    def get(self) -> HttpResponse:
        """Redirect to the repository."""
        return HttpResponseRedirect(self.return_url)

    def post(self) -> HttpResponse:
        """Do a step of a new copy, or of the unfinished one."""
        kept = self.request.POST.get("kept", "")
        query = MemberQuery.of(QueryDict(kept))
        copies = self.provider.sorted_members
        status: CopyStatus | None = None
        with self.catch_redis_errors():
            if not copies.may_keep:
                text = _("No sorted copy can be kept here, so this repository is not sorted.")
                return self.redirect_with_message(text, messages.ERROR)
            try:
                status = copies.copy_again(self.name, query.of_copy)
            except DescriptorCorrupt:
                return HttpResponseRedirect(self.return_url)
        if status is not None and status.progress is None:
            return HttpResponseRedirect(self.return_url)
        return self.render(
            title=_("Sort all blobs of %(repository)s") % {"repository": self.name},
            name=self.name,
            percent=int(100 * (status.progress or 0)) if status else 0,
            is_going_on=status is not None,
            back=self.return_url,
            kept=kept,
            script="blobcache/again.js",
        )
