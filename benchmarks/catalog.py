"""Pages of lists, and stats, with few entries and with many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from time import time

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from redis import Redis

from benchmarks import original
from benchmarks.bench import Bench
from benchmarks.data import digests
from benchmarks.measuring import Case, figures, interleaved
from benchmarks.results import Figure, Ratio, Section, ratio
from benchmarks.traffic import counted
from blobcache.redis.keys import CatalogKeys
from blobcache.services import get_browsable

__all__ = ["run"]

LONGEST_BLOCK = 1000
"""Microseconds: what no command may take longer than."""


@dataclass(frozen=True)
class Pages:
    """What the pages took with one number of entries."""

    entries: int
    times: dict[str, Figure]
    commands: dict[str, int]
    bytes: dict[str, int]
    slow: list[str]
    """Commands that took longer than a millisecond."""


def run(bench: Bench) -> Iterator[Section]:
    """Measure pages with a thousand entries and with a million."""
    sizes = (1000, bench.scaled(1_000_000, 3000))
    few, many = (_measured(bench, entries) for entries in sizes)
    yield Section(
        f"pages at {few.entries:,} and {many.entries:,} entries",
        [
            Figure(f"{name}, {pages.entries:,}", "ms", figure.values)
            for name in few.times
            for pages, figure in ((few, few.times[name]), (many, many.times[name]))
        ],
        [
            *(
                ratio(f"{name}: time", many.times[name], few.times[name], target=1.5)
                for name in few.times
            ),
            *(
                _counts(f"{name}: commands", few.commands, many.commands, name)
                for name in few.times
            ),
            *(_counts(f"{name}: bytes", few.bytes, many.bytes, name) for name in few.times),
        ],
        [
            f"commands that blocked the server for more than {LONGEST_BLOCK} us: "
            + (", ".join(sorted({*few.slow, *many.slow})) or "none")
        ],
    )
    bench.client.flushall(asynchronous=True)


def _counts(name: str, few: dict[str, int], many: dict[str, int], page: str) -> Ratio:
    return Ratio(name, (many[page] / few[page],), target=1.5)


def _measured(bench: Bench, entries: int) -> Pages:
    client = bench.client
    client.flushall(asynchronous=True)
    _fill(client, entries)
    provider = get_browsable()
    repository = provider.repository_scoped("big")
    browser = Client()
    user, _ = get_user_model().objects.get_or_create(
        username="browser", is_staff=True, is_superuser=True
    )
    browser.force_login(user)
    admin_page = reverse("admin:blobcache_repository_change", args=["big"])

    def blobs() -> None:
        repository.records(repository.catalog.members("big").members)

    def admin() -> None:
        if browser.get(admin_page).status_code != 200:  # noqa: PLR2004
            raise AssertionError("The admin's page of the repository does not render.")

    some = cycle(digests(entries)[:: max(1, entries // 1000)])
    calls: dict[str, Callable[[], object]] = {
        "a hundred scoped stats": lambda: [repository.stat(next(some)) for _ in range(100)],
        "repositories": provider.catalog.repositories,
        "repositories, in the middle": lambda: provider.catalog.repositories(
            cursor=f"r/{entries // 2:07}"
        ),
        "blobs of a repository": blobs,
        "admin's page of a repository": admin,
    }
    for call in calls.values():
        call()
    commands, sizes = {}, {}
    with bench.server.client() as observer:
        observer.config_set("slowlog-log-slower-than", LONGEST_BLOCK)
        observer.slowlog_reset()
        for name, call in calls.items():
            with counted(observer) as traffic:
                call()
            commands[name], sizes[name] = traffic.commands, traffic.bytes
        repeats = bench.scaled(10, 1)
        cases = [
            Case(name, repeats, partial(_repeating, call, repeats)) for name, call in calls.items()
        ]
        times = figures(interleaved(cases, bench.scaled(9, 1)), "ms", 1e3)
        slow = [each["command"].decode().split()[0] for each in observer.slowlog_get(100)]
    return Pages(entries, times, commands, sizes, slow)


def _repeating(call: Callable[[], object], times: int) -> Callable[[], None]:
    def calls() -> None:
        for _ in range(times):
            call()

    return calls


def _fill(client: Redis, entries: int, chunk: int = 10_000) -> None:
    """Write one repository with `size` blobs, and `size` repositories with one; build the index."""
    blobs = digests(entries)
    original.fill(client, "big", blobs, chunk=chunk)
    names = CatalogKeys.of().names
    client.zadd(names, {"big": 0})
    for start in range(0, entries, chunk):
        with client.pipeline(transaction=False) as pipe:
            group = [f"r/{number:07}" for number in range(start, min(start + chunk, entries))]
            for name in group:
                pipe.execute_command("SADD", f"repository::{name}::blobs", blobs[0])
            pipe.execute_command("ZADD", names, *(word for name in group for word in (0, name)))
            pipe.execute()
    client.hset(
        CatalogKeys.of().state, mapping={"begun": 1, "indexed": 1, "indexed_at": repr(time() + 1e6)}
    )
