"""A registry's storage on the file system, and warms of it whose time a test lets pass."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.files.storage import FileSystemStorage

from blobcache.backends.listers import FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.digest import Digest
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from blobcache.warming.report import Outcome, Report
from blobcache.warming.warm import Warm
from tests.backends.cases import ROOT, data, digest_of, layer_link, manifest_link, write_tree

__all__ = ["TEAM", "Clock", "World"]

TEAM = "team/app"


class Clock:
    """A clock that only a pause moves; before it does, something happens once."""

    def __init__(self, happens: Callable[[], object] | None = None) -> None:
        self.now = 1000.0
        self.pauses = 0
        self._happens = happens

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        self.now += seconds


class World:
    """The storage, and the cache that is warmed from it."""

    def __init__(self, directory: Path, threads: int = 1) -> None:
        self.directory = directory
        self.threads = threads
        self.root = directory / ROOT
        self.root.mkdir(parents=True, exist_ok=True)

    def write(self, path: str, content: bytes) -> Path:
        write_tree(self.directory, {path: content}, [])
        return self.root / path

    def blob(self, content: bytes) -> Digest:
        """Store content, and return its digest."""
        digest = Digest(digest_of(content))
        self.write(data(digest), content)
        return digest

    def layer(self, content: bytes, repository: str = TEAM) -> Digest:
        """Store content, and link it as a layer."""
        digest = self.blob(content)
        self.write(layer_link(repository, digest), digest.encode())
        return digest

    def manifest(self, content: bytes, repository: str = TEAM) -> Digest:
        """Store content, and link it as a manifest."""
        digest = self.blob(content)
        self.write(manifest_link(repository, digest), digest.encode())
        return digest

    def alias(self, content: bytes, repository: str = TEAM) -> Digest:
        """Store content, and link it as a layer by another algorithm alone."""
        target = self.blob(content)
        digest = Digest(digest_of(content, "sha512"))
        self.write(layer_link(repository, digest), target.encode())
        return digest

    def unlink(self, digest: Digest, repository: str = TEAM) -> None:
        """Delete the link of a layer, as a registry does: its folder stays."""
        (self.root / layer_link(repository, digest)).unlink()

    def collect(self, digest: Digest) -> None:
        """Delete the data, as a garbage collection does."""
        shutil.rmtree((self.root / data(digest)).parent)

    def backend(self, version: int = 2) -> StorageBackend:
        return StorageBackend(FileSystemLister(FileSystemStorage(self.directory), ROOT), version)

    def warm(
        self,
        *names: str,
        version: int = 2,
        happens: Callable[[], object] | None = None,
        rules: Rules | None = None,
        backend: StorageBackend | None = None,
        progress: Callable[[int, float | None], object] | None = None,
        **options: Any,
    ) -> Report:
        """Warm from it; `happens` between the two looks."""
        clock = Clock(happens)
        warm = Warm(
            RedisBlobDescriptorCacheProvider(rules),
            backend or self.backend(version),
            version=version,
            **{"threads": self.threads, "clock": clock, "pause": clock.pause, **options},
        )
        return warm.run(names, progress)

    def counts(self, *names: str, **options: Any) -> dict[Outcome, int]:
        """Warm, and return the outcomes alone."""
        return dict(self.warm(*names, **options).counts)
