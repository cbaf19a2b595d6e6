"""What axe-core finds wrong with a page."""

from __future__ import annotations

import json
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from playwright.sync_api import Page

__all__ = ["accessible", "violations_of"]

_WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

_PREPARE = f"window.__prepareAxe = () => {{{AXE_SCRIPT}}}"
"""Axe-core is large. So the browser keeps it for the next pages, and gets it only once."""


def violations_of(page: Page, within: str = "html", **options: Any) -> list[dict[str, Any]]:
    """Return the rules of axe-core that this part of the page breaks."""
    if not page.evaluate("'__prepareAxe' in window"):
        page.add_init_script(_PREPARE)
        page.evaluate(_PREPARE)
    # To describe what follows the rules too would take a fifth longer.
    arguments = json.dumps(within), json.dumps({"resultTypes": ["violations"], **options})
    found: list[dict[str, Any]] = page.evaluate(
        f"(__prepareAxe(), axe.run({', '.join(arguments)}).then(found => found.violations))"
    )
    return found


def accessible(page: Page, name: str, within: str = "html") -> None:
    """Assert that this part of the page breaks no rule of axe-core for the WCAG."""
    found = violations_of(page, within, runOnly=_WCAG)
    assert not found, f"{name}: {AxeResults({'violations': found}).generate_report()}"
