"""What the app is compared with: the registry's algorithm, written with redis-py.

The commands are those of CNCF distribution, which waits for the reply to each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis
from redis.client import Pipeline

from benchmarks.data import OCTETS, SIZE

__all__ = ["clear", "fill", "set_", "smart_pipeline", "stat", "stat_pipeline", "write"]

FIELDS = ["digest", "size", "length", "mediatype"]


def stat(client: Redis, repository: str, digest: str) -> object:
    """Stat in a repository, one command after another."""
    if not client.sismember(f"repository::{repository}::blobs", digest):
        return None
    found = client.hmget(f"blobs::{digest}", FIELDS)
    override = client.hget(f"repository::{repository}::blobs::{digest}", "mediatype")
    return found, override


def set_(client: Redis, repository: str, digest: str) -> None:
    """Set in a repository, one command after another."""
    client.sadd(f"repository::{repository}::blobs", digest)
    client.hset(f"blobs::{digest}", mapping={"digest": digest, "size": SIZE, "length": SIZE})
    client.hsetnx(f"blobs::{digest}", "mediatype", OCTETS)
    client.hset(f"repository::{repository}::blobs::{digest}", "mediatype", OCTETS)


def clear(client: Redis, repository: str, digest: str) -> None:
    """Clear in a repository: a read, then a transaction."""
    if not client.sismember(f"repository::{repository}::blobs", digest):
        return
    with client.pipeline(transaction=True) as pipe:
        pipe.srem(f"repository::{repository}::blobs", digest)
        pipe.delete(f"repository::{repository}::blobs::{digest}")
        pipe.hdel(f"blobs::{digest}", *FIELDS)
        pipe.execute()


def stat_pipeline(client: Redis, repository: str, digests: Sequence[str]) -> list[object]:
    """Stat many digests: the same commands in one pipeline."""
    with client.pipeline(transaction=False) as pipe:
        for digest in digests:
            pipe.sismember(f"repository::{repository}::blobs", digest)
            pipe.hmget(f"blobs::{digest}", FIELDS)
            pipe.hget(f"repository::{repository}::blobs::{digest}", "mediatype")
        return pipe.execute()


def smart_pipeline(client: Redis, repository: str, digests: Sequence[str]) -> list[object]:
    """Stat many digests with the commands of our batch in one pipeline."""
    with client.pipeline(transaction=False) as pipe:
        pipe.smismember(f"repository::{repository}::blobs", list(digests))
        for digest in digests:
            pipe.hmget(f"blobs::{digest}", FIELDS)
            pipe.hget(f"repository::{repository}::blobs::{digest}", "mediatype")
        return pipe.execute()


def fill(client: Redis, repository: str, digests: Sequence[str], *, chunk: int = 5000) -> None:
    """Store the digests as a registry does, many in one round trip."""
    for start in range(0, len(digests), chunk):
        with client.pipeline(transaction=False) as pipe:
            for digest in digests[start : start + chunk]:
                write(pipe, repository, digest)
            pipe.execute()


def write(pipe: Pipeline, repository: str, digest: str) -> None:
    """Queue the keys of one membership."""
    pipe.execute_command("SADD", f"repository::{repository}::blobs", digest)
    fields = {"digest": digest, "size": SIZE, "length": SIZE, "mediatype": OCTETS}
    words = [word for each in fields.items() for word in each]
    pipe.execute_command("HSET", f"blobs::{digest}", *words)
    pipe.execute_command("HSET", f"repository::{repository}::blobs::{digest}", "mediatype", OCTETS)
