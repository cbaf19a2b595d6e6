"""Whether the repositories that a check names are there at all: a misspelt one has no findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.exceptions import BackendUnavailable, DescriptorCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobcache.reference import RepositoryName
    from blobcache.services.base import Backend, BrowsableProvider

__all__ = ["missing"]


def missing(
    provider: BrowsableProvider, names: Iterable[RepositoryName], backend: Backend | None = None
) -> list[RepositoryName]:
    """Return those that neither the cache nor the storage has.

    One round trip for each name. The backend is only asked about names that the cache does not
    have, and only if it can name everything that is stored; where it cannot be read, a repository
    may be there. Raises `CacheUnavailable`.
    """
    found = [name for name in names if not _is_cached(provider, name)]
    if backend is None or not backend.is_complete:
        return found
    return [name for name in found if not _may_be_stored(backend, name)]


def _is_cached(provider: BrowsableProvider, name: RepositoryName) -> bool:
    try:
        return provider.catalog.members(name, limit=1).count > 0
    except DescriptorCorrupt:
        return True


def _may_be_stored(backend: Backend, name: RepositoryName) -> bool:
    try:
        return next(iter(backend.members(name)), None) is not None
    except BackendUnavailable:
        return True
