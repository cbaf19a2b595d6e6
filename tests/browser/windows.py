"""The windows in which pages are looked at: with light and dark colours, and a narrow one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypedDict

from playwright.sync_api import Locator, Page, ViewportSize

from tests.browser.accessibility import accessible
from tests.browser.conftest import picture

__all__ = ["WINDOWS", "assert_fits", "examine", "follow", "in_each_window"]


class Window(TypedDict):
    """Options of a browser's context."""

    viewport: ViewportSize
    color_scheme: Literal["light", "dark"]


WINDOWS: dict[str, Window] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 700}, "color_scheme": "light"},
}

_FINISH = """
document.getAnimations().forEach(
    each => each.effect.getComputedTiming().endTime === Infinity || each.finish()
)
"""


def in_each_window(page: Page) -> Iterator[str]:
    """Show the page in each window, one after another, without loading it again."""
    for name, window in WINDOWS.items():
        page.emulate_media(color_scheme=window["color_scheme"])
        page.set_viewport_size(window["viewport"])
        page.evaluate(_FINISH)  # of colours that change step by step
        yield name


def follow(target: Locator) -> None:
    """Click on what leads to another page, and wait until that page is loaded."""
    with target.page.expect_navigation():
        target.click()


def assert_fits(page: Page, window: str, name: str) -> None:
    """Assert that nobody needs to scroll sideways."""
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= WINDOWS[window]["viewport"]["width"], f"{name}, {window}"


def examine(page: Page, name: str, violations: list[dict[str, str]]) -> None:
    """Assert that the page fits each window, obeys the policy, and is accessible in each window."""
    for window in in_each_window(page):
        picture(page, f"{name}-{window}")
        assert_fits(page, window, name)
    assert violations == [], name
    for window in in_each_window(page):
        accessible(page, f"{name}, {window}")  # adds styles to the page, which the policy reports
    violations.clear()
