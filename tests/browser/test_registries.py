"""Several registries in a browser: the switch, and all of them at a glance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import pytest
from django.test import override_settings
from django.urls import reverse
from playwright.sync_api import expect

from blobcache.admin.registries import REGISTRY
from blobcache.descriptor import Descriptor
from blobcache.object_ids import object_id
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from project import embedded
from tests.admin import addresses
from tests.browser.conftest import CONFIG, LAYER, Visit
from tests.browser.windows import examine
from tests.registries.worlds import NOWHERE
from tests.servers import cache_at

STAGING = "staging"
LONG = "the-registry-of-the-other-data-centre-which-has-a-long-name-00001"[:64]
OVERVIEW = reverse("admin:app_list", args=["blobcache"])


@pytest.fixture
def staging(
    provider: RedisBlobDescriptorCacheProvider, valkey: embedded.Server
) -> Iterator[RedisBlobDescriptorCacheProvider]:
    """A second registry, and a third one that is dead."""
    url = re.sub(r"(/|db=)0$", r"\g<1>1", valkey.url)
    with (
        cache_at(url, STAGING) as client,
        cache_at(NOWHERE, "dead"),
        override_settings(
            BLOBCACHE={
                "default": {},
                STAGING: {"CACHE_ALIAS": STAGING},
                LONG: {"CACHE_ALIAS": "dead", "ROLE": "primary"},
            }
        ),
    ):
        client.flushdb()
        found = cast("RedisBlobDescriptorCacheProvider", get_provider(STAGING))
        descriptor = Descriptor(CONFIG, 2718, "a/b")
        found.repository_scoped("library/nginx").set_descriptor(CONFIG, descriptor)
        found.catalog.reindex()
        yield found


def pages(registry: str) -> dict[str, str]:
    query = f"?{REGISTRY}={registry}"
    nginx, blob = (object_id(registry, each) for each in ("library/nginx", CONFIG))
    return {
        "overview": OVERVIEW + query,
        "compare": addresses.repository(nginx, "compare"),
        "in all registries": addresses.blob(blob, "registries"),
        "repositories": addresses.repositories() + query,
        "blobs": addresses.blobs() + query,
        "changes": addresses.changes() + query,
        "consistency": addresses.repositories("consistency") + query,
        "jobs": addresses.repositories("jobs") + query,
        "repository": addresses.repository(nginx),
        "repository-history": addresses.repository(nginx, "history"),
        "repository-django-history": addresses.repository(nginx, "history") + "?django=1",
        "blob-purge": addresses.blob(blob, "purge"),
    }


@pytest.mark.usefixtures("staging")
def test_pages_of_another_registry_fit_each_window_and_are_accessible(
    visit: Visit, violations: list[dict[str, str]]
) -> None:
    page = visit()
    expect(page.locator("#bc-home table")).to_contain_text(STAGING)
    examine(page, "registries-card", violations)
    for name, url in {**pages(STAGING), "dead": f"{OVERVIEW}?{REGISTRY}={LONG}"}.items():
        page.goto(url)
        expect(page.locator(".bc-registries strong")).to_have_count(1)
        examine(page, f"registries-{name}", violations)


def test_a_purge_in_another_registry_by_keyboard_without_javascript(
    visit: Visit,
    provider: RedisBlobDescriptorCacheProvider,
    staging: RedisBlobDescriptorCacheProvider,
) -> None:
    page = visit(java_script_enabled=False)
    page.goto(addresses.repositories())
    page.get_by_role("link", name=STAGING).focus()
    page.keyboard.press("Enter")
    page.fill("#searchbar", "library/")
    page.keyboard.press("Enter")
    page.click("text=library/nginx")
    expect(page.locator("tr", has_text=LAYER)).to_have_count(0)
    page.locator("tr", has_text=CONFIG).get_by_role("link", name=CONFIG).click()
    page.click("text=Purge everywhere")
    page.click("button:has-text('Purge everywhere')")
    expect(page.locator(".messagelist")).to_contain_text("Purged the blob")
    expect(page.locator(".bc-registries strong")).to_have_text(STAGING)
    assert staging.catalog.holders(CONFIG).holders == ()
    assert len(provider.catalog.holders(CONFIG).holders) == 2
