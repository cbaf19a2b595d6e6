"""Set the budgets of the configured provider, for tests over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from blobcache.services import get_browsable

__all__ = ["counting_clock", "limit"]


def limit(monkeypatch: pytest.MonkeyPatch, **budgets: Any) -> None:
    """Change some budgets of the configured provider until the test ends.

    A change of the setting ``BLOBCACHE`` or ``CACHES`` makes a new provider, with default budgets.
    """
    catalog = get_browsable().catalog
    monkeypatch.setattr(catalog, "budgets", replace(catalog.budgets, **budgets))


def counting_clock() -> Callable[[], float]:
    """Return a clock that advances by one second at each call."""
    return count().__next__
