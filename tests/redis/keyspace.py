"""A keyspace as a registry leaves it, large and with foreign things in it."""

from __future__ import annotations

from redis import Redis

from blobcache.redis.listings import RedisCatalog

REPOSITORIES = 500
BLOBS = 41
"""Blobs of each repository: with its override and half a hash each, 30,000 keys together."""

ODD_NAMES = ["MyTeam/app", "localhost:5000/app", "registry.example.com/team/app"]
CORRUPT_NAMES = [b"", b"Not A Name", b"a//b", b"\xff\xfe", b"x" * 300, b"a::b", b"line\nbreak"]
SPECIAL = "team-007/app"
"""A repository with a blob that it shares only with the last one."""


def name_of(number: int) -> str:
    return f"team-{number % 50:03}/app" if number < 50 else f"team-{number % 50:03}/app/{number}"


NAMES = [name_of(number) for number in range(REPOSITORIES)]


def write_as_a_registry(
    client: Redis, repository: str | bytes, digests: list[str], size: int = 1234
) -> None:
    """Send what distribution sends for each layer that is pushed."""
    raw = repository if isinstance(repository, bytes) else repository.encode()
    with client.pipeline(transaction=False) as pipe:
        for digest in digests:
            blob = f"blobs::{digest}"
            pipe.sadd(b"repository::%b::blobs" % raw, digest)
            pipe.execute_command("HMSET", blob, "digest", digest, "size", size)
            pipe.hsetnx(blob, "mediatype", "application/octet-stream")
            override = b"repository::%b::blobs::%b" % (raw, digest.encode())
            pipe.hset(override, "mediatype", "application/octet-stream")
        pipe.execute()


def digests_of(number: int) -> list[str]:
    """Half of a repository's blobs are its own, half are shared with the next ones."""
    own = [f"sha256:{number:032x}{blob:032x}" for blob in range(BLOBS // 2)]
    shared = [f"sha256:{number // 10:031x}f{blob:032x}" for blob in range(BLOBS - len(own))]
    return own + shared


def names(catalog: RedisCatalog, prefix: str = "", limit: int = 100) -> list[str]:
    """All pages' names, in the order in which they come."""
    found: list[str] = []
    cursor = ""
    while True:
        page = catalog.repositories(prefix, cursor, limit)
        found += [entry.name for entry in page.repositories]
        if page.next is None:
            return found
        cursor = page.next
