"""The whole URLconf that a host project needs."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("api/", include("blobcache.api.urls"))]
