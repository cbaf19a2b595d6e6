"""A portal that takes notifications of two registries."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("events/", include("blobcache.notifications.urls")),
    path(
        "events/staging/",
        include("blobcache.notifications.urls", namespace="staging"),
        {"registry": "staging"},
    ),
]
