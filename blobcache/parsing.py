"""Reading the text of a request: numbers of limited length, and lists with invalid entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["parse_each", "whole_number"]

_T = TypeVar("_T")


def whole_number(text: str, *, max_digits: int) -> int | None:
    """Return the number that ASCII digits stand for; None for any other text, or a longer one.

    Python takes long to convert thousands of digits, and refuses to convert very many.
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= max_digits
    return int(text) if is_number else None


def parse_each(texts: Iterable[str], parse: Callable[[str], _T]) -> list[_T]:
    """Parse each text once. Skip those for which `parse` raises a `ValueError`."""
    parsed = []
    for text in dict.fromkeys(texts):
        try:
            parsed.append(parse(text))
        except ValueError:
            continue
    return parsed
