"""The pages that show what is stored, as they look in a browser."""

from __future__ import annotations

from playwright.sync_api import expect

from blobcache.services import get_browsable
from tests.admin import addresses
from tests.admin.test_storage_check import unlinked, world
from tests.backends.cases import layer_link
from tests.browser.conftest import Visit
from tests.browser.windows import examine, follow
from tests.doctor.test_truth import World

__all__ = ["world"]


def test_pages_about_the_storage_fit_obey_the_policy_and_are_accessible(
    world: World, visit: Visit, violations: list[dict[str, str]]
) -> None:
    unlinked(world, 2)
    digest = world.push("team/app", b"shared")
    world.cache_member("team/other", digest, 5)
    damaged = world.push("team/app", b"damaged")
    world.write(layer_link("team/app", damaged), b"nonsense")
    get_browsable().catalog.reindex()
    page = visit()
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
        examine(page, name, violations)
    page.goto(f"{check}?kind=unlinked-member")
    follow(page.get_by_role("button", name="Repair all of this kind…"))
    examine(page, "repair-stored", violations)
    page.get_by_role("button", name="Repair all").click()
    expect(page.get_by_role("timer")).to_contain_text("Seconds left:")
    examine(page, "repair-waits", violations)
