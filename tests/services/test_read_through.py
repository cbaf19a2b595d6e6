"""Read-through as the settings describe it, over the storage of a registry in a real folder."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from redis import Redis

from blobcache.backends.storage import StorageBackend
from blobcache.exceptions import BackendUnavailable, BlobUnknown, RepositoryNameInvalid
from blobcache.services import get_provider, get_read_through, get_statter, lookups
from blobcache.services.cached import CachedBlobStatter, Found, Source
from blobcache.services.truth import Answer
from tests.backends.cases import ROOT, data, digest_of, layer_link
from tests.conformance import make_descriptor

BLOB = b"what a registry stores"
DIGEST, GONE = digest_of(BLOB), digest_of(b"gone")
TRUTH = {
    "BACKEND": "blobcache.backends.storage.StorageBackend",
    "OPTIONS": {"storage": "registry"},
}


def storages(directory: Path) -> dict[str, Any]:
    """The setting STORAGES for a registry whose rootdirectory that is."""
    return {
        **settings.STORAGES,
        "registry": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(directory)},
        },
    }


def write(directory: Path, path: str, content: bytes) -> None:
    """Write a file of the registry's storage."""
    file = (directory / ROOT / path).resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@pytest.fixture
def registry(
    tmp_path: Path, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Read-through over a folder where the repository ``a`` has the blob and a dangling link."""
    monkeypatch.setattr(lookups, "Limits", partial(lookups.Limits, patience=60))
    write(tmp_path, data(DIGEST), BLOB)
    write(tmp_path, layer_link("a", DIGEST), DIGEST.encode())
    write(tmp_path, layer_link("a", GONE), GONE.encode())
    with override_settings(
        STORAGES=storages(tmp_path), BLOBCACHE={"default": {"TRUTH": TRUTH, "READ_THROUGH": True}}
    ):
        yield tmp_path


def find(digest: str, repository: str | None = None) -> Found:
    through = get_read_through(repository=repository)
    assert through is not None
    return through.find(digest)


def test_by_default_a_statter_is_the_cache_itself(default_cache: Redis) -> None:
    assert get_read_through() is None
    assert get_statter() is get_provider()
    assert get_statter(repository="a") is get_provider().repository_scoped("a")
    with pytest.raises(RepositoryNameInvalid):
        get_statter(repository="A")


def test_a_miss_is_read_from_the_storage_and_expires(registry: Path, default_cache: Redis) -> None:
    assert isinstance(get_statter(), CachedBlobStatter)
    found = make_descriptor(DIGEST, len(BLOB))
    for source in (Source.BACKEND, Source.HIT):
        assert find(DIGEST) == Found(found, source)
    assert get_provider().stat(DIGEST) == found
    assert 3500 < default_cache.ttl(f"blobs::{DIGEST}") <= 3600
    with override_settings(
        BLOBCACHE={"default": {"TRUTH": TRUTH, "READ_THROUGH": True, "READ_THROUGH_TTL": 60}}
    ):
        get_provider().clear(DIGEST)
        find(DIGEST)
        assert 0 < default_cache.ttl(f"blobs::{DIGEST}") <= 60


def test_a_repository_s_miss_is_answered_and_no_membership_is_written(
    registry: Path, default_cache: Redis
) -> None:
    for _ in range(2):
        found = find(DIGEST, "a")
        assert found == Found(make_descriptor(DIGEST, len(BLOB)), Source.BACKEND)
    for name, digest in (("b", DIGEST), ("a", GONE), ("nowhere", DIGEST)):
        with pytest.raises(BlobUnknown):
            find(digest, name)
    assert default_cache.keys() == [f"blobs::{DIGEST}".encode()]


def test_what_this_process_was_told_is_remembered(registry: Path) -> None:
    assert find(DIGEST, "a").source is Source.BACKEND
    (registry / ROOT / layer_link("a", DIGEST)).unlink()
    assert find(DIGEST, "a").source is Source.BACKEND
    with pytest.raises(BlobUnknown):
        find(DIGEST, "b")


@pytest.mark.parametrize("change", ["no data", "garbage", "unmounted"])
def test_the_storage_s_state_decides(registry: Path, change: str) -> None:
    if change == "no data":
        (registry / ROOT / data(DIGEST)).unlink()
        write(registry, data(digest_of(b"other")), b"other")
        with pytest.raises(BlobUnknown):
            find(DIGEST, "a")
        return
    if change == "garbage":
        write(registry, layer_link("a", DIGEST), b"garbage")
    else:
        registry.rename(registry.with_name("elsewhere"))
    with pytest.raises(BackendUnavailable) as caught:
        find(DIGEST, "a")
    assert str(registry) not in str(caught.value)


def test_a_read_only_registry_is_answered_and_not_written_to(
    registry: Path, default_cache: Redis
) -> None:
    entry = {"TRUTH": TRUTH, "READ_THROUGH": True, "READ_ONLY": True, "CATALOG_ALIAS": "index"}
    with override_settings(BLOBCACHE={"default": entry}):
        assert find(DIGEST, "a").source is Source.BACKEND
        assert find(DIGEST).source is Source.BACKEND
    assert default_cache.keys() == []


def test_each_registry_asks_its_own_backend(registry: Path) -> None:
    write(registry, f"../../other/{data(GONE)}", b"gone")
    write(registry, f"../../other/{layer_link('b', GONE)}", GONE.encode())
    memory = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
    entry = {"TRUTH": TRUTH, "READ_THROUGH": True, "PROVIDER": memory}
    elsewhere = {**TRUTH, "OPTIONS": {"storage": "registry", "root": "docker/other"}}
    entries = {"default": entry, "other": {**entry, "TRUTH": elsewhere}, "off": {}}
    with override_settings(BLOBCACHE=entries):
        assert get_statter("default").stat(DIGEST).size == len(BLOB)
        assert get_statter("other").stat(GONE).size == len(b"gone")
        for name, digest in (("default", GONE), ("other", DIGEST)):
            with pytest.raises(BlobUnknown):
                get_statter(name).stat(digest)
        assert get_read_through("off") is None


class Appending(StorageBackend):
    """The same backend; writes a byte into a file for each call, so that processes can count."""

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        with Path(os.environ["COUNTED_CALLS"]).open("ab", buffering=0) as file:
            file.write(b"x")
        return super().stat(digest, repository)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("repository", [None, "a"])
def test_a_hundred_threads_of_each_process_cause_at_most_one_call_a_process(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str | None
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("COUNTED_CALLS", str(calls))
    truth = {**TRUTH, "BACKEND": f"{__name__}.Appending"}
    threads, processes = 100, 3
    forking = multiprocessing.get_context("fork")
    start = forking.Barrier(processes)

    def ask() -> None:
        start.wait(60)
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda _: find(DIGEST, repository), range(threads)))
        os._exit(0 if {each.descriptor.size for each in found} == {len(BLOB)} else 1)

    with override_settings(BLOBCACHE={"default": {"TRUTH": truth, "READ_THROUGH": True}}):
        get_statter()
        children = [forking.Process(target=ask) for _ in range(processes)]
        for child in children:
            child.start()
        for child in children:
            child.join(120)
    assert [child.exitcode for child in children] == [0] * processes
    assert 1 <= calls.stat().st_size <= processes


def test_without_a_backend_it_is_an_error(default_cache: Redis) -> None:
    with override_settings(BLOBCACHE={"default": {"READ_THROUGH": True}}):
        for _ in range(2):
            with pytest.raises(ImproperlyConfigured, match="TRUTH"):
                get_statter()
