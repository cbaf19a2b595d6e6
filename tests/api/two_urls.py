"""A portal with the API of all registries, and with one registry mounted alone."""

from __future__ import annotations

from django.urls import include, path

__all__ = ["urlpatterns"]

_alone = ("blobcache.api.registry_urls", "blobcache-api")

urlpatterns = [
    path("api/", include("blobcache.api.urls")),
    path("prod/", include(_alone, namespace="prod-api"), {"registry": "staging"}),
    path("lost/", include(_alone, namespace="lost-api"), {"registry": "nowhere"}),
    path("health/", include("blobcache.probes")),
    path("health/prod/", include("blobcache.probes", namespace="prod"), {"registry": "staging"}),
]
