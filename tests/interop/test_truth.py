"""What a real registry stores, read by the backend over the same folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.files.storage import FileSystemStorage

from blobcache.backends import layout
from blobcache.backends.listers import FileSystemLister
from blobcache.backends.registry import RegistryBackend
from blobcache.backends.registry_http import Client
from blobcache.backends.registry_options import RegistryOptions
from blobcache.backends.storage import StorageBackend
from blobcache.services.truth import Absent, LinkKind, Present, Reachable, Unknown
from tests.interop.client import RegistryClient
from tests.interop.processes import Server
from tests.interop.registry import LISTENING, _environment
from tests.servers import installed
from tests.test_docs import ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from tests.interop.copying import Pushed
    from tests.interop.registry import Registry


@pytest.fixture
def backend(registry: Registry) -> StorageBackend:
    return backend_of(registry)


def backend_of(registry: Registry, version: int = 2) -> StorageBackend:
    storage = FileSystemStorage(registry.storage)
    return StorageBackend(FileSystemLister(storage, layout.ROOT), version)


def test_before_the_first_push_nothing_is_known(
    registry: Registry, backend: StorageBackend
) -> None:
    digest = f"sha256:{'0' * 64}"
    assert registry.client.head_blob("team/app", digest).status == 404
    assert isinstance(backend.root(), Unknown)
    assert isinstance(backend.stat(digest, "team/app"), Unknown)


def test_what_was_pushed_is_present_and_listed(
    pushed: tuple[Pushed, Pushed], registry: Registry, backend: StorageBackend
) -> None:
    assert list(backend.repositories()) == ["team/app", "team/web"]
    stored = {each.digest: each.size for image in pushed for each in image.image.content}
    assert {each.digest: each.size for each in backend.blobs()} == stored
    for image in pushed:
        links = list(backend.members(image.repository))
        assert {(each.kind, each.target) for each in links} == {
            *((LinkKind.LAYER, digest) for digest in image.image.digests),
            (LinkKind.MANIFEST, image.image.manifest.digest),
        }
        for blob in image.image.blobs:
            answer = backend.stat(blob.digest, image.repository)
            response = registry.client.head_blob(image.repository, blob.digest)
            assert isinstance(answer, Present)
            assert answer.descriptor.size == response.content_length == blob.size
            with backend.open(blob.digest, image.repository) as file:
                assert file.read() == blob.content


def test_a_manifest_is_no_blob_on_version_2(
    pushed: tuple[Pushed, Pushed], registry: Registry, backend: StorageBackend
) -> None:
    app, web = pushed
    manifest = app.image.manifest.digest
    assert registry.client.head_blob(app.repository, manifest).status == 404
    assert isinstance(backend.stat(manifest, app.repository), Absent)
    assert isinstance(backend.stat(manifest), Present)
    answer = backend_of(registry, 3).stat(manifest, app.repository)
    assert isinstance(answer, Present)
    assert answer.link == LinkKind.MANIFEST
    assert isinstance(backend_of(registry, 3).stat(manifest, web.repository), Absent)


def test_what_was_deleted_and_collected_is_absent(
    pushed: tuple[Pushed, Pushed], registry: Registry, backend: StorageBackend
) -> None:
    app, web = pushed
    shared, own = (layer.digest for layer in app.image.layers)
    assert registry.client.delete_blob(app.repository, shared).status == 202
    assert isinstance(backend.stat(shared, app.repository), Absent)
    assert isinstance(backend.stat(shared, web.repository), Present)
    assert shared not in {each.target for each in backend.members(app.repository)}
    assert registry.client.delete_manifest(app.repository, app.image.manifest.digest).status == 202
    registry.garbage_collect()
    for digest in (own, app.image.manifest.digest):
        assert isinstance(backend.stat(digest), Absent)
        assert isinstance(backend.stat(digest, app.repository), Absent)
    assert {each.digest for each in backend.blobs()} == {each.digest for each in web.image.content}
    # The collection leaves the links of what it deletes, and their repository.
    assert own in {each.target for each in backend.members(app.repository)}
    assert list(backend.repositories()) == [app.repository, web.repository]


def test_the_second_registry_of_the_docs_reads_the_storage_and_changes_nothing(
    pushed: tuple[Pushed, Pushed],
    registry: Registry,
    redis_client: redis.Redis,
    tmp_path: Path,
) -> None:
    app, _ = pushed
    redis_client.flushall()
    (config,) = blocks(ROOT / "docs" / "truth.md", "yaml")
    assert "cache" not in config
    file = tmp_path / "second.yml"
    config = config.replace("/var/lib/registry", str(registry.storage))
    file.write_text(config.replace("127.0.0.1:5001", "127.0.0.1:0"))
    program = str(installed("docker-registry"))
    server = Server([program, "serve", str(file)], tmp_path / "second.log", _environment())
    try:
        server.wait_until(lambda: LISTENING.search(server.log) is not None)
        match = LISTENING.search(server.log)
        assert match is not None
        second = RegistryClient(match[1])
        server.wait_until(second.is_up)
        digest = app.image.layers[1].digest
        assert second.get_blob(app.repository, digest).body == app.image.layers[1].content
        assert second.delete_blob(app.repository, digest).status == 405
        asked = RegistryBackend(Client(RegistryOptions({"url": f"http://{match[1]}"})))
        assert isinstance(asked.root(), Reachable)
        assert isinstance(asked.stat(digest, app.repository), Present)
        assert second.request("POST", f"/v2/{app.repository}/blobs/uploads/").status == 405
        assert redis_client.dbsize() == 0
        assert registry.client.delete_blob(app.repository, digest).status == 202
        assert second.head_blob(app.repository, digest).status == 404
        assert isinstance(asked.stat(digest, app.repository), Absent)
    finally:
        server.stop()
