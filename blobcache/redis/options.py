"""Where and how one registry's descriptors are stored in Redis, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from blobcache.conf import RegistrySettings

__all__ = ["RedisOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """Where and how one registry's descriptors lie in Redis."""

    cache_alias: str = "default"
    """The entry of ``CACHES`` whose Redis holds the descriptors."""

    catalog_alias: str | None = None
    """The entry of ``CACHES`` whose Redis holds the catalog's index; None for the same."""

    catalog_max_age: float = 300
    """Seconds after which a listing begins to build the index anew."""

    read_from_replicas: bool = False
    """Whether a stat may ask a replica, whose lag can hide a fresh write."""

    hold_connections: bool = True
    """Whether threads may hold connections from call to call; see `blobcache.transport.held`."""

    size_fields: tuple[str, ...] = ("size", "length")
    """The fields that a size is written to; it is read from ``size``, else from ``length``."""

    stat_chunk_size: int = 250
    """Digests of a batch that go into one round trip."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return what one entry of the setting ``BLOBCACHE`` says."""
        return cls(
            cache_alias=settings.CACHE_ALIAS,
            catalog_alias=settings.CATALOG_ALIAS,
            catalog_max_age=settings.CATALOG_MAX_AGE,
            read_from_replicas=settings.READ_FROM_REPLICAS,
            hold_connections=settings.HOLD_CONNECTIONS,
            size_fields=settings.SIZE_FIELDS,
            stat_chunk_size=settings.STAT_CHUNK_SIZE,
        )
