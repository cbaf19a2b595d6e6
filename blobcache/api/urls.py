"""The API's addresses, with a slash at the end or without.

A repository's name has slashes, and may itself end in a word that means something here. So the last
segment decides: ``summary``, ``blobs`` or ``blobs/stat`` is an address of the name before it; else
what follows the last ``/blobs/`` is a digest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.urls import URLPattern

from blobcache.api import views
from blobcache.api.routers import MAX_PATH, BelowPattern, LinearPattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from blobcache.api.base import BlobCacheView

__all__ = ["app_name", "urlpatterns"]

app_name = "blobcache-api"

_HEADS = ("blobs", "repositories", "status")
"""The first words of the API's addresses; the host project may add others beside them."""

_ROUTES: list[tuple[str, type[BlobCacheView], str]] = [
    ("status", views.StatusView, "status"),
    ("blobs", views.BlobListView, "blobs"),
    ("blobs/stat", views.BatchView, "blobs-stat"),
    ("blobs/<digest>/repositories", views.HolderListView, "blob-repositories"),
    ("blobs/<digest>/purge", views.PurgeView, "blob-purge"),
    ("blobs/<digest>", views.BlobView, "blob"),
    ("repositories", views.RepositoryListView, "repositories"),
    ("repositories/<name>/summary", views.SummaryView, "repository-summary"),
    ("repositories/<name>/blobs/stat", views.RepositoryBatchView, "repository-blobs-stat"),
    ("repositories/<name>/blobs", views.RepositoryBlobListView, "repository-blobs"),
    ("repositories/<name>/blobs/<digest>", views.RepositoryBlobView, "repository-blob"),
]


def _patterns() -> Iterator[URLPattern]:
    yield URLPattern(BelowPattern(*_HEADS, longer_than=MAX_PATH), views.too_long)
    # What is asked for most, ahead of all that it would be compared with: no name ends in a
    # segment with a colon, so what has one behind "/blobs/" is a digest, or meant to be.
    blob_route, blob_view, _ = _ROUTES[-1]
    yield URLPattern(LinearPattern(blob_route, mark=":"), blob_view.as_view(schema=None))
    for route, view_class, name in _ROUTES:
        pattern = LinearPattern(route, name, segment=route.startswith("blobs/"))
        yield URLPattern(pattern, view_class.as_view(), name=name)
    yield URLPattern(BelowPattern(*_HEADS), _unlisted(views.UnknownView.as_view()))


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
