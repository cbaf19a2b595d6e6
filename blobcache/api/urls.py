"""The API's addresses, with a slash at the end or without.

A repository's name has slashes, and may itself end in a word that means something here. So the last
segment decides: ``summary``, ``blobs`` or ``blobs/stat`` is an address of the name before it; else
what follows the last ``/blobs/`` is a digest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.urls import URLPattern, re_path

from blobcache.api import views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from blobcache.api.base import BlobCacheView

__all__ = ["app_name", "urlpatterns"]

app_name = "blobcache-api"

_DIGEST, _NAME = r"(?P<digest>[^/]+)", r"(?P<name>(?s:.+))"

_ROUTES: list[tuple[str, type[BlobCacheView], str]] = [
    (r"status", views.StatusView, "status"),
    (r"blobs", views.BlobListView, "blobs"),
    (r"blobs/stat", views.BatchView, "blobs-stat"),
    (rf"blobs/{_DIGEST}/repositories", views.HolderListView, "blob-repositories"),
    (rf"blobs/{_DIGEST}/purge", views.PurgeView, "blob-purge"),
    (rf"blobs/{_DIGEST}", views.BlobView, "blob"),
    (r"repositories", views.RepositoryListView, "repositories"),
    (rf"repositories/{_NAME}/summary", views.SummaryView, "repository-summary"),
    (rf"repositories/{_NAME}/blobs/stat", views.RepositoryBatchView, "repository-blobs-stat"),
    (rf"repositories/{_NAME}/blobs", views.RepositoryBlobListView, "repository-blobs"),
    (
        rf"repositories/{_NAME}/blobs/(?P<digest>(?s:.+))",
        views.RepositoryBlobView,
        "repository-blob",
    ),
]


def _patterns() -> Iterator[URLPattern]:
    # What is asked for most, ahead of all that it would be compared with: no name ends in a
    # segment with a colon, so what has one behind "/blobs/" is a digest, or meant to be.
    most_asked = rf"repositories/{_NAME}/blobs/(?P<digest>[^/]+:[^/]+)"
    yield re_path(rf"^{most_asked}/?\Z", views.RepositoryBlobView.as_view(schema=None))
    for route, view_class, name in _ROUTES:
        view = view_class.as_view()
        yield re_path(rf"^{route}/\Z", view, name=name)
        yield re_path(rf"^{route}\Z", _unlisted(view))
    yield re_path(r"^(?:blobs|repositories|status)/", _unlisted(views.UnknownView.as_view()))


def _unlisted(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """The view again, but one that neither the schema nor the browsable API's trail lists."""

    def unlisted(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        return view(request, **kwargs)

    unlisted.csrf_exempt = True  # type: ignore[attr-defined]
    unlisted.login_required = False  # type: ignore[attr-defined]
    return unlisted


urlpatterns = list(_patterns())

if apps.is_installed("drf_spectacular"):
    import_module("blobcache.api.schema")
