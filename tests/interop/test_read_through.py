"""Read-through beside a real registry, over its own storage and in its own Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blobcache.exceptions import BlobUnknown
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.cached import CachedBlobStatter, Source
from blobcache.services.lookups import Limits, Lookups
from tests.interop.test_truth import backend_of
from tests.servers import cache_at

if TYPE_CHECKING:
    import redis

    from project import embedded
    from tests.interop.copying import Pushed
    from tests.interop.registry import Registry


def test_what_it_writes_lets_the_registry_serve_a_blob_in_no_repository(
    pushed: tuple[Pushed, Pushed],
    registry: Registry,
    redis_server: embedded.Server,
    redis_client: redis.Redis,
) -> None:
    app, web = pushed
    redis_client.flushall()
    lookups = Lookups(backend_of(registry), limits=Limits(patience=30))
    with cache_at(redis_server.url):
        provider = RedisBlobDescriptorCacheProvider()
        in_app, in_web = (
            CachedBlobStatter(provider, lookups, each.repository) for each in (app, web)
        )
        for image, scope in ((app, in_app), (web, in_web)):
            for blob in image.image.blobs:
                found = scope.find(blob.digest)
                assert (found.source, found.descriptor.size) == (Source.BACKEND, blob.size)
        mine = {blob.digest for blob in app.image.blobs}
        hidden = [blob.digest for blob in web.image.blobs if blob.digest not in mine]
        for digest in hidden:
            with pytest.raises(BlobUnknown):
                in_app.stat(digest)
        both = {*mine, *hidden}
        assert set(redis_client.keys()) == {f"blobs::{digest}" for digest in both}
        assert all(0 < redis_client.ttl(f"blobs::{digest}") <= 3600 for digest in both)

        for digest in hidden:
            assert registry.client.head_blob(app.repository, digest).status == 404
            assert registry.client.head_blob(web.repository, digest).status == 200
            # The registry has made it a member; the hash keeps its expiry.
            assert in_web.find(digest).source is Source.HIT
            assert redis_client.ttl(f"blobs::{digest}") > 0
