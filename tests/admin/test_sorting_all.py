"""The page of a large repository: sorted, searched and filtered as a whole, from a sorted copy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client, override_settings
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from project import embedded
from tests.admin import addresses
from tests.admin.conftest import Login
from tests.redis.test_sorted_members import LAYER, MANY, NAME, digest, fill
from tests.servers import commands

Text = Callable[[Any], str]

_DIGEST = re.compile(r'<input type="checkbox" class="action-select" name="digest" value="([^"]*)"')
_LARGE = override_settings(BLOBCACHE={"default": {"ADMIN_SORT_LIMIT": 100}})

PAGE = addresses.repository(NAME)
SORT = addresses.repository(NAME, "sort")


@pytest.fixture(autouse=True)
def _large() -> Any:
    with _LARGE:
        yield


@pytest.fixture
def sizes(provider: RedisBlobDescriptorCacheProvider, default_cache: Redis) -> dict[str, int]:
    return fill(default_cache)


def sort(client: Client, kept: str = "") -> Any:
    """Press the button until the copy is made."""
    for _ in range(100):
        response = client.post(SORT, {"kept": kept})
        if response.status_code == 302:
            return response
    raise AssertionError("The copy is not finished.")


def test_a_large_repository_offers_to_sort_it(
    sizes: dict[str, int], admin: Client, text: Text
) -> None:
    page = text(admin.get(PAGE, {"o": "-size"}))
    assert "This list is not sorted yet" in page
    assert f'action="{SORT}"' in page
    assert "Sort all blobs" in page
    assert len(_DIGEST.findall(page)) >= 100


def test_a_get_makes_no_copy(sizes: dict[str, int], admin: Client, default_cache: Redis) -> None:
    for query in ("", "?o=-size", "?q=1"):
        admin.get(f"{PAGE}{query}")
    assert admin.get(SORT).status_code == 302
    assert list(default_cache.scan_iter(b"blobcache::*cop*")) == []


def test_the_whole_list_is_sorted_and_has_page_numbers(
    sizes: dict[str, int], admin: Client, text: Text
) -> None:
    response = sort(admin, "o=-size")
    assert response.url == f"{PAGE}?o=-size"
    found = []
    for number in (1, 2, 3):
        page = text(admin.get(PAGE, {"o": "-size", "p": str(number)}))
        found += _DIGEST.findall(page)
        assert "This order is 0 seconds old." in page or "This order is" in page
        assert "Sort again" in page
    assert [sizes[each] for each in found] == sorted(sizes.values(), reverse=True)
    assert set(found) == set(sizes)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"q": "1"}, lambda each, size: each.startswith("sha256:1")),
        ({"size_min": "20", "size_max": "30"}, lambda each, size: 20 <= size + 1 <= 30),
        ({"type": LAYER}, lambda each, size: None),
        ({"type": "layer", "o": "size"}, lambda each, size: None),
        ({"state": "size-mismatch"}, lambda each, size: False),
    ],
)
def test_filters_go_through_the_whole_list(
    sizes: dict[str, int],
    admin: Client,
    text: Text,
    query: dict[str, str],
    wanted: Callable[[str, int], bool | None],
) -> None:
    sort(admin, "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in query.items()))
    page = text(admin.get(PAGE, query))
    found = _DIGEST.findall(page)
    if "type" in query:
        assert len(found) == MANY // 3
    else:
        assert set(found) == {each for each, size in sizes.items() if wanted(each, size)}
    assert f"{len(found)} blobs of {MANY}" in page or not found


def test_what_is_shown_is_read_anew(
    sizes: dict[str, int], admin: Client, text: Text, default_cache: Redis
) -> None:
    sort(admin, "o=size")
    first = min(sizes, key=lambda each: (sizes[each], each))
    default_cache.hset(f"blobs::{first}", "size", 123456789)
    default_cache.srem(f"repository::{NAME}::blobs", digest(4))
    page = text(admin.get(PAGE, {"o": "size"}))
    assert 'title="123,456,789 bytes"' in page
    assert digest(4) not in _DIGEST.findall(page)
    assert "1 blob of this page is no longer in the repository." in page


def test_a_step_is_bounded_and_the_page_goes_on(
    provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    fill(default_cache, many=3000)
    provider.catalog.budgets = Budgets(page=0)
    response = admin.post(SORT, {"kept": "o=size"})
    assert response.status_code == 200
    page = text(response)
    assert "% is done" in page
    assert 'name="kept" value="o=size"' in page
    assert "blobcache/again.js" in page
    sort(admin, "o=size")


@pytest.mark.parametrize("persona", ["nobody", "granted"])
def test_only_who_may_view_the_repository_sorts_it(
    sizes: dict[str, int], login: Login, default_cache: Redis, persona: str
) -> None:
    assert login(persona).post(SORT, {"kept": ""}).status_code == 403
    assert list(default_cache.scan_iter(b"blobcache::*cop*")) == []


def test_the_page_of_a_large_repository_takes_few_round_trips(
    sizes: dict[str, int], admin: Client, valkey: embedded.Server
) -> None:
    sort(admin, "o=size")
    admin.get(PAGE, {"o": "size"})
    with valkey.client() as observer, commands(observer) as sent:
        admin.get(PAGE, {"o": "size", "p": "3"})
    assert sent.round_trips <= 40


def test_a_full_index_is_said_and_the_list_works_without(
    admin: Client, text: Text, sizes: dict[str, int], default_cache: Redis
) -> None:
    default_cache.config_set("maxmemory-policy", "noeviction")
    default_cache.config_set("maxmemory", 1)
    try:
        page = text(admin.post(SORT, {"kept": "o=size"}))
        assert "Redis did not keep the sorted copy." in page
        listed = admin.get(PAGE, {"o": "size"})
        assert listed.status_code == 200
        assert "This list is not sorted yet" in text(listed)
    finally:
        default_cache.config_set("maxmemory", 0)


def test_without_copies_the_page_says_that_it_is_not_sorted(
    sizes: dict[str, int], admin: Client, text: Text
) -> None:
    own = {"default": {"ADMIN_SORT_LIMIT": 100, "SORTED_COPIES": None}}
    with override_settings(BLOBCACHE=own):
        page = text(admin.get(PAGE, {"o": "size"}))
        assert "A repository with more than 100 blobs is not sorted." in page
        assert "Sort all blobs" not in page
        response = admin.post(SORT, {"kept": ""}, follow=True)
        assert "No sorted copy can be kept here" in text(response)


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 30])
def test_a_size_that_is_none_is_said(
    sizes: dict[str, int], admin: Client, text: Text, value: str
) -> None:
    response = admin.get(PAGE, {"size_min": value})
    assert response.status_code == 400
    assert "is not a number of bytes" in text(response)


def test_an_export_of_a_sorted_list_is_sorted(sizes: dict[str, int], admin: Client) -> None:
    sort(admin, "o=-size")
    response = admin.get(PAGE, {"o": "-size", "export": "csv"})
    lines = b"".join(response).decode().splitlines()[1:]
    found = [sizes[line.partition(",")[0]] for line in lines]
    assert found == sorted(sizes.values(), reverse=True)
