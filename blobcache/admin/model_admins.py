"""The two model admins: which page each address has, and the permissions that Django asks for."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from django.contrib.admin import ModelAdmin
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_backends
from django.contrib.auth.backends import ModelBackend
from django.db import transaction
from django.http import Http404, HttpResponseRedirect
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _

from blobcache.access import Access, Action, may_view_registry
from blobcache.admin.across import BlobRegistriesPage, ComparePage
from blobcache.admin.blob import BlobPage, ClearBlobPage, PurgeBlobPage, SetBlobPage
from blobcache.admin.blobs import BlobsPage
from blobcache.admin.changes import DJANGO, HistoryPage, respond
from blobcache.admin.check_members import CheckMembersPage
from blobcache.admin.clear_members import ClearMembersPage
from blobcache.admin.clear_repositories import ClearRepositoriesPage
from blobcache.admin.consistency import ConsistencyPage
from blobcache.admin.index_age import RefreshPage
from blobcache.admin.jobs import JobPage, JobsPage
from blobcache.admin.member_copy import SortPage
from blobcache.admin.overview import CardPage, LookUpPage
from blobcache.admin.pages import Page
from blobcache.admin.purge_many import PurgeManyPage
from blobcache.admin.raw_keys import RawKeysPage
from blobcache.admin.registries import REGISTRY, require_registry
from blobcache.admin.repair import RepairPage
from blobcache.admin.repositories import RepositoriesPage
from blobcache.admin.repository import RepositoryPage, SetMemberPage
from blobcache.conf import DEFAULT_REGISTRY, PortalSettings
from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid, RegistryMisconfigured, RepositoryNameInvalid
from blobcache.object_ids import parse_object_id
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self
    from uuid import UUID

    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase
    from django.urls import URLPattern

    _ModelAdmin = ModelAdmin[Model]
else:
    _ModelAdmin = ModelAdmin

__all__ = ["BlobAdmin", "RepositoryAdmin", "may_be_granted_by_name"]

K = TypeVar("K", RepositoryName, Digest)


class _CacheAdmin(_ModelAdmin, Generic[K]):
    """The admin of a model without a table. Nothing here may run a query."""

    actions = None
    list_per_page = 100
    """How many rows a page of a list should have; at most 1000."""

    def get_urls(self) -> list[URLPattern]:
        """Add our pages before Django's own, which keep their names."""
        return [*self.get_page_urls(), *super().get_urls()]

    def get_page_urls(self) -> list[URLPattern]:
        """The addresses of our own pages."""
        raise NotImplementedError

    def _path(self, route: str, name: str, view: Callable[..., HttpResponse]) -> URLPattern:
        return path(
            route,
            self.admin_site.admin_view(view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_{name}",
        )

    # Called by Django

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing is added: descriptors are set on the page of a blob or a repository."""
        return False

    def has_view_or_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """The permission to change does not include the permission to view."""
        return self.has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the admin's index lists the model."""
        return self.has_view_permission(request)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Model | None:
        """The object of a name or a digest, whether it is in the cache or not."""
        registry, key = parse_object_id(object_id)
        if not may_view_registry(request.user, registry, key):
            return None
        try:
            return self.model(pk=self.parse(key), registry=registry)
        except (DigestInvalid, RepositoryNameInvalid):
            return None

    def parse(self, object_id: str) -> K:
        """Parse a name or a digest. Raises `DigestInvalid` or `RepositoryNameInvalid`."""
        raise NotImplementedError

    def history_view(  # type: ignore[override] # or a streamed response
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponseBase:
        """The changes in the journal, for a valid name or digest; else Django's own page."""
        page = HistoryPage(self, request, *self._parse_or_404(request, object_id))
        if not PortalSettings().JOURNAL or DJANGO in request.GET:
            context = {**page.django_context(), **(extra_context or {})}
            return super().history_view(request, object_id, context)
        page.extra_context = extra_context
        return respond(page)

    def _page(
        self,
        page: Callable[[Self, HttpRequest, str, K], Page],
        request: HttpRequest,
        object_id: str,
    ) -> Page:
        """Make the page of the object in the address."""
        return page(self, request, *self._parse_or_404(request, object_id))

    def _parse_or_404(self, request: HttpRequest, object_id: str) -> tuple[str, K]:
        """Return the registry and the name or digest; the registry is decided first."""
        registry, key = parse_object_id(unquote(object_id))
        if registry != DEFAULT_REGISTRY:  # an id in `default` does not name its registry
            require_registry(request.user, registry, [key])
        if request.GET.get(REGISTRY, registry) != registry:
            raise Http404(_("The address names two registries."))
        try:
            return registry, self.parse(key)
        except (DigestInvalid, RepositoryNameInvalid) as error:
            raise Http404(error.message) from error


class RepositoryAdmin(_CacheAdmin[RepositoryName]):
    """Repositories and their blobs."""

    def get_page_urls(self) -> list[URLPattern]:
        """The pages about several repositories; clearing and setting in one."""
        return [
            self._path("look-up/", "look_up", self.look_up_view),
            self._path("card/", "card", self.card_view),
            self._path("refresh/", "refresh", self.refresh_view),
            self._path("empty/", "empty", self.empty_view),
            self._path("consistency/", "consistency", self.consistency_view),
            self._path("repair/", "repair", self.repair_view),
            self._path("jobs/", "jobs", self.jobs_view),
            self._path("jobs/<uuid:key>/", "job", self.job_view),
            self._path("<path:object_id>/check/", "check", self.check_view),
            self._path("<path:object_id>/clear/", "clear", self.clear_view),
            self._path("<path:object_id>/compare/", "compare", self.compare_view),
            self._path("<path:object_id>/set/", "set", self.set_view),
            self._path("<path:object_id>/sort/", "sort", self.sort_view),
        ]

    def parse(self, object_id: str) -> RepositoryName:
        """Parse a repository's name."""
        return RepositoryName(object_id)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may view that repository, or any."""
        if obj is None:
            return Access(request.user).may_in_every_repository("view") or may_be_granted_by_name()
        return self._may("view", request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may set descriptors there, or everywhere."""
        return self._may("change", request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may clear blobs there, or everywhere."""
        return self._may("delete", request, obj)

    def _may(self, action: Action, request: HttpRequest, obj: Model | None) -> bool:
        if obj is None:  # the permissions for all repositories are those for all registries
            return Access(request.user).may_in_every_repository(action)
        registry = getattr(obj, "registry", DEFAULT_REGISTRY)
        return Access(request.user, registry).may_in_repository(action, str(obj.pk))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """The list of repositories."""
        return _respond(RepositoriesPage(self, request), extra_context)

    def look_up_view(self, request: HttpRequest) -> HttpResponse:
        """Redirect to what was looked up."""
        return LookUpPage(self, request).respond()

    def card_view(self, request: HttpRequest) -> HttpResponse:
        """The card on the admin's first page."""
        return CardPage(self, request).respond()

    def refresh_view(self, request: HttpRequest) -> HttpResponse:
        """Rebuild the index."""
        return RefreshPage(self, request).respond()

    def empty_view(self, request: HttpRequest) -> HttpResponse:
        """Clear all blobs of some repositories."""
        return ClearRepositoriesPage(self, request).respond()

    def consistency_view(self, request: HttpRequest) -> HttpResponse:
        """Check the whole cache, or some repositories."""
        return ConsistencyPage(self, request).respond()

    def repair_view(self, request: HttpRequest) -> HttpResponse:
        """Repair findings."""
        return RepairPage(self, request).respond()

    def jobs_view(self, request: HttpRequest) -> HttpResponse:
        """The list of jobs."""
        return JobsPage(self, request).respond()

    # Other drivers must see a claim at once, and not only when the response is sent.
    @method_decorator(transaction.non_atomic_requests)
    def job_view(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """One job, and its steps."""
        return JobPage(self, request, key).respond()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        """One repository."""
        return _respond(self._page(RepositoryPage, request, object_id), extra_context)

    def check_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Check the selected blobs of a repository."""
        return self._page(CheckMembersPage, request, object_id).respond()

    def clear_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Clear blobs in a repository."""
        return self._page(ClearMembersPage, request, object_id).respond()

    def compare_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Compare the repository with that of another registry."""
        return self._page(ComparePage, request, object_id).respond()

    def set_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Set a descriptor in a repository."""
        return self._page(SetMemberPage, request, object_id).respond()

    def sort_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Sort the blobs of a large repository."""
        return self._page(SortPage, request, object_id).respond()

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Redirect to the repository's page: its blobs can be cleared, but it cannot be deleted."""
        page = self._page(RepositoryPage, request, object_id)
        with suppress(RegistryMisconfigured):  # the page says so
            page.require()
        return HttpResponseRedirect(page.return_url)


class BlobAdmin(_CacheAdmin[Digest]):
    """Blobs of the global scope, and their holders."""

    def get_page_urls(self) -> list[URLPattern]:
        """Setting a descriptor, purging a blob, and looking at its keys."""
        return [
            self._path("purge/", "purge_many", self.purge_many_view),
            self._path("<path:object_id>/set/", "set", self.set_view),
            self._path("<path:object_id>/purge/", "purge", self.purge_view),
            self._path("<path:object_id>/raw/", "raw", self.raw_view),
            self._path("<path:object_id>/registries/", "registries", self.registries_view),
        ]

    def parse(self, object_id: str) -> Digest:
        """Parse a digest."""
        return Digest(object_id, allow_tarsum=True)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may view blobs."""
        return Access(request.user).may_globally("view")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may set global descriptors."""
        return Access(request.user).may_globally("change")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may clear global descriptors."""
        return Access(request.user).may_globally("delete")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Look up a digest, and browse."""
        return _respond(BlobsPage(self, request), extra_context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        """One blob."""
        return _respond(self._page(BlobPage, request, object_id), extra_context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Clear the global descriptor."""
        return _respond(self._page(ClearBlobPage, request, object_id), extra_context)

    def set_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Set the global descriptor."""
        return self._page(SetBlobPage, request, object_id).respond()

    def raw_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the blob's keys as they are in Redis."""
        return self._page(RawKeysPage, request, object_id).respond()

    def registries_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the blob in all registries."""
        return self._page(BlobRegistriesPage, request, object_id).respond()

    def purge_many_view(self, request: HttpRequest) -> HttpResponse:
        """Purge many blobs."""
        return PurgeManyPage(self, request).respond()

    def purge_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Purge the blob."""
        return self._page(PurgeBlobPage, request, object_id).respond()


def _respond(page: Page, extra_context: dict[str, object] | None) -> HttpResponse:
    page.extra_context = extra_context
    return page.respond()


def may_be_granted_by_name() -> bool:
    """Whether an authentication backend can grant single repositories."""
    return any(
        getattr(type(backend), "has_perm", None) is not ModelBackend.has_perm
        for backend in get_backends()
        if hasattr(backend, "has_perm")
    )
