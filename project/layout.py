"""Write a registry's storage, as distribution 2.8.3 does on a file system.

What a push, a delete and a garbage collection leave there is compared with what the registry itself
leaves, file by file, in ``tests/project/test_layout.py``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha512
from pathlib import Path
from shutil import rmtree

from project.images import Blob

__all__ = ["Layout"]


class Layout:
    """The storage below a registry's ``rootdirectory``.

    Writing the same again changes nothing. Each method leaves what the registry leaves after it,
    empty directories included.
    """

    def __init__(self, rootdirectory: Path) -> None:
        self.root = rootdirectory / "docker" / "registry" / "v2"
        self.root.mkdir(parents=True, exist_ok=True)
        self._root = str(self.root)
        self._directories = {""}
        self._blobs: set[str] = set()

    def push(self, repository: str, blob: Blob) -> None:
        """Upload a layer or a configuration."""
        self._store(blob)
        self._directory(f"repositories/{repository}/_uploads")
        self._link(f"repositories/{repository}/_layers", blob.digest, blob.digest)

    def push_sha512(self, repository: str, blob: Blob) -> str:
        """Upload a blob by its SHA-512 digest, and return that. It is stored by the other one."""
        alias = f"sha512:{sha512(blob.content).hexdigest()}"
        self.push(repository, blob)
        self._link(f"repositories/{repository}/_layers", alias, blob.digest)
        return alias

    def put_manifest(self, repository: str, manifest: Blob, *tags: str) -> None:
        """Store a manifest or an index, and point the tags to it."""
        self._store(manifest)
        manifests = f"repositories/{repository}/_manifests"
        self._link(f"{manifests}/revisions", manifest.digest, manifest.digest)
        for tag in tags:
            self._link(f"{manifests}/tags/{tag}/index", manifest.digest, manifest.digest)
            self._write(f"{manifests}/tags/{tag}/current", "link", manifest.digest.encode())

    def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a layer or a configuration from the repository. The data stays."""
        self._unlink(f"repositories/{repository}/_layers", digest)

    def delete_manifest(self, repository: str, digest: str, *tags: str) -> None:
        """Delete a manifest or an index from the repository, and the tags that point to it."""
        manifests = f"repositories/{repository}/_manifests"
        self._unlink(f"{manifests}/revisions", digest)
        for tag in tags:
            rmtree(self.root / manifests / "tags" / tag, ignore_errors=True)

    def collect(self, digest: str) -> None:
        """Delete the data, as a garbage collection does. Links to layers stay."""
        rmtree(self.root / _data(digest), ignore_errors=True)
        self._directories.discard(_data(digest))
        self._blobs.discard(digest)

    def _store(self, blob: Blob) -> None:
        if blob.digest not in self._blobs:
            self._blobs.add(blob.digest)
            self._write(_data(blob.digest), "data", blob.content)

    def _link(self, directory: str, digest: str, target: str) -> None:
        self._write(f"{directory}/{digest.replace(':', '/')}", "link", target.encode())

    def _unlink(self, directory: str, digest: str) -> None:
        (self.root / directory / digest.replace(":", "/") / "link").unlink(missing_ok=True)

    def _write(self, directory: str, name: str, content: bytes) -> None:
        self._directory(directory)
        # Not pathlib: it would take most of the time of writing thousands of small files.
        with open(f"{self._root}/{directory}/{name}", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(content)

    def _directory(self, directory: str) -> None:
        """Create the directory and those above it, each once."""
        if directory not in self._directories:
            self._directory(directory.rpartition("/")[0])
            with suppress(FileExistsError):
                os.mkdir(f"{self._root}/{directory}")  # noqa: PTH102 - see above
            self._directories.add(directory)


def _data(digest: str) -> str:
    """Return the directory of a blob's data."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded[:2]}/{encoded}"
