from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from blobcache.setting import (
    Setting,
    Values,
    choice,
    flag,
    number,
    optional,
    some_of,
    text,
    texts,
)


class Portal:
    """Settings of a class other than `RegistrySettings`."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self._entry = entry

    def entry(self) -> Mapping[str, Any]:
        return self._entry

    DAYS = Setting("Days to keep entries.", number("days"), default=20_000)
    LANGUAGES = Setting("Their languages.", texts("languages"), default=("en", "de"))
    HOME = Setting("Where to start.", text("a path"), default="/", see="docs/admin.md#pages")
    LOGIN = Setting("Where to log in.", optional(text("a path")), same_as=HOME)


def test_a_setting_has_the_value_of_the_entry_or_else_its_default() -> None:
    assert Portal({}).DAYS == 20_000
    assert Portal({"DAYS": 7}).DAYS == 7


def test_a_list_is_read_as_a_tuple() -> None:
    assert Portal({"LANGUAGES": ["fr"]}).LANGUAGES == ("fr",)


@pytest.mark.parametrize("entry", [{}, {"LOGIN": None}, {"LOGIN": ""}])
def test_a_setting_may_have_the_value_of_another(entry: dict[str, object]) -> None:
    assert Portal(entry).LOGIN == "/"
    assert Portal({**entry, "HOME": "/home/"}).LOGIN == "/home/"
    assert Portal({"LOGIN": "/login/"}).LOGIN == "/login/"


def test_the_class_has_the_declaration() -> None:
    assert Portal.DAYS.name == "DAYS"
    assert Portal.DAYS.default == 20_000
    assert Portal.DAYS.__doc__ == Portal.DAYS.meaning == "Days to keep entries."


def test_a_row_shows_name_default_and_meaning() -> None:
    assert [each.row() for each in (Portal.DAYS, Portal.LANGUAGES, Portal.HOME, Portal.LOGIN)] == [
        "| `DAYS` | `20_000` | Days to keep entries. |",
        '| `LANGUAGES` | `("en", "de")` | Their languages. |',
        '| `HOME` | `"/"` | Where to start. See [admin](docs/admin.md#pages). |',
        "| `LOGIN` | `None` | Where to log in. |",
    ]


@pytest.mark.parametrize(
    ("values", "description"),
    [
        (flag(), "True or False"),
        (number(), "a whole number above 0"),
        (number("rows", maximum=9), "a whole number of rows from 1 to 9"),
        (text("a path"), "a path"),
        (texts("paths"), "paths"),
        (choice("a", "b"), "'a' or 'b'"),
        (some_of("a", "b"), "a tuple of one or more of 'a', 'b'"),
        (optional(number("days")), "a whole number of days above 0, or None"),
    ],
)
def test_values_are_described(values: Values[object], description: str) -> None:
    assert values.description == description
