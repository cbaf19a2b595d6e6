"""Bytes for each (repository, blob) pair, by layout and by the server's settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from redis import Redis

from benchmarks.bench import Bench, program
from benchmarks.data import OCTETS, SIZE, digest
from benchmarks.results import Figure, Ratio, Section, ratio
from blobcache.digest import Digest
from blobcache.redis import commands, keys
from blobcache.reference import RepositoryName
from project import embedded

__all__ = ["run"]

BLOBS = 200
"""Of a repository."""

SHARED = 60
"""Of these: blobs that all the repositories have, as base images are."""

LAYOUTS: dict[str, tuple[str, ...]] = {
    "size alone, as a registry writes": ("size",),
    "size and length, our default": ("size", "length"),
}

SETTINGS: dict[str, list[str]] = {
    "server as shipped": [],
    "hash-max-listpack-value 160": ["--hash-max-listpack-value", "160"],
}


def run(bench: Bench) -> Iterator[Section]:
    """Fill servers and ask them for their memory."""
    pairs: dict[tuple[str, str], Figure] = {}
    hashes: dict[str, Figure] = {}
    for setting, arguments in SETTINGS.items():
        for layout, sizes in LAYOUTS.items():
            with embedded.start(*arguments, binary=program()) as server, server.client() as client:
                each = _pair(client, sizes, bench.scaled(250, 5))
                pairs[setting, layout] = Figure(f"a pair: {layout}; {setting}", "bytes", (each,))
                name = f"a blobs:: hash; {setting}"
                used = client.memory_usage(keys.blob(_blobs(0)[0])) or 0
                hashes[setting] = Figure(name, "bytes", (float(used),))
    shipped, tuned = SETTINGS
    registrys, ours = LAYOUTS
    base = pairs[shipped, registrys]
    yield Section(
        "memory",
        [*pairs.values(), *hashes.values()],
        [
            ratio("ours / the registry's", pairs[shipped, ours], base, target=1.1),
            ratio("ours with 160 / the registry's", pairs[tuned, ours], base, target=0.85),
            Ratio("a hash with 160 / 300 bytes", (hashes[tuned].median / 300,), target=1.05),
        ],
        [f"{BLOBS} blobs in each repository, {SHARED} of them in all"],
    )


def _pair(client: Redis, sizes: Sequence[str], repositories: int) -> float:
    """Return bytes for each pair, with all keys and the index of names."""
    client.ping()
    before = client.info("memory")["used_memory"]
    for number in range(repositories):
        name = RepositoryName(f"team-{number % 50}/app-{number}")
        blobs = _blobs(number)
        with client.pipeline(transaction=False) as pipe:
            for blob in blobs:
                words = (blob.encode(), str(SIZE).encode(), OCTETS.encode())
                for command in (
                    *commands.hashes(name, blob, *words, size_fields=sizes, ttl=None),
                    *commands.membership(name, blob, ttl=None),
                ):
                    pipe.execute_command(*command)
            pipe.execute_command("ZADD", keys.CatalogKeys.of().names, 0, name)
            pipe.execute()
    used: int = client.info("memory")["used_memory"] - before
    return used / (repositories * BLOBS)


def _blobs(repository: int) -> list[Digest]:
    shared = [digest(number, "base") for number in range(SHARED)]
    own = [digest(number, f"repository {repository}") for number in range(BLOBS - SHARED)]
    return [Digest(each) for each in (*own, *shared)]
