"""The URLconf of a host project: two sites, one of them its own, under a longer prefix."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from blobcache.admin import BlobAdmin, RepositoryAdmin
from blobcache.models import Blob, Repository

__all__ = ["only_repositories", "site", "urlpatterns"]

site = admin.AdminSite("operations")
site.site_header = "Operations"
site.register(Repository, RepositoryAdmin)
site.register(Blob, BlobAdmin)

only_repositories = admin.AdminSite("half")
only_repositories.register(Repository, RepositoryAdmin)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("a/long/way/ops/", site.urls),
    path("half/", only_repositories.urls),
]
