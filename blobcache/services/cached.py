"""Read-through: a cache of descriptors in front of wherever the truth is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blobcache.exceptions import (
    BlobCacheError,
    BlobUnknown,
    CacheUnavailable,
    OperationUnsupported,
    RepositoryNameInvalid,
)
from blobcache.services.metrics import CacheMetrics

if TYPE_CHECKING:
    from blobcache.descriptor import Descriptor
    from blobcache.services.base import BlobDescriptorService, BlobStatter, SetResult

__all__ = ["CachedBlobStatter"]

_log = logging.getLogger("blobcache.cached")


class CachedBlobStatter:
    """Asks `cache`, then `backend`, and remembers in `cache` what `backend` said.

    Both are of one scope. A cache that fails is not written to: it costs a call to the backend, and
    a sick Redis sees no stampede of writes. What the backend does not know is not remembered, and a
    descriptor that could not be stored is logged, never raised; where none ever can be, in a
    read-only cache or under a name that is not written to, at the level of debugging.
    """

    def __init__(
        self,
        cache: BlobDescriptorService,
        backend: BlobStatter,
        metrics: CacheMetrics | None = None,
    ) -> None:
        self.cache = cache
        self.backend = backend
        self.metrics = metrics or CacheMetrics()

    def stat(self, digest: str) -> Descriptor:
        """Return the blob's descriptor. Raises what the backend raises, and `DigestInvalid`."""
        try:
            descriptor = self.cache.stat(digest)
        except BlobUnknown:
            self.metrics.miss()
        except CacheUnavailable:
            self.metrics.error()
            _log.warning("The cache failed; asked the backend for %s.", digest, exc_info=True)
            return self.backend.stat(digest)
        else:
            self.metrics.hit()
            return descriptor
        descriptor = self.backend.stat(digest)
        try:
            self.cache.set_descriptor(digest, descriptor)
        except (OperationUnsupported, RepositoryNameInvalid) as error:
            _log.debug("The descriptor of %s is not cached: %s", digest, error)
        except BlobCacheError:
            _log.warning("The descriptor of %s could not be cached.", digest, exc_info=True)
        return descriptor

    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """Store a descriptor in the cache alone; see `BlobDescriptorService.set_descriptor`."""
        return self.cache.set_descriptor(digest, descriptor)

    def clear(self, digest: str) -> Descriptor | None:
        """Forget a descriptor in the cache alone; see `BlobDescriptorService.clear`."""
        return self.cache.clear(digest)
