"""The demo's storage, compared with what a real registry leaves after the same requests."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha512
from itertools import islice
from pathlib import Path

import pytest

from project import embedded
from project.layout import Layout
from project.pushes import ALIASED, Push, collected, pushes
from tests.interop.registry import Registry, running_registry
from tests.servers import installed

SIGNED, CHART, MOVED = "shop/backend/payments.v2", "charts/shop", "data/etl-nightly"
NUMBERS = {SIGNED: 30, CHART: 4, MOVED: 18}
"""How many pushes are compared: those of an image for two platforms with its signature and its bill
of materials, of a chart, and of three generations of an image with one tag."""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with nothing in it."""
    with (
        embedded.start(binary=installed("redis-server")) as redis,
        running_registry(tmp_path, redis) as running,
    ):
        yield running


def some_pushes() -> list[Push]:
    found: list[Push] = []
    for name, number in NUMBERS.items():
        found += islice((push for push in pushes() if push.repository == name), number)
    return found


def send(registry: Registry, push: Push) -> None:
    """Push to the registry, as clients do: no blob twice."""
    name, blob = push.repository, push.blob
    if push.tags is not None:
        for reference in push.tags or (blob.digest,):
            sent = registry.client.put_manifest(name, reference, blob.content, blob.media_type)
            assert sent.status == 201, sent
    elif registry.client.head_blob(name, blob.digest).status != 200:
        assert registry.client.push_blob(name, blob.digest, blob.content).status == 201


def tree(root: Path) -> dict[str, bytes | None]:
    """Return the content of every file, and None for every empty directory."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def test_pushes_leave_what_they_leave_in_a_registry(registry: Registry, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "ours")
    for push in some_pushes():
        layout.store(push)
        send(registry, push)
    name, blob, _ = ALIASED
    alias = layout.push_sha512(name, blob)
    assert alias == f"sha512:{sha512(blob.content).hexdigest()}"
    assert registry.client.push_blob(name, alias, blob.content).status == 201
    assert tree(tmp_path / "ours") == tree(registry.storage)


def test_deletes_and_a_collection_leave_what_they_leave_in_a_registry(
    registry: Registry, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "ours")
    base, *_, image = gone = collected()
    another = Push("another", base.blob)
    for push in (another, *gone):
        layout.store(push)
        send(registry, push)
    layout.delete_manifest(image.repository, image.blob.digest, *image.tags or ())
    assert registry.client.delete_manifest(image.repository, image.blob.digest).status == 202
    layout.delete_blob(base.repository, base.blob.digest)
    assert registry.client.delete_blob(base.repository, base.blob.digest).status == 202
    registry.garbage_collect()
    for push in (another, *gone):  # no manifest names the base
        layout.collect(push.blob.digest)
    assert tree(tmp_path / "ours") == tree(registry.storage)


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for push in collected():
        layout.store(push)
    before = tree(tmp_path)
    again = Layout(tmp_path)
    for push in collected():
        again.store(push)
    assert tree(tmp_path) == before
