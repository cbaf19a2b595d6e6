"""The pages' addresses on the default site."""

from __future__ import annotations

from django.contrib.admin.utils import quote
from django.urls import reverse

__all__ = ["blob", "blobs", "changes", "repositories", "repository"]


def repositories(view: str = "changelist") -> str:
    return reverse(f"admin:blobcache_repository_{view}")


def repository(name: str, view: str = "change") -> str:
    return reverse(f"admin:blobcache_repository_{view}", args=[quote(name)])


def changes() -> str:
    return reverse("admin:blobcache_journalentry_changelist")


def blobs() -> str:
    return reverse("admin:blobcache_blob_changelist")


def blob(digest: str, view: str = "change") -> str:
    return reverse(f"admin:blobcache_blob_{view}", args=[quote(digest)])
