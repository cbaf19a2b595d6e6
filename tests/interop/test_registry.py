"""What a registry 2.x writes to Redis and reads from it: the facts that this app relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.copying import COPIERS, Pushed
from tests.interop.keyspace import (
    blob_key,
    expected_globals,
    expected_repository,
    keys_with_ttl,
    members_key,
    override_key,
    read_keyspace,
)
from tests.interop.oci import digest_of, read_layout

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from tests.interop.registry import Registry


def test_a_push_writes_only_members_overrides_and_global_descriptors(
    pushed: tuple[Pushed, Pushed], redis_client: redis.Redis
) -> None:
    app, web = pushed
    read_back_by_oras = [app.image.manifest]
    assert read_keyspace(redis_client) == {
        **expected_globals([*app.image.blobs, *web.image.blobs, *read_back_by_oras]),
        **expected_repository(app.repository, app.image.blobs),
        **expected_repository(web.repository, web.image.blobs),
    }


def test_a_manifest_gets_a_global_descriptor_when_first_read_and_is_never_a_member(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    _, web = pushed
    before = read_keyspace(redis_client)
    assert blob_key(web.image.manifest.digest) not in before

    response = registry.client.get_manifest(web.repository, web.tag)

    assert response.body == web.image.manifest.content
    assert read_keyspace(redis_client) == {
        **before,
        **expected_globals([web.image.manifest]),
    }


def test_no_key_expires(pushed: tuple[Pushed, Pushed], redis_client: redis.Redis) -> None:
    assert redis_client.dbsize() > 0
    assert keys_with_ttl(redis_client) == []


def test_a_mount_writes_nothing_until_the_blob_is_requested_in_its_new_repository(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    app, web = pushed
    layer = app.image.layers[1]
    before = read_keyspace(redis_client)

    response = registry.client.mount_blob(web.repository, layer.digest, app.repository)

    assert response.status == 201
    assert response.headers["Docker-Content-Digest"] == layer.digest
    assert read_keyspace(redis_client) == before
    assert registry.client.head_blob(web.repository, layer.digest).status == 200
    assert read_keyspace(redis_client) == {
        **before,
        **expected_repository(web.repository, [*web.image.blobs, layer]),
    }


def test_a_mount_from_a_repository_without_the_blob_offers_an_upload(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    app, web = pushed
    layer = web.image.layers[1]
    before = read_keyspace(redis_client)

    assert registry.client.mount_blob("team/new", layer.digest, app.repository).status == 202

    assert registry.client.head_blob("team/new", layer.digest).status == 404
    assert read_keyspace(redis_client) == before


@pytest.mark.parametrize("tool", COPIERS)
def test_a_pull_refills_a_cleared_cache(
    tool: str,
    pushed: tuple[Pushed, Pushed],
    registry: Registry,
    redis_client: redis.Redis,
    tmp_path: Path,
) -> None:
    redis_client.flushdb()

    for push in pushed:
        layout = tmp_path / "pulled" / push.repository
        copier = COPIERS[tool](tmp_path / "home")
        copier.pull(registry.address, push.repository, push.tag, layout)

        content = read_layout(layout)
        assert {digest: digest_of(blob) for digest, blob in content.items()} == {
            blob.digest: blob.digest for blob in push.image.content
        }
    app, web = pushed
    assert read_keyspace(redis_client) == {
        **expected_globals([*app.image.content, *web.image.content]),
        **expected_repository(app.repository, app.image.blobs),
        **expected_repository(web.repository, web.image.blobs),
    }


def test_a_deleted_manifest_leaves_every_key(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    app, _ = pushed
    before = read_keyspace(redis_client)

    response = registry.client.delete_manifest(app.repository, app.image.manifest.digest)

    assert response.status == 202
    assert registry.client.get_manifest(app.repository, app.tag).status == 404
    assert read_keyspace(redis_client) == before


def test_a_deleted_blob_loses_its_global_descriptor_and_stays_a_member(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    app, _ = pushed
    layer = app.image.layers[1]
    expected = read_keyspace(redis_client)
    del expected[blob_key(layer.digest)]

    assert registry.client.delete_blob(app.repository, layer.digest).status == 202

    assert read_keyspace(redis_client) == expected
    assert registry.client.head_blob(app.repository, layer.digest).status == 404


def test_a_deleted_blob_is_readable_again_when_another_repository_refills_it(
    pushed: tuple[Pushed, Pushed], registry: Registry
) -> None:
    app, web = pushed
    base = app.image.layers[0]
    assert registry.client.delete_blob(app.repository, base.digest).status == 202
    assert registry.client.head_blob(app.repository, base.digest).status == 404

    assert registry.client.head_blob(web.repository, base.digest).status == 200

    assert registry.client.head_blob(app.repository, base.digest).status == 200
    assert registry.client.get_blob(app.repository, base.digest).body == base.content


def test_a_collected_blob_stays_in_the_cache_and_is_served_without_content(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    app, web = pushed
    own, shared = app.image.layers[1], app.image.layers[0]
    registry.client.delete_manifest(app.repository, app.image.manifest.digest)
    before = read_keyspace(redis_client)

    registry.garbage_collect()

    assert read_keyspace(redis_client) == before
    head = registry.client.head_blob(app.repository, own.digest)
    assert (head.status, head.content_length) == (200, own.size)
    got = registry.client.get_blob(app.repository, own.digest)
    assert (got.status, got.content_length, got.body) == (200, own.size, b"")
    assert not got.complete
    assert registry.client.get_blob(web.repository, shared.digest).body == shared.content


def test_a_collected_blob_becomes_a_member_again_if_its_link_is_still_stored(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    app, web = pushed
    layer = app.image.layers[1]
    registry.client.delete_manifest(app.repository, app.image.manifest.digest)
    registry.garbage_collect()
    before = read_keyspace(redis_client)
    redis_client.delete(
        members_key(app.repository),
        *(override_key(app.repository, digest) for digest in app.image.digests),
    )

    assert registry.client.head_blob(app.repository, layer.digest).status == 200
    assert registry.client.head_blob(web.repository, layer.digest).status == 404

    assert read_keyspace(redis_client) == {
        **{key: content for key, content in before.items() if app.repository not in key},
        **expected_repository(app.repository, [layer]),
    }


def test_without_the_cache_a_collected_blob_is_unknown(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    app, _ = pushed
    layer = app.image.layers[1]
    registry.client.delete_manifest(app.repository, app.image.manifest.digest)
    registry.garbage_collect()
    redis_client.flushdb()

    response = registry.client.get_blob(app.repository, layer.digest)

    assert (response.status, response.codes) == (404, ["BLOB_UNKNOWN"])
    assert read_keyspace(redis_client) == {}


def test_a_restart_keeps_storage_and_cache(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: redis.Redis
) -> None:
    app, _ = pushed
    before = read_keyspace(redis_client)

    registry.stop()
    registry.start()

    layer = app.image.layers[1]
    assert registry.client.get_blob(app.repository, layer.digest).body == layer.content
    assert read_keyspace(redis_client) == before
