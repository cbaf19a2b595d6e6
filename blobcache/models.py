"""Models without tables, for permissions, the admin and Django's history.

The API and the admin check the permissions `view`, `change` and `delete` of these models. Which
repositories and blobs exist is in the catalog, not in the database. So the managers return empty
querysets, and generic code such as ``dumpdata`` never queries a table that does not exist.
"""

from __future__ import annotations

from typing import TypeVar

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["Blob", "Repository"]

_M = TypeVar("_M", bound=models.Model)


class _NoRows(models.Manager[_M]):
    def get_queryset(self) -> models.QuerySet[_M]:
        return super().get_queryset().none()


class Repository(models.Model):
    """A repository of the registry; `name` as in `blobcache.reference.RepositoryName`."""

    name = models.CharField(_("name"), primary_key=True, max_length=255)

    objects = _NoRows["Repository"]()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "change", "delete")
        verbose_name = _("repository")
        verbose_name_plural = _("repositories")

    def __str__(self) -> str:
        return self.name


class Blob(models.Model):
    """A blob of the registry; `digest` as in `blobcache.digest.Digest`."""

    digest = models.CharField(_("digest"), primary_key=True, max_length=255)

    objects = _NoRows["Blob"]()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "change", "delete")
        verbose_name = _("blob")
        verbose_name_plural = _("blobs")

    def __str__(self) -> str:
        return self.digest
