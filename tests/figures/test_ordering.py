"""Sorted lists of repositories, page by page."""

from __future__ import annotations

from itertools import product

import pytest
from redis import Redis

from blobcache.exceptions import CursorInvalid
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.figures import FigureStore, Order
from blobcache.visibility import Visible
from tests.conformance import A
from tests.figures.repositories import counted, write


class TestOrder:
    SIZES = (("a/small", 3, 1), ("b/big", 1, 1000), ("c/many", 9, 5), ("c/same", 9, 5))

    @pytest.fixture
    def ranked(
        self, figures: FigureStore, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> FigureStore:
        for number, (name, blobs, size) in enumerate(self.SIZES):
            write(any_store, name, blobs, first=100 * number, size=size)
        write(any_store, "d/uncounted", 2, first=900)
        write(any_store, "e/uncounted", 2, first=900)
        any_store.set("repository::odd::blobs", "no set")
        provider.catalog.reindex()
        for name, *_ in self.SIZES:
            counted(figures, name)
        return figures

    def walk(self, store: FigureStore, order: Order, limit: int, **how: object) -> list[str]:
        found, cursor = [], ""
        while True:
            page = store.list_ordered(order, cursor, limit, **how)  # type: ignore[arg-type]
            assert len(page.rows) <= limit
            found += [row.name for row in page.rows]
            if page.next is None:
                return found
            cursor = page.next

    UNCOUNTED = ("d/uncounted", "e/uncounted", "odd")

    def test_every_page_size_lists_all_repositories(self, ranked: FigureStore) -> None:
        names = [*sorted(name for name, *_ in self.SIZES), *self.UNCOUNTED]
        by_bytes = ["a/small", "c/many", "c/same", "b/big"]
        by_blobs = ["b/big", "a/small", "c/many", "c/same"]
        for limit in (1, 2, 3, 100):
            assert self.walk(ranked, Order.NAME, limit) == names
            assert self.walk(ranked, Order.NAME, limit, descending=True) == names[::-1]
            assert self.walk(ranked, Order.BYTES, limit) == [*by_bytes, *self.UNCOUNTED]
            down = self.walk(ranked, Order.BYTES, limit, descending=True)
            assert down == [*by_bytes[::-1], *self.UNCOUNTED]
            assert self.walk(ranked, Order.BLOBS, limit) == [*by_blobs, *self.UNCOUNTED]

    def test_rows_have_figures_and_the_current_number_of_blobs(
        self, ranked: FigureStore, any_store: Redis
    ) -> None:
        any_store.sadd("repository::b/big::blobs", A)
        page = ranked.list_ordered(Order.BYTES, limit=1, descending=True)
        (row,) = page.rows
        assert (row.name, row.blobs) == ("b/big", 2)
        assert row.figures
        assert (row.figures.sums.blobs, row.figures.sums.bytes) == (1, 1000)
        assert (page.counted, page.indexed) == (4, 7)
        (*_, odd) = ranked.list_ordered(Order.BYTES).rows
        assert (odd.name, odd.blobs, odd.figures) == ("odd", None, None)

    def test_invisible_names_do_not_affect_whether_there_is_a_next_page(
        self, ranked: FigureStore
    ) -> None:
        """If two names are visible, the page of the second is the last."""
        names = {"b/big", "c/many"}
        seen = Visible(None, lambda name: name in names)
        for order, down in product(Order, (False, True)):
            page = ranked.list_ordered(order, "", 1, descending=down, visible=seen)
            assert page.next is not None, (order, down)
            last = ranked.list_ordered(order, page.next, 1, descending=down, visible=seen)
            assert {row.name for row in (*page.rows, *last.rows)} == names, (order, down)
            assert last.next is None, (order, down)

    def test_lists_only_visible_names_and_those_that_contain_a_text(
        self, ranked: FigureStore
    ) -> None:
        by_bytes = ["c/many", "c/same", "b/big"]
        seen = Visible.of(["b/", "c/"])
        may = Visible(None, lambda name: name.startswith("e/"))
        for limit in (1, 100):
            assert self.walk(ranked, Order.BYTES, limit, visible=seen) == by_bytes
            assert self.walk(ranked, Order.BYTES, limit, visible=may) == ["e/uncounted"]
            found = self.walk(ranked, Order.BLOBS, limit, containing="m")
            assert found == ["a/small", *by_bytes[:2]]
            found = self.walk(ranked, Order.NAME, limit, containing="un")
            assert found == list(self.UNCOUNTED[:2])

    def test_the_next_page_is_right_if_the_last_repository_has_moved(
        self, ranked: FigureStore, any_store: Redis
    ) -> None:
        first = ranked.list_ordered(Order.BYTES, limit=2)
        assert [row.name for row in first.rows] == ["a/small", "c/many"]
        write(any_store, "c/many", 1, first=5000, size=10**6)
        counted(ranked, "c/many")
        rest = ranked.list_ordered(Order.BYTES, first.next or "").rows
        assert [row.name for row in rest] == ["c/same", "b/big", "c/many", *self.UNCOUNTED]

    @pytest.mark.parametrize("cursor", ["x", "1", "--1/a", "nan/a", "1e5/a", "1" * 40 + "/a"])
    def test_a_cursor_of_no_list_is_refused(self, cursor: str, default_cache: Redis) -> None:
        with pytest.raises(CursorInvalid):
            RedisBlobDescriptorCacheProvider().figures.list_ordered(Order.BYTES, cursor)

    def test_a_cursor_of_another_order_is_refused(self, ranked: FigureStore) -> None:
        cursor = ranked.list_ordered(Order.BYTES, limit=1).next
        with pytest.raises(CursorInvalid):
            ranked.list_ordered(Order.NAME, cursor or "")
