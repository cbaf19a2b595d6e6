"""The addresses of one registry, with a slash at the end or without.

To mount a registry by itself, name it where this module is included, with a namespace of its own::

    path(
        "prod/",
        include(("blobcache.api.registry_urls", "blobcache-api"), namespace="prod-api"),
        {"registry": "prod"},
    )

A repository's name has slashes, and may itself end in a word that means something here. So the last
segment decides: ``summary``, ``blobs`` or ``blobs/stat`` is an address of the name before it; else
what follows the last ``/blobs/`` is a digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.urls import URLPattern

from blobcache.api.changes import ChangeViewSet
from blobcache.api.doctor import DoctorViewSet
from blobcache.api.jobs import JobViewSet
from blobcache.api.routers import MAX_PATH, BelowPattern, LinearPattern, RegistryRouter
from blobcache.api.views import StatusView, UnknownView, too_long
from blobcache.api.viewsets import BlobViewSet, RepositoryBlobViewSet, RepositoryViewSet
from blobcache.probes import live, ready

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["HEADS", "app_name", "probes", "router", "routes", "unknown", "urlpatterns"]

app_name = "blobcache-api"

HEADS = ("blobs", "changes", "doctor", "jobs", "live", "ready", "repositories", "status")
"""The first words of the addresses; the host project may add others beside them."""

router = RegistryRouter()
router.register("blobs", BlobViewSet, "blob")
router.register("repositories", RepositoryViewSet, "repository")
router.register("repositories/<name>/blobs", RepositoryBlobViewSet, "repository-blob")
router.register("changes", ChangeViewSet, "change")
router.register("doctor", DoctorViewSet, "doctor")
router.register("jobs", JobViewSet, "job")

_unknown = UnknownView.as_view()


def unknown(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    """Answer 404. Being a function, it is in neither the schema nor the browsable API's trail."""
    return _unknown(request, **kwargs)


unknown.csrf_exempt = True  # type: ignore[attr-defined]
unknown.login_required = False  # type: ignore[attr-defined]

routes: list[URLPattern] = [
    *cast("list[URLPattern]", router.urls),
    URLPattern(
        LinearPattern("doctor", "doctor"),
        DoctorViewSet.as_view({"get": "overview"}),
        name="doctor",
    ),
    URLPattern(LinearPattern("status", "status"), StatusView.as_view(), name="status"),
]
"""What needs credentials, and so can also be below an address that names the registry."""

# Without names: `blobcache.probes` has them, for those who mount that.
probes = [URLPattern(LinearPattern("live"), live), URLPattern(LinearPattern("ready"), ready)]

urlpatterns: list[URLPattern] = [
    URLPattern(BelowPattern(*HEADS, longer_than=MAX_PATH), too_long),
    *routes,
    *probes,
    URLPattern(BelowPattern(*HEADS), unknown),
]
