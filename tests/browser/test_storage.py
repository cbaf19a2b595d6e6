"""The pages that show what is stored, as they look in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from blobcache.services import get_browsable
from tests.admin import addresses
from tests.admin.test_storage_check import unlinked, world
from tests.backends.cases import layer_link
from tests.browser.accessibility import accessible
from tests.browser.conftest import Visit, picture
from tests.browser.test_admin import WINDOWS, width
from tests.doctor.test_truth import World

__all__ = ["world"]


@pytest.mark.parametrize("window", WINDOWS)
def test_pages_about_the_storage_fit_obey_the_policy_and_are_accessible(
    world: World, visit: Visit, window: str, violations: list[dict[str, str]]
) -> None:
    unlinked(world, 2)
    digest = world.push("team/app", b"shared")
    world.cache_member("team/other", digest, 5)
    damaged = world.push("team/app", b"damaged")
    world.write(layer_link("team/app", damaged), b"nonsense")
    get_browsable().catalog.reindex()
    page = visit(**WINDOWS[window])
    check = addresses.repositories("consistency")
    page.goto(check)
    pages = {
        "doctor": check,
        "doctor-kind": f"{check}?kind=unlinked-member",
        "doctor-report-only": f"{check}?kind=corrupt-link&repository=team/app",
        "repository-stored": addresses.repository("team/app") + "?truth=on",
        "blob-stored": addresses.blob(digest) + "?truth=on",
    }
    for name, url in pages.items():
        page.goto(url)
        picture(page, f"{name}-{window}")
        assert width(page) <= WINDOWS[window]["viewport"]["width"], name  # type: ignore[index]
    page.goto(f"{check}?kind=unlinked-member")
    page.get_by_role("button", name="Repair all of this kind…").click()
    picture(page, f"repair-stored-{window}")
    page.get_by_role("button", name="Repair all").click()
    expect(page.get_by_role("timer")).to_contain_text("Seconds left:")
    picture(page, f"repair-waits-{window}")
    assert width(page) <= WINDOWS[window]["viewport"]["width"]  # type: ignore[index]
    assert violations == []
    accessible(page, "repair-waits")
    for name, url in pages.items():
        page.goto(url)
        accessible(page, name)
