"""What a purge leaves out because the storage has it, or may have it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.backends.registry import RegistryBackend
from blobcache.descriptor import Descriptor
from blobcache.models import Job
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.truth import Witness
from tests.backends.truth import storage_as_truth, store_blob
from tests.jobs.conftest import APP, CONFIG, GRANTED, LAYER, account, begin, finish

pytestmark = pytest.mark.django_db

Provider = RedisBlobDescriptorCacheProvider

ALIAS = "sha512:" + "e" * 128
TARSUM = "tarsum.v1+sha256:" + "a" * 64


def ended(**parameters: Any) -> Job:
    job = begin(account(), "purge", spares_stored=True, **parameters)
    finish(job)
    return Job.objects.get(pk=job.pk)


class TestStorage:
    """It has `LAYER`, and nothing else."""

    @pytest.fixture(autouse=True)
    def stored(self, filled: Provider, tmp_path: Path) -> Iterator[None]:
        store_blob(tmp_path, LAYER, "library/nginx")
        with storage_as_truth(tmp_path):
            yield

    @pytest.mark.parametrize("digest", [ALIAS, TARSUM])
    def test_what_it_cannot_answer_may_be_stored(self, default_cache: Redis, digest: str) -> None:
        default_cache.hset(f"blobs::{digest}", mapping={"digest": LAYER, "size": 1})
        found = ended(digests=[digest])
        assert (found.state, found.progress["doubtful"]) == (Job.State.DONE, 1)
        assert default_cache.exists(f"blobs::{digest}")

    def test_what_is_stored_is_not_cleared_as_an_alias_either(
        self, filled: Provider, default_cache: Redis
    ) -> None:
        alias = "sha512:" + "d" * 128
        default_cache.hset(f"blobs::{LAYER}", "digest", alias)
        found = ended(digests=[LAYER, alias, CONFIG], with_aliases=True)
        assert found.progress["stored"] == 1
        assert default_cache.exists(f"blobs::{LAYER}")
        assert not default_cache.exists(f"blobs::{CONFIG}")

    def test_the_log_of_a_collection_is_believed_about_what_it_cannot_answer(
        self, filled: Provider, default_cache: Redis
    ) -> None:
        filled.repository_scoped(GRANTED).set_descriptor(ALIAS, Descriptor(CONFIG, 1, APP))
        ended(digests=[ALIAS], with_aliases=True)
        assert not default_cache.exists(f"blobs::{ALIAS}")


def test_a_registry_that_is_asked_over_http_knows_no_blob_outside_of_repositories(
    filled: Provider, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        RegistryBackend, "witness", lambda *_: Witness(is_independent=True, reason="")
    )
    truth = {
        "BACKEND": "blobcache.backends.registry.RegistryBackend",
        "OPTIONS": {"url": "http://127.0.0.1:1"},
    }
    with override_settings(BLOBCACHE={"default": {"TRUTH": truth}}):
        found = ended(digests=[LAYER])
    assert (found.state, found.progress["doubtful"]) == (Job.State.DONE, 1)
    assert default_cache.exists(f"blobs::{LAYER}")
