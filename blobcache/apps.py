"""The configuration of the app for Django."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _

from blobcache.checks import check_deployment, check_portal, check_settings

__all__ = ["BlobCacheConfig"]


class BlobCacheConfig(AppConfig):
    """The app ``blobcache``."""

    name = "blobcache"
    verbose_name = _("Blob cache")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        checks.register(check_settings)
        checks.register(check_portal)
        checks.register(check_deployment, deploy=True)
