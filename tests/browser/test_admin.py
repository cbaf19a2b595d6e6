"""An operator's journeys, and how the pages look and behave where they are read."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.browser.conftest import BROKEN, CONFIG, LAYER, SCREENSHOTS, Visit

WINDOWS = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 700}, "color_scheme": "light"},
}


def pages() -> dict[str, str]:
    return {
        "repositories": addresses.repositories(),
        "repositories-none": addresses.repositories() + "?q=no/such",
        "repository": addresses.repository("library/nginx"),
        "repository-history": addresses.repository("library/nginx", "history"),
        "repository-set": addresses.repository("library/nginx", "set"),
        "blobs": addresses.blobs(),
        "blobs-mistake": addresses.blobs() + "?q=sha256:12",
        "blob": addresses.blob(LAYER),
        "blob-broken": addresses.blob(BROKEN),
        "blob-clear": addresses.blob(LAYER, "delete"),
        "blob-purge": addresses.blob(LAYER, "purge"),
    }


def test_from_login_to_a_repaired_repository(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider, violations: list[dict[str, str]]
) -> None:
    page = visit()
    page.click("#content-main >> text=Repositories")
    page.fill("#searchbar", "library/")
    page.keyboard.press("Enter")
    page.click("text=library/nginx")
    expect(page.locator("h1")).to_have_text("library/nginx")
    row = page.locator("tr", has_text=BROKEN)
    expect(row.locator(".bc-badge")).to_have_text("Corrupt")

    row.locator("input[type=checkbox]").check()
    page.click("text=Clear selected…")
    expect(page.locator("h1")).to_have_text("Clear blobs in library/nginx")
    assert BROKEN in provider.catalog.members("library/nginx").members
    page.click("button:has-text('Clear it')")

    expect(page.locator(".messagelist")).to_contain_text("Cleared 1 blob in library/nginx")
    expect(page.locator("tr", has_text=BROKEN)).to_have_count(0)
    assert BROKEN not in provider.catalog.members("library/nginx").members
    page.click("text=History")
    expect(page.locator("#change-history")).to_contain_text(f"Cleared {BROKEN}")
    assert violations == []


def test_a_descriptor_is_set_by_keyboard_alone(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider
) -> None:
    page = visit()
    page.goto(addresses.repository("brand/new"))
    page.get_by_role("link", name="Set a descriptor").focus()
    page.keyboard.press("Enter")
    page.locator("[name=digest]").focus()
    for text in ("sha256:12", "17", ""):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".errorlist")).to_contain_text("sha256 takes 64")
    page.locator("[name=digest]").fill(CONFIG)
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text(f"Set {CONFIG}")
    assert provider.repository_scoped("brand/new").stat(CONFIG).size == 17


def test_a_blob_is_purged_without_javascript(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider
) -> None:
    page = visit(java_script_enabled=False)
    page.goto(addresses.blobs())
    page.fill("#searchbar", LAYER.encoded)
    page.click("input[type=submit]")
    page.click("text=Purge everywhere")
    expect(page.locator("#content-main")).to_contain_text("in 2 repositories")
    page.click("button:has-text('Purge everywhere')")
    while page.locator("button:has-text('Continue')").count():
        page.click("button:has-text('Continue')")
    expect(page.locator(".messagelist")).to_contain_text("Purged the blob")
    assert provider.catalog.holders(LAYER).holders == ()


@pytest.mark.parametrize("window", WINDOWS)
def test_every_page_fits_and_keeps_the_policy(
    visit: Visit, window: str, violations: list[dict[str, str]]
) -> None:
    page = visit(**WINDOWS[window])
    for name, url in pages().items():
        page.goto(url)
        page.screenshot(path=SCREENSHOTS / f"{name}-{window}.png", full_page=True)
        assert width(page) <= WINDOWS[window]["viewport"]["width"], name  # type: ignore[index]
    page.goto(addresses.repository("library/nginx"))
    page.check(".action-select >> nth=0")
    page.click("text=Clear selected…")
    page.screenshot(path=SCREENSHOTS / f"repository-clear-{window}.png", full_page=True)
    assert width(page) <= WINDOWS[window]["viewport"]["width"]  # type: ignore[index]
    assert violations == []


def width(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))
