"""What it costs to read a registry's storage, beside the system calls that are needed at least."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

from django.core.files.storage import FileSystemStorage

from benchmarks import truth_http
from benchmarks.bench import Bench
from benchmarks.data import digests
from benchmarks.measuring import Case, figures, interleaved
from benchmarks.reading_through import read_through
from benchmarks.results import Figure, Ratio, Section, ratio
from benchmarks.warming import warm
from blobcache.backends.layout import BLOBS, REPOSITORIES, ROOT, data_path, link_path
from blobcache.backends.listers import FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.digest import Digest
from blobcache.reference import RepositoryName
from blobcache.services.truth import Absent, LinkKind, Present

__all__ = ["run", "write_storage"]

LINKS_PER_SECOND = 15_000
"""Links that a list must read in a second, at least."""

MEMORY_MB = 32
"""The most memory that a list may take, however long it is."""


def run(bench: Bench) -> Iterator[Section]:
    """Measure looks at single blobs, and lists of everything."""
    directory = bench.directory / "registry"
    repositories, links = bench.scaled(100, 3), bench.scaled(1000, 10)
    write_storage(directory, repositories, links)
    storage = FileSystemStorage(directory)
    backend = StorageBackend(FileSystemLister(storage, ROOT), 2)
    yield _looks(bench, directory / ROOT, backend)
    yield read_through(bench, backend)
    yield _lists(bench, directory / ROOT, backend)
    yield from truth_http.looks(bench, directory, backend)
    yield warm(bench, backend)
    shutil.rmtree(directory)


def write_storage(directory: Path, repositories: int, links: int) -> None:
    """Write a registry's storage: repositories with so many links each, ten to each blob."""
    root = directory / ROOT
    known = [Digest(each) for each in digests(max(repositories * links // 10, links))]
    for digest in known:
        _write(root / data_path(digest), digest)
    for number in range(repositories):
        name = RepositoryName(f"team-{number % 10}/app-{number:04}")
        for place in range(links):
            digest = known[(number * links + place) % len(known)]
            _write(root / link_path(name, LinkKind.LAYER, digest), digest)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _looks(bench: Bench, root: Path, backend: StorageBackend) -> Section:
    calls = bench.scaled(1000, 5)
    name = next(backend.repositories())
    stored = [link.digest for _, link in zip(range(calls), backend.members(name), strict=False)]
    missing = [Digest(each) for each in digests(len(stored), "missing")]

    def bare_data(digest: Digest) -> object:
        return os.stat(f"{root}/{data_path(digest)}")  # noqa: PTH116  # the system call itself

    def bare_link(digest: Digest) -> object:
        _read(f"{root}/{link_path(name, LinkKind.LAYER, digest)}")
        return bare_data(digest)

    def bare_missing(digest: Digest) -> object:
        try:
            return bare_data(digest)
        except FileNotFoundError:
            return None

    cases = [
        _case("stat of data", lambda digest: _require(backend.stat(digest), Present), stored),
        _case("stat of a link", lambda each: _require(backend.stat(each, name), Present), stored),
        _case("stat of nothing", lambda digest: _require(backend.stat(digest), Absent), missing),
        _case("bare: stat", bare_data, stored),
        _case("bare: read, stat", bare_link, stored),
        _case("bare: stat of nothing", bare_missing, missing),
    ]
    found = figures(interleaved(cases, bench.scaled(11, 1)))
    data, link, nothing, bare_of_data, bare_of_link, bare_of_nothing = found.values()
    return Section(
        "truth: one blob",
        list(found.values()),
        [
            ratio("stat of data / bare", data, bare_of_data),
            ratio("stat of a link / bare", link, bare_of_link),
            ratio("stat of nothing / bare", nothing, bare_of_nothing),
        ],
        ["A stat of nothing looks at the root too, and at each folder on the way."],
    )


def _lists(bench: Bench, root: Path, backend: StorageBackend) -> Section:
    def links() -> int:
        names = backend.repositories()
        return sum(link.target is not None for name in names for link in backend.members(name))

    def bare_links() -> int:
        return sum(
            len(_read(f"{root}/{path}/link")) > 0
            for repository in _folders(root, REPOSITORIES, 2)
            for path in _folders(root, f"{repository}/_layers", 2)
        )

    def blobs() -> int:
        return sum(1 for _ in backend.blobs())

    def bare_blobs() -> int:
        paths = _folders(root, BLOBS, 3)
        return sum(os.stat(f"{root}/{path}/data").st_size > 0 for path in paths)  # noqa: PTH116

    tracemalloc.start()
    linked, stored = links(), blobs()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    cases = [
        Case("a link in a list", linked, lambda: links),
        Case("a blob in a list", stored, lambda: blobs),
        Case("bare: scandir and read", linked, lambda: bare_links),
        Case("bare: scandir and stat", stored, lambda: bare_blobs),
    ]
    found = figures(interleaved(cases, bench.scaled(5, 1)))
    link, blob, bare_of_link, bare_of_blob = found.values()
    return Section(
        f"truth: lists of {linked:,} links and {stored:,} blobs",
        [*found.values(), Figure("memory of both lists", "MB", (peak,))],
        [
            ratio("a link / bare", link, bare_of_link),
            ratio("a blob / bare", blob, bare_of_blob),
            Ratio(
                f"links / {LINKS_PER_SECOND:,} a second",
                tuple(1e6 / each / LINKS_PER_SECOND for each in link.values),
                target=1,
                at_least=True,
            ),
            Ratio(f"memory / {MEMORY_MB} MB", (peak / MEMORY_MB,), target=1),
        ],
    )


def _case(name: str, call: Callable[[Digest], object], given: list[Digest]) -> Case:
    def calls() -> None:
        for digest in given:
            call(digest)

    return Case(name, len(given), lambda: calls)


def _require(answer: object, expected: type) -> None:
    if not isinstance(answer, expected):
        raise TypeError(answer)


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 256)
    finally:
        os.close(descriptor)


def _folders(root: Path, path: str, levels: int) -> Iterator[str]:
    """Iterate over the paths of folders so many levels below a folder."""
    with os.scandir(f"{root}/{path}") as entries:
        for entry in entries:
            below = f"{path}/{entry.name}"
            if levels == 1:
                yield below
            else:
                yield from _folders(root, below, levels - 1)
