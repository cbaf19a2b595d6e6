"""A large repository in a browser: it is sorted in steps, by a script or by pressing the button."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.test import override_settings
from playwright.sync_api import expect
from redis import Redis

from blobcache.services import get_browsable
from tests.admin import addresses
from tests.browser.accessibility import violations_of
from tests.browser.conftest import Visit, picture
from tests.browser.windows import WINDOWS, assert_fits
from tests.redis.test_sorted_members import NAME, fill

MANY, STEP = 300, 100
"""The blobs of the repository, and how many of them one step reads for a page."""


@pytest.fixture(autouse=True)
def large(default_cache: Redis) -> Iterator[None]:
    """A repository that is too large to be read as a whole."""
    with override_settings(BLOBCACHE={"default": {"ADMIN_SORT_LIMIT": STEP}}):
        catalog = get_browsable().catalog
        catalog.budgets = replace(catalog.budgets, page=0, step=STEP)
        fill(default_cache, many=MANY)
        yield


@pytest.mark.parametrize("window", WINDOWS)
def test_all_blobs_are_sorted_while_the_page_is_open(
    visit: Visit, window: str, violations: list[dict[str, str]]
) -> None:
    page = visit(**WINDOWS[window])
    page.goto(f"{addresses.repository(NAME)}?o=-size")
    expect(page.locator(".bc-index-age").last).to_contain_text("This list is not sorted yet")
    page.get_by_role("button", name="Sort all blobs").click()
    expect(page.locator("#content")).to_contain_text("This order is", timeout=60_000)
    expect(page.locator("#result_list")).to_contain_text("150 bytes")
    picture(page, f"repository-sorted-{window}")
    assert_fits(page, window, "sorted")
    assert page.url.endswith("?o=-size")
    assert violations == []  # before axe, which adds styles of its own
    assert violations_of(page) == []
    page.goto(f"{addresses.repository(NAME)}?state=ok")
    expect(page.locator(".bc-index-age").last).to_contain_text("This list is not sorted yet")
    assert violations_of(page) == []


def test_without_a_script_a_button_takes_the_steps(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    page.goto(f"{addresses.repository(NAME)}?o=-size")
    page.get_by_role("button", name="Sort all blobs").click()
    expect(page.locator("progress")).to_be_visible()
    while page.get_by_role("button", name="Continue sorting").count():
        page.get_by_role("button", name="Continue sorting").click()
    expect(page.locator("#content")).to_contain_text("This order is")
