"""A snapshot of all keys in a Redis, to compare with the expected one as a whole.

The keys are spelled out on purpose and not imported from the package, as an independent source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from tests.interop.oci import Blob

__all__ = [
    "OCTET_STREAM",
    "Keyspace",
    "blob_key",
    "expected_globals",
    "expected_repository",
    "keys_with_ttl",
    "members_key",
    "override_key",
    "read_keyspace",
]

OCTET_STREAM = "application/octet-stream"

Keyspace = dict[str, set[str] | dict[str, str]]
"""Key to content: a set's members, or a hash's fields and values."""


def blob_key(digest: str) -> str:
    """The hash of the global descriptor."""
    return f"blobs::{digest}"


def members_key(repository: str) -> str:
    """The set of a repository's digests."""
    return f"repository::{repository}::blobs"


def override_key(repository: str, digest: str) -> str:
    """The hash of a repository's own media type."""
    return f"repository::{repository}::blobs::{digest}"


def expected_globals(blobs: Iterable[Blob]) -> Keyspace:
    """The global descriptors that a registry writes for `blobs`, whatever their real type."""
    return {
        blob_key(blob.digest): {
            "digest": blob.digest,
            "size": str(blob.size),
            "mediatype": OCTET_STREAM,
        }
        for blob in blobs
    }


def expected_repository(repository: str, blobs: Iterable[Blob]) -> Keyspace:
    """Membership and overrides that a registry writes for `blobs` in a repository."""
    digests = {blob.digest for blob in blobs}
    overrides: Keyspace = {
        override_key(repository, digest): {"mediatype": OCTET_STREAM} for digest in digests
    }
    return {members_key(repository): digests, **overrides}


def read_keyspace(client: redis.Redis) -> Keyspace:
    """Everything in the client's database; a key that is neither set nor hash is an error."""
    return {key: _content(client, key) for key in _keys(client)}


def keys_with_ttl(client: redis.Redis) -> list[str]:
    """The keys that would expire."""
    return [key for key in _keys(client) if client.pttl(key) != -1]


def _keys(client: redis.Redis) -> list[str]:
    return sorted(set(client.scan_iter(count=1000)))


def _content(client: redis.Redis, key: str) -> set[str] | dict[str, str]:
    kind = client.type(key)
    if kind == "set":
        return cast("set[str]", client.smembers(key))
    if kind == "hash":
        return cast("dict[str, str]", client.hgetall(key))
    raise AssertionError(f"{key} is a {kind!r}")
