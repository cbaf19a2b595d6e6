"""Purge many blobs: a box for digests or the log of a garbage collection, a preview, and a job.

The text is read anew on each page. The preview shows what would go as far as there is time to find
it out, and the confirmation starts a job that takes one walk for all of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from django.contrib import messages
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from blobcache.admin.banners import NO_BACKEND
from blobcache.admin.jobs import StartsJobs
from blobcache.digest import Digest
from blobcache.doctor.collection import MAX_UNKNOWN, Link, ask_one, read_collection
from blobcache.exceptions import BackendUnavailable, DigestInvalid
from blobcache.jobs import MAX_DIGESTS
from blobcache.models import Blob
from blobcache.raw import printable
from blobcache.services import get_usable_backend
from blobcache.services.preview import preview_purge
from blobcache.services.truth import Present

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http import HttpResponse

    from blobcache.reference import RepositoryName
    from blobcache.services.base import Backend
    from blobcache.services.records import Record

__all__ = ["PurgeManyPage"]

_ROWS = 100
"""Blobs that the preview shows."""

_SHOWN = 20
"""Blobs that are still stored, of which the preview shows so many."""

_SEPARATORS = re.compile(r"[\s,]+")

_OF_A_LOG = "eligible for deletion"


class _Pasted(NamedTuple):
    """What a text names."""

    digests: Sequence[Digest]
    links: Sequence[Link]
    unknown: Sequence[str]
    """What could not be read; only the first ones, if there are many."""

    unknown_count: int
    is_log: bool

    @property
    def total(self) -> int:
        """The number of things to clear."""
        return len(self.digests) + len(self.links)

    @property
    def text(self) -> str:
        """A text that names the same, in the same form."""
        if not self.is_log:
            return "\n".join(self.digests)
        blobs = [f"blob {_OF_A_LOG}: {digest}" for digest in self.digests]
        links = [f"{name}: layer link {_OF_A_LOG}: {digest}" for name, digest in self.links]
        return "\n".join([*blobs, *links])


def read_pasted(text: str) -> _Pasted:
    """Read digests, or the log of a garbage collection if any line says so."""
    if _OF_A_LOG in text:
        log = read_collection(line.encode("utf-8", "replace") for line in text.splitlines())
        gone = frozenset(log.blobs)
        links = [each for each in log.links if each.digest not in gone]
        return _Pasted(log.blobs, links, log.unknown, log.unknown_count, is_log=True)
    digests: dict[Digest, None] = {}
    unknown: dict[str, None] = {}
    for each in filter(None, _SEPARATORS.split(text)):
        try:
            digests[Digest(each, allow_tarsum=True)] = None
        except DigestInvalid:
            unknown[each] = None
    shown = [printable(each.encode("utf-8", "replace")) for each in list(unknown)[:MAX_UNKNOWN]]
    return _Pasted(list(digests), (), shown, len(unknown), is_log=False)


class PurgeManyPage(StartsJobs):
    """Purge all blobs that a text names."""

    template = "purge_many.html"
    writes = True

    def is_allowed(self) -> bool:
        """Who may clear everything, what they cannot see included."""
        return self.access.may_purge()

    @property
    def return_url(self) -> str:
        """The list of blobs."""
        return self.url(Blob, "changelist")

    def crumbs(self) -> list[tuple[str, str]]:
        """This page."""
        return [(_("Purge many blobs"), "")]

    @cached_property
    def backend(self) -> Backend | None:
        """What the registry really stores; None, with a banner, if it cannot be asked."""
        try:
            return get_usable_backend(self.settings.registry)
        except BackendUnavailable:
            self.banners.append(NO_BACKEND)
            return None

    def get(self) -> HttpResponse:
        """Show the box."""
        return self._show_box("")

    def post(self) -> HttpResponse:
        """Show what would go or, if it is confirmed, start a job."""
        text = "\n".join([*self.request.POST.getlist("text"), *self.request.POST.getlist("digest")])
        pasted = read_pasted(text)
        if not pasted.total:
            self.add_message(
                _("This text names no digest to purge."), messages.WARNING
            ) if text.strip() else self.add_message(_("Paste at least one digest."))
            return self._show_box(text, pasted)
        if pasted.total > MAX_DIGESTS:
            self.add_message(
                _("The text names %(count)d blobs; at most %(limit)d are allowed at a time.")
                % {"count": pasted.total, "limit": MAX_DIGESTS},
                messages.ERROR,
            )
            return self._show_box("", pasted)
        if "confirmed" not in self.request.POST:
            return self._ask(pasted)
        return self.start_job(
            "purge",
            {
                "digests": pasted.digests,
                "links": [list(each) for each in pasted.links],
                "spares_stored": "spare" in self.request.POST,
                "with_aliases": pasted.is_log,
            },
            pasted.total,
        )

    def _show_box(self, text: str, pasted: _Pasted | None = None) -> HttpResponse:
        return self.render(
            title=_("Purge many blobs"),
            text=text,
            pasted=pasted,
            limit=MAX_DIGESTS,
            has_backend=self.backend is not None,
            return_url=self.return_url,
        )

    def _ask(self, pasted: _Pasted) -> HttpResponse:
        records: list[Record] = []
        held: Mapping[Digest, Sequence[RepositoryName]] = {}
        is_all = False
        with self.catch_redis_errors():
            records = self.provider.records(pasted.digests)
            step = preview_purge(self.provider, pasted.digests, visible=self.access.visible)
            held, is_all = step.held, step.next is None
        sizes = {
            record.descriptor.digest: record.descriptor.size
            for record in records
            if record.descriptor
        }
        rows = [
            {
                "digest": record.digest,
                "url": self.blob_url(record.digest),
                "size": record.descriptor.size if record.descriptor else None,
                "exists": record.exists_globally,
                "holders": len(held.get(Digest(record.digest, allow_tarsum=True), ())),
            }
            for record in records[:_ROWS]
        ]
        repositories = {name for names in held.values() for name in names}
        return self.render(
            title=_("Purge many blobs"),
            is_preview=True,
            pasted=pasted,
            count=pasted.total,
            known=sum(record.exists_globally for record in records),
            bytes=sum(sizes.values()),
            repositories=len(repositories),
            times=sum(map(len, held.values())),
            is_all=is_all,
            is_known=bool(records) or not pasted.digests,
            sees_all=self.access.sees_all,
            rows=rows,
            more=len(records) - len(rows),
            **self._stored(pasted),
            return_url=self.url(Blob, "purge_many"),
        )

    def _stored(self, pasted: _Pasted) -> dict[str, object]:
        """What the backend still has, as far as there is time to ask it."""
        backend = self.backend
        if backend is None:
            return {"has_backend": False}
        if not backend.witness(self.provider).is_independent:
            return {"has_backend": False, "cannot_say": True}
        budgets = self.provider.catalog.budgets
        deadline = budgets.deadline(budgets.preview)
        named: list[Digest | Link] = [*pasted.digests, *pasted.links]
        stored: list[Digest | Link] = []
        asked = doubtful = 0
        for each in named:
            asked += 1
            answer = ask_one(backend, each, was_deleted=pasted.is_log)
            if isinstance(answer, Present):
                stored.append(each)
            elif answer is not None:
                doubtful += 1
            if deadline.is_over:
                break
        return {
            "has_backend": True,
            "asked": asked,
            "is_asked": asked == len(named),
            "stored_count": len(stored),
            "doubtful": doubtful,
            "stored": [each.digest if isinstance(each, Link) else each for each in stored[:_SHOWN]],
        }
