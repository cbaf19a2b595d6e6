"""The page of one repository: what it is made of, its blobs, and setting one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _

from blobcache.admin.base_pages import RepositoryPageBase
from blobcache.admin.composition import Composition, compose
from blobcache.admin.figures import Totals, totals_of
from blobcache.admin.labels import CATEGORIES, label
from blobcache.admin.member_list import Listing, list_members
from blobcache.admin.member_query import COLUMNS, NONE, Selection
from blobcache.admin.pages import COUNTING, NUMBER
from blobcache.admin.rows import Row
from blobcache.admin.set_descriptor import SetPage
from blobcache.exceptions import DescriptorCorrupt
from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import RECORD_KINDS, Kind
from blobcache.models import Repository
from blobcache.services.catalog import STEP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpResponse

    from blobcache.services.base import BlobDescriptorService
    from blobcache.services.figures import Sharing

__all__ = ["RepositoryPage", "SetMemberPage"]


class RepositoryPage(RepositoryPageBase):
    """Its figures, and its blobs: those selected, page by page."""

    template = "repository.html"

    def is_allowed(self) -> bool:
        """Who may view the repository."""
        return self.access.may_in_repository("view", self.name)

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository itself, with no link."""
        return [(self.name, "")]

    def get(self) -> HttpResponse:
        """Show it."""
        selection = Selection.of(self.request.GET)
        cursor_scope = ("members", self.name, *selection.cursor_scope)
        cursor = self.cursor(*cursor_scope)
        listing, is_damaged = Listing(), False
        try:
            with self.catch_redis_errors():
                listing = list_members(
                    self.provider.repository_scoped(self.name),
                    selection,
                    cursor=cursor,
                    number=self.request.GET.get(NUMBER, ""),
                    size=self.limit,
                    sort_limit=self.settings.ADMIN_SORT_LIMIT,
                )
        except DescriptorCorrupt:
            is_damaged = True
        may_write = not self.settings.READ_ONLY
        totals = None if is_damaged else self._totals(listing)
        if COUNTING in self.request.GET and (totals is None or totals.progress is None):
            return HttpResponseRedirect(self.request.path + self.link(**{COUNTING: ""}))
        composition = (
            compose(totals.sums.media_types, totals.sums.other_media_types, none=NONE)
            if totals and totals.sums
            else None
        )
        return self.render(
            title=self.name,
            name=self.name,
            selection=selection,
            listing=listing,
            rows=[Row.of(record, self.blob_url) for record in listing.records],
            columns=list(self._columns(selection, listing)),
            types=self._types(selection, listing, composition),
            totals=totals,
            anomalies=self._anomalies(totals) if totals else (),
            count_url=self._count_url(totals) if totals else "",
            share=round(100 * (totals.progress or 0)) if totals else None,
            stop_url=self.link(**{COUNTING: ""}),
            refresh_url=self._count_url(totals)
            if totals and totals.progress is not None and COUNTING in self.request.GET
            else "",
            sharing=None if is_damaged else self._sharing(listing),
            composition=composition,
            parts=[
                {"part": part, "url": part.filter and self.link(type=part.filter)}
                for part in (composition.parts if composition else ())
            ],
            orders=_orders(),
            order=selection.order,
            previous_url=self.page_link(listing.slice, -1),
            next_url=self.page_link(listing.slice, +1),
            states={kind: EXPLANATIONS[kind] for kind in RECORD_KINDS},
            is_damaged=is_damaged,
            next=self.next_link(listing.next, *cursor_scope),
            page_links=self.page_links(listing.slice),
            everything=self.link(q="", type="", state=""),
            kept=self.request.GET.urlencode(),
            sort_limit=self.settings.ADMIN_SORT_LIMIT,
            clear_url=may_write
            and self.access.may_clear(self.name)
            and self.url(Repository, "clear", self.name),
            set_url=may_write
            and self.name.is_oci
            and self.access.may_set(self.name)
            and self.url(Repository, "set", self.name),
            history_url=self.url(Repository, "history", self.name),
            consistency_url=self.url(Repository, "consistency", repository=self.name),
        )

    def _totals(self, listing: Listing) -> Totals | None:
        """What the repository comes to."""
        with self.catch_redis_errors():
            count = listing.count
            if count is None:
                count = self.provider.catalog.members(self.name, limit=1).count
            return totals_of(
                self.provider,
                self.name,
                count,
                is_asked=COUNTING in self.request.GET,
                sort_limit=self.settings.ADMIN_SORT_LIMIT,
            )
        return None

    def _count_url(self, totals: Totals) -> str:
        """Where the figures are added up anew; empty where they are at each look."""
        if totals.count <= STEP or not self.provider.catalog.may_write:
            return ""
        return self.link(**{COUNTING: "on"})

    def _sharing(self, listing: Listing) -> Sharing | None:
        """Shared bytes; only for small repositories, and for users who may view all others."""
        if not listing.count or listing.count > STEP or not self.access.sees_all:
            return None
        with self.catch_redis_errors():
            return self.provider.figures.shared_bytes(self.name)
        return None

    def _anomalies(self, totals: Totals) -> Iterator[dict[str, object]]:
        """The states that are not as they should be, and the way to the blobs in each."""
        for kind in RECORD_KINDS:
            count = totals.sums.states.get(kind, 0) if totals.sums else 0
            if count and kind is not Kind.OK:
                yield {
                    "label": EXPLANATIONS[kind].label,
                    "count": count,
                    "url": self.link(state=kind, q="", type=""),
                }

    def _columns(self, selection: Selection, listing: Listing) -> Iterator[dict[str, object]]:
        """The table's head: what each column is called, and the way to have it in order."""
        titles = (_("Digest"), _("Media type"), _("Size"), _("State"))
        for column, title in zip(COLUMNS, titles, strict=True):
            is_current = listing.is_whole and selection.column == column
            turned = is_current and not selection.is_descending
            yield {
                "title": title,
                "is_number": column == "size",
                "url": self.link(o=f"-{column}" if turned else column) if listing.is_whole else "",
                "sorted": is_current and ("descending", "ascending")[turned],
            }

    def _types(
        self, selection: Selection, listing: Listing, composition: Composition | None
    ) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Filter choices: each category with the known media types in it."""
        known = {record.descriptor.media_type for record in listing.looked_at if record.descriptor}
        known |= {part.media_type for part in (composition.parts if composition else ())}
        if "/" in selection.media_type:
            known.add(selection.media_type)
        groups = []
        for category, title in CATEGORIES.items():
            choices = sorted(
                (text, media_type or NONE)
                for media_type in known
                for text, its_category in [label(media_type)]
                if its_category is category
            )
            if choices or selection.media_type == category:
                groups.append((str(category), str(title), choices))
        return groups


def _orders() -> list[tuple[str, str]]:
    """What the listing can be sorted by, as one chooses it."""
    return [
        ("", _("by digest")),
        ("-digest", _("by digest, descending")),
        ("-size", _("largest first")),
        ("size", _("smallest first")),
        ("type", _("by media type")),
        ("-type", _("by media type, descending")),
        ("state", _("worst state first")),
        ("-state", _("best state first")),
    ]


class SetMemberPage(RepositoryPageBase, SetPage):
    """Setting a descriptor, and with it letting the repository read the blob."""

    def is_allowed(self) -> bool:
        """Who may see what they set."""
        return self.access.may_set(self.name)

    def refusal(self) -> str:
        """Also where the name cannot be written to."""
        if self.name.is_oci:
            return super().refusal()
        return _(
            "The OCI specification does not allow this repository name. Its blobs can be read and "
            "cleared, but no descriptor can be set."
        )

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
