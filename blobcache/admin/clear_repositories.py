"""Clear all blobs of some repositories: a confirmation page, then one step per request, or a job.

Each step is a POST with the remaining repositories, so it works for sets of any size and without
JavaScript, and can be interrupted safely. The first step asks again if the number of blobs has
grown too much since the page showed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.all_repositories import FoundRepositories, find_all
from blobcache.admin.base_pages import REPOSITORIES_KEPT
from blobcache.admin.confirmation import has_grown, shown_number
from blobcache.admin.jobs import StartsJobs
from blobcache.admin.pages import CURSOR
from blobcache.admin.shares import Freed, freed
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, DescriptorCorrupt
from blobcache.history import recorded
from blobcache.jobs import MAX_REPOSITORIES
from blobcache.models import Repository
from blobcache.parsing import parse_each, whole_number
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from django.http import HttpResponse


__all__ = ["ClearRepositoriesPage"]

_ROWS = 100
"""How many repositories the confirmation of a job shows; the job may clear more."""

_STEP = 100
"""How many members are read at a time; each is cleared and audited on its own."""


class ClearRepositoriesPage(StartsJobs):
    """Clear the selected repositories."""

    template = "clear_repositories.html"
    writes = True

    refusal_of_names = ""
    """Why the named repositories, or those that a search finds, cannot be cleared; empty if they
    can."""

    left_out = 0
    """How many repositories the search finds that the user may not clear or whose names are not
    valid."""

    def is_allowed(self) -> bool:
        """Users who may view the list; only repositories that they may clear are cleared."""
        return self.admin.has_view_permission(self.request)

    @property
    def return_url(self) -> str:
        """The list, with its filters as they were."""
        kept = self.request.POST.get("kept", "")
        return self.url_with_filters(kept, REPOSITORIES_KEPT, Repository)

    def crumbs(self) -> list[tuple[str, str]]:
        """This page."""
        return [(_("Clear repositories"), "")]

    def get(self) -> HttpResponse:
        """Redirect to the list, where repositories are selected."""
        return HttpResponseRedirect(self.return_url)

    def post(self) -> HttpResponse:
        """Ask for confirmation or, if it is confirmed, take a step."""
        names = self._all() if "all" in self.request.POST else self._selected()
        if not names:
            return self.redirect_with_message(
                self.refusal_of_names or _("Select at least one repository that you may clear."),
                messages.WARNING,
            )
        if "confirmed" in self.request.POST and self.request.POST.get("total"):
            return self._clear(names)  # not the first step
        counts = self._counts(names)
        is_job = "job" in self.request.POST or "text" in self.request.POST
        is_asked = "all" not in self.request.POST and (
            "job" in self.request.POST or "confirmed" in self.request.POST
        )
        if not is_asked or counts is None:
            return self._ask(names, counts)
        shown, now = shown_number(self.request.POST), sum(filter(None, counts))
        if shown is not None and not has_grown(shown, now):
            if not is_job:
                return self._clear(names)
            return self.start_job("clear-repositories", {"repositories": names}, len(names))
        if shown is not None:
            self.add_message(
                _(
                    "Nothing was cleared: the number of blobs has grown from %(shown)d to %(now)d "
                    "since you opened this page. Check it and confirm again."
                )
                % {"shown": shown, "now": now}
            )
        return self._ask(names, counts)

    def _selected(self) -> list[RepositoryName]:
        """The selected repositories, or those that the user has confirmed after a search."""
        form = self.request.POST
        texts = [*form.getlist("repository"), *form.get("text", "").split()]
        names = parse_each(texts, RepositoryName)
        if len(names) > MAX_REPOSITORIES:
            text = _("A job clears at most %(limit)d repositories. Select fewer.")
            self.refusal_of_names = text % {"limit": MAX_REPOSITORIES}
            return []
        return [name for name in names if self.access.may_clear(name)]

    def _all(self) -> list[RepositoryName]:
        """All that the search finds and the user may clear; none if that is refused."""
        found: FoundRepositories | None = None
        with self.catch_redis_errors():
            kept = self.request.POST.get("kept", "")
            found = find_all(self.provider, kept, self.access.visible)
        if found is None:
            self.refusal_of_names = _("Redis failed, so the repositories could not be listed.")
            return []
        self.refusal_of_names = found.refusal
        names = [name for name in found.names if self.access.may_clear(name)]
        self.left_out = len(found.names) - len(names) + found.invalid
        return names

    def _counts(self, names: list[RepositoryName]) -> list[int | None] | None:
        """How many blobs each has, None for a damaged one. Returns None if Redis fails."""
        with self.catch_redis_errors():
            found = self.provider.catalog.entries([name.encode() for name in names])
            counts = {entry.name: entry.blobs for entry in found}
            return [counts.get(name, 0) for name in names]
        return None

    def _ask(self, names: list[RepositoryName], counts: list[int | None] | None) -> HttpResponse:
        sizes: dict[RepositoryName, int] = {}
        with self.catch_redis_errors():
            for name, figures in zip(names, self.provider.figures.get_many(names), strict=True):
                if figures is not None:
                    sizes[name] = figures.sums.bytes
        sees_all = self.access.sees_all
        is_job = "all" in self.request.POST or "text" in self.request.POST
        shown = names[:_ROWS] if is_job else names
        exclusive: Freed | None = None
        if sees_all:
            with self.catch_redis_errors():
                exclusive = freed(self.provider, shown)
        rows = [
            {
                "freed": exclusive.bytes[place] if exclusive else None,
                "freed_blobs": exclusive.blobs[place] if exclusive else None,
                "name": name,
                "url": self.repository_url(name),
                "blobs": counts[place] if counts else None,
                "bytes": sizes.get(name),
            }
            for place, name in enumerate(shown)
        ]
        return self.render(
            title=_("Clear repositories"),
            rows=rows,
            count=len(names),
            more=len(names) - len(rows),
            left_out=self.left_out,
            text="\n".join(names) if is_job else "",
            bytes=sum(sizes.values()),
            unsized=len(names) - len(sizes),
            sees_all=sees_all,
            blobs=sum(filter(None, counts or ())),
            is_counted=counts is not None,
            kept=self.request.POST.get("kept", ""),
            return_url=self.return_url,
        )

    def _clear(self, names: list[RepositoryName]) -> HttpResponse:
        token = self.request.POST.get(CURSOR, "")
        cursor = self.unseal(token, "empty", names[0]) if token else ""
        total = whole_number(self.request.POST.get("total", ""), max_digits=9) or 0
        with self.catch_redis_errors(), recorded(self.request.user, source="admin"):
            budgets = self.provider.catalog.budgets
            deadline = budgets.deadline(budgets.clear)
            while names and not deadline.is_over:
                next_cursor, cleared = self._step(names[0], cursor)
                total += cleared
                cursor = next_cursor or ""
                if next_cursor is None:
                    names = names[1:]
        if not names:
            text = ngettext("Cleared %(count)d blob.", "Cleared %(count)d blobs.", total)
            return self.redirect_with_message(text % {"count": total})
        return self.render(
            title=_("Clear repositories"),
            is_under_way=True,
            total=total,
            names=names,
            cursor=self.seal(cursor, "empty", names[0]) if cursor else "",
            kept=self.request.POST.get("kept", ""),
            return_url=self.return_url,
        )

    def _step(self, name: RepositoryName, cursor: str) -> tuple[str | None, int]:
        """Clear some members; return the next cursor, and how many were cleared."""
        service, cleared = self.provider.repository_scoped(name), 0
        try:
            page = self.provider.catalog.members(name, cursor, _STEP)
        except DescriptorCorrupt:
            text = _("%(repository)s is damaged. Run a check to repair it.")
            self.add_message(text % {"repository": name})
            return None, 0
        for member in page.members:
            if not isinstance(member, Digest):
                continue  # only a repair clears members that are not digests
            try:
                service.clear(member)
                cleared += 1
            except BlobUnknown:
                pass
        return page.next, cleared
