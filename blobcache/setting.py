"""The declaration of a setting: name, default, valid values and meaning, each written once.

`blobcache.conf` declares the settings with these classes. What reads a setting, what checks it and
the table in docs/settings.md all come from its declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Generic, Protocol, Self, TypeGuard, TypeVar, cast, overload

__all__ = [
    "Section",
    "Setting",
    "Values",
    "choice",
    "dotted",
    "flag",
    "mapping",
    "number",
    "optional",
    "some_of",
    "text",
    "texts",
]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Values(Generic[_T_co]):
    """The values that a setting may have."""

    description: str
    """Completes the sentence "It should be …"."""

    contains: Callable[[object], bool]
    """Whether a value is one of them. It may be of any type."""


class Section(Protocol):
    """Settings that belong together, such as those of one registry."""

    def entry(self) -> Mapping[str, Any]:
        """Return what the project set, by name."""
        ...


class Setting(Generic[_T_co]):
    """The declaration of one setting, as an attribute of a class of settings.

    On an instance of that class the attribute is the setting's value: what the project set, else
    the default. On the class it is the declaration.
    """

    name: str
    """The name of the attribute."""

    @overload
    def __init__(
        self,
        meaning: str,
        values: Values[_T_co],
        *,
        default: _T_co,
        see: str = "",
        is_secret: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self,
        meaning: str,
        values: Values[_T_co | None],
        *,
        same_as: Setting[_T_co],
        see: str = "",
    ) -> None: ...

    def __init__(
        self,
        meaning: str,
        values: Values[_T_co | None],
        *,
        default: _T_co | None = None,
        same_as: Setting[_T_co] | None = None,
        see: str = "",
        is_secret: bool = False,
    ) -> None:
        self.meaning = meaning
        """What the setting does, with the unit of its values: Markdown for docs/settings.md."""

        self.values = values
        self.default = default

        self.same_as = same_as
        """The setting whose value is used if this one's is None."""

        self.see = see
        """The part of the documentation that says more: a path from the project's root, with an
        anchor."""

        self.is_secret = is_secret
        """Whether no message may show a value."""

        self.__doc__ = meaning

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: Section, owner: type) -> _T_co: ...

    def __get__(self, instance: Section | None, owner: type) -> Self | _T_co:
        if instance is None:
            return self
        return self.value_in(instance.entry())

    def value_in(self, entry: Mapping[str, Any]) -> _T_co:
        """Return the value in an entry of the project's settings; a list is returned as a tuple."""
        value = entry.get(self.name, self.default)
        if self.same_as is not None and not value:
            return self.same_as.value_in(entry)
        return cast("_T_co", tuple(value) if type(value) is list else value)

    def row(self) -> str:
        """Return the setting's row in a Markdown table: name, default, meaning."""
        meaning = self.meaning
        if self.see:
            meaning += f" See [{PurePosixPath(self.see.partition('#')[0]).stem}]({self.see})."
        return f"| `{self.name}` | `{_literal(self.default)}` | {meaning} |"


def _literal(value: object) -> str:
    """The value as Python code, with readable numbers and double quotes."""
    if type(value) is int and value >= 10_000:  # noqa: PLR2004
        return f"{value:_}"
    return repr(value).replace("'", '"')


# The values that settings have


def flag() -> Values[bool]:
    """True and False."""
    return Values("True or False", lambda value: isinstance(value, bool))


def number(unit: str = "", *, minimum: int = 1, maximum: int | None = None) -> Values[int]:
    """Whole numbers from `minimum` up to `maximum`."""

    def contains(value: object) -> bool:
        return type(value) is int and value >= minimum and (maximum is None or value <= maximum)

    kind = f"a whole number of {unit}" if unit else "a whole number"
    limits = f"above {minimum - 1}" if maximum is None else f"from {minimum} to {maximum}"
    return Values(f"{kind} {limits}", contains)


def text(description: str) -> Values[str]:
    """Texts that are not empty."""
    return Values(description, _is_text)


def dotted(name: str, description: str) -> Values[Mapping[str, Any]]:
    """Dictionaries with a dotted path under `name`, and at most ``OPTIONS`` beside it."""

    def contains(value: object) -> bool:
        return (
            isinstance(value, Mapping)
            and _is_text(value.get(name))
            and value.keys() <= {name, "OPTIONS"}
            and isinstance(value.get("OPTIONS", {}), Mapping)
        )

    return Values(description, contains)


def mapping(description: str, *names: str) -> Values[Mapping[str, Any]]:
    """Dictionaries with no other keys than these names."""
    return Values(
        description, lambda value: isinstance(value, Mapping) and value.keys() <= set(names)
    )


def texts(description: str, *, may_be_empty: bool = False) -> Values[tuple[str, ...]]:
    """Tuples or lists of texts that are not empty, with at least one unless said otherwise."""

    def contains(value: object) -> bool:
        return (_is_filled(value) and all(map(_is_text, value))) or (
            may_be_empty and value in ((), [])
        )

    return Values(description, contains)


def choice(*values: _T) -> Values[_T]:
    """The given values."""
    return Values(" or ".join(map(repr, values)), lambda value: value in values)


def some_of(*values: str) -> Values[tuple[str, ...]]:
    """Tuples or lists of the given values, with at least one and without duplicates."""

    def contains(value: object) -> bool:
        return (
            _is_filled(value)
            and all(each in values for each in value)
            and len(set(value)) == len(value)
        )

    return Values(f"a tuple of one or more of {', '.join(map(repr, values))}", contains)


def optional(values: Values[_T]) -> Values[_T | None]:
    """The same values, and None."""
    return Values(
        f"{values.description}, or None", lambda value: value is None or values.contains(value)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_filled(value: object) -> TypeGuard[tuple[object, ...] | list[object]]:
    return isinstance(value, list | tuple) and len(value) > 0
