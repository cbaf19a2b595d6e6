"""Every list, count and search at a growing number of keys: what grows, and what does not."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from benchmarks.bench import Bench
from benchmarks.data import digest, digests
from benchmarks.filling import filler
from benchmarks.results import Figure, Ratio, Section
from blobcache.digest import Digest
from blobcache.doctor.scan import Diagnosis
from blobcache.kinds import Kind
from blobcache.services import get_browsable
from blobcache.services.base import BrowsableProvider
from blobcache.services.figures import Order
from blobcache.transport.clients import ClientHandle
from blobcache.visibility import Visible

__all__ = ["counted", "run"]

OWN = 7
"""The blobs of a repository, besides the one that all have; `BIG` has a fifth of all keys."""

BIG = "big"

LARGEST = 10_000
"""Elements that one reply or command may have: about a millisecond of a server's time."""

MANY = 100_000
"""The most commands that a call may have."""

MAX_COUNTING = 60
"""Seconds that counting all repositories may take."""

_MORE = re.compile(rb"\.\.\. \((\d+) more arguments\)")
"""What the slow log writes in place of the arguments that it leaves out."""

EVERYWHERE, RARE = digest(0, "everywhere"), digest(0, "rare")

Call = Callable[[], object]


@dataclass
class Cost:
    """What one call costs."""

    round_trips: int = 0
    commands: int = 0
    elements: int = 0
    """Of the largest reply to a command, or of the largest command."""

    longest: int = 0
    """Microseconds of the longest command."""

    longest_command: str = ""
    peak: int = 0
    """The most memory that Python's objects took, in bytes."""

    seconds: tuple[float, ...] = field(default=())


def run(bench: Bench) -> Iterator[Section]:
    """Measure each call at each number of keys."""
    sizes = (300,) if bench.is_short else (10_000, 100_000, 1_000_000)
    costs: dict[str, dict[int, Cost]] = {}
    for size in sizes:
        _fill(bench, size)
        for name, call in _calls(size).items():
            costs.setdefault(name, {})[size] = _cost(bench, call)
    bench.client.flushall(asynchronous=True)
    least, most = sizes[0], sizes[-1]
    yield Section(
        f"growth from {least:,} to {most:,} keys",
        [
            Figure(name, "ms", tuple(each * 1e3 for each in by_size[most].seconds))
            for name, by_size in costs.items()
        ],
        [
            Ratio(
                f"{name}: largest command or reply / {LARGEST:,}",
                tuple(each.elements / LARGEST for each in by_size.values()),
                target=1,
            )
            for name, by_size in costs.items()
        ],
        list(_table(costs, sizes)),
    )


def _table(costs: dict[str, dict[int, Cost]], sizes: tuple[int, ...]) -> Iterator[str]:
    """The table in Markdown: in each cell the values at each number of keys."""
    yield f"In each cell: at {', '.join(f'{size:,}' for size in sizes)} keys."
    yield (
        "| call | round trips | commands | largest reply, elements "
        "| longest command, us | peak memory, kB | time, ms |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name, by_size in costs.items():
        found = [by_size[size] for size in sizes]
        cells = [
            _cell(each.round_trips for each in found),
            _cell(each.commands for each in found),
            _cell(each.elements for each in found),
            f"{_cell(each.longest for each in found)} {found[-1].longest_command}",
            _cell(round(each.peak / 1000) for each in found),
            " · ".join(f"{median(each.seconds) * 1e3:.1f}" for each in found),
        ]
        yield f"| {' | '.join([name, *cells])} |"


def _cell(numbers: Iterator[int] | Any) -> str:
    return " · ".join(f"{number:,}" for number in numbers)


def _cost(bench: Bench, call: Call) -> Cost:
    """Make the call some times: to warm up, to count, to see its memory, and to time it."""
    if not bench.is_short:
        call()
    # A command that is slow each time is slow itself; others waited for the core.
    cost = min(
        (counted(bench, call) for _ in range(bench.scaled(3, 1))), key=lambda each: each.longest
    )
    tracemalloc.start()
    try:
        cost.seconds = (_timed(call),)
        cost.peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if not bench.is_short:
        cost.seconds = tuple(_timed(call) for _ in range(5))
    return cost


def counted(bench: Bench, call: Call) -> Cost:
    """Make the call, and count what it sends and what its commands cost in Redis."""
    cost = Cost()
    with bench.server.client() as observer:
        observer.config_set("slowlog-max-len", MANY)
        observer.config_set("slowlog-log-slower-than", 0)
        observer.slowlog_reset()
        with _sent(cost):
            call()
        log = observer.slowlog_get(MANY)
        observer.config_set("slowlog-log-slower-than", -1)
    for each in log:
        name = each["command"].split()[0].decode()
        if name in {"CONFIG", "SLOWLOG"}:
            continue
        cost.commands += 1
        if each["duration"] > cost.longest:
            cost.longest, cost.longest_command = each["duration"], name
        more = _MORE.search(each["command"])
        cost.elements = max(cost.elements, int(more[1]) if more else 0)
    return cost


def _timed(call: Call) -> float:
    begun = perf_counter()
    call()
    return perf_counter() - begun


@contextmanager
def _sent(cost: Cost) -> Iterator[None]:
    """Count round trips, and the elements of the largest reply."""
    packed, unpacked = ClientHandle.send_packed, ClientHandle.send_to_nodes

    def noted(replies: list[Any]) -> list[Any]:
        cost.round_trips += 1
        cost.elements = max(cost.elements, *map(_elements, replies), 0)
        return replies

    def send_packed(self: ClientHandle, *args: Any, **options: Any) -> list[Any]:
        return noted(packed(self, *args, **options))

    def send_to_nodes(self: ClientHandle, *args: Any, **options: Any) -> list[Any]:
        return noted(unpacked(self, *args, **options))

    with (
        patch.object(ClientHandle, "send_packed", send_packed),
        patch.object(ClientHandle, "send_to_nodes", send_to_nodes),
    ):
        yield


def _elements(reply: object) -> int:
    return sum(map(_elements, reply)) if isinstance(reply, list) else 1


def _fill(bench: Bench, size: int) -> None:
    """Write about `size` keys: a large repository, many small ones, and what they hold."""
    repositories, members = size // 20, size // 5
    known = digests(2 * members)
    with filler(bench) as keys:
        for each in (*known, EVERYWHERE, RARE):
            keys.blob(each)
        keys.members(BIG, known[:members])
        for number in range(repositories):
            start = number * OWN % (len(known) - OWN)
            own = [EVERYWHERE, *known[start : start + OWN]]
            keys.members(_name(number), own, overrides=number % 10 < 9)  # noqa: PLR2004
        keys.members(_name(repositories // 2), [RARE])
    provider = get_browsable()
    provider.catalog.reindex()
    begun = perf_counter()
    cursor: str | None = ""
    while cursor is not None and perf_counter() - begun < MAX_COUNTING:
        cursor = provider.figures.refresh(cursor).next


def _name(number: int) -> str:
    return f"team-{number % 100:02}/app-{number:06}"


def _calls(size: int) -> dict[str, Call]:
    provider = get_browsable()
    return _of_the_catalog(provider, size) | _of_the_doctor(provider) | _of_pages(size)


def _of_the_catalog(provider: BrowsableProvider, size: int) -> dict[str, Call]:
    catalog, figures = provider.catalog, provider.figures
    few = Visible.of(None, lambda name: name.endswith("99"))
    ranges = Visible.of([f"team-{number:02}/" for number in range(0, 100, 5)])
    middle = _name(size // 40)
    return {
        "repositories": catalog.repositories,
        "repositories, from the middle": lambda: catalog.repositories(cursor=middle),
        "repositories, by prefix": lambda: catalog.repositories("team-42/"),
        "repositories, of twenty visible groups": lambda: catalog.repositories(visible=ranges),
        "repositories, one in a hundred visible": lambda: catalog.repositories(visible=few),
        "repositories, containing a text": lambda: figures.list_ordered(containing="app-0004"),
        "repositories, by blobs": lambda: figures.list_ordered(Order.BLOBS, descending=True),
        "members": lambda: catalog.members(BIG),
        "members, by prefix": lambda: catalog.members(BIG, prefix="sha256:00"),
        "blobs": catalog.blobs,
        "holders, everywhere": lambda: catalog.holders(Digest(EVERYWHERE)),
        "holders, in one repository": lambda: catalog.holders(Digest(RARE)),
        "step of an index": lambda: catalog.build_step(newer_than=catalog.status().begun),
        "step of a count": lambda: figures.count_step(BIG),
        "step of all counts": lambda: figures.refresh(max_age=0),
        "sums of a repository": lambda: figures.summarize(BIG),
        "bytes shared with others": lambda: figures.shared_bytes(_name(1)),
    }


def _of_the_doctor(provider: BrowsableProvider) -> dict[str, Call]:
    return {
        "step of a check": lambda: Diagnosis(provider).step(),
        "step of a check of a repository": lambda: Diagnosis(provider, [BIG]).step(),
        "step of a check for unreferenced": lambda: Diagnosis(
            provider, kinds=[Kind.UNREFERENCED]
        ).step(),
    }


def _of_pages(size: int) -> dict[str, Call]:
    browser = Client()
    user, _ = get_user_model().objects.get_or_create(
        username="browser", is_staff=True, is_superuser=True
    )
    browser.force_login(user)

    def page(address: str) -> Call:
        def call() -> None:
            if browser.get(address).status_code != 200:  # noqa: PLR2004
                raise AssertionError(f"{address} does not answer.")

        return call

    repositories = reverse("admin:blobcache_repository_changelist")
    big = reverse("admin:blobcache_repository_change", args=[BIG])
    blob = reverse("admin:blobcache_blob_change", args=[EVERYWHERE])
    return {
        "API: repositories": page("/api/repositories/"),
        "API: blobs of a repository": page(f"/api/repositories/{BIG}/blobs/"),
        "API: repositories of a blob": page(f"/api/blobs/{EVERYWHERE}/repositories/"),
        "admin: repositories": page(repositories),
        "admin: repositories, search": page(f"{repositories}?q=app-0004"),
        "admin: a repository": page(big),
        "admin: a repository, search": page(f"{big}?q=00"),
        "admin: a blob": page(blob),
        "admin: blobs": page(reverse("admin:blobcache_blob_changelist")),
    }
