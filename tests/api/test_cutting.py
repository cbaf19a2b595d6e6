"""Pages never have more rows than asked for, and no row is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobcache.api.cutting import Step, cut_page
from blobcache.exceptions import CursorInvalid
from blobcache.services.catalog import Budgets

Read = Callable[[str, int], Step[str]]


def table(buckets: Sequence[Sequence[str]]) -> Read:
    """A scan over buckets, each of which comes whole."""

    def read(cursor: str, count: int) -> Step[str]:
        place = int(cursor or 0)
        found: list[str] = []
        while place < len(buckets) and len(found) < count:
            found += buckets[place]
            place += 1
        return Step(found, str(place) if place < len(buckets) else None)

    return read


def walk(read: Callable[[], Read], limit: int, seconds: float = 60) -> list[list[str]]:
    """All pages; `read` is asked for the present table before each."""
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        deadline = Budgets().deadline(seconds)
        rows, cursor = cut_page(read(), cursor, limit, deadline, lambda row: row)
        assert len(rows) <= limit
        assert len(set(rows)) == len(rows)
        assert cursor is None or len(cursor) < 100
        pages.append(rows)
        assert len(pages) < 2000
    return pages


BUCKETS = st.lists(st.lists(st.text(max_size=3), max_size=9), max_size=30)


@given(BUCKETS, st.integers(1, 40))
def test_each_row_is_seen_and_no_page_is_too_long(buckets: list[list[str]], limit: int) -> None:
    for seconds in (60, 0):
        pages = walk(lambda: table(buckets), limit, seconds)
        assert {row for page in pages for row in page} == {row for each in buckets for row in each}


@given(st.lists(st.text(max_size=3), unique=True, max_size=40), st.integers(1, 9))
def test_a_set_that_comes_whole_is_listed_without_repeats(members: list[str], limit: int) -> None:
    pages = walk(lambda: table([members]), limit)
    assert sorted(row for page in pages for row in page) == sorted(members)
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)


@given(st.data())
def test_what_stays_is_seen_while_other_rows_come_and_go(data: st.DataObject) -> None:
    """The table may even be rebuilt between two pages, so that each step has other rows."""
    stays = [f"s{number}" for number in range(data.draw(st.integers(0, 30)))]
    limit = data.draw(st.integers(1, 5))
    changes = 0

    def read() -> Read:
        nonlocal changes
        changes += 1
        others = [f"o{number}" for number in range(changes % 3)] if changes < 50 else []
        # A whole set, in any order: it may be in one bucket now and in several before.
        rows = stays + others
        return table([rows])

    pages = walk(read, limit)
    assert set(stays) <= {row for page in pages for row in page}


def test_a_bucket_that_has_grown_is_taken_from_its_beginning() -> None:
    """As after a rebuild of Redis's table into a smaller one."""
    first, both = [f"a{n}" for n in range(6)], [f"{c}{n}" for c in "ab" for n in range(6)]
    tables = iter([table([first, ["end"]]), *[table([both, ["end"]])] * 100])
    pages = walk(lambda: next(tables), 2)
    assert {row for page in pages for row in page} == {*both, "end"}


def test_a_whole_set_that_becomes_a_table_is_started_again() -> None:
    rows = [f"a{number}" for number in range(9)]
    tables = iter([table([rows]), *[table([rows[:5], rows[5:]])] * 100])
    pages = walk(lambda: next(tables), 3)
    assert {row for page in pages for row in page} == set(rows)


def test_rows_that_are_rare_are_looked_for_in_longer_steps() -> None:
    asked: list[int] = []

    def read(cursor: str, count: int) -> Step[str]:
        asked.append(count)
        place = int(cursor or 0)
        return Step([], str(place + 1) if place < 20 else None)

    cut_page(read, "", 100, Budgets().deadline(60), str)
    assert asked[0] < 100
    assert asked[-1] == 1000


@pytest.mark.parametrize(
    "cursor", ["1 x y z", "1 0 a b", "1 5", "1 5 a", "1 5 a b c", "1 99999 a b"]
)
def test_a_cursor_of_another_form_is_refused(cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        cut_page(table([["a"]]), cursor, 1, Budgets().deadline(60), str)
