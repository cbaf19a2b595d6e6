"""The service on what a registry wrote, and the registry on what the service wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.findings import Kind
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from project import embedded
from tests.interop.copying import Oras, Pushed
from tests.interop.keyspace import OCTET_STREAM, members_key, read_keyspace
from tests.interop.oci import Blob, digest_of
from tests.interop.registry import Registry
from tests.servers import cache_at, monitor

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def cached(blob: Blob) -> Descriptor:
    """Return the descriptor that a registry caches, which ignores the real media type."""
    return Descriptor(blob.digest, blob.size, OCTET_STREAM)


@pytest.fixture
def provider(redis_server: embedded.Server) -> Iterator[RedisBlobDescriptorCacheProvider]:
    """A portal on the registry's own Redis."""
    with cache_at(redis_server.url):
        yield RedisBlobDescriptorCacheProvider(options=RedisOptions(size_fields=("size",)))


def all_members(provider: RedisBlobDescriptorCacheProvider, repository: str) -> set[str]:
    page = provider.catalog.members(repository)
    assert page.next is None
    return set(page.members)


class TestReading:
    def test_catalog_members_stats_and_holders_are_what_the_registry_cached(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        pushed: tuple[Pushed, Pushed],
        registry: Registry,
    ) -> None:
        app, web = pushed
        own = app.image.layers[1]
        assert registry.client.mount_blob(web.repository, own.digest, app.repository).status == 201
        assert registry.client.head_blob(web.repository, own.digest).status == 200

        assert provider.catalog.reindex().complete

        page = provider.catalog.repositories()
        held = {app.repository: app.image.blobs, web.repository: [*web.image.blobs, own]}
        assert [(entry.name, entry.blobs) for entry in page.repositories] == [
            (name, len(blobs)) for name, blobs in sorted(held.items())
        ]
        for name, blobs in held.items():
            repository = provider.repository_scoped(name)
            assert all_members(provider, name) == {blob.digest for blob in blobs}
            expected = {blob.digest: cached(blob) for blob in blobs}
            assert repository.stat_many(expected) == expected
            assert {digest: repository.stat(digest) for digest in expected} == expected
            states = {record.kind for record in repository.records(list(map(Digest, expected)))}
            assert states == {Kind.OK}
        for blob in (*app.image.blobs, *web.image.blobs):
            holders = provider.catalog.holders(Digest(blob.digest)).holders
            assert [holder.name for holder in holders] == [
                name
                for name, blobs in sorted(held.items())
                if blob.digest in {b.digest for b in blobs}
            ]
            assert {holder.media_type for holder in holders} == {OCTET_STREAM}

    def test_the_global_scope_lists_what_the_registry_cached(
        self, provider: RedisBlobDescriptorCacheProvider, pushed: tuple[Pushed, Pushed]
    ) -> None:
        app, web = pushed
        # oras reads the manifest back, skopeo does not.
        known = {blob.digest: cached(blob) for blob in (*app.image.content, *web.image.blobs)}
        assert set(provider.catalog.blobs().blobs) == set(known)
        assert provider.stat_many(known) == known
        with pytest.raises(BlobUnknown):
            provider.stat(web.image.manifest.digest)

    def test_a_blob_that_the_registry_deleted_is_unknown_and_a_dangling_member(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        pushed: tuple[Pushed, Pushed],
        registry: Registry,
    ) -> None:
        app, _ = pushed
        digest = Digest(app.image.layers[1].digest)
        assert registry.client.delete_blob(app.repository, digest).status == 202
        repository = provider.repository_scoped(app.repository)
        with pytest.raises(BlobUnknown):
            repository.stat(digest)
        assert [record.kind for record in repository.records([digest])] == [Kind.DANGLING_MEMBER]


class TestWriting:
    def test_after_a_clear_the_next_pull_fills_the_cache_again(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        pushed: tuple[Pushed, Pushed],
        registry: Registry,
        redis_client: redis.Redis,
        oras: Oras,
        tmp_path: Path,
    ) -> None:
        app, _ = pushed
        before = read_keyspace(redis_client)
        repository = provider.repository_scoped(app.repository)
        for blob in app.image.blobs:
            assert repository.clear(blob.digest) == cached(blob)
        assert not redis_client.exists(members_key(app.repository))

        oras.pull(registry.address, app.repository, app.tag, tmp_path / "pulled")

        assert read_keyspace(redis_client) == before
        for blob in app.image.blobs:
            assert repository.stat(blob.digest) == cached(blob)

    def test_the_registrys_head_serves_a_descriptor_that_was_set(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        pushed: tuple[Pushed, Pushed],
        registry: Registry,
    ) -> None:
        app, web = pushed
        digest = digest_of(b"content that only the cache knows of")
        repository = provider.repository_scoped(app.repository)
        assert registry.client.head_blob(app.repository, digest).status == 404

        assert repository.set_descriptor(digest, Descriptor(digest, 4321, LAYER)).created

        head = registry.client.head_blob(app.repository, digest)
        assert (head.status, head.content_length) == (200, 4321)
        assert head.headers["Content-Type"] == LAYER
        assert head.headers["Docker-Content-Digest"] == digest
        assert registry.client.head_blob(web.repository, digest).status == 404

    def test_a_cleared_blob_is_unknown_to_the_registry(
        self, provider: RedisBlobDescriptorCacheProvider, registry: Registry, images: object
    ) -> None:
        digest = digest_of(b"content that only the cache knows of")
        repository = provider.repository_scoped("team/app")
        repository.set_descriptor(digest, Descriptor(digest, 4321, LAYER))
        assert registry.client.head_blob("team/app", digest).status == 200
        repository.clear(digest)
        assert registry.client.head_blob("team/app", digest).status == 404

    def test_a_revoked_blob_stays_revoked_when_another_repository_refills_it(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        pushed: tuple[Pushed, Pushed],
        registry: Registry,
    ) -> None:
        """After the registry's own delete it would be readable again (CVE-2026-35172)."""
        app, web = pushed
        base = app.image.layers[0]
        assert registry.client.delete_blob(app.repository, base.digest).status == 202
        provider.repository_scoped(app.repository).clear(base.digest)
        assert registry.client.head_blob(web.repository, base.digest).status == 200
        assert registry.client.head_blob(app.repository, base.digest).status == 404

    def test_after_a_purge_a_collected_blob_is_unknown_to_the_registry(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        pushed: tuple[Pushed, Pushed],
        registry: Registry,
    ) -> None:
        """No FLUSHDB is needed for a blob that is gone but still reported as present."""
        app, web = pushed
        own = app.image.layers[1]
        registry.client.delete_manifest(app.repository, app.image.manifest.digest)
        registry.garbage_collect()
        assert registry.client.head_blob(app.repository, own.digest).status == 200

        result = provider.purge(own.digest)

        assert (result.cleared, result.next) == ((app.repository,), None)
        assert registry.client.head_blob(app.repository, own.digest).status == 404
        shared = app.image.layers[0]
        assert registry.client.head_blob(web.repository, shared.digest).status == 200


def test_read_only_with_an_index_of_its_own_writes_nothing_to_the_registrys_redis(
    redis_server: embedded.Server, pushed: tuple[Pushed, Pushed], valkey: embedded.Server
) -> None:
    app, _ = pushed
    digest = Digest(app.image.layers[0].digest)
    with cache_at(redis_server.url), cache_at(valkey.url, "index") as index:
        index.flushall()
        portal = RedisBlobDescriptorCacheProvider(
            Rules(read_only=True), RedisOptions(catalog_alias="index")
        )
        repository = portal.repository_scoped(app.repository)
        with redis_server.client() as observer:
            with monitor(observer) as seen:
                assert portal.catalog.reindex().complete
                assert len(portal.catalog.repositories().repositories) == 2
                assert len(portal.catalog.holders(digest).holders) == 2
                portal.catalog.members(app.repository)
                portal.catalog.blobs()
                repository.stat(digest)
                repository.stat_many([digest])
                repository.records([digest])
                portal.server_status()
            info = observer.execute_command("COMMAND", "INFO", *{words[0] for words in seen})
    flags = {name: set(each["flags"]) for name, each in info.items()}
    assert {"sismember", "scan"} <= set(flags)
    assert not [name for name, its in flags.items() if "write" in its]
