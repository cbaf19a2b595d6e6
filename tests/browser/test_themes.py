"""The pages in themes of the admin, each in a portal of its own: what they show, how they look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from project.embedded import Server
from tests.admin import addresses
from tests.browser.accessibility import accessible
from tests.browser.conftest import LAYER, picture
from tests.browser.windows import WINDOWS, assert_fits

THEMES = ("stock", "unfold", "jazzmin")

RED = "rgb(186, 33, 33)"
"""The background of a button that deletes something, in every theme."""

TRANSPARENT = "rgba(0, 0, 0, 0)"

NAME = "library/nginx"


COLOURED = ("repository", "repository-set", "blob-purge")
"""The pages that are looked at in the dark and in a narrow window too."""


class Portal(NamedTuple):
    """A portal with a theme that is running."""

    theme: str
    url: str
    session: str


@pytest.fixture(scope="module", params=THEMES)
def portal(
    request: pytest.FixtureRequest, valkey: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Portal]:
    environment = {
        **os.environ,
        "BLOBCACHE_TEST_THEME": request.param,
        "BLOBCACHE_TEST_REDIS": valkey.url,
        "BLOBCACHE_TEST_DATABASE": str(tmp_path_factory.mktemp(request.param) / "portal.sqlite3"),
    }
    command = [sys.executable, "-m", "tests.browser.themed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            ready = json.loads(process.stdout.readline())
            yield Portal(request.param, f"http://127.0.0.1:{ready['port']}", ready["session"])
        finally:
            process.terminate()


@pytest.fixture
def page(portal: Portal, browser: Browser, window: str) -> Iterator[Page]:
    """A page of the portal, logged in, in a window of that kind."""
    options: Any = WINDOWS[window]
    context = browser.new_context(base_url=portal.url, **options)
    context.add_cookies([{"name": "sessionid", "value": portal.session, "url": portal.url}])
    yield context.new_page()
    context.close()


def pages() -> dict[str, tuple[str, str]]:
    """The addresses of some pages, and what must be in the heading or right below it."""
    check = addresses.repositories("consistency")
    return {
        "overview": (reverse("admin:app_list", args=["blobcache"]), "Blob cache"),
        "changes": (reverse("admin:blobcache_journalentry_changelist"), "Changes"),
        "repositories": (addresses.repositories(), "Repositories"),
        "repository": (addresses.repository(NAME), NAME),
        "repository-set": (addresses.repository(NAME, "set"), NAME),
        "repository-history": (addresses.repository(NAME, "history"), NAME),
        "doctor-one": (f"{check}?repository={NAME}", NAME),
        "blob": (addresses.blob(LAYER), LAYER),
        "blob-purge": (addresses.blob(LAYER, "purge"), LAYER),
    }


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("window", WINDOWS)
def test_pages_name_their_subject_warn_by_colour_fit_and_are_accessible(
    portal: Portal, page: Page, window: str
) -> None:
    for name, (url, subject) in pages().items():
        if window != "light" and name not in COLOURED:
            continue
        page.goto(url)
        expect(page.locator(".bc-page h1")).to_have_count(1)
        heading = page.locator(".bc-head, .bc-subject").filter(has_text=subject)
        expect(heading.first).to_be_visible()
        examine(portal, page, window, name)

    page.goto(reverse("admin:index"))
    expect(page.locator(".bc-home")).to_contain_text("Open the overview")
    page.goto(addresses.repository(NAME))
    page.check(".action-select >> nth=0")
    page.get_by_role("button", name="Clear selected…").click()
    expect(page.locator(".bc-page h1")).to_have_text(f"Clear blobs in {NAME}")
    examine(portal, page, window, "repository-clear")
    page.goto(addresses.repository(NAME))
    page.check(".action-select >> nth=0")
    page.get_by_role("button", name="Check selected").click()
    expect(page.locator(".bc-page h1")).to_have_text("Check selected blobs")
    examine(portal, page, window, "repository-check")


def examine(portal: Portal, page: Page, window: str, name: str) -> None:
    """Assert what must hold of every page."""
    shown = f"{portal.theme}-{name}-{window}"
    content = page.locator(".bc-page")
    if window == "dark":
        expect(content).to_have_css("color-scheme", "dark")
    for button in content.locator(".bc-danger").all():
        expect(button).to_have_css("background-color", RED)
    for button in content.locator(".button:not(.bc-danger), .object-tools a").all():
        expect(button).not_to_have_css("background-color", RED)
        expect(button).not_to_have_css("background-color", TRANSPARENT)
    for hidden in content.locator(".bc-hidden").all():
        expect(hidden).to_have_css("width", "1px")
    picture(page, f"{shown}")
    assert_fits(page, window, shown)
    if window != "narrow":
        accessible(page, shown, within=".bc-page")
