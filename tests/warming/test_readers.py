"""Which threads read, how many system calls they make, and how many round trips a warm takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, get_ident
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from redis import Redis

from blobcache.backends.listers import Entry, FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.exceptions import BackendUnavailable
from blobcache.reference import RepositoryName
from blobcache.transport.server import Server
from blobcache.warming import readers, reading
from blobcache.warming.report import Outcome
from tests.backends.cases import ROOT
from tests.warming.worlds import World

ADDED = Outcome.ADDED


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> World:
    return World(tmp_path)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The calls to Redis that are under way, and behind them the number of all."""
    calls: list[str] = []
    for name in ("batch", "run_template_many", "script"):
        method = getattr(Server, name)

        def counted(
            self: Server, *args: Any, method: Any = method, name: str = name, **options: Any
        ) -> Any:
            calls.append(name)
            try:
                return method(self, *args, **options)
            finally:
                calls.append(f"end of {name}")

        monkeypatch.setattr(Server, name, counted)
    return iter([calls])


class Watched(FileSystemLister):
    """Calls a function whenever it reads."""

    def __init__(self, world: World, happens: Callable[[], object], concurrency: int = 1) -> None:
        super().__init__(FileSystemStorage(world.directory), ROOT)
        self.happens = happens
        self.concurrency = concurrency  # type: ignore[misc]

    def read(self, path: str, limit: int) -> bytes:
        self.happens()
        return super().read(path, limit)

    def size(self, path: str) -> int:
        self.happens()
        return super().size(path)

    def files(
        self, path: str, levels: int, name: str, after: str = "", *, limit: int | None = None
    ) -> Iterator[Entry]:
        for entry in super().files(path, levels, name, after, limit=limit):
            self.happens()
            yield entry


def layers(world: World, number: int, *names: str) -> None:
    for name in names:
        for each in range(number):
            world.layer(b"%b %d" % (name.encode(), each), name)


def test_one_thread_reads_a_file_system_while_nothing_is_written(
    world: World, trips: Iterator[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that make such short calls wake each other up for every one of them."""
    monkeypatch.setattr(reading, "BATCH", 2)
    layers(world, 5, "team/app", "team/web", "team/zoo")
    (calls,) = trips
    threads: set[int] = set()
    overlaps: list[str] = []

    def happens() -> None:
        threads.add(get_ident())
        if calls and not calls[-1].startswith("end"):
            overlaps.append(calls[-1])

    backend = StorageBackend(Watched(world, happens), 2)
    assert world.counts(backend=backend, threads=None) == {ADDED: 15}
    assert len(threads) == 1
    assert get_ident() not in threads
    assert overlaps == []


@pytest.mark.parametrize(("concurrency", "threads"), [(4, None), (1, 2)])
def test_several_threads_read_where_answers_take_long_or_on_request(
    world: World, concurrency: int, threads: int | None
) -> None:
    layers(world, 1, "team/app", "team/web")
    both = Barrier(2)
    seen: set[int] = set()

    def happens() -> None:
        if get_ident() not in seen and len(seen) < 2:
            seen.add(get_ident())
            both.wait(30)  # for another thread that reads

    backend = StorageBackend(Watched(world, happens, concurrency), 2)
    assert world.counts(backend=backend, threads=threads) == {ADDED: 2}


def test_a_link_is_opened_twice_and_its_data_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_ = os.open

    def counted(path: str, *args: Any, **options: Any) -> int:
        opened.append(path)
        return open_(path, *args, **options)

    def number() -> int:
        opened.clear()
        assert world.warm().is_judged
        return len([path for path in opened if path.endswith(("/link", "/data"))])

    monkeypatch.setattr(os, "open", counted)
    layers(world, 10, "team/app")
    assert number() == 4 * 10
    assert number() == 2 * 10  # The cache knows them, so there is no second look.


def test_a_batch_takes_three_round_trips(
    world: World, trips: Iterator[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read the cache, to note what will be written, and to write it."""
    monkeypatch.setattr(reading, "BATCH", 10)
    (calls,) = trips
    numbers: list[int] = []
    for name in ("team/app", "team/web"):
        layers(world, 10 * (len(numbers) + 1), name)
        calls.clear()
        assert world.counts(name) == {ADDED: 10 * (len(numbers) + 1)}
        numbers.append(len(calls) // 2)
    assert numbers[1] - numbers[0] == 3


def test_repositories_are_listed_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is longer than what is kept of it is read to its end."""
    monkeypatch.setattr(readers, "_NAMES", 2)
    names = [f"team/{number}" for number in range(5)]
    layers(world, 1, *names)
    shares: list[float | None] = []
    assert world.counts(progress=lambda _links, share: shares.append(share)) == {ADDED: 5}
    assert shares[-1] == 1.0
    assert world.counts(*names[:2]) == {Outcome.KNOWN: 2}


def test_a_list_that_ends_early_warms_what_it_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers(world, 1, "team/app", "team/web")
    backend = world.backend()
    listed = backend.repositories

    def broken(after: str = "") -> Iterator[RepositoryName]:
        yield next(listed(after))
        raise BackendUnavailable("The list is broken.", reason="It was torn.")

    monkeypatch.setattr(backend, "repositories", broken)
    report = world.warm(backend=backend)
    assert report.counts == {ADDED: 1, Outcome.UNREADABLE: 1}
    assert report.cases[0].reason == "The list is broken. It was torn."
    assert not report.is_judged
