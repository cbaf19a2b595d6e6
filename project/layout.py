"""Write a registry's storage, as distribution 2.8.3 does on a file system.

What a push, a delete and a garbage collection leave there is compared with what the registry itself
leaves, file by file, in ``tests/project/test_layout.py``. So this is a second proof of the paths in
`blobcache.backends.layout`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha512
from pathlib import Path
from shutil import rmtree

from blobcache.backends.layout import LINK, ROOT, data_path, link_path, repository_folder
from blobcache.digest import Digest
from blobcache.reference import RepositoryName
from blobcache.services.truth import LinkKind
from project.images import Blob
from project.pushes import Push

__all__ = ["Layout"]


class Layout:
    """The storage below a registry's ``rootdirectory``.

    Writing the same again changes nothing. Each method leaves what the registry leaves after it,
    empty directories included.
    """

    def __init__(self, rootdirectory: Path) -> None:
        self._root = rootdirectory / ROOT
        self._root.mkdir(parents=True, exist_ok=True)
        self._prefix = f"{self._root}/"
        self._directories = {""}
        self._stored: set[str] = set()

    def store(self, push: Push) -> None:
        """Store what was pushed, a manifest or another blob."""
        if push.tags is None:
            self.push(push.repository, push.blob)
        else:
            self.put_manifest(push.repository, push.blob, *push.tags)

    def push(self, repository: str, blob: Blob) -> None:
        """Upload a layer or a configuration."""
        self._store(blob)
        # The registry deletes uploads that are complete, but not the directory that they were in.
        self._directory(f"{repository_folder(repository)}/_uploads")
        self._link(repository, LinkKind.LAYER, blob.digest, blob.digest)

    def push_sha512(self, repository: str, blob: Blob) -> str:
        """Upload a blob by its SHA-512 digest, and return that. It is stored by the other one."""
        alias = f"sha512:{sha512(blob.content).hexdigest()}"
        self.push(repository, blob)
        self._link(repository, LinkKind.LAYER, alias, blob.digest)
        return alias

    def put_manifest(self, repository: str, manifest: Blob, *tags: str) -> None:
        """Store a manifest or an index, and point the tags to it."""
        digest = manifest.digest
        self._store(manifest)
        self._link(repository, LinkKind.MANIFEST, digest, digest)
        for tag in tags:
            folder = _tag_folder(repository, tag)
            # All that the tag has ever pointed to, and what it points to now.
            self._write(f"{folder}/index/{digest.replace(':', '/')}/{LINK}", digest.encode())
            self._write(f"{folder}/current/{LINK}", digest.encode())

    def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a layer or a configuration from the repository. The data stays."""
        self._unlink(repository, LinkKind.LAYER, digest)

    def delete_manifest(self, repository: str, digest: str, *tags: str) -> None:
        """Delete a manifest or an index from the repository, and the tags that point to it."""
        self._unlink(repository, LinkKind.MANIFEST, digest)
        for tag in tags:
            self._remove(_tag_folder(repository, tag))

    def collect(self, digest: str) -> None:
        """Delete the data, as a garbage collection does. Links to layers stay."""
        self._remove(_folder(data_path(Digest(digest))))
        self._stored.discard(digest)

    def lose_data(self, digest: str) -> None:
        """Leave an empty file in place of the data, as a crash of the machine can do."""
        self._write(data_path(Digest(digest)), b"")

    def lose_link(self, repository: str, digest: str) -> None:
        """Leave an empty file in place of a link to a layer, as a crash of the machine can do."""
        self._link(repository, LinkKind.LAYER, digest, "")

    def _store(self, blob: Blob) -> None:
        if blob.digest not in self._stored:
            self._stored.add(blob.digest)
            self._write(data_path(Digest(blob.digest)), blob.content)

    def _link(self, repository: str, kind: LinkKind, digest: str, target: str) -> None:
        self._write(link_path(RepositoryName(repository), kind, Digest(digest)), target.encode())

    def _unlink(self, repository: str, kind: LinkKind, digest: str) -> None:
        path = link_path(RepositoryName(repository), kind, Digest(digest))
        (self._root / path).unlink(missing_ok=True)

    def _write(self, path: str, content: bytes) -> None:
        self._directory(_folder(path))
        # Not pathlib: it would take most of the time of writing thousands of small files.
        with open(self._prefix + path, "wb", buffering=0) as file:  # noqa: PTH123
            file.write(content)

    def _directory(self, path: str) -> None:
        """Create a directory and those above it, each once."""
        if path not in self._directories:
            self._directory(_folder(path))
            with suppress(FileExistsError):
                os.mkdir(self._prefix + path)  # noqa: PTH102 - as above
            self._directories.add(path)

    def _remove(self, path: str) -> None:
        rmtree(self._root / path, ignore_errors=True)
        self._directories = {each for each in self._directories if not each.startswith(path)}


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _tag_folder(repository: str, tag: str) -> str:
    return f"{repository_folder(repository)}/_manifests/tags/{tag}"
