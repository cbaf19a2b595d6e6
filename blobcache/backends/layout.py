"""The layout of a registry's storage: which path holds what, and what a path means.

The layout is that of CNCF distribution 2 and 3, which differ only in the links that they follow.
Paths are relative to the root, ``docker/registry/v2``, and have slashes on every system:

    blobs/sha256/<first two of hex>/<hex>/data                    the bytes of a blob
    repositories/<name>/_layers/<algorithm>/<hex>/link             lets the repository read a blob
    repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link    ... and a manifest

They are built of parsed digests and names only. What cannot be parsed in a path is no blob and no
repository: uploads in progress, tags, temporary files.
"""

from __future__ import annotations

import hashlib

from blobcache.digest import ALGORITHMS, Digest
from blobcache.exceptions import DigestInvalid, RepositoryNameInvalid
from blobcache.reference import RepositoryName
from blobcache.services.truth import LinkKind

__all__ = [
    "BLOBS",
    "DATA",
    "LINK",
    "MAX_LINK",
    "REPOSITORIES",
    "ROOT",
    "blob_of",
    "data_path",
    "followed_kinds",
    "is_empty",
    "link_entry",
    "link_path",
    "link_target",
    "linked_digest",
    "links_folder",
    "may_hold_repositories",
    "repository_folder",
    "repository_of",
]

ROOT = "docker/registry/v2"
"""Where a registry puts everything, below its ``rootdirectory``."""

REPOSITORIES = "repositories"
BLOBS = "blobs"

LINK = "link"
"""The name of the file that holds the digest of the blob that is linked."""

DATA = "data"
"""The name of the file that holds the bytes of a blob."""

MAX_LINK = max(len(name) + 1 + length for name, length in ALGORITHMS.items())
"""Bytes of the longest link."""

_LINKS = {LinkKind.LAYER: "_layers", LinkKind.MANIFEST: "_manifests/revisions"}

_EMPTY = {name: Digest(f"{name}:{hashlib.new(name, b'').hexdigest()}") for name in ALGORITHMS}


def data_path(digest: Digest) -> str:
    """Return the path of a blob's bytes."""
    algorithm, _, encoded = digest.partition(":")
    return f"{BLOBS}/{algorithm}/{encoded[:2]}/{encoded}/{DATA}"


def blob_of(path: str) -> Digest | None:
    """Return the digest that a path below `BLOBS` belongs to; None if it is not that of data."""
    algorithm, shard, encoded, name = _parts(path, 4)
    digest = _digest(algorithm, encoded)
    return digest if name == DATA and digest and digest.encoded[:2] == shard else None


def repository_folder(name: str) -> str:
    """Return the folder of a repository, or of repositories whose names begin with `name/`."""
    return f"{REPOSITORIES}/{name}" if name else REPOSITORIES


def repository_of(name: str) -> RepositoryName | None:
    """Return the name of the repository in a folder below `REPOSITORIES`, if it is a valid name."""
    try:
        return RepositoryName(name)
    except RepositoryNameInvalid:
        return None


def may_hold_repositories(name: str) -> bool:
    """Whether valid names can begin with `name/`."""
    return repository_of(f"{name}/a") is not None


def links_folder(repository: RepositoryName, kind: LinkKind) -> str:
    """Return the folder that holds a repository's links of one kind."""
    return f"{REPOSITORIES}/{repository}/{_LINKS[kind]}"


def link_path(repository: RepositoryName, kind: LinkKind, digest: Digest) -> str:
    """Return the path of a repository's link to a blob."""
    return f"{links_folder(repository, kind)}/{link_entry(digest)}"


def link_entry(digest: Digest) -> str:
    """Return the path of a link below `links_folder`."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}/{encoded}/{LINK}"


def linked_digest(path: str) -> Digest | None:
    """Return the digest that a path below `links_folder` is filed under; None if it is no link."""
    algorithm, encoded, name = _parts(path, 3)
    return _digest(algorithm, encoded) if name == LINK else None


def link_target(content: bytes, digest: Digest) -> Digest | None:
    """Return the digest that a link names; None if the link cannot be followed.

    `digest` is the one that the link is filed under. A registry answers 500 to a link that is not
    exactly a digest, such as an empty one or one with a newline. It follows a link to another blob
    of the same algorithm, and serves wrong bytes; this is never followed here.
    """
    if content == digest.encode():  # The usual case.
        return digest
    try:
        target = Digest(content.decode("ascii"))
    except (DigestInvalid, UnicodeDecodeError):
        return None
    return target if target.algorithm != digest.algorithm else None


def followed_kinds(version: int) -> tuple[LinkKind, ...]:
    """Return the kinds of links that let a repository read a blob that is in the cache.

    Version 3 of the registry caches manifests in the repository's set too. Version 2 does not, and
    always reads the links of manifests from the storage.
    """
    return (LinkKind.LAYER,) if version == 2 else (LinkKind.LAYER, LinkKind.MANIFEST)  # noqa: PLR2004


def is_empty(digest: Digest) -> bool:
    """Whether a digest is that of no bytes at all."""
    return _EMPTY[digest.algorithm] == digest


def _parts(path: str, count: int) -> list[str]:
    """Return the components of a path; empty ones if it has another number of them."""
    parts = path.split("/", count)
    return parts if len(parts) == count else [""] * count


def _digest(algorithm: str, encoded: str) -> Digest | None:
    try:
        return Digest(f"{algorithm}:{encoded}")
    except DigestInvalid:
        return None
