"""Reading the text of a request."""

from __future__ import annotations

import pytest

from blobcache.parsing import parse_each, whole_number
from blobcache.reference import RepositoryName


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("12", 12), ("007", 7), ("999", 999)])
def test_ascii_digits_are_parsed_as_a_number(text: str, number: int) -> None:
    assert whole_number(text, max_digits=3) == number


OTHER_TEXT = ["", "-1", "+1", " 1", "1.0", "1_0", "²", "٣", "1" * 4, "9" * 9999]


@pytest.mark.parametrize("text", OTHER_TEXT, ids=range(len(OTHER_TEXT)))
def test_other_text_and_longer_text_is_not_a_number(text: str) -> None:
    assert whole_number(text, max_digits=3) is None


def test_each_text_is_parsed_once_and_invalid_ones_are_skipped() -> None:
    assert parse_each(["b", "A B", "a", "b", ""], RepositoryName) == ["b", "a"]
    assert parse_each([], int) == []
