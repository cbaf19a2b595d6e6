"""A repository of a million blobs: its sorted copies, their pages, and what they take in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from redis import Redis

from benchmarks.bench import Bench
from benchmarks.data import digests
from benchmarks.filling import filler
from benchmarks.growth import counted
from benchmarks.results import Figure, Ratio, Section
from blobcache.kinds import Kind
from blobcache.services import get_browsable
from blobcache.services.base import BrowsableProvider
from blobcache.services.sorted_members import MemberColumn, MemberQuery

__all__ = ["run"]

NAME = "large/app"

PAGE = 0.3
"""Seconds that a page may take."""

COMMAND = 1000
"""Microseconds that one command may take in Redis."""

QUERIES = {
    "by digest": MemberQuery(),
    "by size": MemberQuery(MemberColumn.SIZE),
    "by media type": MemberQuery(MemberColumn.TYPE),
    "by size, in one state": MemberQuery(MemberColumn.SIZE, state=Kind.OK),
}


def run(bench: Bench) -> Iterator[Section]:
    """Make the copies of a large repository, and read pages from their middle."""
    members = bench.scaled(1_000_000, 2_000)
    with bench.server.client() as client:
        client.flushall(asynchronous=True)
        with filler(bench) as keys:
            known = digests(members)
            for each in known:
                keys.blob(each)
            keys.members(NAME, known)
        provider = get_browsable()
        figures = [*_made(provider, client, members)]
        pages = [*_pages(bench, provider, members)]
        client.flushall(asynchronous=True)
    longest = max(cost for _, cost in pages)
    slowest = max(each.median for each, _ in pages) / 1000
    yield Section(
        f"sorted copies of {members:,} blobs",
        [*figures, *(each for each, _ in pages)],
        [
            Ratio("the slowest page / 300 ms", (slowest / PAGE,), target=1),
            Ratio("the longest command / 1 ms", (longest / COMMAND,), target=1),
        ],
        ["A page is read from the middle of its list, a hundred blobs; search is by two digits."],
    )


def _made(provider: BrowsableProvider, client: Redis, members: int) -> Iterator[Figure]:
    copies = provider.sorted_members
    before = client.info("memory")["used_memory"]
    for name, query in QUERIES.items():
        begun, steps = perf_counter(), 1
        while copies.refresh(NAME, query).progress is not None:
            steps += 1
        seconds = perf_counter() - begun
        after = client.info("memory")["used_memory"]
        yield Figure(f"making it {name}", "s", (seconds,))
        yield Figure(f"its steps {name}", "", (float(steps),))
        yield Figure(f"its memory {name}", "MB / million", ((after - before) / members,))
        before = after


def _pages(
    bench: Bench, provider: BrowsableProvider, members: int
) -> Iterator[tuple[Figure, float]]:
    copies, middle = provider.sorted_members, members // 2
    calls: dict[str, Callable[[], object]] = {
        f"a page {name}": lambda query=query: copies.page(  # type: ignore[misc]
            NAME, query, limit=100, offset=middle
        )
        for name, query in QUERIES.items()
    }
    calls["a page of a search"] = lambda: copies.page(NAME, MemberQuery(prefix="a1"), limit=100)
    user, _ = get_user_model().objects.get_or_create(
        username="sorter", is_staff=True, is_superuser=True
    )
    browser = Client()
    browser.force_login(user)
    page = reverse("admin:blobcache_repository_change", args=[NAME])
    for name, query in {
        "by size": f"o=-size&p={max(middle // 100, 1)}",
        "of a search": "q=a1",
        "of a state": "state=ok&o=-size",
    }.items():
        calls[f"the admin's page {name}"] = lambda query=query: browser.get(f"{page}?{query}")  # type: ignore[misc]
    calls["the API's page by size"] = lambda: browser.get(
        f"/api/repositories/{NAME}/blobs/?ordering=-size"
    )
    for name, call in calls.items():
        call()
        cost = min((counted(bench, call) for _ in range(3)), key=lambda each: each.longest)
        times = []
        for _ in range(bench.scaled(5, 1)):
            begun = perf_counter()
            call()
            times.append(1000 * (perf_counter() - begun))
        yield Figure(name, "ms", tuple(times)), cost.longest
