"""The page that sets a descriptor: a size that others use is only changed on purpose."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from blobcache.descriptor import Descriptor
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, HIDDEN, LAYER, LAYER_TYPE, OTHER, Login

Text = Callable[[Any], str]

SIZE = 30_000_000

PAGES = {
    "global": lambda: addresses.blob(LAYER, "set"),
    "repository": lambda: addresses.repository(GRANTED, "set"),
}


def form(size: int, **more: str) -> dict[str, Any]:
    return {"digest": LAYER, "size": size, "media_type": LAYER_TYPE, **more}


def confirmed(page: str) -> str:
    found = re.search(r'name="confirmed" value="([^"]+)"', page)
    assert found
    return found[1]


@pytest.fixture(params=PAGES)
def url(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]()


def test_a_changed_size_is_shown_with_the_old_one_and_written_when_confirmed(
    url: str, filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    response = admin.post(url, form(99))
    page = text(response)
    assert "This changes the size for every repository that holds the blob." in page
    assert "Known size: 30,000,000 bytes" in page
    assert "New size: 99 bytes" in page
    assert filled.stat(LAYER).size == SIZE
    assert 'value="99"' in response.content.decode()

    token = confirmed(response.content.decode())
    assert admin.post(url, form(99, confirmed=token)).status_code == 302
    assert filled.stat(LAYER).size == 99


def test_the_known_size_and_a_new_blob_need_no_confirmation(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    url = addresses.repository(GRANTED, "set")
    assert admin.post(url, form(SIZE)).status_code == 302
    new = {"digest": OTHER, "size": 5, "media_type": "a/b"}
    assert admin.post(url, new).status_code == 302
    assert filled.stat(OTHER).size == 5


def test_a_size_that_changed_after_the_question_is_asked_about_again(
    url: str, filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    token = confirmed(admin.post(url, form(99)).content.decode())
    filled.set_descriptor(LAYER, Descriptor(LAYER, 77, LAYER_TYPE))
    page = text(admin.post(url, form(99, confirmed=token)))
    assert "The known size has changed in the meantime." in page
    assert "Known size: 77 bytes" in page
    assert filled.stat(LAYER).size == 77


def test_a_confirmation_is_for_its_blob_and_its_old_size_alone(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    url = addresses.repository(GRANTED, "set")
    token = confirmed(admin.post(url, form(99)).content.decode())
    other = {"digest": CONFIG, "size": 99, "media_type": "a/b", "confirmed": token}
    for made_up in (token, token + "x", "", "30000000", "\x00"):
        assert admin.post(url, {**other, "confirmed": made_up}).status_code == 200
    assert filled.stat(CONFIG).size == 1234


def test_a_damaged_size_is_replaced_without_a_question(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    filled.server.batch([("HSET", f"blobs::{LAYER}", "size", "many")])
    assert admin.post(addresses.repository(GRANTED, "set"), form(99)).status_code == 302
    assert filled.stat(LAYER).size == 99


def test_a_size_that_the_user_may_not_see_is_not_shown(
    filled: RedisBlobDescriptorCacheProvider, login: Login, text: Text
) -> None:
    filled.repository_scoped(HIDDEN).set_descriptor(OTHER, Descriptor(OTHER, 4711, "a/b"))
    granted = login("granted", "change_blob")
    url = addresses.repository(GRANTED, "set")
    response = granted.post(url, {"digest": OTHER, "size": 5, "media_type": "a/b"})
    page = text(response)
    assert "another one, which you may not see" in page
    assert "4711" not in response.content.decode()
    assert "4,711" not in page
    token = confirmed(response.content.decode())
    again = {"digest": OTHER, "size": 5, "media_type": "a/b", "confirmed": token}
    assert granted.post(url, again).status_code == 302
    assert filled.stat(OTHER).size == 5
