"""A folder as the storage of the registry that the tests configure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.test import override_settings

__all__ = ["STORAGE_BACKEND", "storage_as_truth", "store_blob"]

STORAGE_BACKEND = "blobcache.backends.storage.StorageBackend"


@contextmanager
def storage_as_truth(
    directory: Path, backend: str = STORAGE_BACKEND, **entry: object
) -> Iterator[None]:
    """Within the block the default registry has its storage in that folder.

    `entry` are its other settings.
    """
    truth = {"BACKEND": backend, "OPTIONS": {"storage": "registry"}}
    storage = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": directory},
    }
    with override_settings(
        BLOBCACHE={"default": {"TRUTH": truth, **entry}},
        STORAGES={**settings.STORAGES, "registry": storage},
    ):
        yield


def store_blob(directory: Path, digest: str, repository: str) -> None:
    """Write a blob's data into the storage in the folder, and a repository without links."""
    algorithm, _, encoded = digest.partition(":")
    data = directory / "docker/registry/v2/blobs" / algorithm / encoded[:2] / encoded / "data"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"layer")
    (directory / "docker/registry/v2/repositories" / repository).mkdir(parents=True)
