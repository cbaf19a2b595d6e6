"""The provider and the backend of a registry, as its settings describe them.

This is the one place that turns the dotted paths in the settings ``PROVIDER`` and ``TRUTH`` into a
provider and a backend, and that asks whether a provider has a catalog.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, cast

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings
from blobcache.exceptions import CatalogUnsupported

if TYPE_CHECKING:
    from blobcache.services.base import (
        Backend,
        BlobDescriptorCacheProvider,
        BrowsableProvider,
    )

__all__ = ["get_backend", "get_browsable", "get_provider"]

_providers: dict[str, BlobDescriptorCacheProvider] = {}
_backends: dict[str, Backend | None] = {}
_building = RLock()  # a provider may be made of another registry's


def get_provider(registry: str = DEFAULT_REGISTRY) -> BlobDescriptorCacheProvider:
    """Return the provider that the setting ``BLOBCACHE`` describes, one a process and registry.

    Raises `ImproperlyConfigured` if there is no such registry, `ImportError` if its provider is
    missing. Opens no connection.
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


def get_browsable(registry: str = DEFAULT_REGISTRY) -> BrowsableProvider:
    """Return the registry's provider if it has a catalog, for lists, figures and checks.

    Raises `CatalogUnsupported` if it has none, and what `get_provider` raises.
    """
    provider = get_provider(registry)
    if getattr(provider, "catalog", None) is None:
        raise CatalogUnsupported("This registry's provider keeps no index, so there are no lists.")
    return cast("BrowsableProvider", provider)


def get_backend(registry: str = DEFAULT_REGISTRY) -> Backend | None:
    """Return the backend that the setting ``TRUTH`` describes, one a process and registry.

    Returns None if the setting is None. Raises `ImproperlyConfigured` if there is no such registry,
    or if the options are wrong, and `ImportError` if the backend or what it needs is missing. Looks
    at nothing and opens no connection.
    """
    try:
        return _backends[registry]
    except KeyError:
        with _building:
            if registry not in _backends:
                settings = RegistrySettings(registry)
                truth = settings.TRUTH
                _backends[registry] = (
                    None
                    if truth is None
                    else import_string(truth["BACKEND"]).from_settings(settings)
                )
            return _backends[registry]


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("BLOBCACHE", "CACHES", "STORAGES"):
        _providers.clear()
        _backends.clear()


setting_changed.connect(_forget)
