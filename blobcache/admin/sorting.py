"""The order of a list: its parameter in the address, and the links in the head of the table.

The parameter ``o`` has the name of a column, with a dash in front for descending order. The first
column, ascending, is the default and needs no parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Column", "ColumnHead", "column_heads", "order_param", "orders", "parse_order"]

C = TypeVar("C", bound=str)


class Column(NamedTuple):
    """A column that a list can be sorted by."""

    name: str
    title: str
    is_number: bool = False
    starts_descending: bool = False
    """Whether the first click on its title sorts from the largest down."""


class ColumnHead(NamedTuple):
    """The title of a column, and the link that sorts by it."""

    title: str
    is_number: bool
    url: str
    """Empty if the list cannot be sorted."""

    sorted: str
    """The value of ``aria-sort``; empty if the list is not sorted by this column."""


def parse_order(text: str, columns: Sequence[C]) -> tuple[C, bool]:
    """Return the column and whether the order is descending; the default if the text is invalid."""
    name = text.removeprefix("-")
    for column in columns:
        if column == name:
            return column, text.startswith("-")
    return columns[0], False


def orders(columns: Sequence[str]) -> list[str]:
    """Return the values that the parameter can have, besides none at all."""
    return [f"{sign}{column}" for column in columns for sign in ("", "-")]


def order_param(column: str, *, is_descending: bool, default: str) -> str:
    """Return the value of the parameter; empty for the default."""
    if is_descending:
        return f"-{column}"
    return "" if column == default else column


def column_heads(
    columns: Iterable[Column],
    current: str,
    *,
    is_descending: bool,
    link: Callable[[str], str] | None,
) -> list[ColumnHead]:
    """Lay out the head of a table; `link` makes a link of a parameter, None if nothing can sort.

    A click on the current column reverses the order.
    """
    columns = list(columns)
    default = columns[0].name
    heads = []
    for column in columns:
        is_current = link is not None and column.name == current
        reverse = not is_descending if is_current else column.starts_descending
        param = order_param(column.name, is_descending=reverse, default=default)
        order = ("ascending", "descending")[is_descending] if is_current else ""
        heads.append(ColumnHead(column.title, column.is_number, link(param) if link else "", order))
    return heads
