"""The provider and the backend of a registry, as its settings describe them.

This is the one place that turns the dotted paths in the settings ``PROVIDER`` and ``TRUTH`` into a
provider and a backend, that asks whether a provider has a catalog, and that joins both for
read-through.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings
from blobcache.exceptions import BackendUnavailable, BlobCacheError, CatalogUnsupported
from blobcache.services.cached import CachedBlobStatter
from blobcache.services.lookups import Lookups
from blobcache.services.metrics import CacheMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobcache.services.base import (
        Backend,
        BlobDescriptorCacheProvider,
        BlobStatter,
        BrowsableProvider,
    )

__all__ = [
    "CANNOT_BE_MADE",
    "get_backend",
    "get_browsable",
    "get_lookups",
    "get_provider",
    "get_read_through",
    "get_statter",
    "get_usable_backend",
    "get_usable_lookups",
]

_log = logging.getLogger("blobcache.services")

_providers: dict[str, BlobDescriptorCacheProvider] = {}
_backends: dict[str, Backend | None] = {}
_lookups: dict[str, Lookups | None] = {}
_read_throughs: dict[str, Callable[[str | None], CachedBlobStatter] | None] = {}
_building = RLock()  # a provider may be made of another registry's


def get_provider(registry: str = DEFAULT_REGISTRY) -> BlobDescriptorCacheProvider:
    """Return the provider that the setting ``BLOBCACHE`` describes, one a process and registry.

    Raises `ImproperlyConfigured` if there is no such registry or if its provider cannot be made,
    and `ImportError` if the provider is missing. Opens no connection.
    """
    provider = _providers.get(registry)
    if provider is None:
        with _building:
            provider = _providers.get(registry)
            if provider is None:
                provider = _provider(RegistrySettings(registry))
                _providers[registry] = provider
    return provider


def _provider(settings: RegistrySettings) -> BlobDescriptorCacheProvider:
    try:
        made: BlobDescriptorCacheProvider = import_string(settings.PROVIDER).from_settings(settings)
    except (BlobCacheError, ImportError, ImproperlyConfigured):
        raise
    except Exception as error:  # a provider of a host's own may raise any
        raise ImproperlyConfigured(
            f"{settings}['PROVIDER'] is {settings.PROVIDER!r}, but that provider cannot be made."
        ) from error
    return made


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
                _backends[registry] = _backend(RegistrySettings(registry))
            return _backends[registry]


def _backend(settings: RegistrySettings) -> Backend | None:
    if settings.TRUTH is None:
        return None
    # Not in a variable: the options may have a password, and error reports show variables.
    made: Backend = import_string(settings.TRUTH["BACKEND"]).from_settings(settings)
    return made


CANNOT_BE_MADE = (ImproperlyConfigured, ImportError, TypeError, ValueError, OSError)
"""What `get_backend` and `get_lookups` raise if the backend cannot be made: wrong options, those of
its Storage included, or a missing package."""


def get_usable_backend(registry: str = DEFAULT_REGISTRY) -> Backend | None:
    """Return what `get_backend` does. Raises `BackendUnavailable` if the backend cannot be made."""
    with _as_unavailable():
        return get_backend(registry)


def get_usable_lookups(registry: str = DEFAULT_REGISTRY) -> Lookups | None:
    """Return what `get_lookups` does. Raises `BackendUnavailable` if the backend cannot be made."""
    with _as_unavailable():
        return get_lookups(registry)


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except CANNOT_BE_MADE as error:
        _log.warning("The backend cannot be used.", exc_info=True)
        raise BackendUnavailable(
            "The backend in the setting TRUTH cannot be used. The system checks and the log of the "
            "server say why."
        ) from error


def get_lookups(registry: str = DEFAULT_REGISTRY) -> Lookups | None:
    """Return what asks the registry's backend with care, one a process and registry.

    Returns None without a backend. Raises what `get_backend` raises. Asks nothing.
    """
    try:
        return _lookups[registry]
    except KeyError:
        with _building:
            if registry not in _lookups:
                backend = get_backend(registry)
                seconds = RegistrySettings(registry).BACKEND_TTL
                _lookups[registry] = (
                    Lookups(backend, registry=registry, seconds=seconds) if backend else None
                )
            return _lookups[registry]


def get_read_through(
    registry: str = DEFAULT_REGISTRY, repository: str | None = None
) -> CachedBlobStatter | None:
    """Return what asks the cache and then the backend, in one scope; None without READ_THROUGH.

    Raises what `get_provider` and `get_backend` raise, and `RepositoryNameInvalid`. Asks nothing.
    """
    try:
        made = _read_throughs[registry]
    except KeyError:
        with _building:
            if registry not in _read_throughs:
                _read_throughs[registry] = _read_through(registry)
            made = _read_throughs[registry]
    return None if made is None else made(repository)


def get_statter(registry: str = DEFAULT_REGISTRY, repository: str | None = None) -> BlobStatter:
    """Return what answers a stat in one scope: the cache, with READ_THROUGH the backend as well.

    For the cache alone use `get_provider`. Raises what `get_read_through` raises.
    """
    found = get_read_through(registry, repository)
    if found is not None:
        return found
    provider = get_provider(registry)
    return provider if repository is None else provider.repository_scoped(repository)


def _read_through(registry: str) -> Callable[[str | None], CachedBlobStatter] | None:
    settings = RegistrySettings(registry)
    if not settings.READ_THROUGH:
        return None
    lookups = get_lookups(registry)
    if lookups is None:
        raise ImproperlyConfigured(f"{settings} has READ_THROUGH, but no TRUTH.")
    return partial(
        CachedBlobStatter,
        get_provider(registry),
        lookups,
        seconds=settings.READ_THROUGH_TTL,
        metrics=CacheMetrics(),
    )


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("BLOBCACHE", "CACHES", "STORAGES"):
        _providers.clear()
        _backends.clear()
        _lookups.clear()
        _read_throughs.clear()


setting_changed.connect(_forget)
