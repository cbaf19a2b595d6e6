"""The probes below the API, and mounted alone."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("api/", include("blobcache.api.urls")),
    path("health/", include("blobcache.probes")),
    path("health/eu/", include("blobcache.probes", namespace="eu"), {"registry": "staging"}),
    path("health/gone/", include("blobcache.probes", namespace="gone"), {"registry": "gone"}),
]
