"""The setting ``BLOBCACHE``: one entry a registry, read when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULTS",
    "DEFAULT_REGISTRY",
    "MAX_PAGE_SIZE",
    "RegistrySettings",
    "Role",
    "entries",
    "registries",
]

Role = Literal["cache", "primary"]

DEFAULT_REGISTRY = "default"

DEFAULTS: Mapping[str, object] = {
    "PROVIDER": "blobcache.redis.service.RedisBlobDescriptorCacheProvider",
    "CACHE_ALIAS": "default",
    "ROLE": "cache",
    "TTL": None,
    "READ_ONLY": False,
    "READ_FROM_REPLICAS": False,
    "HOLD_CONNECTIONS": True,
    "SIZE_FIELDS": ("size", "length"),
    "ALLOW_TARSUM": False,
    "STAT_CHUNK_SIZE": 250,
    "CATALOG_ALIAS": None,
    "CATALOG_MAX_AGE": 300,
    "MEMORY_MAX_ENTRIES": 100_000,
    "VISIBLE_REPOSITORIES": None,
    "API_PERMISSION_CLASSES": ("blobcache.api.permissions.BlobCachePermission",),
    "API_PAGE_SIZE": 100,
    "API_MAX_BATCH": 1000,
    "API_MAX_BODY": 1024 * 1024,
    "ADMIN_SORT_LIMIT": 10_000,
}


MAX_PAGE_SIZE = 1000
"""The most rows that a page of the API may be asked for."""


def registries() -> list[str]:
    """Return the names of the configured registries. Raises `ImproperlyConfigured`."""
    return list(entries())


def entries() -> dict[str, dict[str, Any]]:
    """Return what was set, registry by registry.

    Raises `ImproperlyConfigured` if it has not that form; whether names and values are right is for
    the system checks to say.
    """
    found = getattr(settings, "BLOBCACHE", {DEFAULT_REGISTRY: {}})
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and name and isinstance(entry, dict) for name, entry in found.items()
    ):
        raise ImproperlyConfigured("BLOBCACHE is not a dictionary of dictionaries by name.")
    return found


class RegistrySettings:
    """The settings of one registry, each with its default.

    Raises `ImproperlyConfigured` if there is no such registry, or nothing that could hold one.
    """

    def __init__(self, registry: str = DEFAULT_REGISTRY) -> None:
        self.registry = registry
        found = entries()
        if registry not in found:
            raise ImproperlyConfigured(
                f"BLOBCACHE has no registry '{registry}'; there is "
                f"{', '.join(map(repr, found)) or 'none'}."
            )

    @property
    def PROVIDER(self) -> str:
        """The dotted path of the provider's class."""
        return cast("str", self._get("PROVIDER"))

    @property
    def CACHE_ALIAS(self) -> str:
        """The entry of ``CACHES`` whose Redis holds the descriptors."""
        return cast("str", self._get("CACHE_ALIAS"))

    @property
    def ROLE(self) -> Role:
        """``"cache"`` if somebody can refill what is lost, else ``"primary"``."""
        return cast("Role", self._get("ROLE"))

    @property
    def TTL(self) -> int | None:
        """Seconds until what was written is forgotten; None for never."""
        return cast("int | None", self._get("TTL"))

    @property
    def READ_ONLY(self) -> bool:
        """Whether every write is refused."""
        return cast("bool", self._get("READ_ONLY"))

    @property
    def READ_FROM_REPLICAS(self) -> bool:
        """Whether a stat may ask a replica, whose lag can hide a fresh write."""
        return cast("bool", self._get("READ_FROM_REPLICAS"))

    @property
    def HOLD_CONNECTIONS(self) -> bool:
        """Whether threads may hold connections from call to call."""
        return cast("bool", self._get("HOLD_CONNECTIONS"))

    @property
    def SIZE_FIELDS(self) -> tuple[str, ...]:
        """The hash fields that a size is written to: ``size``, ``length`` or both."""
        return tuple(cast("tuple[str, ...]", self._get("SIZE_FIELDS")))

    @property
    def ALLOW_TARSUM(self) -> bool:
        """Whether digests of the original design's tarsum form are accepted."""
        return cast("bool", self._get("ALLOW_TARSUM"))

    @property
    def STAT_CHUNK_SIZE(self) -> int:
        """How many digests of a batch go into one round trip."""
        return cast("int", self._get("STAT_CHUNK_SIZE"))

    @property
    def CATALOG_ALIAS(self) -> str:
        """The entry of ``CACHES`` whose Redis holds the catalog's index; default: the same."""
        return cast("str | None", self._get("CATALOG_ALIAS")) or self.CACHE_ALIAS

    @property
    def CATALOG_MAX_AGE(self) -> int:
        """Seconds after which a listing begins to build the catalog's index anew."""
        return cast("int", self._get("CATALOG_MAX_AGE"))

    @property
    def MEMORY_MAX_ENTRIES(self) -> int:
        """How many descriptors, and how many memberships, the memory provider keeps."""
        return cast("int", self._get("MEMORY_MAX_ENTRIES"))

    @property
    def VISIBLE_REPOSITORIES(self) -> str | None:
        """The dotted path of a function of the user that narrows which repositories they see.

        It returns None for no narrowing, or names, and prefixes that end in ``/``. It never grants:
        permissions decide about what is left.
        """
        return cast("str | None", self._get("VISIBLE_REPOSITORIES"))

    @property
    def API_PERMISSION_CLASSES(self) -> tuple[str, ...]:
        """The dotted paths of the permission classes that the API's views ask, every one."""
        return tuple(cast("tuple[str, ...]", self._get("API_PERMISSION_CLASSES")))

    @property
    def API_PAGE_SIZE(self) -> int:
        """How many rows a page of the API aims at, unless the request says how many."""
        return cast("int", self._get("API_PAGE_SIZE"))

    @property
    def API_MAX_BATCH(self) -> int:
        """How many digests one request may ask about."""
        return cast("int", self._get("API_MAX_BATCH"))

    @property
    def API_MAX_BODY(self) -> int:
        """Bytes of a request's body that the API reads."""
        return cast("int", self._get("API_MAX_BODY"))

    @property
    def ADMIN_SORT_LIMIT(self) -> int:
        """How many members a repository may have for its page to sort and search all of them."""
        return cast("int", self._get("ADMIN_SORT_LIMIT"))

    def _get(self, name: str) -> object:
        try:  # without a look at what else is set
            entry = settings.BLOBCACHE[self.registry]
            return entry.get(name, DEFAULTS[name])
        except (AttributeError, KeyError, TypeError):
            return entries()[self.registry].get(name, DEFAULTS[name])
