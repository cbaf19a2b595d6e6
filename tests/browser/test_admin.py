"""What operators do on the pages, and how these look and behave in a browser."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from blobcache.descriptor import Descriptor
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.browser.conftest import BROKEN, CONFIG, LAYER, PASSWORD, Visit, picture
from tests.browser.windows import WINDOWS, assert_fits, examine, follow


def pages() -> dict[str, str]:
    return {
        "first-page": reverse("admin:index"),
        "overview": reverse("admin:app_list", args=["blobcache"]),
        "repositories": addresses.repositories(),
        "repositories-sorted": addresses.repositories() + "?o=-bytes",
        "repositories-none": addresses.repositories() + "?q=no/such",
        "repository": addresses.repository("library/nginx"),
        "repository-filtered": addresses.repository("library/nginx") + "?type=layer&o=-size",
        "repository-nothing": addresses.repository("library/nginx") + "?state=husk",
        "repository-history": addresses.repository("library/nginx", "history"),
        "repository-set": addresses.repository("library/nginx", "set"),
        "consistency": addresses.repositories("consistency"),
        "consistency-one": addresses.repositories("consistency") + "?repository=library/nginx",
        "consistency-kind": addresses.repositories("consistency") + "?kind=corrupt",
        "consistency-nothing": addresses.repositories("consistency") + "?kind=husk",
        "changes": addresses.changes(),
        "changes-filtered": addresses.changes() + "?since=2d&repository=library/nginx",
        "changes-nothing": addresses.changes() + "?actor=nobody",
        "changes-mistake": addresses.changes() + "?since=yesterday",
        "blob-history": addresses.blob(LAYER, "history"),
        "blobs": addresses.blobs(),
        "blobs-mistake": addresses.blobs() + "?q=sha256:xyz",
        "blobs-beginning": addresses.blobs() + "?q=sha256:aa",
        "blob": addresses.blob(LAYER),
        "blob-broken": addresses.blob(BROKEN),
        "blob-clear": addresses.blob(LAYER, "delete"),
        "blob-purge": addresses.blob(LAYER, "purge"),
        "blob-raw": addresses.blob(LAYER, "raw") + "?repository=library/nginx",
        "blob-purge-many": addresses.blobs() + "purge/",
        "jobs": addresses.repositories("jobs"),
    }


def test_from_login_to_a_repaired_repository(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider, violations: list[dict[str, str]]
) -> None:
    page = visit(is_logged_in=False)
    page.fill("#id_username", "boss")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
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
    page.click("button:has-text('Clear 1 blob')")

    expect(page.locator(".messagelist")).to_contain_text("Cleared 1 blob in library/nginx")
    expect(page.locator("tr", has_text=BROKEN)).to_have_count(0)
    assert BROKEN not in provider.catalog.members("library/nginx").members
    page.click("text=History")
    changes = page.locator("#result_list tbody tr", has_text=BROKEN)
    expect(changes).to_contain_text("Cleared")
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
    expect(page.locator(".errorlist")).to_contain_text("sha256 needs 64")
    page.locator("[name=digest]").fill(CONFIG)
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("changes the size for every repository")
    page.locator("[name=digest]").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text(f"Set the descriptor of {CONFIG}")
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
def test_a_page_that_asks_again_says_why_without_javascript(
    visit: Visit,
    window: str,
    provider: RedisBlobDescriptorCacheProvider,
    violations: list[dict[str, str]],
) -> None:
    page = visit(java_script_enabled=False, **WINDOWS[window])
    page.goto(addresses.repositories() + "?q=library/")
    page.locator("tr", has_text="library/nginx").locator("input[type=checkbox]").check()
    page.get_by_role("button", name="Clear selected repositories…").click()
    expect(page.locator("button:has-text('Clear 4 blobs')")).to_be_visible()
    service = provider.repository_scoped("library/nginx")
    for number in range(5):
        digest = f"sha256:{number:064x}"
        service.set_descriptor(digest, Descriptor(digest, 1, "a/b"))
    page.get_by_role("button", name="Clear 4 blobs").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("has grown from 4 to 9")
    picture(page, f"repositories-clear-again-{window}")
    assert_fits(page, window, "asks again")
    assert len(provider.catalog.members("library/nginx").members) == 9
    page.get_by_role("button", name="Clear 9 blobs").click()
    expect(page.locator(".messagelist")).to_contain_text("Cleared 9 blobs")
    assert violations == []


def test_a_repository_is_checked_and_repaired(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider, violations: list[dict[str, str]]
) -> None:
    page = visit(java_script_enabled=False)
    page.goto(addresses.repository("library/nginx"))
    page.get_by_role("link", name="Doctor", exact=True).click()
    expect(page.locator("h1")).to_have_text("Doctor")
    row = page.locator("tr", has_text=BROKEN)
    expect(row).to_contain_text("Not a valid size: many")
    row.locator("input[type=checkbox]").check()
    page.get_by_role("button", name="Repair selected…").click()
    expect(page.locator("#content-main")).to_contain_text("You are about to repair this finding")
    page.get_by_role("button", name="Repair 1 finding").click()
    expect(page.locator(".messagelist")).to_contain_text("Repaired 1 finding.")
    # The bad global descriptor is gone; the repository keeps its membership until the next pull.
    expect(page.locator("tr", has_text=BROKEN)).not_to_contain_text("Not a valid size")
    assert BROKEN in provider.catalog.members("library/nginx").members

    page.get_by_role("button", name="Repair all “Incomplete” findings…").click()
    page.get_by_role("button", name="Repair all").click()
    expect(page.locator("#content-main")).to_contain_text("No problems found")
    assert violations == []


def test_filters_order_and_breadcrumbs(visit: Visit) -> None:
    page = visit(**WINDOWS["light"])
    page.goto(addresses.repositories())
    page.fill("#searchbar", "nginx")
    page.select_option("#bc-match", "in")
    page.get_by_role("button", name="Show").click()
    page.click("text=library/nginx")
    page.select_option("#bc-type", "layer")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Size", exact=True).click()
    assert "type=layer" in page.url
    assert "o=size" in page.url
    page.locator(".breadcrumbs").get_by_role("link", name="Repositories").click()
    expect(page.locator("#searchbar")).to_have_value("nginx")
    page.go_back()
    expect(page.locator("#bc-type")).to_have_value("layer")


def test_a_digest_and_a_reference_are_copied(visit: Visit) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.goto(addresses.repository("library/nginx"))
    row = page.locator("tr", has_text=LAYER)
    for name, text in (
        (f"Copy the digest: {LAYER}", LAYER),
        (f"Copy name@digest: library/nginx@{LAYER}", f"library/nginx@{LAYER}"),
    ):
        row.get_by_role("button", name=name).click()
        expect(page.locator("#bc-status")).to_have_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == text


@pytest.mark.parametrize("has_scripts", [True, False])
def test_the_browsable_api_logs_out(
    visit: Visit, violations: list[dict[str, str]], has_scripts: bool
) -> None:
    page = visit(java_script_enabled=has_scripts)
    page.goto("/api/repositories/")
    expect(page.locator(".navbar")).to_contain_text("boss")
    violations.clear()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    page.goto("/admin/")
    expect(page.locator("#id_password")).to_be_visible()
    assert [each for each in violations if each["directive"].startswith("script")] == []


def test_figures_are_calculated_without_javascript(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    page.goto(addresses.repositories())
    page.get_by_role("link", name="Calculate all sizes").click()
    expect(page.locator(".messagelist")).to_contain_text("up to date", timeout=15_000)
    page.get_by_role("link", name="Size", exact=True).click()
    expect(page.locator("th[aria-sort]")).to_contain_text("Size")
    expect(page.locator("#result_list tbody tr").first).to_contain_text("30.0")


def test_a_row_is_selected_by_keyboard_alone(visit: Visit) -> None:
    page = visit(**WINDOWS["light"])
    page.goto(addresses.repository("library/nginx"))
    box = page.locator("tr", has_text=BROKEN).locator("input[type=checkbox]")
    for _ in range(120):
        page.keyboard.press("Tab")
        if box.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Space")
    expect(box).to_be_checked()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.get_by_role("button", name="Clear selected…").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Clear blobs in library/nginx")


def test_every_page_fits_each_window_obeys_the_policy_and_is_accessible(
    visit: Visit, violations: list[dict[str, str]]
) -> None:
    page = visit()
    for name, url in pages().items():
        page.goto(url)
        examine(page, name, violations)
    page.goto(addresses.repository("library/nginx"))
    page.check(".action-select >> nth=0")
    follow(page.locator("text=Clear selected…"))
    examine(page, "repository-clear", violations)
    page.goto(addresses.repository("library/nginx"))
    for box in page.locator(".action-select").all():
        box.check()
    page.click("text=Check selected")
    expect(page.locator("h1")).to_have_text("Check selected blobs")
    examine(page, "repository-check", violations)
    page.goto(addresses.repositories("consistency") + "?repository=library/nginx")
    page.check(".action-select >> nth=0")
    follow(page.locator("text=Repair selected…"))
    examine(page, "repair", violations)
    page.goto(addresses.repositories())
    page.check(".action-select >> nth=0")
    follow(page.locator("text=Clear selected repositories…"))
    examine(page, "repositories-clear", violations)
    page.goto(addresses.repositories("consistency"))
    follow(page.get_by_role("button", name="Repair all “Corrupt” findings…"))
    examine(page, "repair-all", violations)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_table_of_media_types_is_as_wide_as_its_box_if_there_is_only_one(
    visit: Visit, provider: RedisBlobDescriptorCacheProvider, window: str
) -> None:
    service = provider.repository_scoped("one/type")
    service.set_descriptor(LAYER, Descriptor(LAYER, 31_415_926, "application/octet-stream"))
    page = visit(**WINDOWS[window])
    page.goto(addresses.repository("one/type"))
    expect(page.locator(".bc-rings")).to_have_count(0)
    widths = "element => [element.clientWidth, element.parentElement.clientWidth]"
    own, box = page.locator(".bc-composition .results").evaluate(widths)
    assert own > 0.9 * box
