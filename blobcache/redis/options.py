"""The options of the provider for Redis, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from blobcache.conf import RegistrySettings

__all__ = ["RedisOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """Where and how the descriptors of one registry are stored in Redis."""

    cache_alias: str = "default"
    """The entry of ``CACHES`` whose Redis holds the descriptors."""

    catalog_alias: str | None = None
    """The entry of ``CACHES`` whose Redis holds the catalog's index; None for the same."""

    catalog_max_age: float = 300
    """Seconds after which a list starts a new build of the index."""

    sorted_copies: int | None = 8
    """Sorted copies of repositories' blobs that the Redis of the index may hold; None for none."""

    sorted_copy_ttl: int = 3600
    """Seconds that such a copy is kept."""

    read_from_replicas: bool = False
    """Whether a stat may read from a replica, which may not have the latest writes yet."""

    hold_connections: bool = True
    """Whether threads keep connections between calls; see `blobcache.transport.held`."""

    size_fields: tuple[str, ...] = ("size", "length")
    """The fields that a size is written to. It is read from ``size``, else from ``length``."""

    stat_chunk_size: int = 250
    """Digests of a batch in one round trip."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return the options in one entry of the setting ``BLOBCACHE``."""
        return cls(
            cache_alias=settings.CACHE_ALIAS,
            catalog_alias=settings.CATALOG_ALIAS,
            catalog_max_age=settings.CATALOG_MAX_AGE,
            sorted_copies=settings.SORTED_COPIES,
            sorted_copy_ttl=settings.SORTED_COPY_TTL,
            read_from_replicas=settings.READ_FROM_REPLICAS,
            hold_connections=settings.HOLD_CONNECTIONS,
            size_fields=settings.SIZE_FIELDS,
            stat_chunk_size=settings.STAT_CHUNK_SIZE,
        )
