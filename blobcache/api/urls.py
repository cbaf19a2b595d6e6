"""The API's addresses, with a slash at the end or without.

A repository's name has slashes, and may itself end in a word that means something here. So the last
segment decides: ``summary``, ``blobs`` or ``blobs/stat`` is an address of the name before it; else
what follows the last ``/blobs/`` is a digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.urls import URLPattern

from blobcache.api.changes import ChangeViewSet
from blobcache.api.doctor import DoctorViewSet
from blobcache.api.routers import MAX_PATH, BelowPattern, LinearPattern, RegistryRouter
from blobcache.api.views import StatusView, UnknownView, too_long
from blobcache.api.viewsets import BlobViewSet, RepositoryBlobViewSet, RepositoryViewSet
from blobcache.probes import live, ready

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["app_name", "urlpatterns"]

app_name = "blobcache-api"

_HEADS = ("blobs", "changes", "doctor", "live", "ready", "repositories", "status")
"""The first words of the API's addresses; the host project may add others beside them."""

router = RegistryRouter()
router.register("blobs", BlobViewSet, "blob")
router.register("repositories", RepositoryViewSet, "repository")
router.register("repositories/<name>/blobs", RepositoryBlobViewSet, "repository-blob")
router.register("changes", ChangeViewSet, "change")
router.register("doctor", DoctorViewSet, "doctor")

_unknown = UnknownView.as_view()


def unknown(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    """Answer 404. Being a function, it is in neither the schema nor the browsable API's trail."""
    return _unknown(request, **kwargs)


unknown.csrf_exempt = True  # type: ignore[attr-defined]
unknown.login_required = False  # type: ignore[attr-defined]

urlpatterns: list[URLPattern] = [
    URLPattern(BelowPattern(*_HEADS, longer_than=MAX_PATH), too_long),
    *cast("list[URLPattern]", router.urls),
    URLPattern(
        LinearPattern("doctor", "doctor"),
        DoctorViewSet.as_view({"get": "overview"}),
        name="doctor",
    ),
    URLPattern(LinearPattern("status", "status"), StatusView.as_view(), name="status"),
    # Without names: `blobcache.probes` has them, for those who mount that.
    URLPattern(LinearPattern("live"), live),
    URLPattern(LinearPattern("ready"), ready),
    URLPattern(BelowPattern(*_HEADS), unknown),
]
