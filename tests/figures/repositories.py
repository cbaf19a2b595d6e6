"""Repositories as a registry writes them, and their figures."""

from __future__ import annotations

from redis import Redis

from blobcache.services.figures import Figures, FigureStore

__all__ = ["OCTETS", "counted", "digest", "write"]

OCTETS = "application/octet-stream"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def write(client: Redis, repository: str, blobs: int, *, first: int = 0, size: int = 10) -> None:
    """Write the keys that a registry writes."""
    with client.pipeline(transaction=False) as pipe:
        for number in range(first, first + blobs):
            blob = digest(number)
            pipe.hset(f"blobs::{blob}", mapping={"digest": blob, "size": size})
            pipe.hset(f"repository::{repository}::blobs::{blob}", "mediatype", OCTETS)
            pipe.sadd(f"repository::{repository}::blobs", blob)
            if number % 2000 == 0:
                pipe.execute()
        pipe.execute()


def counted(figures: FigureStore, name: str) -> Figures:
    """Count to the end."""
    while (status := figures.count_step(name)).progress is not None:
        pass
    assert status.figures is not None
    return status.figures
