"""The order of a list in its address, and the links in the head of its table."""

from __future__ import annotations

import pytest

from blobcache.admin.sorting import Column, column_heads, order_param, parse_order

COLUMNS = ("name", "size")


@pytest.mark.parametrize(
    ("text", "column", "is_descending"),
    [
        ("", "name", False),
        ("name", "name", False),
        ("-name", "name", True),
        ("size", "size", False),
        ("-size", "size", True),
        ("--size", "name", False),
        ("colour", "name", False),
        ("-colour", "name", False),
    ],
)
def test_an_invalid_order_is_the_default(text: str, column: str, is_descending: bool) -> None:
    assert parse_order(text, COLUMNS) == (column, is_descending)


def test_the_default_order_needs_no_parameter() -> None:
    for text in ("", "-name", "size", "-size"):
        column, is_descending = parse_order(text, COLUMNS)
        assert order_param(column, is_descending=is_descending, default="name") == text


def test_a_click_on_the_current_column_reverses_the_order() -> None:
    columns = [
        Column("name", "Name"),
        Column("size", "Size", is_number=True, starts_descending=True),
    ]
    heads = column_heads(columns, "name", is_descending=False, link="?o={}".format)
    assert [(head.url, head.sorted) for head in heads] == [
        ("?o=-name", "ascending"),
        ("?o=-size", ""),
    ]
    heads = column_heads(columns, "size", is_descending=True, link="?o={}".format)
    assert [(head.url, head.sorted) for head in heads] == [("?o=", ""), ("?o=size", "descending")]


def test_a_list_that_cannot_be_sorted_has_no_links() -> None:
    heads = column_heads([Column("name", "Name")], "name", is_descending=False, link=None)
    assert [(head.title, head.url, head.sorted) for head in heads] == [("Name", "", "")]
