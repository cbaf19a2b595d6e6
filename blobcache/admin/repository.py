"""The pages of one repository: its figures and blobs, and setting a descriptor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _

from blobcache.admin import exports
from blobcache.admin.across import comparable
from blobcache.admin.base_pages import MEMBERS_KEPT, RepositoryPageBase
from blobcache.admin.check_members import MAX_SELECTED
from blobcache.admin.composition import Composition, compose
from blobcache.admin.figures import Totals, totals_of
from blobcache.admin.index_age import IndexAge
from blobcache.admin.labels import CATEGORIES, label
from blobcache.admin.member_copy import CopyAge
from blobcache.admin.member_list import MemberListing, list_members
from blobcache.admin.member_query import COLUMNS, NONE, PARAMETERS, MemberQuery, parse_bytes
from blobcache.admin.pages import COUNTING, KEPT, NUMBER
from blobcache.admin.rows import Row
from blobcache.admin.set_descriptor import SetPage
from blobcache.admin.shares import shares_of
from blobcache.admin.sorting import Column, ColumnHead, column_heads, orders
from blobcache.admin.truth import TRUTH, TruthPageBase
from blobcache.exceptions import DescriptorCorrupt
from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import RECORD_KINDS, Kind
from blobcache.jobs import MAX_DIGESTS
from blobcache.models import Blob, Repository
from blobcache.parsing import whole_number
from blobcache.raw import quoted
from blobcache.registry_url import RegistryUrl
from blobcache.services.catalog import STEP
from blobcache.services.figures import SharesStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpResponse

    from blobcache.services.base import BlobDescriptorService

__all__ = ["RepositoryPage", "SetMemberPage"]


SHARING = "shares"
"""The value of `COUNTING` while the page finds out what the repository holds alone."""


class RepositoryPage(RepositoryPageBase, TruthPageBase):
    """The figures of a repository, and its blobs, page by page."""

    template = "repository.html"
    parameters = (*PARAMETERS, COUNTING, KEPT, TRUTH)

    def is_allowed(self) -> bool:
        """Users who may view the repository."""
        return self.access.may_in_repository("view", self.name)

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository, without a link."""
        return [(self.name, "")]

    def get(self) -> HttpResponse:
        """Show the page."""
        query = MemberQuery.of(self.request.GET)
        self._require_valid_address()
        cursor_scope = ("members", self.name, *query.cursor_scope)
        cursor = self.cursor(*cursor_scope)
        listing, is_damaged = MemberListing(), False
        try:
            with self.catch_redis_errors():
                service = self.provider.repository_scoped(self.name)
                limit = self.settings.ADMIN_SORT_LIMIT
                if (
                    file := self.export(
                        exports.members(service, self.provider.sorted_members, query, limit)
                    )
                ) is not None:
                    return file
                listing = list_members(
                    service,
                    self.provider.sorted_members,
                    query,
                    cursor=cursor,
                    number=self.request.GET.get(NUMBER, ""),
                    size=self.limit,
                    sort_limit=limit,
                )
        except DescriptorCorrupt:
            is_damaged = True
        self._note_missing_page(listing)
        stored, registry = self.stored(listing.records), RegistryUrl.of(self.settings)
        may_write = not self.settings.READ_ONLY
        totals = None if is_damaged else self._totals(listing)
        shares = SharesStatus(None, None) if is_damaged else self._shares(totals)
        counting = self.request.GET.get(COUNTING, "")
        if counting and not self._is_calculating(totals, shares):
            following = SHARING if counting != SHARING and self._may_share(totals) else ""
            return HttpResponseRedirect(self.request.path + self.link(**{COUNTING: following}))
        composition = (
            compose(totals.sums.media_types, totals.sums.other_media_types, none=NONE)
            if totals and totals.sums
            else None
        )
        return self.render(
            title=self.name,
            name=self.name,
            search=query,
            listing=listing,
            rows=[
                Row.of(record, self.blob_url, stored.get(record.digest)).in_registry(
                    registry, self.name
                )
                for record in listing.records
            ],
            **self.truth_context(),
            columns=self._columns(query, listing),
            types=self._types(query, listing, composition),
            totals=totals,
            anomalies=self._anomalies(totals) if totals else (),
            count_url=self._count_url(totals) if totals else "",
            share=round(100 * (totals.progress or 0)) if totals else None,
            stop_url=self.link(**{COUNTING: ""}),
            refresh_url=self.link(**{COUNTING: counting}) if counting else "",
            shares=shares.shares,
            index=self._index_age() if shares.shares else None,
            largest=[
                {"digest": digest, "url": self.blob_url(digest), "size": size}
                for digest, size in (shares.shares.largest if shares.shares else ())
            ],
            is_sharing=counting == SHARING,
            sharing_share=round(100 * (shares.progress or 0)),
            share_url=self.link(**{COUNTING: SHARING}) if self._may_share(totals) else "",
            sees_all=self.access.sees_all,
            composition=composition,
            parts=[
                {"part": part, "url": part.filter and self.link(type=part.filter)}
                for part in (composition.parts if composition else ())
            ],
            orders=_orders(),
            copy_age=CopyAge.of(self, listing, query),
            order=query.order_param,
            previous_url=self.page_link(listing.slice, -1),
            next_url=self.page_link(listing.slice, +1),
            states={kind: EXPLANATIONS[kind] for kind in RECORD_KINDS},
            is_damaged=is_damaged,
            next=self.next_link(listing.next, *cursor_scope),
            exports=self.export_links() if listing.records else (),
            page_links=self.page_links(listing.slice),
            everything=self.link(q="", type="", state="", size_min="", size_max=""),
            kept=self.query_string(*MEMBERS_KEPT),
            sort_limit=self.settings.ADMIN_SORT_LIMIT,
            clear_url=may_write
            and self.access.may_clear(self.name)
            and self.url(Repository, "clear", self.name),
            check_selected_url=self.url(Repository, "check", self.name),
            most_selected=MAX_SELECTED,
            purge_selected_url=may_write
            and self.access.may_purge()
            and self.url(Blob, "purge_many"),
            job_limit=MAX_DIGESTS,
            set_url=may_write
            and self.name.is_oci
            and self.access.may_set(self.name)
            and self.url(Repository, "set", self.name),
            compare_url=bool(comparable(self.access, self.name))
            and self.url(Repository, "compare", self.name),
            history_url=self.url(Repository, "history", self.name),
            consistency_url=self.url(Repository, "consistency", repository=self.name),
        )

    def _require_valid_address(self) -> None:
        self.require_choice("state", RECORD_KINDS)
        self.require_choice("o", orders(COLUMNS))
        if "/" not in self.request.GET.get("type", ""):
            self.require_choice("type", [*CATEGORIES, NONE, _("a media type")])
        for name in ("size_min", "size_max"):
            value = self.request.GET.get(name, "").strip()
            if value and parse_bytes(value) is None:
                text = _("%(name)s=%(value)s is not a number of bytes and was ignored.")
                self.complain(text % {"name": name, "value": quoted(value)})
        number = self.request.GET.get(NUMBER, "")
        if number and not whole_number(number, max_digits=9):
            text = _("%(name)s=%(value)s is not the number of a page: this is the first one.")
            self.complain(text % {"name": NUMBER, "value": quoted(number)})

    def _note_missing_page(self, listing: MemberListing) -> None:
        """Say so if the list has fewer pages than the address asks for."""
        number = whole_number(self.request.GET.get(NUMBER, ""), max_digits=9)
        if number and listing.slice and number > listing.slice.paginator.num_pages:
            text = _("This list has no page %(number)d; this is the last page.")
            self.add_message(text % {"number": number})

    def _totals(self, listing: MemberListing) -> Totals | None:
        """Return the figures of the repository."""
        with self.catch_redis_errors():
            count = listing.count
            if count is None:
                count = self.provider.catalog.members(self.name, limit=1).count
            return totals_of(
                self.provider,
                self.name,
                count,
                is_asked=self.request.GET.get(COUNTING, SHARING) != SHARING,
                sort_limit=self.settings.ADMIN_SORT_LIMIT,
            )
        return None

    def _count_url(self, totals: Totals) -> str:
        """The link that calculates the figures again; empty if each request does so."""
        if totals.count <= STEP or not self.provider.catalog.may_write:
            return ""
        return self.link(**{COUNTING: "on"})

    def _shares(self, totals: Totals | None) -> SharesStatus:
        """What the repository holds alone; only for users who may view all the others.

        Another repository that the user may not view may hold the same blobs. A sum without it
        would be wrong, and a correct one would reveal it.
        """
        if totals is None or not self.access.sees_all:
            return SharesStatus(None, None)
        with self.catch_redis_errors():
            is_asked = self.request.GET.get(COUNTING) == SHARING
            return shares_of(self.provider, self.name, totals.count, is_asked=is_asked)
        return SharesStatus(None, None)

    def _may_share(self, totals: Totals | None) -> bool:
        """Whether what the repository holds alone can be found out in several steps."""
        return (
            totals is not None
            and totals.count > 0
            and self.access.sees_all
            and self.provider.catalog.may_write
        )

    def _is_calculating(self, totals: Totals | None, shares: SharesStatus) -> bool:
        if self.request.GET.get(COUNTING) == SHARING:
            return shares.progress is not None
        return totals is not None and totals.progress is not None

    def _index_age(self) -> IndexAge | None:
        """How old the index is by which the other repositories are known."""
        with self.catch_redis_errors():
            return IndexAge.of(self, self.provider.catalog.status())
        return None

    def _anomalies(self, totals: Totals) -> Iterator[dict[str, object]]:
        """The states that are findings, each with a link to its blobs."""
        for kind in RECORD_KINDS:
            count = totals.sums.states.get(kind, 0) if totals.sums else 0
            if count and kind is not Kind.OK:
                yield {
                    "label": EXPLANATIONS[kind].label,
                    "count": count,
                    "url": self.link(state=kind, q="", type="", size_min="", size_max=""),
                }

    def _columns(self, query: MemberQuery, listing: MemberListing) -> list[ColumnHead]:
        """The head of the table."""
        titles = (_("Digest"), _("Media type"), _("Size"), _("State"))
        return column_heads(
            [
                Column(name, title, is_number=name == "size")
                for name, title in zip(COLUMNS, titles, strict=True)
            ],
            query.column if listing.is_whole else "",
            is_descending=query.is_descending,
            link=(lambda param: self.link(o=param))
            if listing.is_whole or listing.copy is not None
            else None,
        )

    def _types(
        self, query: MemberQuery, listing: MemberListing, composition: Composition | None
    ) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Filter choices: each category with the known media types in it."""
        known = {record.descriptor.media_type for record in listing.looked_at if record.descriptor}
        known |= {part.media_type for part in (composition.parts if composition else ())}
        if "/" in query.media_type:
            known.add(query.media_type)
        groups = []
        for category, title in CATEGORIES.items():
            choices = sorted(
                (text, media_type or NONE)
                for media_type in known
                for text, its_category in [label(media_type)]
                if its_category is category
            )
            if choices or query.media_type == category:
                groups.append((str(category), str(title), choices))
        return groups


def _orders() -> list[tuple[str, str]]:
    """The options of the selection of an order."""
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
    """Set a descriptor in a repository, which lets the repository read the blob."""

    def is_allowed(self) -> bool:
        """Users who may view the repository and set descriptors in it."""
        return self.access.may_set(self.name)

    def refusal(self) -> str:
        """Refuse names that the OCI specification does not allow, too."""
        if self.name.is_oci:
            return super().refusal()
        return _(
            "The OCI specification does not allow this repository name. Its blobs can be read and "
            "cleared, but no descriptor can be set."
        )

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository and this page."""
        return [*super().crumbs(), (_("Set a descriptor"), "")]

    @property
    def service(self) -> BlobDescriptorService:
        """The service of the repository."""
        return self.provider.repository_scoped(self.name)

    @property
    def scope(self) -> str:
        """The name of the repository."""
        return self.name
