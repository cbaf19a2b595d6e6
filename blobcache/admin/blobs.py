"""The page of all blobs: look up a digest, and browse the global scope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _

from blobcache.admin import exports
from blobcache.admin.pages import Page
from blobcache.admin.rows import Row
from blobcache.digest import ALGORITHMS, Digest
from blobcache.exceptions import DigestInvalid
from blobcache.models import Blob, Repository

if TYPE_CHECKING:
    from django.http import HttpResponse

__all__ = ["BlobsPage", "parse_digest"]

_CURSOR_SCOPE = "blobs"


class BlobsPage(Page):
    """The descriptors of the global scope, in no particular order."""

    template = "blobs.html"

    def is_allowed(self) -> bool:
        """Users who may view blobs."""
        return self.access.may_globally("view")

    @property
    def return_url(self) -> str:
        """This page."""
        return self.url(Blob, "changelist")

    def get(self) -> HttpResponse:
        """Redirect to the blob that is looked up, or show a page of the list."""
        if self.query:
            try:
                return HttpResponseRedirect(self.blob_url(parse_digest(self.query)))
            except DigestInvalid as error:
                return self.render(title=_("Blobs"), mistake=error.message)
        page, rows = None, []
        with self.catch_redis_errors():
            if (file := self.export(exports.blobs(self.provider))) is not None:
                return file
            page = self.provider.catalog.blobs(self.cursor(_CURSOR_SCOPE), self.limit)
            rows = [Row.of(record, self.blob_url) for record in self.provider.records(page.blobs)]
        return self.render(
            title=_("Blobs"),
            rows=rows,
            is_known=page is not None,
            next=self.next_link(page.next, _CURSOR_SCOPE) if page else None,
            exports=self.export_links() if rows else (),
            purge_many_url=not self.settings.READ_ONLY
            and self.access.may_purge()
            and self.url(Blob, "purge_many"),
            jobs_url=self.url(Repository, "jobs"),
        )


def parse_digest(text: str) -> Digest:
    """Parse a digest; without an algorithm, its length decides."""
    for algorithm, length in ALGORITHMS.items():
        if len(text) == length and ":" not in text:
            return Digest(f"{algorithm}:{text.lower()}")
    return Digest(text, allow_tarsum=True)
