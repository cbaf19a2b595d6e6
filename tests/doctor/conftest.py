from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
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
