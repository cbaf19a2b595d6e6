"""Jobs in a browser: the script takes the steps, and without it a button does."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin import site
from playwright.sync_api import Page, expect

from blobcache.models import Job, Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.browser.accessibility import violations_of
from tests.browser.conftest import BROKEN, CONFIG, LAYER, Visit, picture
from tests.browser.windows import WINDOWS, assert_fits

PURGE = addresses.blobs() + "purge/"


def paste(page: Page) -> None:
    page.goto(PURGE)
    page.fill("#bc-text", f"{LAYER}\n{CONFIG}, {BROKEN} nonsense")
    page.get_by_role("button", name="Show what would be cleared").click()
    expect(page.locator(".bc-banner")).to_contain_text("nonsense")


@pytest.mark.parametrize("window", WINDOWS)
def test_pasted_digests_are_purged_while_the_page_is_open(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider, window: str
) -> None:
    page = visit(**WINDOWS[window])
    paste(page)
    assert violations_of(page) == []
    page.get_by_role("button", name="Purge 3 blobs").click()
    expect(page.locator("#bc-job")).to_contain_text("All blobs are cleared everywhere.")
    assert violations_of(page) == []
    assert Job.objects.get().state == "done"
    page.get_by_role("link", name="All jobs").click()
    expect(page.locator("#result_list")).to_contain_text("100 %")
    assert violations_of(page) == []


def test_without_a_script_a_button_takes_the_steps(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider
) -> None:
    page = visit(java_script_enabled=False)
    paste(page)
    page.get_by_role("button", name="Purge 3 blobs").click()
    expect(page.locator("#bc-job")).to_contain_text("Waiting")
    while page.get_by_role("button", name="Continue").count():
        page.get_by_role("button", name="Continue").click()
    expect(page.locator("#bc-job")).to_contain_text("All blobs are cleared everywhere.")


@pytest.mark.parametrize("window", WINDOWS)
def test_all_repositories_of_a_search_are_cleared(
    visit: Visit,
    provider: RedisBlobDescriptorCacheProvider,
    window: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(site.get_model_admin(Repository), "list_per_page", 1)
    page = visit(**WINDOWS[window])
    page.goto(addresses.repositories())
    assert violations_of(page) == []
    page.get_by_role("button", name=re.compile("^Clear all [0-9]+ on all pages")).click()
    expect(page.locator(".bc-consequences")).to_contain_text("This starts a job")
    assert violations_of(page) == []
    assert_fits(page, window, "clear all")
    picture(page, f"repositories-clear-all-{window}")
    page.get_by_role("button", name=re.compile("^Clear [0-9]+ blobs")).click()
    expect(page.locator("#bc-job")).to_have_attribute("data-state", "done")
    provider.catalog.reindex()
    assert [each.is_corrupt for each in provider.catalog.repositories().repositories] == [True]


def test_rows_are_selected_together(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider, violations: list[dict[str, str]]
) -> None:
    page = visit()
    page.goto(addresses.repository("library/nginx"))
    boxes = page.locator("input.action-select")
    expect(page.locator(".bc-selected")).to_have_text("0 of 4 on this page selected")
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    expect(page.locator(".bc-selected")).to_have_text("3 of 4 on this page selected")
    copied = page.locator(".bc-copy-text").get_attribute("data-copy") or ""
    assert copied.splitlines() == [LAYER, CONFIG, BROKEN]
    page.get_by_label("Select all on this page").check()
    expect(page.locator(".bc-selected")).to_have_text("4 of 4 on this page selected")
    page.get_by_role("button", name="Purge selected everywhere…").click()
    page.get_by_role("button", name="Purge 4 blobs").click()
    expect(page.locator("#bc-job")).to_contain_text("All blobs are cleared everywhere.")
    assert violations == []
