"""From what Redis holds to names and digests; what is neither becomes printable text."""

from __future__ import annotations

from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid, RepositoryNameInvalid
from blobcache.reference import RepositoryName

__all__ = ["digest_text", "printable", "repository_text"]


def repository_text(raw: bytes) -> str:
    """Return the `RepositoryName`, or what stands in the place of one, made printable."""
    try:
        return RepositoryName(raw.decode())
    except (RepositoryNameInvalid, UnicodeDecodeError):
        return printable(raw)


def digest_text(raw: bytes) -> str:
    """Return the `Digest`, or what stands in the place of one, made printable."""
    try:
        return Digest(raw.decode(), allow_tarsum=True)
    except (DigestInvalid, UnicodeDecodeError):
        return printable(raw)


def printable(raw: bytes) -> str:
    """Return anything as text of printable characters."""
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
