"""What it costs to ask a registry over HTTP, beside the bare requests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.measuring import Case, figures, interleaved
from benchmarks.processes import serving
from benchmarks.results import Section, ratio
from blobcache.backends.registry import RegistryBackend
from blobcache.backends.registry_http import Client
from blobcache.backends.registry_options import RegistryOptions
from blobcache.backends.storage import StorageBackend
from blobcache.services.truth import Present

__all__ = ["looks"]


def looks(bench: Bench, directory: Path, backend: StorageBackend) -> Iterator[Section]:
    """Measure looks at blobs of a storage, through a registry without a cache, if there is one."""
    if not shutil.which("docker-registry"):
        return
    name = next(backend.repositories())
    stored = [link.digest for link in islice(backend.members(name), bench.scaled(300, 5))]
    paths = [f"/v2/{name}/blobs/{digest}" for digest in stored]
    with serving(directory, bench.directory) as address:
        asked = RegistryBackend(Client(RegistryOptions({"url": f"http://{address}"})))
        connection = HTTPConnection(address)

        def stats() -> None:
            for digest in stored:
                answer = asked.stat(digest, name)
                if not isinstance(answer, Present):
                    raise TypeError(answer)

        def bare(method: str) -> None:
            for path in paths:
                connection.request(method, path, headers={"Range": "bytes=0-0"})
                connection.getresponse().read()

        cases = [
            Case("stat", len(stored), lambda: stats),
            Case("bare: GET by http.client", len(stored), lambda: lambda: bare("GET")),
            Case("bare: HEAD by http.client", len(stored), lambda: lambda: bare("HEAD")),
        ]
        try:
            found = figures(interleaved(cases, bench.scaled(11, 1)))
        finally:
            connection.close()
    stat, get, head = found.values()
    yield Section(
        "truth: one blob over HTTP",
        list(found.values()),
        [ratio("stat / bare GET", stat, get), ratio("stat / bare HEAD", stat, head)],
        ["A HEAD does not show that the data is there. The times include the registry's."],
    )
