"""The canary: a descriptor without a blob, to find out whether a registry reads this very cache.

Each canary is in a repository of its own, whose name says when it was placed, and its digest is
that of the name. So one that a killed process left behind can be found and removed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from time import time

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.media_types import OCTET_STREAM
from blobcache.reference import RepositoryName
from blobcache.services.audit import attributed
from blobcache.services.base import BlobDescriptorCacheProvider
from blobcache.services.catalog import Catalog

__all__ = ["PREFIX", "Canary", "placed", "sweep"]

PREFIX = "blobcache-canary/"
"""The names of canaries' repositories begin with this."""

_NAME = re.compile(rf"{PREFIX}([0-9]{{1,12}})-[0-9a-f]{{32}}")

_FORGOTTEN = 3600
"""Seconds after which a canary is certainly of no use to anybody."""

_SWEPT = 100
"""Canaries that one sweep removes at most."""


class Canary:
    """A descriptor in a repository, neither of which exists anywhere else."""

    def __init__(self, cache: BlobDescriptorCacheProvider, repository: RepositoryName) -> None:
        self._cache = cache
        self.repository = repository
        self.digest = Digest(f"sha256:{hashlib.sha256(repository.encode()).hexdigest()}")

    def place(self) -> None:
        """Write it. Its size is 0, so it changes no sum, and whoever read it would get nothing."""
        scope = self._cache.repository_scoped(self.repository)
        scope.set_descriptor(self.digest, Descriptor(self.digest, 0, OCTET_STREAM))

    def is_there(self) -> bool:
        """Whether the cache still knows it."""
        try:
            self._cache.repository_scoped(self.repository).stat(self.digest)
        except BlobUnknown:
            return False
        return True

    def remove(self) -> None:
        """Clear it, the global descriptor first, and let the index forget its repository.

        Raises `CacheUnavailable`.
        """
        for scope in (self._cache, self._cache.repository_scoped(self.repository)):
            with suppress(BlobUnknown):
                scope.clear(self.digest)
        catalog = _catalog(self._cache)
        if catalog is not None:
            # A name that is met without its set is removed.
            catalog.repositories(self.repository)


@contextmanager
def placed(
    cache: BlobDescriptorCacheProvider, *, clock: Callable[[], float] = time
) -> Iterator[Canary]:
    """Place a canary for the time of this block. Raises what a write to the cache raises."""
    canary = Canary(cache, RepositoryName(f"{PREFIX}{int(clock())}-{token_hex(16)}"))
    with attributed(actor=None, source="canary", collect=_ignore):
        try:
            canary.place()
            yield canary
        finally:
            canary.remove()


def sweep(cache: BlobDescriptorCacheProvider, *, clock: Callable[[], float] = time) -> int:
    """Remove canaries that other processes have left behind; return their number.

    Raises `CacheUnavailable`, and `OperationUnsupported` if the registry is read-only.
    """
    catalog = _catalog(cache)
    if catalog is None:
        return 0
    number = 0
    with attributed(actor=None, source="canary", collect=_ignore):
        for entry in catalog.repositories(PREFIX, limit=_SWEPT).repositories:
            found = _NAME.fullmatch(entry.name)
            if found and int(found[1]) < clock() - _FORGOTTEN:
                Canary(cache, RepositoryName(entry.name)).remove()
                number += 1
    return number


def _ignore(_: object) -> None:
    """Keep canaries out of the history of what users changed."""


def _catalog(cache: BlobDescriptorCacheProvider) -> Catalog | None:
    catalog: Catalog | None = getattr(cache, "catalog", None)
    return catalog
