from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blobcache.reference import RepositoryName
from blobcache.visibility import ALL, Visible

NAMES = st.text("ab/-", max_size=4)


@given(st.sets(NAMES), NAMES)
@example({"a", "b/", "b/x"}, "b/y")
def test_a_name_is_covered_by_itself_and_by_a_prefix_that_ends_in_a_slash(
    given_: set[str], name: str
) -> None:
    expected = any(
        each in {name, ""} or (each.endswith("/") and name.startswith(each)) for each in given_
    )
    assert Visible.of(given_).in_ranges(name) == expected


@given(st.sets(NAMES), NAMES, NAMES)
def test_visible_names_within_a_prefix_are_covered_by_both(
    given_: set[str], prefix: str, name: str
) -> None:
    visible = Visible.of(given_)
    within = list(visible.within(prefix))
    assert within == sorted(within)
    found = [name.startswith(text) if is_prefix else name == text for text, is_prefix in within]
    assert sum(found) == (name.startswith(prefix) and visible.in_ranges(name))


def test_an_empty_list_covers_no_name_and_none_covers_all_names() -> None:
    assert not Visible.of([]).in_ranges("a")
    assert Visible.of(None).in_ranges("a")
    assert ALL.in_ranges("a")


@pytest.mark.parametrize("name", ["NO NAME", RepositoryName("b")])
def test_only_allowed_names_are_admitted(name: str) -> None:
    assert ALL.may_show(name)
    assert not Visible.of(None, lambda each: each != "b").may_show(name)
    assert Visible.of(None, lambda each: each != "b").may_show(RepositoryName("a"))
