from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256

import pytest
from django.conf import settings
from django.test import override_settings
from redis import Redis

from blobcache.digest import Digest
from blobcache.doctor.scan import Diagnosis
from blobcache.findings import FINDING_KINDS, RECORD_KINDS, Kind
from blobcache.redis import keys
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services import get_backend, get_browsable, get_provider
from blobcache.services.records import Record
from project import embedded, pushes, sample
from tests.servers import cache_at, in_memory

STORAGE_BACKEND = "blobcache.backends.storage.StorageBackend"
FILES = "django.core.files.storage.FileSystemStorage"

Contents = dict[bytes, object]


@pytest.fixture(scope="module")
def filled() -> Iterator[Redis]:
    """The raw client of CACHES["default"], a server of its own with the sample data.

    The settings name the storage that it was filled from.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(in_memory())
        server = stack.enter_context(embedded.start())
        client = stack.enter_context(cache_at(server.url))
        truth = {"BACKEND": STORAGE_BACKEND, "OPTIONS": {"storage": "registry"}}
        storage = {"BACKEND": FILES, "OPTIONS": {"location": str(directory)}}
        stack.enter_context(
            override_settings(
                BLOBCACHE={"default": {"TRUTH": truth}},
                STORAGES={**settings.STORAGES, "registry": storage},
            )
        )
        sample.write(directory)
        sample.fill(get_browsable())
        yield client


@pytest.fixture
def provider(filled: Redis) -> RedisBlobDescriptorCacheProvider:
    """A provider on a Redis with the sample data."""
    provider = get_provider()
    assert isinstance(provider, RedisBlobDescriptorCacheProvider)
    return provider


def contents(client: Redis) -> Contents:
    """Return everything but the index, which has the time of its build."""
    found = [key for key in client.scan_iter(count=1000) if not key.startswith(b"blobcache::")]
    with client.pipeline(transaction=False) as pipe:
        for key in found:
            pipe.type(key)
        kinds = pipe.execute()
        readers = {b"hash": pipe.hgetall, b"set": pipe.smembers, b"string": pipe.get}
        for key, kind in zip(found, kinds, strict=True):
            readers[kind](key)
        return dict(zip(found, pipe.execute(), strict=True))


def records(provider: RedisBlobDescriptorCacheProvider) -> Iterator[Record]:
    """Return all records of the global scope."""
    cursor: str | None = ""
    while cursor is not None:
        page = provider.catalog.blobs(cursor)
        yield from provider.records(page.blobs)
        cursor = page.next


def test_it_is_the_same_on_every_machine() -> None:
    """With any version of Python and zlib, so that documentation and tests can name digests."""
    digests = sha256()
    for push in (*pushes.pushes(), *pushes.damaged(), *pushes.collected()):
        digests.update(push.blob.digest.encode())
    assert digests.hexdigest() == "131ef474a42fcc6bdf42f9d47a3e9d8b64f22096f936cba0563b0ede99e232a7"


def test_a_check_finds_every_kind_and_nothing_elsewhere(
    provider: RedisBlobDescriptorCacheProvider,
) -> None:
    diagnosis = Diagnosis(provider, kinds=FINDING_KINDS, backend=get_backend())
    found = [each for step in diagnosis.run() for each in step.findings]
    assert {each.kind for each in found} == set(FINDING_KINDS) - {Kind.UNREFERENCED}
    collected = Counter(each.kind for each in found if each.repository == pushes.COLLECTED)
    assert collected == {Kind.MISSING_DATA: 4, Kind.UNLINKED_MEMBER: 1}  # as the README says
    assert {each.repository for each in found} == {
        *(None, pushes.DAMAGED, pushes.COLLECTED, "old/not-a-set", "Not a Name!")
    }
    with override_settings(
        BLOBCACHE={"default": {**settings.BLOBCACHE["default"], "REGISTRY_VERSION": 3}}
    ):
        diagnosis = Diagnosis(get_browsable(), kinds=[Kind.UNREFERENCED], backend=get_backend())
        assert {each.kind for step in diagnosis.run() for each in step.findings} == {
            Kind.UNREFERENCED
        }


def test_filling_the_cache_again_changes_nothing(
    provider: RedisBlobDescriptorCacheProvider, filled: Redis
) -> None:
    before = contents(filled)
    sample.fill(provider)
    assert contents(filled) == before


def test_the_catalog_lists_every_repository(provider: RedisBlobDescriptorCacheProvider) -> None:
    page = provider.catalog.repositories()
    names = {entry.name for entry in page.repositories}
    assert page.status.complete
    assert names >= {push.repository for push in pushes.pushes()}
    assert names >= {pushes.DAMAGED, pushes.COLLECTED}
    assert page.count == len(names)


def test_one_repository_has_a_thousand_blobs(
    provider: RedisBlobDescriptorCacheProvider,
) -> None:
    assert provider.catalog.members(pushes.BUILD_CACHE).count > pushes.BUILD_CACHE_LAYERS


def test_base_layers_are_shared(provider: RedisBlobDescriptorCacheProvider) -> None:
    base = provider.catalog.members("library/python", limit=1000).members
    shared = provider.repository_scoped("shop/backend/api").stat_many(base)
    (layer, *_) = shared
    holders = {holder.name for holder in provider.catalog.holders(layer).holders}
    assert holders >= {"library/python", "shop/backend/api", "shop/backend/worker"}


def test_it_has_an_alias(provider: RedisBlobDescriptorCacheProvider) -> None:
    name = "shop/backend/api"
    members = provider.catalog.members(name, limit=1000).members
    (alias,) = (member for member in members if member.startswith("sha512:"))
    assert provider.repository_scoped(name).stat(alias).digest.algorithm == "sha256"


def test_the_damaged_repository_shows_every_state_of_a_member(
    provider: RedisBlobDescriptorCacheProvider,
) -> None:
    members = provider.catalog.members(pushes.DAMAGED).members
    found = provider.repository_scoped(pushes.DAMAGED).records(members)
    assert {record.kind for record in found} == set(RECORD_KINDS) - {Kind.HUSK}


def test_the_global_scope_shows_every_state_of_a_blob(
    provider: RedisBlobDescriptorCacheProvider,
) -> None:
    found = {record.kind for record in records(provider)}
    assert found == set(RECORD_KINDS) - {Kind.DANGLING_MEMBER}


def test_there_is_an_orphan_override_and_an_unreferenced_blob(
    provider: RedisBlobDescriptorCacheProvider, filled: Redis
) -> None:
    everything = contents(filled)
    members = {
        digest for value in everything.values() if isinstance(value, set) for digest in value
    }
    manifests = {
        push.blob.digest
        for push in (*pushes.pushes(), *pushes.damaged(), *pushes.collected())
        if push.tags is not None
    }
    unreferenced = [
        record.digest
        for record in records(provider)
        if record.kind is Kind.OK and record.digest.encode() not in members
        if record.digest not in manifests
    ]
    orphans = [
        digest
        for digest in unreferenced
        if keys.override(pushes.DAMAGED, Digest(digest)) in everything
    ]
    assert len(unreferenced) == 2
    assert len(orphans) == 1


def test_there_are_names_that_only_a_registry_writes(
    provider: RedisBlobDescriptorCacheProvider,
) -> None:
    entries = provider.catalog.repositories().repositories
    assert [entry.name for entry in entries if entry.is_corrupt] == ["Not a Name!", "old/not-a-set"]
    foreign = [
        entry.name
        for entry in entries
        if isinstance(entry.name, RepositoryName) and not entry.name.is_oci
    ]
    assert foreign == ["MyTeam/app"]
