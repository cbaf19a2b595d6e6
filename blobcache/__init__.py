"""A blob-descriptor cache for OCI registries, on Redis, for Django."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from blobcache.services import get_provider

__all__ = ["Descriptor", "Digest", "RepositoryName", "__version__", "get_provider"]

__version__ = "0.1.0"

if not TYPE_CHECKING:  # A type checker would otherwise accept any name.

    def __getattr__(name: str) -> object:
        """Import `get_provider` when it is used: Django imports this module before its apps."""
        if name != "get_provider":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from blobcache.services import get_provider  # noqa: PLC0415

        return get_provider
