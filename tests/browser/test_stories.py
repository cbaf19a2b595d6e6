"""Three questions of an operator, each answered in at most three clicks from the first page."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import BROKEN, LAYER, Visit

MOST = 3


class Clicks:
    """Clicks, and counts them. To send a form is a click too; to type into it is none."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0

    def click(self, target: Locator) -> None:
        self.count += 1
        assert self.count <= MOST
        target.click()

    def link(self, name: str) -> None:
        self.click(self.page.locator("#content").get_by_role("link", name=name, exact=True).first)

    def look_up(self, text: str) -> None:
        self.page.fill("#bc-look-up", text)
        self.click(self.page.get_by_role("button", name="Look up"))


def first_page(visit: Visit, **options: Any) -> Clicks:
    page = visit(**options)
    expect(page.locator("#bc-home-title")).to_be_visible()
    return Clicks(page)


def test_what_a_collection_has_left_wrong_is_found_and_its_repair_offered(visit: Visit) -> None:
    clicks = first_page(visit)
    clicks.link("Blob cache")
    clicks.link("Doctor")
    expect(clicks.page.locator(".bc-cards").last).to_contain_text("Corrupt")
    expect(clicks.page.locator("#changelist-form")).to_contain_text(BROKEN)
    clicks.click(clicks.page.get_by_role("button", name="Repair all “Corrupt” findings…"))
    expect(clicks.page.get_by_role("heading", level=1)).to_contain_text("epair")


def test_who_holds_a_blob_and_what_a_purge_of_it_would_clear(visit: Visit) -> None:
    clicks = first_page(visit)
    clicks.look_up(LAYER)
    expect(clicks.page.locator("#content")).to_contain_text("library/nginx")
    expect(clicks.page.locator("#content")).to_contain_text("a/name/with/many-components")
    clicks.link("Purge everywhere")
    expect(clicks.page.locator("#content")).to_contain_text("library/nginx")


def test_what_a_repository_alone_holds(visit: Visit) -> None:
    clicks = first_page(visit)
    clicks.look_up("library/nginx")
    expect(clicks.page.locator("#content")).to_contain_text("no other repository holds")


def test_what_changed_last_night_and_who_did_it(visit: Visit) -> None:
    clicks = first_page(visit)
    clicks.link("Blob cache")
    clicks.link("Changes of the last 24 hours")
    expect(clicks.page.locator("#content")).to_contain_text("boss")
    expect(clicks.page.locator("#content")).to_contain_text("library/nginx")


def test_the_same_without_a_script(visit: Visit) -> None:
    clicks = first_page(visit, java_script_enabled=False)
    clicks.link("Blob cache")
    clicks.link("Changes of the last 24 hours")
    expect(clicks.page.locator("#content")).to_contain_text("boss")
