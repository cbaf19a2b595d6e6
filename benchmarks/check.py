"""A check of the cache beside the registry's storage: what it finds, its speed and its memory.

Each check runs in a process of its own: ``python -m benchmarks.check DIRECTORY KIND``.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time

import django
from django.core.files.storage import FileSystemStorage
from django_redis import get_redis_connection
from redis import Redis

from benchmarks.bench import ALIAS, Bench
from benchmarks.data import OCTETS
from benchmarks.results import Figure, Ratio, Section
from benchmarks.truth import write_storage
from blobcache.backends.layout import BLOBS, ROOT, data_path, link_path
from blobcache.backends.listers import FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.digest import Digest
from blobcache.reference import RepositoryName
from blobcache.services.truth import LinkKind

__all__ = ["run"]

LINKS = 1000
"""Of each repository."""

LIES = 50

ENTRIES_PER_SECOND = 10_000
"""Members and global descriptors that a check must compare in a second, at least."""

MEMORY_MB = 200
"""The most memory that a check may take, however large the cache is."""


def run(bench: Bench) -> Iterator[Section]:
    """Check caches of growing size, each with fifty lies in it."""
    for repositories in (2,) if bench.is_short else (100, 1000):
        directory = bench.directory / "checked"
        bench.client.flushdb()
        write_storage(directory, repositories, LINKS)
        backend = StorageBackend(FileSystemLister(FileSystemStorage(directory), ROOT), 2)
        _fill(bench.client, backend)
        _lie(bench.client, backend, directory)
        yield _section(bench, directory)
        shutil.rmtree(directory)
        bench.client.flushdb()


def _section(bench: Bench, directory: Path) -> Section:
    bare, check = _in_a_process(bench, directory, "bare"), _in_a_process(bench, directory, "check")
    entries, found = check["entries"], check["findings"]
    if found != LIES:
        raise ValueError(f"{found} findings instead of {LIES}.")
    each = {name: 1e6 * run["seconds"] / entries for name, run in (("", check), ("bare", bare))}
    return Section(
        f"check of {entries:,.0f} entries",
        [
            Figure("an entry", "us", (each[""],)),
            Figure("bare: SSCAN, HMGET, read and stat", "us", (each["bare"],)),
            Figure("its processor time here", "us", (1e6 * check["cpu"] / entries,)),
            Figure("memory of the process", "MB", (check["MB"],)),
            Figure("findings", "", (found,)),
        ],
        [
            Ratio("an entry / bare", (each[""] / each["bare"],)),
            Ratio(
                f"entries / {ENTRIES_PER_SECOND:,} a second",
                (1e6 / each[""] / ENTRIES_PER_SECOND,),
                target=1,
                at_least=True,
            ),
            Ratio(f"memory / {MEMORY_MB} MB", (check["MB"] / MEMORY_MB,), target=1),
        ],
        [
            f"{LIES} lies, and each is found once.",
            "An entry is a member or a global descriptor; a check also reads the list of links.",
        ],
    )


def _fill(client: Redis, backend: StorageBackend) -> None:
    """Cache all that is stored."""
    with client.pipeline(transaction=False) as pipe:
        for blob in backend.blobs():
            fields = {"digest": blob.digest, "size": blob.size, "mediatype": OCTETS}
            pipe.hset(f"blobs::{blob.digest}", mapping=fields)  # type: ignore[arg-type]
        pipe.execute()
        for name in backend.repositories():
            for link in backend.members(name):
                pipe.sadd(f"repository::{name}::blobs", link.digest)
                pipe.hset(f"repository::{name}::blobs::{link.digest}", "mediatype", OCTETS)
            pipe.execute()


def _lie(client: Redis, backend: StorageBackend, directory: Path) -> None:
    """Let some links be gone, some types be unsafe, and some sizes be wrong."""
    name = next(backend.repositories())
    links = [link.digest for _, link in zip(range(LIES), backend.members(name), strict=False)]
    for number, digest in enumerate(links):
        if number % 5 == 0:
            client.hset(f"blobs::{digest}", "size", 1)
        elif number % 5 == 1:
            client.hset(f"repository::{name}::blobs::{digest}", "mediatype", "text/html")
        else:
            (directory / ROOT / link_path(name, LinkKind.LAYER, digest)).unlink()


def _in_a_process(bench: Bench, directory: Path, kind: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.check", str(directory), kind],
        env=bench.environment(),
        check=True,
        stdout=subprocess.PIPE,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _check(directory: Path) -> dict[str, float]:
    """Run the check, as the command line does."""
    from blobcache.doctor.scan import Diagnosis  # noqa: PLC0415 - needs Django to be set up
    from blobcache.services import get_browsable  # noqa: PLC0415 - likewise

    backend = StorageBackend(FileSystemLister(FileSystemStorage(directory), ROOT), 2)
    found = entries = 0
    for step in Diagnosis(get_browsable(), backend=backend).run():
        found += len(step.findings)
        entries = step.progress.judged
    return {"findings": found, "entries": entries}


def _bare(directory: Path) -> dict[str, float]:
    """Read the same, with nothing around it."""
    client: Redis = get_redis_connection(ALIAS)
    root = directory / ROOT
    for key in client.scan_iter("repository::*::blobs", count=1000):
        name = RepositoryName(key.decode()[12:-7])
        members = [Digest(each.decode()) for each in client.sscan_iter(key, count=1000)]
        with client.pipeline(transaction=False) as pipe:
            for digest in members:
                pipe.hmget(f"blobs::{digest}", "digest", "size", "mediatype")
                pipe.hget(f"repository::{name}::blobs::{digest}", "mediatype")
            pipe.execute()
        for digest in members:
            path = root / link_path(name, LinkKind.LAYER, digest)
            if path.exists():
                path.read_bytes()
            os.stat(root / data_path(digest))  # noqa: PTH116  # the system call itself
    for path in (root / BLOBS).glob("*/*/*/data"):
        client.hmget(f"blobs::sha256:{path.parent.name}", "digest", "size", "mediatype")
    return {}


def _main() -> None:
    django.setup()
    directory, kind = Path(sys.argv[1]), sys.argv[2]
    begun, worked = perf_counter(), process_time()
    measured = {"check": _check, "bare": _bare}[kind](directory)
    measured["seconds"] = perf_counter() - begun
    measured["cpu"] = process_time() - worked
    measured["MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    sys.stdout.write(json.dumps(measured))


if __name__ == "__main__":
    _main()
