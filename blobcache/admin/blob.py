"""The pages of one blob: its descriptor and holders; setting, clearing and purging it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from django.contrib import messages
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin import exports
from blobcache.admin.base_pages import BlobPageBase
from blobcache.admin.confirmation import SHOWN, UNCOUNTED, has_grown, shown_number
from blobcache.admin.index_age import IndexAge
from blobcache.admin.pages import CURSOR
from blobcache.admin.rows import Row
from blobcache.admin.set_descriptor import SetPage
from blobcache.admin.truth import TRUTH, Stored, TruthPageBase
from blobcache.exceptions import BlobUnknown
from blobcache.finding_texts import NOT_CACHED, NOT_IN_CACHE
from blobcache.findings import Kind
from blobcache.history import recorded
from blobcache.media_types import is_manifest
from blobcache.models import Blob
from blobcache.parsing import whole_number
from blobcache.services.base import Certainty

if TYPE_CHECKING:
    from django.http import HttpResponse

    from blobcache.digest import Digest
    from blobcache.services.base import BlobDescriptorService, PurgeResult
    from blobcache.services.catalog import HolderPage
    from blobcache.services.records import Record

__all__ = ["BlobPage", "ClearBlobPage", "PurgeBlobPage", "SetBlobPage"]

_LISTS_LAYERS = 2
"""The version of the registry that puts no manifests into the sets of repositories."""


class BlobPage(BlobPageBase, TruthPageBase):
    """The global descriptor of the blob, and its holders."""

    template = "blob.html"
    parameters = (TRUTH,)

    def is_allowed(self) -> bool:
        """Users who may view blobs."""
        return self.access.may_globally("view")

    def crumbs(self) -> list[tuple[str, str]]:
        """The blob, without a link."""
        return [(self.subject, "")]

    def get(self) -> HttpResponse:
        """Show the page."""
        cursor_scope = ("holders", self.subject)
        with self.catch_redis_errors():
            asked = exports.holders(self.provider, self.subject, self.access.visible)
            if (file := self.export(asked)) is not None:
                return file
        record = self.record()
        page = self.holders(self.cursor(*cursor_scope), self.limit) if record else None
        stored = self._stored(record, page) if record else {}
        holders = self.holder_rows(page, record, stored)
        row = Row.of(record, self.blob_url) if record else None
        is_absent = row is not None and row.explanation is NOT_CACHED
        if row is not None and is_absent and self._is_held_by_none(page):
            row = row._replace(explanation=NOT_IN_CACHE)
        is_version_2 = self.settings.REGISTRY_VERSION == _LISTS_LAYERS
        is_nowhere = row is not None and row.explanation is NOT_IN_CACHE
        may_write = not self.settings.READ_ONLY
        return self.render(
            title=_("Blob"),
            digest=self.subject,
            row=row,
            stored=stored.get(None),
            **self.truth_context(),
            holders=holders,
            differing=sum(bool(holder["differs"]) for holder in holders),
            page=page,
            index=IndexAge.of(self, page.status) if page else None,
            next=self.next_link(page.next, *cursor_scope) if page else None,
            exports=self.export_links() if holders else (),
            is_manifest=is_version_2 and row is not None and is_manifest(row.media_type),
            may_be_manifest=is_version_2 and row is not None and row.size is not None,
            set_url=may_write and self.access.may_set(None) and self.url(Blob, "set", self.subject),
            blob_clear_url=may_write
            and not is_absent
            and self.access.may_clear(None)
            and self.url(Blob, "delete", self.subject),
            purge_url=may_write
            and not is_nowhere
            and self.access.may_purge()
            and self.url(Blob, "purge", self.subject),
            raw_url=self.url(Blob, "raw", self.subject),
            registries_url=bool(self.registry_links) and self.url(Blob, "registries", self.subject),
            history_url=self.url(Blob, "history", self.subject),
        )

    def _is_held_by_none(self, page: HolderPage | None) -> bool:
        """Whether the whole index shows that no repository holds the blob, hidden ones included."""
        return (
            page is not None
            and self.access.sees_all
            and page.status.is_built
            and not (page.holders or page.next or self.cursor("holders", self.subject))
        )

    def _stored(self, record: Record, page: HolderPage | None) -> dict[str | None, Stored]:
        """What the backend says: of the blob itself, by None, and in each repository shown."""
        if not self.asks_backend:
            return {}
        cached = record.global_descriptor
        # Only the link of a repository leads from an alias to the data.
        digest = cached.digest if cached else self.subject
        questions: dict[str | None, tuple[Digest, str | None]] = {None: (digest, None)}
        for holder in page.holders if page else ():
            questions[holder.name] = (self.subject, holder.name)
        answers = self.answers([*questions.values()])
        return {
            name: Stored.of(
                answers[question],
                cached,
                is_claimed=bool(name or cached),
                shows_place=self.access.sees_all,
            )
            for name, question in questions.items()
        }


class SetBlobPage(BlobPageBase, SetPage):
    """Set the global descriptor."""

    def is_allowed(self) -> bool:
        """Who may see what they set."""
        return self.access.may_set(None)

    def crumbs(self) -> list[tuple[str, str]]:
        """The blob and this page."""
        return [*super().crumbs(), (_("Set a descriptor"), "")]

    @property
    def service(self) -> BlobDescriptorService:
        """The service of the global scope."""
        return self.provider

    @property
    def digest(self) -> str:
        """The digest of the blob."""
        return self.subject


class ClearBlobPage(BlobPageBase):
    """Clear the global descriptor, after a confirmation."""

    template = "clear_blob.html"
    writes = True

    def is_allowed(self) -> bool:
        """Who may see what they clear."""
        return self.access.may_clear(None)

    def crumbs(self) -> list[tuple[str, str]]:
        """The blob and this page."""
        return [*super().crumbs(), (_("Clear"), "")]

    def get(self) -> HttpResponse:
        """Ask for confirmation."""
        return self._ask(self.record())

    def _ask(self, record: Record | None) -> HttpResponse:
        return self.render(
            title=_("Clear the global descriptor"),
            digest=self.subject,
            row=Row.of(record, self.blob_url) if record else None,
            shown=_fingerprint(record) if record else "",
            return_url=self.return_url,
        )

    def post(self) -> HttpResponse:
        """Clear it, if it is confirmed and the descriptor is still the one that was shown."""
        record = self.record()
        if "confirmed" not in self.request.POST or record is None:
            return self._ask(record)
        shown = self.request.POST.get(SHOWN, "")
        if record.kind is not Kind.HUSK and shown != _fingerprint(record):
            if shown:
                self.add_message(
                    _(
                        "Nothing was cleared: the descriptor has changed since you opened this "
                        "page. Check it and confirm again."
                    )
                )
            return self._ask(record)
        with self.catch_redis_errors():
            try:
                with recorded(self.request.user, source="admin"):
                    self.provider.clear(self.subject)
            except BlobUnknown:
                return self.redirect_with_message(
                    _("The global descriptor was already gone."), messages.WARNING
                )
            return self.redirect_with_message(_("Cleared the global descriptor."))
        return self._ask(record)


class PurgeBlobPage(BlobPageBase):
    """Clear the blob everywhere: a confirmation page, then one step per request.

    Each step is a POST with the cursor of the one before, so a purge of any length works without
    JavaScript, and can be continued after an interruption.
    """

    template = "purge.html"
    writes = True

    def is_allowed(self) -> bool:
        """Who may clear everything, what they cannot see included."""
        return self.access.may_purge()

    def crumbs(self) -> list[tuple[str, str]]:
        """The blob and this page."""
        return [*super().crumbs(), (_("Purge"), "")]

    def get(self) -> HttpResponse:
        """Ask for confirmation."""
        cursor_scope = ("purge holders", self.subject)
        record, cursor = self.record(), self.cursor(*cursor_scope)
        page = self.holders(cursor, self.limit) if record else None
        is_all = page is not None and not cursor and page.next is None
        return self.render(
            title=_("Purge a blob everywhere"),
            digest=self.subject,
            row=Row.of(record, self.blob_url) if record else None,
            holders=self.holder_rows(page, record),
            page=page,
            index=IndexAge.of(self, page.status) if page else None,
            sees_all=self.access.sees_all,
            is_all=is_all,
            shown="" if page is None else str(len(page.holders)) if is_all else UNCOUNTED,
            next=self.next_link(page.next, *cursor_scope) if page else None,
            return_url=self.return_url,
        )

    def post(self) -> HttpResponse:
        """Take a step, if it is confirmed."""
        if "confirmed" not in self.request.POST:
            return self.get()
        token = self.request.POST.get(CURSOR, "")
        cursor = self.unseal(token, *self._cursor_scope) if token else ""
        is_first = not cursor and "total" not in self.request.POST
        if is_first and not self._is_as_shown():
            return self.get()
        result: PurgeResult | None = None
        with self.catch_redis_errors(), recorded(self.request.user, source="admin"):
            result = self.provider.purge(self.subject, cursor)
        cleared = list(filter(self.access.may_view, result.cleared)) if result else []
        total = (whole_number(self.request.POST.get("total", ""), max_digits=9) or 0) + len(cleared)
        if result is not None and result.next is None:
            return self.redirect_with_message(self._summary(total) % {"count": total})
        return self.render(
            title=_("Purge a blob everywhere"),
            digest=self.subject,
            is_under_way=True,
            cursor=self.seal(result.next or "", *self._cursor_scope) if result else token,
            total=total,
            cleared=cleared,
            is_index_done=result is not None and result.certain is Certainty.INDEXED,
            sees_all=self.access.sees_all,
            return_url=self.return_url,
        )

    def _summary(self, total: int) -> str:
        """The message at the end; it says nothing about hidden repositories."""
        if self.access.sees_all:
            return ngettext(
                "Purged the blob: cleared globally and in %(count)d repository.",
                "Purged the blob: cleared globally and in %(count)d repositories.",
                total,
            )
        return ngettext(
            "Purged the blob everywhere. %(count)d repository that you may view held it.",
            "Purged the blob everywhere. %(count)d repositories that you may view held it.",
            total,
        )

    @property
    def _cursor_scope(self) -> tuple[str, ...]:
        return "purge", self.subject

    def _is_as_shown(self) -> bool:
        """Whether about as many repositories hold the blob as the page showed.

        If not, add a message that says so.
        """
        shown = shown_number(self.request.POST)
        if shown is None:
            return self.request.POST.get(SHOWN) == UNCOUNTED
        # One more than may be there: if so many are found, the number has grown too much.
        page = self.holders("", min(shown, self.limit) * 11 // 10 + 1)
        if page is None:
            return False
        now = len(page.holders)
        if not has_grown(shown, now):
            return True
        text = _(
            "Nothing was purged: the number of repositories that hold the blob has grown from "
            "%(shown)d to %(now)d or more since you opened this page. Check it and confirm again."
        )
        self.add_message(text % {"shown": shown, "now": now})
        return False


def _fingerprint(record: Record) -> str:
    """A hash of what the page shows about the descriptor."""
    facts = ascii((record.kind.value, record.descriptor))
    return sha256(facts.encode()).hexdigest()
