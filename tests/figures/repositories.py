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
    members = f"repository::{repository}::blobs"
    digests = [digest(number) for number in range(first, first + blobs)]
    for start in range(0, blobs, 2000):
        some = digests[start : start + 2000]
        with client.pipeline(transaction=False) as pipe:
            for blob in some:
                pipe.execute_command("HSET", f"blobs::{blob}", "digest", blob, "size", size)
                pipe.execute_command("HSET", f"{members}::{blob}", "mediatype", OCTETS)
            pipe.sadd(members, *some)
            pipe.execute()


def counted(figures: FigureStore, name: str) -> Figures:
    """Count to the end."""
    while (status := figures.count_step(name)).progress is not None:
        pass
    assert status.figures is not None
    return status.figures
