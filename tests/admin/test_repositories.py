"""The page of all repositories: search, paging, counts, the state of the cache."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from http import HTTPStatus

import pytest
from django.contrib import admin as django_admin
from django.test import Client
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.models import Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import GRANTED, LAYER, LAYER_TYPE, Login, add_foreign_keys
from tests.budgets import limit

_ROW = re.compile(r'<th scope="row" data-label="Repository">(?:<a href="[^"]*">)?([^<]*)')
_NEXT = re.compile(r'<a href="([^"]*)" rel="next">')


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_admin.site.get_model_admin(Repository), "list_per_page", 3)


def rows(page: str) -> list[str]:
    return [unescape(name).strip() for name in _ROW.findall(page)]


def walk(client: Client, url: str) -> Iterator[list[str]]:
    """Return the names on each page, following the links to the next page."""
    query = ""
    while True:
        page = client.get(url.partition("?")[0] + query if query else url).content.decode()
        yield rows(page)
        following = _NEXT.search(page)
        if following is None:
            return
        query = unescape(following[1])


def seed(provider: RedisBlobDescriptorCacheProvider, *names: str) -> None:
    for name in names:
        provider.repository_scoped(name).set_descriptor(LAYER, Descriptor(LAYER, 1, LAYER_TYPE))
    provider.catalog.reindex()


def test_a_listing_shows_names_and_numbers_of_blobs(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    page = admin.get(addresses.repositories()).content.decode()
    assert rows(page) == ["library/nginx", "secret/vault"]
    assert re.findall(r'<td class="bc-number"[^>]*>(\d+)<', page) == ["2", "1"]
    assert "2 repositories" in page
    assert f'href="{addresses.repository(GRANTED)}"' in page


@pytest.mark.usefixtures("small_pages")
def test_search_and_paging_work_together(
    provider: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    library = [f"library/r{number}" for number in range(7)]
    seed(provider, *library, "aaa", "zzz")
    pages = list(walk(admin, addresses.repositories() + "?q=library/"))
    assert pages == [library[:3], library[3:6], library[6:]]
    assert [name for page in walk(admin, addresses.repositories()) for name in page] == [
        "aaa",
        *library,
        "zzz",
    ]


@pytest.mark.usefixtures("small_pages")
def test_a_page_can_be_shared_between_readers(
    provider: RedisBlobDescriptorCacheProvider, admin: Client, viewer: Client
) -> None:
    seed(provider, *(f"r{number}" for number in range(5)))
    page = admin.get(addresses.repositories()).content.decode()
    following = _NEXT.search(page)
    assert following is not None
    shared = addresses.repositories() + unescape(following[1])
    assert rows(viewer.get(shared).content.decode()) == ["r3", "r4"]
    assert "First page" in viewer.get(shared).content.decode()


@pytest.mark.usefixtures("small_pages")
def test_the_address_of_a_page_contains_no_repository_name(
    provider: RedisBlobDescriptorCacheProvider, login: Login
) -> None:
    seed(provider, GRANTED, "secret/a", "secret/b", *(f"z/{number}" for number in range(9)))
    page = login("granted").get(addresses.repositories()).content.decode()
    assert rows(page) == [GRANTED]
    assert "secret" not in page


@pytest.mark.parametrize("cursor", ["nonsense", "a:b", "%00", "x" * 5000])
def test_a_cursor_of_another_list_leads_to_the_first_page(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, cursor: str
) -> None:
    response = admin.get(addresses.repositories() + f"?cursor={cursor}", follow=True)
    assert response.redirect_chain == [(addresses.repositories(), HTTPStatus.FOUND)]
    assert "has expired" in response.content.decode()


@pytest.mark.parametrize(
    "query",
    ["Not a name", "::", "a::blobs", "\x00", "ü\U0001f600", "<script>alert(1)</script>", "a" * 999],
)
def test_any_text_can_be_searched_for(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, query: str
) -> None:
    response = admin.get(addresses.repositories(), {"q": query})
    assert response.status_code == HTTPStatus.OK
    page = response.content.decode()
    assert "No repository name begins with" in page
    assert "<script>alert" not in page


def test_a_name_that_is_not_cached_can_be_opened(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    page = admin.get(addresses.repositories(), {"q": "brand/new"}).content.decode()
    assert addresses.repository("brand/new") in page
    page = admin.get(addresses.repository("brand/new")).content.decode()
    assert "The cache has no repository brand/new." in page


def test_an_empty_cache_explains_what_to_do(
    provider: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    page = admin.get(addresses.repositories()).content.decode()
    assert "There are no repositories in this cache" in page
    assert "Look again" in page


def test_corrupt_names_and_keys_are_shown_and_break_nothing(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    default_cache.sadd("repository::Not a Name!::blobs", LAYER)
    default_cache.sadd(b"repository::\xff\n<b>::blobs", LAYER)
    default_cache.sadd("repository::a::blobs::b::blobs", LAYER)
    default_cache.set("repository::not/a-set::blobs", "text")
    filled.catalog.reindex()
    page = admin.get(addresses.repositories()).content.decode()
    assert page.count("Invalid name</span>") == 3
    assert page.count(">Corrupt</span>") == 1
    assert "<b>" not in page
    assert f'href="{addresses.repository("not/a-set")}"' in page
    assert "Not a Name!" in page
    assert admin.get(addresses.repository("not/a-set")).status_code == HTTPStatus.OK
    for view in ("change", "history", "clear", "set", "delete"):
        response = admin.get(addresses.repository("Not a Name!", view))
        assert response.status_code == HTTPStatus.NOT_FOUND, view


def test_the_cards_show_the_status_of_the_cache(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    page = admin.get(addresses.repositories()).content.decode()
    assert 'class="bc-product">valkey</span>' in page
    assert "noeviction" in page
    assert "Use allkeys-lru" in page
    assert "minutes</a>" not in page
    assert "just built" in page


def test_a_refresh_finds_what_a_registry_has_written(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    default_cache.sadd("repository::pushed/meanwhile::blobs", LAYER)
    before = filled.catalog.status()
    assert "pushed/meanwhile" not in admin.get(addresses.repositories()).content.decode()

    admin.get(addresses.repositories("refresh"))
    assert filled.catalog.status() == before

    response = admin.post(addresses.repositories("refresh"), follow=True)
    page = response.content.decode()
    assert "The index is up to date" in page
    assert "pushed/meanwhile" in page
    assert filled.catalog.status().indexed == before.indexed + 1


def test_a_long_build_is_continued_by_posts(
    filled: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_foreign_keys(default_cache)
    limit(monkeypatch, page=0)
    begun = filled.catalog.status().begun
    page = admin.post(addresses.repositories("refresh"), follow=True).content.decode()
    assert "Continue building" in page
    posts = 1
    while filled.catalog.status().building:
        admin.post(addresses.repositories("refresh"))
        posts += 1
    assert posts > 1
    assert filled.catalog.status().indexed == begun + 1
