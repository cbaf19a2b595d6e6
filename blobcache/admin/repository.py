"""The pages of one repository: its blobs, clearing some of them, setting one."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponseRedirect, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.descriptors import SetPage
from blobcache.admin.pages import CURSOR, QUERY, Page
from blobcache.admin.rows import Row, Totals
from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobUnknown,
    DescriptorCorrupt,
    DigestInvalid,
)
from blobcache.history import recorded
from blobcache.models import Repository
from blobcache.redis.catalog import PAGE_BUDGET
from blobcache.redis.index import STEP
from blobcache.redis.inspection import Record, State
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse

    from blobcache.services.base import BlobDescriptorService

__all__ = ["ClearMembersPage", "RepositoryPage", "SetMemberPage"]


@dataclass(frozen=True, slots=True)
class _Listing:
    """Some members of a repository."""

    records: list[Record] = field(default_factory=list)
    next: str | None = None
    count: int | None = None
    """Of all its members; None if nobody counted."""


class _AboutRepository(Page):
    def __init__(
        self, admin: ModelAdmin[Model], request: HttpRequest, name: RepositoryName
    ) -> None:
        super().__init__(admin, request)
        self.name = name

    @property
    def home(self) -> str:
        """The repository's page, where the reader left it."""
        kept = QueryDict(self.request.POST.get("kept", ""))
        return self.url(
            Repository,
            "change",
            self.name,
            **{key: kept[key] for key in (QUERY, CURSOR) if key in kept},
        )

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository."""
        return [(self.name, self.home)]


class RepositoryPage(_AboutRepository):
    """Its blobs, page by page or those that begin with some digits."""

    template = "repository.html"

    def is_allowed(self) -> bool:
        """Who may view the repository."""
        return self.access.may("view", self.name)

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository itself, with no link."""
        return [(self.name, "")]

    def get(self) -> HttpResponse:
        """List some members."""
        place = ("members", self.name, self.query)
        cursor = self.cursor(*place)
        listing, is_damaged = _Listing(), False
        try:
            with self.tolerance():
                listing = self._search(cursor) if self.query else self._browse(cursor)
        except DescriptorCorrupt:
            is_damaged = True
        may_write = not self.settings.READ_ONLY
        return self.render(
            title=self.name,
            name=self.name,
            listing=listing,
            rows=[Row.of(record, self.blob_url) for record in listing.records],
            totals=Totals.of(listing.records),
            is_whole=not cursor and not self.query and listing.next is None,
            is_damaged=is_damaged,
            next=self.following(listing.next, *place),
            kept=self.request.GET.urlencode(),
            clear_url=may_write
            and self.access.may_clear(self.name)
            and self.url(Repository, "clear", self.name),
            set_url=may_write
            and self.name.is_oci
            and self.access.may_set(self.name)
            and self.url(Repository, "set", self.name),
            history_url=self.url(Repository, "history", self.name),
        )

    def _browse(self, cursor: str) -> _Listing:
        page = self.provider.catalog.members(self.name, cursor, self.limit)
        return _Listing(self._inspect(page.members), page.next, page.count)

    def _search(self, cursor: str) -> _Listing:
        """Members that begin with what is searched for, with or without the algorithm.

        A digest that a stat knows, or is sure not to be a member, is found at once; for anything
        else the set is walked, for a bounded time.
        """
        if not cursor and (exact := _digest(self.query)):
            found = self._exact(exact)
            if found is not None:
                return _Listing(found)
        found, deadline, following, count = [], monotonic() + PAGE_BUDGET, cursor, 0
        while True:
            page = self.provider.catalog.members(self.name, following, STEP)
            hits = [member for member in page.members if self._matches(member)]
            found += self._inspect(hits)
            following, count = page.next or "", page.count
            if not following or len(found) >= self.limit or monotonic() >= deadline:
                return _Listing(found, following or None, count)

    def _exact(self, digest: Digest) -> list[Record] | None:
        """The digest's record if it is a member; None if only a walk can tell."""
        (record,) = self._inspect([digest])
        try:
            self.provider.repository_scoped(self.name).stat(digest)
        except DescriptorCorrupt:
            self.provider.catalog.members(self.name, limit=1)  # raises if the set is damaged
            return [record]
        except BlobUnknown:
            # With a descriptor and an override, only the membership can be missing.
            return None if record.state is State.DANGLING_MEMBER else []
        return [record]

    def _matches(self, member: str) -> bool:
        return member.startswith(self.query) or member.partition(":")[2].startswith(self.query)

    def _inspect(self, members: list[str] | tuple[str, ...]) -> list[Record]:
        return self.provider.repository_scoped(self.name).inspect(members)


class ClearMembersPage(_AboutRepository):
    """Clearing the selected blobs, after a look at what that will do."""

    template = "clear_members.html"
    writes = True

    def is_allowed(self) -> bool:
        """Who may see what they clear."""
        return self.access.may("view", self.name) and self.access.may_clear(self.name)

    def crumbs(self) -> list[tuple[str, str]]:
        """Below the repository."""
        return [*super().crumbs(), (_("Clear blobs"), "")]

    def get(self) -> HttpResponse:
        """There is nothing selected: back to the page where one does."""
        return HttpResponseRedirect(self.home)

    def post(self) -> HttpResponse:
        """Show what will happen and, when that is confirmed, do it."""
        texts = dict.fromkeys(self.request.POST.getlist("digest"))
        selected = [digest for digest in map(_digest, texts) if digest is not None]
        if not selected:
            return self.leave(_("Select the blobs to clear first."), messages.WARNING)
        if len(selected) > STEP:
            return self.leave(
                _("That is too many at a time; clear up to %(limit)s.") % {"limit": STEP},
                messages.ERROR,
            )
        return self._clear(selected) if "confirmed" in self.request.POST else self._ask(selected)

    def _ask(self, selected: list[Digest]) -> HttpResponse:
        records: list[Record] = []
        with self.tolerance():
            records = self.provider.repository_scoped(self.name).inspect(selected)
        return self.render(
            title=_("Clear blobs in %(repository)s") % {"repository": self.name},
            name=self.name,
            rows=[Row.of(record, self.blob_url) for record in records],
            count=len(selected),
            kept=self.request.POST.get("kept", ""),
            home=self.home,
        )

    def _clear(self, selected: list[Digest]) -> HttpResponse:
        service = self.provider.repository_scoped(self.name)
        cleared = unknown = 0
        with self.tolerance(), recorded(self.request.user, source="admin"):
            for digest in selected:
                try:
                    service.clear(digest)
                    cleared += 1
                except BlobUnknown:
                    unknown += 1
        if cleared:
            self.say(
                ngettext(
                    "Cleared %(count)d blob in %(repository)s.",
                    "Cleared %(count)d blobs in %(repository)s.",
                    cleared,
                )
                % {"count": cleared, "repository": self.name},
                messages.SUCCESS,
            )
        if unknown:
            self.say(
                ngettext(
                    "%(count)d blob was no member any more.",
                    "%(count)d blobs were no members any more.",
                    unknown,
                )
                % {"count": unknown}
            )
        left = len(selected) - cleared - unknown
        if left:
            self.say(
                ngettext(
                    "%(count)d blob is not cleared: Redis failed.",
                    "%(count)d blobs are not cleared: Redis failed.",
                    left,
                )
                % {"count": left},
                messages.ERROR,
            )
        return HttpResponseRedirect(self.home)


class SetMemberPage(_AboutRepository, SetPage):
    """Setting a descriptor, and with it letting the repository read the blob."""

    def is_allowed(self) -> bool:
        """Who may see what they set."""
        return self.access.may("view", self.name) and self.access.may_set(self.name)

    def refusal(self) -> str:
        """Also where the name cannot be written to."""
        if self.name.is_oci:
            return super().refusal()
        return _("Nothing can be set under a name of this form; it can be read and cleared.")

    def crumbs(self) -> list[tuple[str, str]]:
        """Below the repository."""
        return [*super().crumbs(), (_("Set a descriptor"), "")]

    @property
    def service(self) -> BlobDescriptorService:
        """The repository's scope."""
        return self.provider.repository_scoped(self.name)

    @property
    def scope(self) -> str:
        """The repository."""
        return self.name


def _digest(text: str) -> Digest | None:
    try:
        return Digest(text, allow_tarsum=True)
    except DigestInvalid:
        return None
