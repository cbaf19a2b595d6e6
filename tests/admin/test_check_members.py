"""The check of the selected blobs of a repository."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from redis import Redis

from blobcache.digest import Digest
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, HIDDEN, LAYER, Login
from tests.admin.forms import hidden
from tests.backends.cases import layer_link
from tests.backends.truth import storage_as_truth, store_blob
from tests.budgets import limit
from tests.jobs.conftest import many

__all__ = ["many"]

Text = Callable[[Any], str]
Provider = RedisBlobDescriptorCacheProvider

CHECK, MANY = addresses.repository(GRANTED, "check"), addresses.repository("many/blobs", "check")

_FINDING = re.compile(r'name="finding" value="([^"]*)"')


@pytest.fixture
def damaged(filled: Provider, default_cache: Redis) -> Provider:
    """A wrong size, and a member without a descriptor."""
    default_cache.hset(f"blobs::{LAYER}", mapping={"size": "0", "length": "0"})
    default_cache.delete(f"blobs::{CONFIG}")
    return filled


def findings(page: Any) -> list[str]:
    return [unescape(each) for each in _FINDING.findall(page.content.decode())]


def test_the_list_offers_it_to_everybody_who_sees_the_list(
    filled: Provider, admin: Client, viewer: Client, text: Text
) -> None:
    for client in (admin, viewer):
        page = client.get(addresses.repository(GRANTED)).content.decode()
        assert f'action="{CHECK}"' in page
        assert "Check selected" in page
        assert page.count('name="digest" value="') == 2
    assert "Clear selected" not in page


def test_only_the_selected_blobs_are_checked(damaged: Provider, admin: Client, text: Text) -> None:
    page = admin.post(CHECK, {"digest": LAYER})
    assert "1 blob was checked." in text(page)
    assert "Wrong size" in text(page)
    assert "Incomplete" not in text(page)
    assert [each.partition("/")[0] for each in findings(page)] == ["size-mismatch"]
    page = admin.post(CHECK, {"digest": [LAYER, CONFIG]})
    assert "2 blobs were checked." in text(page)
    assert {each.partition("/")[0] for each in findings(page)} == {
        "size-mismatch",
        "dangling-member",
    }


def test_blobs_without_problems(filled: Provider, admin: Client, text: Text) -> None:
    page = text(admin.post(CHECK, {"digest": [LAYER, CONFIG]}))
    assert "Only the cache is looked at, because no backend is configured." in page
    assert "No problems found inside the cache." in page


def test_what_it_finds_can_be_repaired(
    damaged: Provider, admin: Client, default_cache: Redis
) -> None:
    page = admin.post(CHECK, {"digest": CONFIG})
    repair = addresses.repositories("repair")
    assert f'action="{repair}"' in page.content.decode()
    form = {"repository": GRANTED, "finding": findings(page), "confirmed": "yes"}
    response = admin.post(repair, form, follow=True)
    assert "Repaired 1 finding." in response.content.decode()
    assert not default_cache.sismember(f"repository::{GRANTED}::blobs", CONFIG)
    assert default_cache.sismember(f"repository::{GRANTED}::blobs", LAYER)


def test_it_changes_nothing(damaged: Provider, admin: Client, default_cache: Redis) -> None:
    before = {key: default_cache.type(key) for key in default_cache.scan_iter()}
    admin.post(CHECK, {"digest": [LAYER, CONFIG]})
    admin.get(CHECK)
    assert {key: default_cache.type(key) for key in default_cache.scan_iter()} == before


def test_a_get_leads_to_the_list(filled: Provider, admin: Client) -> None:
    response = admin.get(CHECK)
    assert (response.status_code, response["Location"]) == (
        HTTPStatus.FOUND,
        addresses.repository(GRANTED),
    )


@pytest.mark.parametrize("form", [{}, {"digest": "nonsense"}])
def test_a_check_of_nothing_is_refused(
    filled: Provider, admin: Client, text: Text, form: dict[str, str]
) -> None:
    response = admin.post(CHECK, {**form, "kept": "o=-size"}, follow=True)
    assert response.redirect_chain == [(f"{addresses.repository(GRANTED)}?o=-size", 302)]
    assert "Select at least one blob to check." in text(response)


def test_too_many_are_refused_and_the_list_says_so_before(
    many: list[Digest], admin: Client, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blobcache.admin.check_members.MAX_SELECTED", 50)
    monkeypatch.setattr("blobcache.admin.repository.MAX_SELECTED", 50)
    page = text(admin.get(addresses.repository("many/blobs")))
    assert "At most 50 blobs can be selected at a time." in page
    page = text(admin.post(MANY, {"digest": many[:51]}, follow=True))
    assert "check at most 50 at a time" in page


def test_what_there_is_no_time_for_is_left_for_the_next_page(
    many: list[Digest], admin: Client, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, check=0)
    page = admin.post(MANY, {"digest": many[:120], "kept": "o=-size"})
    assert "50 of 120 blobs were checked before the time limit of this page." in text(page)
    assert "Check the remaining 70 blobs" in text(page)
    page = admin.post(MANY, hidden(page))
    assert "50 of 70 blobs were checked" in text(page)
    page = admin.post(MANY, hidden(page))
    assert "20 blobs were checked." in text(page)
    assert "remaining" not in text(page)
    assert f'href="{addresses.repository("many/blobs")}?o=-size"' in page.content.decode()


def test_what_is_not_in_the_repository_is_left_out_whatever_it_is(
    damaged: Provider, admin: Client, text: Text, default_cache: Redis
) -> None:
    elsewhere, unknown = f"sha256:{'e' * 64}", f"sha256:{'f' * 64}"
    default_cache.hset(f"blobs::{elsewhere}", mapping={"digest": elsewhere, "size": "wrong"})
    pages = [
        text(admin.post(CHECK, {"digest": each})).replace(each, "") for each in (elsewhere, unknown)
    ]
    for page in pages:
        assert "1 of them is not in this repository, and was left out." in page
        assert "No problems found inside the cache." in page


def test_a_repository_that_is_damaged(
    filled: Provider, admin: Client, text: Text, default_cache: Redis
) -> None:
    default_cache.delete(f"repository::{GRANTED}::blobs")
    default_cache.set(f"repository::{GRANTED}::blobs", "x")
    page = text(admin.post(CHECK, {"digest": [LAYER, CONFIG]}))
    assert "Corrupt" in page
    assert "the repository itself" in page


def test_if_redis_fails_all_can_be_checked_again(
    filled: Provider, admin: Client, text: Text, settings: LazySettings
) -> None:
    settings.CACHES = {
        "default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
    }
    page = text(admin.post(CHECK, {"digest": [LAYER, CONFIG]}))
    assert "Check the remaining 2 blobs" in page
    assert "No problems found" not in page


def test_who_may_not_view_the_repository_gets_nothing(filled: Provider, login: Login) -> None:
    client = login("nobody", "view_blob")
    refused = client.post(addresses.repository(HIDDEN, "check"), {"digest": LAYER})
    assert refused.status_code in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
    assert LAYER not in refused.content.decode()


def test_a_form_cannot_name_another_repository(
    damaged: Provider, admin: Client, text: Text
) -> None:
    page = admin.post(CHECK, {"digest": CONFIG, "repository": HIDDEN})
    assert HIDDEN not in text(page)
    assert "Incomplete" in text(page)


class TestStorage:
    """It has `LAYER`, and nothing else."""

    @pytest.fixture(autouse=True)
    def stored(self, filled: Provider, tmp_path: Path) -> Iterator[None]:
        store_blob(tmp_path, LAYER, GRANTED)
        with storage_as_truth(tmp_path):
            yield

    def test_they_are_compared_with_it(self, admin: Client, text: Text) -> None:
        page = admin.post(CHECK, {"digest": [CONFIG]})
        assert "The cache is compared with the registry's storage" in text(page)
        assert [each.partition("/")[0] for each in findings(page)] == ["missing-data"]

    def test_their_sizes_are_compared_with_it(
        self, admin: Client, default_cache: Redis, tmp_path: Path
    ) -> None:
        link = tmp_path / "docker/registry/v2" / layer_link(GRANTED, LAYER)
        link.parent.mkdir(parents=True)
        link.write_text(LAYER)
        default_cache.hset(f"blobs::{LAYER}", mapping={"size": "7", "length": "7"})
        page = admin.post(CHECK, {"digest": [LAYER]})
        assert [each.partition("/")[0] for each in findings(page)] == ["size-mismatch"]

    def test_what_it_cannot_tell_is_counted(
        self, admin: Client, text: Text, tmp_path: Path
    ) -> None:
        with storage_as_truth(tmp_path / "nowhere"):
            page = text(admin.post(CHECK, {"digest": [LAYER, CONFIG]}))
        assert "2 entries could not be judged" in page
        assert "No problems found" not in page
