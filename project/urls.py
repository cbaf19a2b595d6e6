"""The portal's addresses."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from project.metrics import metrics

urlpatterns = [
    # What is asked for most is looked for first.
    path("api/", include("blobcache.api.urls")),
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("admin/", admin.site.urls),
    path("metrics", metrics, name="metrics"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    # Split: its script is a file of its own, as the Content-Security-Policy demands.
    path(
        "api/docs/",
        # No OPTIONS: REST framework cannot describe this page, and fails.
        SpectacularSwaggerSplitView.as_view(url_name="schema", http_method_names=["get", "head"]),
        name="docs",
    ),
    path("api/auth/", include("rest_framework.urls")),
    path("api/", RedirectView.as_view(pattern_name="docs"), name="api"),
    path("api/", include("blobcache.api.unknown")),
]
