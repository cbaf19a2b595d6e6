"""From what Redis holds to names and digests; what is neither becomes printable text."""

from __future__ import annotations

from blobcache.digest import MAX_LENGTH as MAX_DIGEST
from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid, RepositoryNameInvalid
from blobcache.raw import printable
from blobcache.reference import MAX_LENGTH as MAX_NAME
from blobcache.reference import RepositoryName

__all__ = ["digest_text", "repository_text"]


def repository_text(raw: bytes) -> str:
    """Return the `RepositoryName`, or what stands in the place of one, made printable."""
    if len(raw) <= MAX_NAME:  # a name is ASCII
        try:
            return RepositoryName(raw.decode())
        except (RepositoryNameInvalid, UnicodeDecodeError):
            pass
    return printable(raw)


def digest_text(raw: bytes, *, allow_tarsum: bool = True) -> str:
    """Return the `Digest`, or what stands in the place of one, made printable."""
    if len(raw) <= MAX_DIGEST:  # a digest is ASCII
        try:
            return Digest(raw.decode(), allow_tarsum=allow_tarsum)
        except (DigestInvalid, UnicodeDecodeError):
            pass
    return printable(raw)
