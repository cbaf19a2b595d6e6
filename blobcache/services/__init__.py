"""The way in: `get_provider` gives a registry's descriptor service."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings

if TYPE_CHECKING:
    from blobcache.services.base import BlobDescriptorCacheProvider

__all__ = ["get_provider"]

_providers: dict[str, BlobDescriptorCacheProvider] = {}
_building = Lock()


def get_provider(registry: str = DEFAULT_REGISTRY) -> BlobDescriptorCacheProvider:
    """Return the provider that the setting ``BLOBCACHE`` describes, one a process and registry.

    Raises `ImproperlyConfigured` if there is no such registry, `ImportError` if its provider is
    nowhere to be found. Connects to nothing.
    """
    try:
        return _providers[registry]
    except KeyError:
        with _building:
            if registry not in _providers:
                settings = RegistrySettings(registry)
                _providers[registry] = import_string(settings.PROVIDER).from_settings(settings)
            return _providers[registry]


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("BLOBCACHE", "CACHES"):
        _providers.clear()


setting_changed.connect(_forget)
