"""Pages say how old the index is, and a button builds it anew."""

from __future__ import annotations

import re
from time import time

import pytest
from django.test import Client, override_settings
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import GRANTED, LAYER, Login, add_foreign_keys
from tests.budgets import limit

STATE = "blobcache::{catalog}::state"
REFRESH = addresses.repositories("refresh")
PAGES = {
    "holders": addresses.blob(LAYER),
    "purge": addresses.blob(LAYER, "purge"),
    "sharing": addresses.repository(GRANTED),
    "list": addresses.repositories(),
}
_BACK = re.compile(r'<input type="hidden" name="back" value="([^"]*)">')


def look_again(client: Client, address: str) -> tuple[int, str]:
    """Press the button on a page until the browser is there again; return the steps and the page.

    As a browser without JavaScript does it.
    """
    (back,) = set(_BACK.findall(client.get(address).content.decode()))
    for step in range(1, 1000):
        response = client.post(REFRESH, {"back": back}, follow=True)
        page = response.content.decode()
        if response.redirect_chain:
            assert response.redirect_chain == [(back, 302)]
            return step, page
        assert 'class="bc-confirm bc-again"' in page
        assert _BACK.findall(page) == [back]
    raise AssertionError("It does not end.")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_says_how_old_the_index_is(
    name: str, filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    default_cache.hset(STATE, mapping={"indexed_at": repr(time() - 100), "took": 6_000_000})
    page = admin.get(PAGES[name]).content.decode()
    assert re.search(r"(1.minute old|The index of repositories is 1.minute old)", page)
    assert "when it is 300 seconds old" in page
    assert "Look again" in page


@pytest.mark.parametrize("name", PAGES)
def test_looking_again_leads_back_to_the_page_with_what_was_pushed(
    name: str,
    filled: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_foreign_keys(default_cache)
    default_cache.sadd("repository::pushed/meanwhile::blobs", LAYER)
    before = admin.get(PAGES[name]).content.decode()
    limit(monkeypatch, page=0)
    steps, _ = look_again(admin, PAGES[name])
    assert steps > 2
    monkeypatch.undo()
    after = admin.get(PAGES[name]).content.decode()
    assert "pushed/meanwhile" not in before
    assert ("pushed/meanwhile" in after) == (name != "sharing")


def test_a_step_shows_how_far_the_build_is(
    filled: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_foreign_keys(default_cache)
    limit(monkeypatch, page=0)
    shares = []
    while 'value="' in (page := admin.post(REFRESH).content.decode()):
        (share,) = re.findall(r'<progress id="bc-building" max="100" value="(\d+)">', page)
        shares.append(int(share))
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 100


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/admin/blobcache/repository/",
        "//evil.example/",
        "/admin/auth/user/",
        "/admin/blobcache/repository/../../logout/",
        "/admin/blobcache/repository/%2e%2e/%2E%2e/logout/",
        "/admin/blobcache/repository/\\evil",
        "/admin/blobcache/repository/\r\nSet-Cookie: a=b",
        "/admin/blobcache/repository/" + "x" * 3000,
        "javascript:alert(1)",
        "",
    ],
)
def test_it_leads_to_no_other_page(
    back: str, filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    response = admin.post(REFRESH, {"back": back})
    assert (response.status_code, response["Location"]) == (302, addresses.repositories())


def test_a_watched_index_is_current(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    serial = filled.catalog.status().indexed
    default_cache.hset(STATE, mapping={"watched_at": repr(time()), "watched_from": str(serial)})
    for address in PAGES.values():
        assert "Events of Redis keep it current." in admin.get(address).content.decode(), address


def test_other_users_see_the_age_without_the_button(
    filled: RedisBlobDescriptorCacheProvider, login: Login
) -> None:
    page = login("granted").get(addresses.repositories()).content.decode()
    assert "The index of repositories is" in page
    assert "Look again" not in page


def test_where_no_index_may_be_kept_nobody_is_offered_to_look_again(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    with override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}):
        for address in (PAGES["list"], PAGES["holders"], PAGES["sharing"]):
            assert 'name="back"' not in admin.get(address).content.decode()
        page = admin.post(REFRESH, follow=True).content.decode()
    assert "its index cannot be kept" in page


def test_the_whole_name_of_a_new_repository_finds_it(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    default_cache.sadd("repository::brand/new::blobs", LAYER)
    page = admin.get(addresses.repositories(), {"q": "brand/new"}).content.decode()
    assert "1 repository" in page
    assert "No repository name begins" not in page
