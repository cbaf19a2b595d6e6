"""Clear blobs in one repository, after a confirmation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponseRedirect, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.base_pages import RepositoryPageBase
from blobcache.admin.check_members import MAX_SELECTED
from blobcache.admin.jobs import StartsJobs
from blobcache.admin.member_list import MemberListing, list_members
from blobcache.admin.member_query import MemberQuery
from blobcache.admin.rows import Row
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, DescriptorCorrupt
from blobcache.history import recorded
from blobcache.jobs import MAX_DIGESTS
from blobcache.parsing import parse_each

if TYPE_CHECKING:
    from django.http import HttpResponse

    from blobcache.services.records import Record

__all__ = ["ClearMembersPage"]

_ROWS = 100
"""Blobs that the page shows before a job clears many more."""

_MOST = 100_000
"""Members of a repository that are read to find those that a filter shows."""


class ClearMembersPage(RepositoryPageBase, StartsJobs):
    """Clear the selected blobs, after a confirmation."""

    template = "clear_members.html"
    writes = True

    def is_allowed(self) -> bool:
        """Who may see what they clear."""
        return self.access.may_clear(self.name)

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository and this page."""
        return [*super().crumbs(), (_("Clear blobs"), "")]

    def get(self) -> HttpResponse:
        """Redirect to the repository, where blobs are selected."""
        return HttpResponseRedirect(self.return_url)

    def post(self) -> HttpResponse:
        """Ask for confirmation or, if it is confirmed, clear the blobs."""
        if "all" in self.request.POST:
            return self._ask_about_all()
        if "text" in self.request.POST and "confirmed" in self.request.POST:
            return self._start_job()
        selected = parse_each(
            self.request.POST.getlist("digest"), partial(Digest, allow_tarsum=True)
        )
        if not selected:
            return self.redirect_with_message(
                _("Select at least one blob to clear."), messages.WARNING
            )
        if len(selected) > MAX_SELECTED:
            return self.redirect_with_message(
                _("Too many blobs selected; clear at most %(limit)s at a time.")
                % {"limit": MAX_SELECTED},
                messages.ERROR,
            )
        return self._clear(selected) if "confirmed" in self.request.POST else self._ask(selected)

    def _ask_about_all(self) -> HttpResponse:
        """Ask for confirmation to clear all blobs that the page's search and filters show."""
        query = MemberQuery.of(QueryDict(self.request.POST.get("kept", "")))
        listing = MemberListing()
        with self.catch_redis_errors():
            try:
                listing = list_members(
                    self.provider.repository_scoped(self.name),
                    self.provider.sorted_members,
                    query,
                    cursor="",
                    number="",
                    size=MAX_DIGESTS,
                    sort_limit=min(self.settings.ADMIN_SORT_LIMIT, _MOST),
                )
            except DescriptorCorrupt:
                return self.redirect_with_message(
                    _("%(repository)s is damaged. Run a check to repair it.")
                    % {"repository": self.name}
                )
        found = listing.slice.paginator.count if listing.slice else 0
        if listing.count is not None and (not listing.is_whole or found > MAX_DIGESTS):
            return self.redirect_with_message(
                _("There are too many blobs; at most %(limit)d can be cleared by one job.")
                % {"limit": MAX_DIGESTS},
                messages.ERROR,
            )
        digests = [each.digest for each in listing.records if isinstance(each.digest, Digest)]
        if listing.count is not None and not digests:
            return self.redirect_with_message(
                _("Select at least one blob to clear."), messages.WARNING
            )
        return self.render(
            title=_("Clear blobs in %(repository)s") % {"repository": self.name},
            name=self.name,
            rows=[Row.of(record, self.blob_url) for record in listing.records[:_ROWS]],
            more=max(0, len(listing.records) - _ROWS),
            text="\n".join(digests),
            count=len(digests),
            kept=self.request.POST.get("kept", ""),
            return_url=self.return_url,
        )

    def _start_job(self) -> HttpResponse:
        """Start the job that clears the blobs that the page has shown."""
        digests = parse_each(
            self.request.POST.get("text", "").split(), partial(Digest, allow_tarsum=True)
        )
        if not 0 < len(digests) <= MAX_DIGESTS:
            return self.redirect_with_message(
                _("Select at least one blob to clear."), messages.WARNING
            )
        parameters = {"repository": self.name, "digests": digests}
        return self.start_job("clear-blobs", parameters, len(digests))

    def _ask(self, selected: list[Digest]) -> HttpResponse:
        records: list[Record] = []
        with self.catch_redis_errors():
            records = self.provider.repository_scoped(self.name).records(selected)
        return self.render(
            title=_("Clear blobs in %(repository)s") % {"repository": self.name},
            name=self.name,
            rows=[Row.of(record, self.blob_url) for record in records],
            count=len(selected),
            kept=self.request.POST.get("kept", ""),
            return_url=self.return_url,
        )

    def _clear(self, selected: list[Digest]) -> HttpResponse:
        service = self.provider.repository_scoped(self.name)
        cleared = unknown = 0
        with self.catch_redis_errors(), recorded(self.request.user, source="admin"):
            for digest in selected:
                try:
                    service.clear(digest)
                    cleared += 1
                except BlobUnknown:
                    unknown += 1
        if cleared:
            self.add_message(
                ngettext(
                    "Cleared %(count)d blob in %(repository)s.",
                    "Cleared %(count)d blobs in %(repository)s.",
                    cleared,
                )
                % {"count": cleared, "repository": self.name},
                messages.SUCCESS,
            )
        if unknown:
            self.add_message(
                ngettext(
                    "%(count)d blob had already been cleared.",
                    "%(count)d blobs had already been cleared.",
                    unknown,
                )
                % {"count": unknown}
            )
        left = len(selected) - cleared - unknown
        if left:
            self.add_message(
                ngettext(
                    "%(count)d blob was not cleared because Redis failed.",
                    "%(count)d blobs were not cleared because Redis failed.",
                    left,
                )
                % {"count": left},
                messages.ERROR,
            )
        return HttpResponseRedirect(self.return_url)
