"""A registry whose cache was lost and warmed again serves pulls without a miss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.core.files.storage import FileSystemStorage

from blobcache.backends.layout import ROOT
from blobcache.backends.listers import FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.warming.report import Outcome
from blobcache.warming.warm import Warm
from project import embedded
from tests.interop.copying import Copier, Oras, Pushed, Skopeo
from tests.interop.registry import Registry
from tests.servers import cache_at

READS = {"hget", "hmget", "hgetall", "sismember", "exists"}


@pytest.fixture
def provider(redis_server: embedded.Server) -> Iterator[RedisBlobDescriptorCacheProvider]:
    with cache_at(redis_server.url):
        yield RedisBlobDescriptorCacheProvider(options=RedisOptions(size_fields=("size",)))


def asked(client: redis.Redis) -> set[str]:
    """The commands about data that Redis has run since the last reset of its statistics."""
    stats: dict[str, object] = client.info("commandstats")
    names = {name.removeprefix("cmdstat_").partition("|")[0] for name in stats}
    return names - {"info", "config", "client", "hello", "select", "ping", "command", "flushall"}


def pull(copier: Copier, registry: Registry, pushed: Pushed, directory: Path) -> None:
    copier.pull(registry.address, pushed.repository, pushed.tag, directory)


def test_after_a_warm_no_pull_misses(
    tmp_path: Path,
    registry: Registry,
    redis_client: redis.Redis,
    pushed: tuple[Pushed, Pushed],
    provider: RedisBlobDescriptorCacheProvider,
    oras: Oras,
    skopeo: Skopeo,
) -> None:
    app, web = pushed
    redis_client.flushall()
    redis_client.config_resetstat()
    pull(skopeo, registry, app, tmp_path / "cold")
    assert asked(redis_client) - READS  # a miss fills the cache

    redis_client.flushall()
    backend = StorageBackend(FileSystemLister(FileSystemStorage(registry.storage), ROOT), 2)
    report = Warm(provider, backend, settle=0).run()
    links = sum(len(each.image.digests) for each in pushed)
    assert report.counts == {Outcome.ADDED: links + len(pushed)}  # and the two manifests
    redis_client.config_resetstat()
    for copier, name in ((skopeo, "skopeo"), (oras, "oras")):
        for each in (app, web):
            pull(copier, registry, each, tmp_path / name / each.repository)
    assert asked(redis_client)
    assert asked(redis_client) <= READS
