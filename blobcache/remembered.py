"""Remembers what depends on nothing but arguments and the project's settings."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from django.core.signals import setting_changed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["remembered"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def remembered(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Remember the results of a function for its last arguments, until a setting changes.

    Settings change in tests alone, by `override_settings` and the like. An error is not remembered.
    """
    found = lru_cache(256)(function)

    def forget(**_: object) -> None:
        found.cache_clear()

    setting_changed.connect(forget, weak=False)
    return found  # type: ignore[return-value] # its type does not know the arguments
