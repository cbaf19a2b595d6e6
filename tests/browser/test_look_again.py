"""Building the index anew from a page, with JavaScript and without it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.browser.conftest import LAYER, Visit
from tests.browser.windows import WINDOWS, examine
from tests.budgets import limit

PUSHED = "pushed/meanwhile"


@pytest.fixture
def large(
    provider: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> RedisBlobDescriptorCacheProvider:
    """A cache whose index takes several steps, and a repository that it does not have."""
    with default_cache.pipeline(transaction=False) as pipe:
        for number in range(5_000):
            pipe.set(f"filler:{number}", "")
        pipe.sadd(f"repository::{PUSHED}::blobs", LAYER)
        pipe.execute()
    limit(monkeypatch, page=0)
    return provider


@pytest.mark.parametrize("address", [addresses.blob(LAYER), addresses.blob(LAYER, "purge")])
def test_the_page_comes_back_by_itself_when_the_index_is_built(
    visit: Visit,
    address: str,
    large: RedisBlobDescriptorCacheProvider,
    violations: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = visit(**WINDOWS["light"])
    page.goto(address)
    page.get_by_role("button", name="Look again").click()
    expect(page.locator(".messagelist")).to_contain_text("up to date", timeout=60_000)
    assert page.url.endswith(address)
    limit(monkeypatch, page=60)
    page.reload()
    expect(page.locator("#content-main")).to_contain_text(PUSHED)
    assert violations == []


def test_without_javascript_a_button_does_each_step(
    visit: Visit, large: RedisBlobDescriptorCacheProvider
) -> None:
    page = visit(java_script_enabled=False)
    page.goto(addresses.repositories() + "?q=library/")
    page.get_by_role("button", name="Look again").click()
    expect(page.locator(".bc-again")).to_be_visible()
    steps = 0
    while page.locator(".bc-again").count():
        page.get_by_role("button", name="Continue building").focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        steps += 1
    assert steps > 2
    expect(page.locator(".messagelist")).to_contain_text("up to date")
    expect(page.locator("#searchbar")).to_have_value("library/")
    assert page.get_by_role("button", name="Look again").count() == 1


def test_the_page_of_a_build_fits_each_window_and_is_accessible(
    visit: Visit, large: RedisBlobDescriptorCacheProvider, violations: list[dict[str, str]]
) -> None:
    page = visit()
    page.route("**/again.js", lambda route: route.abort())  # so that it stays as it is
    page.goto(addresses.blob(LAYER))
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#bc-building")).to_be_visible()
    examine(page, "look-again", violations)
    page.get_by_role("link", name="Stop here").click()
    assert page.url.endswith(addresses.blob(LAYER))
