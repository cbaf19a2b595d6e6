"""Names outside of a user's ranges cost nothing, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from redis import Redis

from benchmarks.shapes import A
from blobcache.descriptor import Descriptor
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from blobcache.services.figures import FigureStore, Order, OrderedPage
from blobcache.visibility import ALL, Visible
from tests.servers import commands

RANGES = Visible.of(["team/", "shop/cart"])
WAYS = list(product(Order, [False, True], ["", "a", "no such name"]))


@pytest.fixture
def store(default_cache: Redis) -> FigureStore:
    """Some repositories, of which some are counted."""
    provider = RedisBlobDescriptorCacheProvider()
    for number, name in enumerate(["shop/cart", "team/a", "team/b", "team/c/d", "team/e"]):
        for blob in range(1 + number % 3):
            digest = f"sha256:{blob:064x}"
            size = 10 + 5 * blob
            provider.repository_scoped(name).set_descriptor(digest, Descriptor(digest, size, "a/b"))
    provider.catalog.reindex()
    found = provider.figures
    for name in ("team/b", "team/c/d", "team/a"):
        found.count_step(name)
    return found


def hide(client: Redis) -> None:
    """Put many names around the visible ones."""
    pipe = client.pipeline(transaction=False)
    for number in range(1500):
        for name in (f"a/{number}", f"shop/cart2/{number}", f"team.x/{number}", f"z/{number}"):
            pipe.sadd(f"repository::{name}::blobs", A)
            pipe.zadd("blobcache::{catalog}::by_bytes", {name: number % 40})
            pipe.zadd("blobcache::{catalog}::by_count", {name: number % 4})
    pipe.execute()
    RedisBlobDescriptorCacheProvider().catalog.reindex()


def pages(
    store: FigureStore, visible: Visible, limit: int, way: tuple[Order, bool, str]
) -> Iterator[OrderedPage]:
    order, descending, containing = way
    cursor: str | None = ""
    while cursor is not None:
        page = store.list_ordered(
            order, cursor, limit, descending=descending, containing=containing, visible=visible
        )
        yield page
        cursor = page.next


def names(found: Iterator[OrderedPage]) -> list[str]:
    return [row.name for page in found for row in page.rows]


def test_a_sorted_list_and_its_round_trips_do_not_depend_on_names_out_of_the_ranges(
    store: FigureStore, default_cache: Redis
) -> None:
    short = RedisBlobDescriptorCacheProvider(budgets=Budgets(page=0)).figures
    seen = []
    for has_hidden in (False, True):
        if has_hidden:
            hide(default_cache)
        lists = {}
        for way in WAYS:
            with commands(default_cache) as traffic:
                found = [(page.rows, page.next) for page in pages(short, RANGES, 2, way)]
            lists[way] = (found, dict(traffic.calls))
        seen.append(lists)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_visible_names_keep_the_order_that_they_have_among_all(
    way: tuple[Order, bool, str], store: FigureStore
) -> None:
    among_all = names(pages(store, ALL, 100, way))
    for limit in (1, 2, 3, 100):
        assert names(pages(store, RANGES, limit, way)) == among_all, limit


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_too_many_names_to_sort_are_still_found(
    way: tuple[Order, bool, str], store: FigureStore
) -> None:
    sorted_here = names(pages(store, RANGES, 2, way))
    few = RedisBlobDescriptorCacheProvider(budgets=Budgets(sorted_names=1)).figures
    assert names(pages(few, RANGES, 2, way)) == sorted_here
