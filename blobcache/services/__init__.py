"""The way in: `get_provider` gives a registry's descriptor service."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings

if TYPE_CHECKING:
    from blobcache.services.base import BlobDescriptorCacheProvider

__all__ = ["get_provider"]

_providers: dict[str, BlobDescriptorCacheProvider] = {}
_building = RLock()  # a provider may be made of another registry's


def get_provider(registry: str = DEFAULT_REGISTRY) -> BlobDescriptorCacheProvider:
    """Return the provider that the setting ``BLOBCACHE`` describes, one a process and registry.

    Raises `ImproperlyConfigured` if there is no such registry, `ImportError` if its provider is
    nowhere to be found. Connects to nothing.
    """
    provider = _providers.get(registry)
    if provider is None:
        with _building:
            provider = _providers.get(registry)
            if provider is None:
                settings = RegistrySettings(registry)
                provider = import_string(settings.PROVIDER).from_settings(settings)
                _providers[registry] = provider
    return provider


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("BLOBCACHE", "CACHES"):
        _providers.clear()


setting_changed.connect(_forget)
