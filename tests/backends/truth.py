"""A folder as the storage of the registry that the tests configure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.test import override_settings

__all__ = ["STORAGE_BACKEND", "storage_as_truth"]

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
