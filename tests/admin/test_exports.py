"""The lists of the admin as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client, override_settings

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, HIDDEN, LAYER, LAYER_TYPE, Login
from tests.servers import cache_at

PAGES: dict[str, Callable[[], str]] = {
    "repositories": addresses.repositories,
    "blobs": addresses.blobs,
    "repository": lambda: addresses.repository(GRANTED),
    "blob": lambda: addresses.blob(LAYER),
}
every_list = pytest.mark.parametrize("page", PAGES)


def content(client: Client, url: str) -> str:
    response: Any = client.get(url)
    assert response.status_code == 200
    assert response.streaming
    return b"".join(response.streaming_content).decode()


def table(client: Client, url: str, query: str = "") -> list[dict[str, str]]:
    text = content(client, f"{url}?export=csv{query}")
    return list(csv.DictReader(io.StringIO(text, newline="")))


@every_list
def test_a_list_has_links_to_itself_as_files(
    page: str, filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    url = PAGES[page]()
    shown = admin.get(url).content.decode()
    for form in ("csv", "ndjson"):
        assert f'href="?export={form}"' in shown
        assert content(admin, f"{url}?export={form}")


def test_the_rows_are_those_of_the_lists(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    names = [row["name"] for row in table(admin, addresses.repositories())]
    assert names == [GRANTED, HIDDEN]
    assert {row["digest"] for row in table(admin, addresses.blobs())} == {LAYER, CONFIG}
    assert [row["name"] for row in table(admin, addresses.blob(LAYER))] == [GRANTED, HIDDEN]
    (first, second) = table(admin, addresses.repository(GRANTED), "&o=-size")
    assert (first["digest"], first["size"], first["state"]) == (LAYER, "30000000", "ok")
    assert second["digest"] == CONFIG
    line = content(admin, addresses.repository(GRANTED) + "?export=ndjson&q=aaa")
    assert json.loads(line)["mediaType"] == LAYER_TYPE


def test_search_and_order_apply(filled: RedisBlobDescriptorCacheProvider, admin: Client) -> None:
    url = addresses.repositories()
    assert [row["name"] for row in table(admin, url, "&o=-name")] == [HIDDEN, GRANTED]
    assert [row["name"] for row in table(admin, url, "&q=vault&m=in")] == [HIDDEN]
    assert "?q=vault&amp;m=in&amp;export=csv" in admin.get(f"{url}?q=vault&m=in").content.decode()


@override_settings(BLOBCACHE={"default": {"ADMIN_SORT_LIMIT": 10}})
def test_a_large_repository_is_exported_as_well(
    provider: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    service = provider.repository_scoped("large")
    for number in range(300):
        digest = Digest(f"sha256:{number:064x}")
        service.set_descriptor(digest, Descriptor(digest, number, "=a/b"))
    found = table(admin, addresses.repository("large"), "&o=-size")
    assert {int(row["size"]) for row in found} == set(range(300))
    assert {row["mediaType"] for row in found} == {"'=a/b"}


def test_an_export_shows_only_what_the_user_may_view(
    filled: RedisBlobDescriptorCacheProvider, login: Login
) -> None:
    granted = login("granted", "view_blob")
    assert [row["name"] for row in table(granted, addresses.blob(LAYER))] == [GRANTED]
    denied = granted.get(addresses.repository(HIDDEN) + "?export=csv")
    assert denied.status_code == 403


@every_list
def test_redis_that_is_down_is_told_on_the_page(
    page: str, filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    with cache_at("redis://127.0.0.1:1/0"):
        response: Any = admin.get(PAGES[page]() + "?export=csv")
    assert not response.streaming
    assert b"bc-banner" in response.content or b"messagelist" in response.content


@every_list
def test_an_unknown_format_is_an_error(
    page: str, filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    response = admin.get(PAGES[page]() + "?export=xlsx")
    assert response.status_code == 400
    assert "csv, ndjson" in response.content.decode()
