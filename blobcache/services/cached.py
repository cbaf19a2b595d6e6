"""Read-through: a cache of descriptors in front of a backend that knows the blobs."""

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
    """Asks `cache` first, then `backend`, whose answer it stores in `cache`.

    Both must have the same scope. If the cache fails, the backend is asked and nothing is written,
    so that a Redis in trouble does not get many writes. A blob that the backend does not know is
    not stored. A descriptor that could not be stored causes a log message, never an exception. The
    level of that message is debug if the cache can never store it, because the cache is read-only
    or the repository's name cannot be written to.
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
