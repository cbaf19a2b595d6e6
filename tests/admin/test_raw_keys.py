"""The page of a blob's keys."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from django.test import Client
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import GRANTED, HIDDEN, LAYER, LAYER_TYPE, OTHER, Login

Text = Callable[[Any], str]


def test_the_page_of_a_blob_leads_to_its_keys(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.blob(LAYER)))
    assert f'href="{addresses.blob(LAYER, "raw")}"' in page
    assert f'href="{addresses.blob(LAYER, "raw")}?repository=library%2Fnginx"' in page
    page = text(admin.get(addresses.blob(LAYER, "raw")))
    assert f"blobs::{LAYER}" in page
    assert f"redis-cli HGETALL blobs::{LAYER}" in page
    assert LAYER_TYPE in page
    assert "repository::" not in page


def test_with_a_repository_its_keys_are_shown_too(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.blob(LAYER, "raw"), {"repository": GRANTED}))
    assert f"redis-cli SISMEMBER repository::{GRANTED}::blobs {LAYER}" in page
    assert f"redis-cli HGETALL repository::{GRANTED}::blobs::{LAYER}" in page
    assert "<dd>yes</dd>" in page
    page = text(admin.get(addresses.blob(OTHER, "raw"), {"repository": GRANTED}))
    assert page.count("There is no such key.") == 2
    assert "<dd>no</dd>" in page


def test_what_another_program_has_written_is_escaped(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    default_cache.hset(f"blobs::{OTHER}", mapping={b"<b>\xff": b"<script>\x00\xe2\x80\xae"})
    page = admin.get(addresses.blob(OTHER, "raw")).content.decode()
    assert "<script>\\x00" not in page
    assert "&lt;script&gt;\\x00\\u202e" in page
    assert "&lt;b&gt;\\xff" in page
    default_cache.set(f"blobs::{LAYER}", "text")
    page = admin.get(addresses.blob(LAYER, "raw")).content.decode()
    assert "should be hash" in page


def test_a_repository_that_the_user_may_not_view_is_not_shown(
    filled: RedisBlobDescriptorCacheProvider, login: Login
) -> None:
    url = addresses.blob(LAYER, "raw")
    client = login("granted", "view_blob")
    assert client.get(url).status_code == HTTPStatus.OK
    assert client.get(url, {"repository": GRANTED}).status_code == HTTPStatus.OK
    for name in (HIDDEN, "not/there"):
        assert client.get(url, {"repository": name}).status_code == HTTPStatus.FORBIDDEN
    assert login("nobody", "view_repository").get(url).status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("name", ["No Name", "a::b", "x" * 300])
def test_an_invalid_name_is_an_error(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, name: str
) -> None:
    response = admin.get(addresses.blob(LAYER, "raw"), {"repository": name})
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert "bc-banner bc-error" in response.content.decode()
