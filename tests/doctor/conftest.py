from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.stores import KINDS, store


@pytest.fixture(params=KINDS)
def any_store(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """The raw client of CACHES["default"], an empty store of each kind in turn."""
    with store(request, request.param) as client:
        yield client


@pytest.fixture
def provider(any_store: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path
