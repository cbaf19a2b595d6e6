from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider


@pytest.fixture
def provider(any_store: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def registry_3() -> Iterator[None]:
    """The registry is of version 3: there a blob in no repository is of no use."""
    with override_settings(BLOBCACHE={"default": {"REGISTRY_VERSION": 3}}):
        yield
