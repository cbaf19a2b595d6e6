"""Check the selected blobs of a repository, and show what is wrong with them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _

from blobcache.admin.base_pages import RepositoryPageBase
from blobcache.admin.consistency import FindingsPageBase
from blobcache.admin.reports import groups
from blobcache.digest import Digest
from blobcache.doctor.selected import Checked, check_members
from blobcache.models import Repository
from blobcache.parsing import parse_each

if TYPE_CHECKING:
    from django.http import HttpResponse

__all__ = ["MAX_SELECTED", "CheckMembersPage"]

MAX_SELECTED = 900
"""Blobs at a time: with the form's other fields, fewer than the 1,000 that Django takes
(``DATA_UPLOAD_MAX_NUMBER_FIELDS``)."""


class CheckMembersPage(RepositoryPageBase, FindingsPageBase):
    """The findings of the selected blobs. It is a POST because of their number; it changes nothing.

    A POST has a limited time; the blobs that it has not checked then are left for another POST.
    """

    template = "check_members.html"

    @property
    def repository_params(self) -> list[str]:
        """The repository in the address; the form cannot name another one."""
        return [self.name]

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository and this page."""
        return [(self.name, self.return_url), (_("Check selected blobs"), "")]

    def get(self) -> HttpResponse:
        """Redirect to the repository, where blobs are selected."""
        return HttpResponseRedirect(self.return_url)

    def post(self) -> HttpResponse:
        """Check the selected blobs for a limited time."""
        selected = parse_each(
            self.request.POST.getlist("digest"), partial(Digest, allow_tarsum=True)
        )
        if not selected:
            return self.redirect_with_message(
                _("Select at least one blob to check."), messages.WARNING
            )
        if len(selected) > MAX_SELECTED:
            return self.redirect_with_message(
                _("Too many blobs selected; check at most %(limit)s at a time.")
                % {"limit": MAX_SELECTED},
                messages.ERROR,
            )
        checked: Checked | None = None
        with self.catch_redis_errors():
            checked = check_members(self.provider, self.name, selected, self.backend)
        findings = (
            [each for each in checked.findings if self.may_view_finding(each)] if checked else []
        )
        rest = selected[checked.done :] if checked else selected
        return self.render(
            title=_("Check selected blobs"),
            name=self.name,
            **self.compared_context(),
            groups=groups(Counter(each.kind for each in findings), findings, self.row),
            checked=checked,
            selected=len(selected),
            rest=rest,
            kept=self.request.POST.get("kept", ""),
            may_repair=self.may_repair_any,
            repair_url=self.url(Repository, "repair"),
            whole_url=self.address(),
            return_url=self.return_url,
        )
