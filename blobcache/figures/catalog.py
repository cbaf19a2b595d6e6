"""What figures need of a catalog in Redis: its index, raw names, and the server of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blobcache.services.catalog import STEP, Catalog
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from blobcache.redis.keys import CatalogKeys
    from blobcache.transport.server import Server

__all__ = ["IndexedCatalog", "NameIndex"]


class NameIndex(Protocol):
    """The index of repository names."""

    @property
    def server(self) -> Server:
        """The Redis that holds the index, and the figures."""
        ...

    @property
    def keys(self) -> CatalogKeys:
        """The keys of this registry's index and figures."""
        ...

    def names(
        self,
        after: bytes = b"",
        limit: int = STEP,
        prefix: str = "",
        *,
        visible: Visible = ALL,
    ) -> tuple[list[bytes], bool]:
        """Return up to `limit` raw names after a name, and whether there are more."""
        ...


class IndexedCatalog(Catalog, Protocol):
    """A catalog that lists the names of an index."""

    @property
    def index(self) -> NameIndex:
        """The index."""
        ...
