"""The page of all blobs: look up a digest, and browse the global scope."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _

from blobcache.admin import exports
from blobcache.admin.pages import Page
from blobcache.admin.rows import Row
from blobcache.digest import ALGORITHMS, MAX_LENGTH, Digest
from blobcache.exceptions import DigestInvalid
from blobcache.models import Blob, Repository

if TYPE_CHECKING:
    from django.http import HttpResponse

__all__ = ["BlobsPage", "is_beginning", "parse_digest"]

_CURSOR_SCOPE = "blobs"

_BEGINNING = re.compile(r"(?:[a-z0-9.+_-]+:)?[0-9a-f]+|[a-z0-9.+_-]+:")


class BlobsPage(Page):
    """The descriptors of the global scope, in no particular order."""

    template = "blobs.html"
    parameters = ("q",)

    def is_allowed(self) -> bool:
        """Users who may view blobs."""
        return self.access.may_globally("view")

    @property
    def return_url(self) -> str:
        """This page."""
        return self.url(Blob, "changelist")

    def get(self) -> HttpResponse:
        """Redirect to the blob that is looked up, or show a page of the list."""
        prefix, listing = "", [_CURSOR_SCOPE]
        if self.query:
            try:
                return HttpResponseRedirect(self.blob_url(parse_digest(self.query)))
            except DigestInvalid as error:
                if not is_beginning(self.query):
                    return self.render(title=_("Blobs"), mistake=error.message)
            prefix = self.query.lower()
            listing.append(prefix)
        page, rows = None, []
        with self.catch_redis_errors():
            if (file := self.export(exports.blobs(self.provider, prefix))) is not None:
                return file
            page = self.provider.catalog.blobs(self.cursor(*listing), self.limit, prefix)
            rows = [Row.of(record, self.blob_url) for record in self.provider.records(page.blobs)]
        return self.render(
            title=_("Blobs"),
            rows=rows,
            is_known=page is not None,
            next=self.next_link(page.next, *listing) if page else None,
            exports=self.export_links() if rows else (),
            everything=self.bare_link,
            purge_many_url=not self.settings.READ_ONLY
            and self.access.may_purge()
            and self.url(Blob, "purge_many"),
            jobs_url=self.url(Repository, "jobs"),
        )


def is_beginning(text: str) -> bool:
    """Whether a digest could begin with the text, with or without its algorithm."""
    if len(text) > MAX_LENGTH or not _BEGINNING.fullmatch(text.lower()):
        return False
    algorithm, _colon, encoded = text.lower().rpartition(":")
    return len(encoded) < ALGORITHMS.get(algorithm, max(ALGORITHMS.values()))


def parse_digest(text: str) -> Digest:
    """Parse a digest; without an algorithm, its length decides."""
    for algorithm, length in ALGORITHMS.items():
        if len(text) == length and ":" not in text:
            return Digest(f"{algorithm}:{text.lower()}")
    return Digest(text, allow_tarsum=True)
