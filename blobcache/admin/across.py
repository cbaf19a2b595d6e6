"""The pages about several registries: a blob in all of them, and a repository in two of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from django.http import Http404
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from blobcache.access import Access
from blobcache.admin.base_pages import BlobPageBase, RepositoryPageBase
from blobcache.admin.labels import label
from blobcache.admin.registries import address, choices
from blobcache.exceptions import CatalogUnsupported, DescriptorCorrupt
from blobcache.models import Blob, Repository
from blobcache.registries.asking import answer_of, problem_of
from blobcache.registries.compare import Comparison, Difference, DifferencePage
from blobcache.registries.everywhere import Sighting, State, look_everywhere

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from django.http import HttpResponse
    from django.utils.functional import _StrPromise

    from blobcache.descriptor import Descriptor
    from blobcache.exceptions import CacheUnavailable
    from blobcache.registries.compare import DifferentBlob

__all__ = ["BlobRegistriesPage", "ComparePage", "comparable"]

_WITH = "with"
"""The parameter with the registry to compare with."""

DIFFERENCES: dict[Difference, _StrPromise] = {
    Difference.MISSING: gettext_lazy("missing there"),
    Difference.ADDITIONAL: gettext_lazy("only there"),
    Difference.DIFFERENT: gettext_lazy("different"),
    Difference.UNCOMPARED: gettext_lazy("not compared"),
}
"""How the page names each difference."""

STATES: dict[State, _StrPromise] = {
    State.FOUND: gettext_lazy("in the cache"),
    State.UNKNOWN: gettext_lazy("not in the cache"),
    State.CORRUPT: gettext_lazy("damaged"),
    State.UNREACHABLE: gettext_lazy("unreachable"),
}
"""How the page names what a registry says of a blob."""


def comparable(access: Access, repository: str) -> Sequence[str]:
    """Return the other registries in which the user may view that repository."""
    return [
        name
        for name in choices(access.user, access.registry)
        if name != access.registry
        and answer_of(
            name, lambda each: Access(access.user, each).may_in_repository("view", repository)
        )
        is True
    ]


def _require_several(registries: Collection[str]) -> None:
    """Raise `Http404` if there are none: with one registry there is no such page."""
    if not registries:
        raise Http404(_("There is no other registry."))


class _Place(NamedTuple):
    """What one registry says of a blob, as the page shows it."""

    sighting: Sighting
    state: str
    url: str
    holders: Sequence[tuple[str, str]]
    """The names of repositories, with the addresses of their pages."""

    has_more: bool
    problem: str
    """Why the registry gives no answer; empty if it has answered."""

    @property
    def size(self) -> int | None:
        """The size of the blob in bytes; None if it is not known."""
        return self.sighting.descriptor.size if self.sighting.descriptor else None


class BlobRegistriesPage(BlobPageBase):
    """A blob in all registries in which the user may view blobs."""

    template = "blob_registries.html"

    def is_allowed(self) -> bool:
        """Users who may view blobs."""
        return self.access.may_globally("view")

    def require(self) -> None:
        """Raise `Http404` if there is nothing to choose, too."""
        super().require()
        _require_several(self._registries)

    def crumbs(self) -> list[tuple[str, str]]:
        """The blob and this page."""
        return [*super().crumbs(), (_("In all registries"), "")]

    def get(self) -> HttpResponse:
        """Show what each of them says."""
        accesses = self._registries
        visible = {name: answer_of(name, lambda each: accesses[each].visible) for name in accesses}
        found = look_everywhere(self.subject, visible, self.limit)
        places = [self._place(sighting) for sighting in found]
        return self.render(
            title=_("A blob in all registries"),
            digest=self.subject,
            places=places,
            sizes_differ=len({place.size for place in places} - {None}) > 1,
        )

    @cached_property
    def _registries(self) -> dict[str, Access]:
        user = self.request.user
        found = {name: Access(user, name) for name in choices(user, self.registry)}
        return {name: access for name, access in found.items() if access.may_globally("view")}

    def _place(self, sighting: Sighting) -> _Place:
        site, registry, holders = self.admin.admin_site, sighting.registry, sighting.holders
        error = sighting.error
        return _Place(
            sighting,
            str(STATES[sighting.state]),
            address(site, registry, Blob, "change", key=self.subject),
            [
                (each.name, address(site, registry, Repository, "change", key=each.name))
                for each in (holders.holders if holders else ())
            ],
            holders is not None and holders.next is not None,
            problem_for(self._registries[registry], error) if error else "",
        )


class ComparePage(RepositoryPageBase):
    """What a repository has in this registry and not in another one, or differently."""

    template = "compare.html"
    parameters = (_WITH,)
    _problem = ""

    def is_allowed(self) -> bool:
        """Users who may view the repository."""
        return self.access.may_in_repository("view", self.name)

    def require(self) -> None:
        """Raise `Http404` if there is nothing to compare with, too."""
        super().require()
        _require_several(self.others)

    @cached_property
    def others(self) -> Sequence[str]:
        """The other registries in which the user may view the repository."""
        return comparable(self.access, self.name)

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository and this page."""
        return [*super().crumbs(), (_("Compare"), "")]

    def get(self) -> HttpResponse:
        """Show a page of differences."""
        self.require_choice(_WITH, self.others)
        asked = self.request.GET.get(_WITH, "")
        other = asked if asked in self.others else self.others[0]
        scope = ("compare", self.name, other)
        page = self._compare(other, self.cursor(*scope))
        return self.render(
            title=_("Compare a repository in two registries"),
            name=self.name,
            other=other,
            others=self.others,
            other_url=address(self.admin.admin_site, other, Repository, "change", key=self.name),
            rows=[self._row(each, other) for each in (page.blobs if page else ())],
            is_compared=page is not None,
            problem=self._problem,
            next=self.next_link(page.next, *scope) if page else None,
        )

    def _compare(self, other: str, cursor: str) -> DifferencePage | None:
        """Return as many differences as there is time for, and a page has room for."""
        here = self.provider
        try:
            comparison = Comparison(here, other, self.name)
        except CatalogUnsupported:
            self.complain(_("The registry %(name)s keeps no index.") % {"name": other})
            return None
        budgets = self.provider.catalog.budgets
        deadline = budgets.deadline(budgets.page)
        with self.catch_redis_errors():
            try:
                page = comparison.page(cursor, self.limit)
                while len(page.blobs) < self.limit and page.next and not deadline.is_over:
                    more = comparison.page(page.next, self.limit)
                    page = DifferencePage(
                        page.blobs + more.blobs, more.next, page.is_reachable and more.is_reachable
                    )
            except DescriptorCorrupt as error:
                self.complain(error.message)
                return None
            if comparison.error is not None:
                self._problem = problem_for(Access(self.request.user, other), comparison.error)
            return page
        return None

    def _row(self, blob: DifferentBlob, other: str) -> dict[str, object]:
        site = self.admin.admin_site
        is_there = blob.difference is Difference.ADDITIONAL
        registry = other if is_there else self.registry
        return {
            "digest": blob.digest,
            "is_digest": True,
            "url": address(site, registry, Blob, "change", key=blob.digest),
            "difference": DIFFERENCES[blob.difference],
            "here": _shown(blob.here),
            "there": _shown(blob.there),
        }


def problem_for(access: Access, error: CacheUnavailable) -> str:
    """Return the sentence that the user may read about a registry that gives no answer."""
    return problem_of(access.registry, error, names_settings=access.may_view_status())


def _shown(found: Descriptor | None) -> dict[str, object] | None:
    """A descriptor as a cell of the table shows it."""
    if found is None:
        return None
    name, _category = label(found.media_type)
    return {"size": found.size, "media_type": found.media_type, "label": name}
