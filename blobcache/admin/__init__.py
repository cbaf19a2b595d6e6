"""The admin: browsing what the cache holds, and repairing it.

One module a page. Django's autodiscovery registers both models with the default site; a portal
with a site of its own registers them there: ``site.register(Repository, RepositoryAdmin)``.
"""

from __future__ import annotations

from django.contrib import admin

from blobcache.admin.model_admins import BlobAdmin, RepositoryAdmin
from blobcache.models import Blob, Repository

__all__ = ["BlobAdmin", "RepositoryAdmin"]

admin.site.register(Repository, RepositoryAdmin)
admin.site.register(Blob, BlobAdmin)
