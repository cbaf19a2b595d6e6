"""The two models in the admin: which page each address has, and what Django asks about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.admin import ModelAdmin
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_backends
from django.contrib.auth.backends import ModelBackend
from django.http import Http404, HttpResponseRedirect
from django.urls import path

from blobcache.access import Access, Action
from blobcache.admin.blob import BlobPage, ClearBlobPage, PurgeBlobPage, SetBlobPage
from blobcache.admin.blobs import BlobsPage
from blobcache.admin.clear_members import ClearMembersPage
from blobcache.admin.clear_repositories import ClearRepositoriesPage
from blobcache.admin.consistency import ConsistencyPage
from blobcache.admin.pages import Page
from blobcache.admin.repair import RepairPage
from blobcache.admin.repositories import RefreshPage, RepositoriesPage
from blobcache.admin.repository import RepositoryPage, SetMemberPage
from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid, RepositoryNameInvalid
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern

    _ModelAdmin = ModelAdmin[Model]
else:
    _ModelAdmin = ModelAdmin

__all__ = ["BlobAdmin", "RepositoryAdmin"]


class _CacheAdmin(_ModelAdmin):
    """A model without a table: nothing here may query one."""

    actions = None
    list_per_page = 100
    """How many rows a listing aims at, 1000 at the most."""

    def get_urls(self) -> list[URLPattern]:
        """Put our pages before Django's own, which keep their names."""
        return [*self.get_page_urls(), *super().get_urls()]

    def get_page_urls(self) -> list[URLPattern]:
        """The addresses of the pages that Django has no name for."""
        raise NotImplementedError

    def _path(self, route: str, name: str, view: Callable[..., HttpResponse]) -> URLPattern:
        return path(
            route,
            self.admin_site.admin_view(view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_{name}",
        )

    # What Django asks

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing is added here: a descriptor is set where it belongs."""
        return False

    def has_view_or_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Changing does not include viewing."""
        return self.has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the model stands in the index."""
        return self.has_view_permission(request)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Model | None:
        """What a name or a digest stands for, whether the cache knows it or not; asks nobody."""
        try:
            return self.model(pk=self.parse(object_id))
        except (DigestInvalid, RepositoryNameInvalid):
            return None

    def parse(self, object_id: str) -> str:
        """Read an unquoted object id. Raises `DigestInvalid` or `RepositoryNameInvalid`."""
        raise NotImplementedError

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Django's own page, for what is a name or a digest."""
        self._parsed(object_id)
        return super().history_view(request, object_id, extra_context)

    def _parsed(self, object_id: str) -> str:
        try:
            return self.parse(unquote(object_id))
        except (DigestInvalid, RepositoryNameInvalid) as error:
            raise Http404(error.message) from error


class RepositoryAdmin(_CacheAdmin):
    """Repositories, and what is in them."""

    def get_page_urls(self) -> list[URLPattern]:
        """What concerns several repositories; clearing blobs in one, setting one there."""
        return [
            self._path("refresh/", "refresh", self.refresh_view),
            self._path("empty/", "empty", self.empty_view),
            self._path("consistency/", "consistency", self.consistency_view),
            self._path("repair/", "repair", self.repair_view),
            self._path("<path:object_id>/clear/", "clear", self.clear_view),
            self._path("<path:object_id>/set/", "set", self.set_view),
        ]

    def parse(self, object_id: str) -> RepositoryName:
        """Read a repository's name."""
        return RepositoryName(object_id)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may view that repository, or any."""
        if obj is None:
            return Access(request.user).may_in_every_repository("view") or _may_be_granted_by_name()
        return self._may("view", request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may set descriptors there, or everywhere."""
        return self._may("change", request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether the user may clear blobs there, or everywhere."""
        return self._may("delete", request, obj)

    def _may(self, action: Action, request: HttpRequest, obj: Model | None) -> bool:
        access = Access(request.user)
        return (
            access.may_in_every_repository(action)
            if obj is None
            else access.may_in_repository(action, str(obj.pk))
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """All repositories."""
        return _responding(RepositoriesPage(self, request), extra_context)

    def refresh_view(self, request: HttpRequest) -> HttpResponse:
        """Building the catalog's index anew."""
        return RefreshPage(self, request).respond()

    def empty_view(self, request: HttpRequest) -> HttpResponse:
        """Clearing all blobs of some repositories."""
        return ClearRepositoriesPage(self, request).respond()

    def consistency_view(self, request: HttpRequest) -> HttpResponse:
        """What is wrong with all of it, or with some repositories."""
        return ConsistencyPage(self, request).respond()

    def repair_view(self, request: HttpRequest) -> HttpResponse:
        """Repairing what is wrong."""
        return RepairPage(self, request).respond()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        """One repository."""
        return _responding(self._page(RepositoryPage, request, object_id), extra_context)

    def clear_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Clearing blobs in a repository."""
        return self._page(ClearMembersPage, request, object_id).respond()

    def set_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Setting a descriptor in a repository."""
        return self._page(SetMemberPage, request, object_id).respond()

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """A repository is not deleted, but emptied: on its page."""
        page = self._page(RepositoryPage, request, object_id)
        page.require()
        return HttpResponseRedirect(page.return_url)

    def _page(
        self,
        page: Callable[[_CacheAdmin, HttpRequest, RepositoryName], Page],
        request: HttpRequest,
        object_id: str,
    ) -> Page:
        return page(self, request, RepositoryName(self._parsed(object_id)))


class BlobAdmin(_CacheAdmin):
    """Blobs of the global scope, and who holds them."""

    def get_page_urls(self) -> list[URLPattern]:
        """Setting a descriptor, purging a blob."""
        return [
            self._path("<path:object_id>/set/", "set", self.set_view),
            self._path("<path:object_id>/purge/", "purge", self.purge_view),
        ]

    def parse(self, object_id: str) -> Digest:
        """Read a digest."""
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
        """Looking a digest up, and browsing."""
        return _responding(BlobsPage(self, request), extra_context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        """One blob."""
        return _responding(self._page(BlobPage, request, object_id), extra_context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Clearing the global descriptor."""
        return _responding(self._page(ClearBlobPage, request, object_id), extra_context)

    def set_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Setting the global descriptor."""
        return self._page(SetBlobPage, request, object_id).respond()

    def purge_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Clearing the blob everywhere."""
        return self._page(PurgeBlobPage, request, object_id).respond()

    def _page(
        self,
        page: Callable[[_CacheAdmin, HttpRequest, Digest], Page],
        request: HttpRequest,
        object_id: str,
    ) -> Page:
        return page(self, request, Digest(self._parsed(object_id), allow_tarsum=True))


def _responding(page: Page, extra_context: dict[str, object] | None) -> HttpResponse:
    page.extra_context = extra_context
    return page.respond()


def _may_be_granted_by_name() -> bool:
    """Whether a backend of the portal may allow one repository to somebody: then all may ask."""
    return any(
        getattr(type(backend), "has_perm", None) is not ModelBackend.has_perm
        for backend in get_backends()
        if hasattr(backend, "has_perm")
    )
