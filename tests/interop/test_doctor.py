"""What a registry does with a cache that contradicts its storage, and how a check cures it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import override_settings
from redis import Redis

from project import embedded
from tests.interop.copying import Oras, Pushed, Skopeo
from tests.interop.keyspace import blob_key, members_key
from tests.interop.registry import Registry
from tests.servers import cache_at


@pytest.fixture(autouse=True)
def portal(registry: Registry, redis_server: embedded.Server) -> Iterator[None]:
    """The app beside the registry: the same Redis, and the same storage as the truth."""
    truth = {
        "BACKEND": "blobcache.backends.storage.StorageBackend",
        "OPTIONS": {"storage": "registry"},
    }
    storages = {
        "registry": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": registry.storage},
        }
    }
    entry = {"TRUTH": truth, "SETTLE": 1, "SIZE_FIELDS": ["size"]}
    with (
        cache_at(redis_server.url),
        override_settings(BLOBCACHE={"default": entry}, STORAGES=storages),
    ):
        yield


def check(*arguments: str) -> tuple[list[list[str]], int]:
    """Return kind, repository and digest of each finding, and the exit code."""
    out = StringIO()
    try:
        call_command("blobcache", "check", *arguments, stdout=out, stderr=StringIO())
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    rows = [line.split("\t") for line in out.getvalue().splitlines() if "\t" in line]
    return sorted(row[1:4] for row in rows), code


def fix() -> int:
    return check("--fix", "--yes", "--force")[1]


def test_a_collection_is_found_and_cured_and_the_next_push_is_whole(
    pushed: tuple[Pushed, Pushed],
    registry: Registry,
    redis_client: Redis,
    oras: Oras,
    skopeo: Skopeo,
    tmp_path: Path,
) -> None:
    app, web = pushed
    client, base, layer = registry.client, app.image.layers[0], app.image.layers[1]
    assert check() == ([], 0)
    client.get_manifest(app.repository, app.tag)
    client.delete_manifest(app.repository, app.image.manifest.digest)
    client.head_blob(web.repository, base.digest)
    registry.garbage_collect()

    # The lie: it is there, with its size, and has no bytes.
    assert client.head_blob(app.repository, layer.digest).status == 200
    broken = client.get_blob(app.repository, layer.digest)
    assert (broken.status, broken.body, broken.complete) == (200, b"", False)
    layout = app.image.write_layout(tmp_path / "again", "v2")

    def push_and_pull() -> None:
        oras.push(layout, "v2", registry.address, app.repository)
        skopeo.pull(registry.address, app.repository, "v2", tmp_path / "pulled")

    with pytest.raises(AssertionError, match="exit 1"):
        push_and_pull()

    found, code = check()
    assert code == 1
    config = app.image.config
    gone = sorted([layer.digest, config.digest])
    missing = [each for each in found if each[0] == "missing-data"]
    assert missing == sorted(
        ["missing-data", name, digest] for name in ("-", app.repository) for digest in gone
    )
    assert {each[0] for each in found} <= {"missing-data", "stale-manifest"}

    assert fix() == 0
    assert check() == ([], 0)
    assert client.get_blob(app.repository, layer.digest).status == 404
    assert client.get_blob(web.repository, base.digest).complete
    push_and_pull()
    assert client.get_blob(app.repository, layer.digest).body == layer.content
    assert redis_client.sismember(members_key(web.repository), base.digest)


def test_a_deleted_blob_that_came_back_is_cured_where_it_was_deleted(
    pushed: tuple[Pushed, Pushed], registry: Registry
) -> None:
    """CVE-2026-35172: one repository's refill makes it readable again in another."""
    app, web = pushed
    client, base = registry.client, app.image.layers[0]
    assert client.delete_blob(app.repository, base.digest).status == 202
    assert client.head_blob(app.repository, base.digest).status == 404
    assert client.head_blob(web.repository, base.digest).status == 200
    assert client.get_blob(app.repository, base.digest).body == base.content, "it is back"

    # The image itself has lost a layer: that is reported, and only a push cures it.
    incomplete = ["missing-content", app.repository, app.image.manifest.digest]
    assert check() == ([incomplete, ["unlinked-member", app.repository, base.digest]], 1)
    assert fix() == 1
    assert client.get_blob(app.repository, base.digest).status == 404
    assert client.get_blob(web.repository, base.digest).body == base.content
    assert check() == ([incomplete], 1)


def test_a_stale_descriptor_of_a_manifest_loses_the_next_push_until_it_is_cured(
    pushed: tuple[Pushed, Pushed],
    registry: Registry,
    redis_client: Redis,
    oras: Oras,
    tmp_path: Path,
) -> None:
    app, _ = pushed
    client, manifest = registry.client, app.image.manifest
    client.get_manifest(app.repository, app.tag)
    client.delete_manifest(app.repository, manifest.digest)
    # A push between two collections keeps the layers; only the manifest is gone.
    data = registry.storage / "docker/registry/v2/blobs/sha256"
    shutil.rmtree(data / manifest.digest[7:9] / manifest.digest[7:])
    assert redis_client.exists(blob_key(manifest.digest))

    def push() -> bool:
        """Push the image, and return whether its manifest can be read then."""
        layout = app.image.write_layout(tmp_path / "again", app.tag)
        with suppress(AssertionError):  # the client looks whether the manifest is there
            oras.push(layout, app.tag, registry.address, app.repository)
        return client.get_manifest(app.repository, app.tag).body == manifest.content

    assert not push()
    assert check() == ([["stale-manifest", "-", manifest.digest]], 1)
    assert fix() == 0
    assert push()


def test_a_repository_that_was_removed_from_the_disk_is_cured(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: Redis
) -> None:
    app, web = pushed
    shutil.rmtree(registry.storage / "docker/registry/v2/repositories" / app.repository)
    assert registry.client.get_blob(app.repository, app.image.layers[1].digest).status == 200
    found, code = check()
    assert code == 1
    assert {(kind, name) for kind, name, _ in found} == {("unlinked-member", app.repository)}
    assert fix() == 0
    assert not redis_client.exists(members_key(app.repository))
    assert redis_client.exists(members_key(web.repository))


def test_a_stale_member_cannot_be_made_permanent_by_a_mount_any_more(
    pushed: tuple[Pushed, Pushed], registry: Registry
) -> None:
    app, web = pushed
    client, base = registry.client, app.image.layers[0]
    client.delete_blob(app.repository, base.digest)
    client.head_blob(web.repository, base.digest)
    assert client.mount_blob("c/before", base.digest, app.repository).status == 201
    fix()
    assert client.mount_blob("c/after", base.digest, app.repository).status == 202


def test_the_output_of_a_collection_is_enough_to_cure_the_cache(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: Redis, tmp_path: Path
) -> None:
    """Without any backend: what it printed is cleared, and nothing else."""
    app, web = pushed
    client, layer = registry.client, app.image.layers[1]
    client.delete_manifest(app.repository, app.image.manifest.digest)
    log = tmp_path / "gc.log"
    log.write_text(registry.garbage_collect())
    assert client.get_blob(app.repository, layer.digest).status == 200
    with override_settings(BLOBCACHE={"default": {}}):
        call_command("blobcache", "purge", "--gc-log", str(log), "--yes", stdout=StringIO())
    assert client.get_blob(app.repository, layer.digest).status == 404
    assert redis_client.sismember(members_key(web.repository), web.image.layers[0].digest)
    assert {kind for kind, _, _ in check()[0]} <= {"unlinked-member", "dangling-member"}
