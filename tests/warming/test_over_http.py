"""A warm from a registry over HTTP: the same rules, for what can be listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.backends.registry import RegistryBackend
from blobcache.backends.registry_http import Client
from blobcache.backends.registry_options import RegistryOptions
from blobcache.digest import Digest
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_backend
from blobcache.warming.report import Outcome, Report, WarmRefused
from blobcache.warming.warm import Warm
from tests.interop.registry import Registry, running_registry
from tests.warming.test_warm import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, stats
from tests.warming.worlds import TEAM, World


@pytest.fixture
def registry(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without a cache on the storage of the world."""
    directory = tmp_path_factory.mktemp("registry")
    with running_registry(directory, storage=world.directory) as running:
        yield running


def push(world: World) -> tuple[Digest, Digest, Digest]:
    """Store a tagged image, and a blob that no tag leads to; return config, layer, manifest."""
    config, layer = world.layer(b"{}"), world.layer(b"layer")
    world.layer(b"untagged")
    named = {
        "config": {"digest": config, "size": 2, "mediaType": CONFIG_TYPE},
        "layers": [{"digest": layer, "size": 5, "mediaType": LAYER_TYPE}],
    }
    content = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, **named}).encode()
    manifest = world.manifest(content)
    tag = f"repositories/{TEAM}/_manifests/tags/v1"
    world.write(f"{tag}/current/link", manifest.encode())
    return config, layer, manifest


def warm(registry: Registry, version: int, **options: Any) -> Report:
    client = Client(RegistryOptions({"url": f"http://{registry.address}"}))
    backend = RegistryBackend(client, version)
    provider = RedisBlobDescriptorCacheProvider()
    return Warm(provider, backend, version=version, settle=0, threads=1, **options).run()


def test_what_is_tagged_is_warmed(world: World, registry: Registry, default_cache: Redis) -> None:
    config, layer, _ = push(world)
    assert warm(registry, 2).counts == {Outcome.ADDED: 2, Outcome.OUT_OF_REACH: 1}
    assert stats(TEAM, config, layer).keys() == {config, layer}
    assert len(default_cache.keys("blobs::*")) == 2


def test_on_version_3_manifests_are_warmed_too(world: World, registry: Registry) -> None:
    digests = push(world)
    report = warm(registry, 3, with_types=True)
    assert report.counts == {Outcome.ADDED: 3}
    types = [stats(TEAM, digest)[digest].media_type for digest in digests]
    assert types == [CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE]


def test_a_pull_through_registry_is_not_asked(default_cache: Redis, tmp_path: Path) -> None:
    truth = {
        "BACKEND": "blobcache.backends.registry.RegistryBackend",
        "OPTIONS": {"url": "http://127.0.0.1:1"},
    }
    with override_settings(BLOBCACHE={"default": {"TRUTH": truth, "PROXY": True}}):
        assert get_backend() is not None
        with pytest.raises(WarmRefused, match="downloads each blob"):
            Warm.from_settings()
