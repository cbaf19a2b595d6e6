"""The admin: browsing what the cache holds, and repairing it.

One module a page. Django's autodiscovery registers the models with the default site; a portal
with a site of its own registers them there: ``site.register(Repository, RepositoryAdmin)``.
"""

from __future__ import annotations

from django.contrib import admin

from blobcache.admin.changes import JournalEntryAdmin
from blobcache.admin.model_admins import BlobAdmin, RepositoryAdmin
from blobcache.models import Blob, JournalEntry, Repository

__all__ = ["BlobAdmin", "JournalEntryAdmin", "RepositoryAdmin"]

admin.site.register(Repository, RepositoryAdmin)
admin.site.register(Blob, BlobAdmin)
admin.site.register(JournalEntry, JournalEntryAdmin)
