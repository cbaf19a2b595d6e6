"""The addresses of such a project: the admin, and the API where REST framework is installed."""

from __future__ import annotations

from importlib.util import find_spec

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls)]
if find_spec("rest_framework"):
    urlpatterns.insert(0, path("api/", include("blobcache.api.urls")))
