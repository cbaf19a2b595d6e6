"""Jobs that repair: their limits, and how they are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis

from blobcache.jobs import advance, texts
from blobcache.models import Job, JournalEntry
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.backends.truth import storage_as_truth
from tests.jobs.conftest import CONFIG, GRANTED, account, begin, finish
from tests.servers import cache_at

pytestmark = pytest.mark.django_db

Provider = RedisBlobDescriptorCacheProvider


def again(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def test_its_changes_are_repairs_in_the_journal(filled: Provider, default_cache: Redis) -> None:
    default_cache.delete(f"blobs::{CONFIG}")
    finish(begin(account(), "repair", finding="dangling-member", repositories=[]))
    (entry,) = JournalEntry.objects.filter(source="job")
    assert (entry.action, entry.repository, entry.digest) == ("repair", GRANTED, CONFIG)


def test_a_read_only_registry_ends_it(
    filled: Provider, default_cache: Redis, valkey: embedded.Server, settings: LazySettings
) -> None:
    default_cache.delete(f"blobs::{CONFIG}")
    job = begin(account(), "repair", finding="dangling-member", repositories=[])
    settings.BLOBCACHE = {"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}}
    with cache_at(valkey.url, "index"):
        assert advance(job.pk)
    assert (again(job).state, again(job).reason) == (Job.State.FAILED, "read-only")


def test_what_the_storage_does_not_have_is_never_cleared_without_a_limit(
    filled: Provider, default_cache: Redis, tmp_path: Path
) -> None:
    """Also by the name of ``unreferenced``, which with version 2 means the same."""
    (tmp_path / "docker/registry/v2/repositories/library/nginx").mkdir(parents=True)
    data = tmp_path / "docker/registry/v2/blobs/sha256/ff" / ("f" * 64) / "data"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"of another registry")
    for number in range(30):
        digest = f"sha256:{number:064x}"
        fields: Any = {"digest": digest, "size": 1, "mediatype": "application/octet-stream"}
        default_cache.hset(f"blobs::{digest}", mapping=fields)
    filled.catalog.reindex()
    with storage_as_truth(tmp_path, SETTLE=0):
        job = begin(account(), "repair", finding="unreferenced", repositories=[], most=None)
        finish(job)
    assert again(job).state == Job.State.FAILED
    assert "not counted" in texts.reason(again(job))
    assert default_cache.exists(f"blobs::sha256:{0:064x}")
