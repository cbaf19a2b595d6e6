"""The pages of one repository: its table, look-up, clearing, setting."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from redis import Redis

from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.models import Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, HIDDEN, LAYER, LAYER_TYPE, OTHER
from tests.budgets import limit

Text = Callable[[Any], str]

_NEXT = re.compile(r'<a href="([^"]*)" rel="next">')
_DIGEST = re.compile(r'<input type="checkbox" class="action-select" name="digest" value="([^"]*)"')


def test_the_table_shows_each_blob(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.repository(GRANTED)))
    assert set(_DIGEST.findall(page)) == {LAYER, CONFIG}
    assert f'href="{addresses.blob(LAYER)}"' in page
    assert LAYER_TYPE in page
    assert 'title="30,000,000 bytes"' in page
    assert "28.6" in page
    assert page.count(">OK</span>") >= 2
    assert "each blob counted once" in page


def test_the_media_type_of_the_repository_is_shown_beside_the_global_one(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    filled.repository_scoped(GRANTED).set_descriptor(LAYER, Descriptor(LAYER, 30_000_000, "my/own"))
    page = text(admin.get(addresses.repository(GRANTED)))
    assert "my/own" in page
    assert f'global: <span class="bc-type">{LAYER_TYPE}' in page
    default_cache.hset(f"blobs::{LAYER}", "mediatype", OCTET_STREAM)
    assert "global:" not in text(admin.get(addresses.repository(GRANTED)))


def test_an_alias_names_its_canonical_digest(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    alias = Digest("sha512:" + "f" * 128)
    filled.repository_scoped(GRANTED).set_descriptor(alias, Descriptor(OTHER, 7, "a/b"))
    page = text(admin.get(addresses.repository(GRANTED), {"q": alias}))
    assert f'alias of <a class="bc-digest" href="{addresses.blob(OTHER)}">' in page


def test_damaged_blobs_are_marked_and_explained(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    default_cache.hset(f"blobs::{LAYER}", "size", "many")
    default_cache.delete(f"blobs::{CONFIG}")
    default_cache.sadd(f"repository::{GRANTED}::blobs", "no digest", b"\xff<i>")
    page = text(admin.get(addresses.repository(GRANTED)))
    assert "no digest" in page
    assert "<i>" not in page
    assert set(_DIGEST.findall(page)) == {LAYER, CONFIG}
    assert page.count("Corrupt</span>") == 3 + 1  # once in the legend
    assert "Incomplete</span>" in page
    assert "This is harmless" in page
    assert '<p class="bc-figure bc-attention">4</p>' in page


def test_paging_shows_every_member(
    provider: RedisBlobDescriptorCacheProvider, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(django_admin.site.get_model_admin(Repository), "list_per_page", 10)
    service = provider.repository_scoped("big/one")
    digests = {Digest(f"sha256:{number:064x}") for number in range(250)}
    for digest in digests:
        service.set_descriptor(digest, Descriptor(digest, 1, "a/b"))
    seen: set[str] = set()
    query, pages = "", 0
    while True:
        page = admin.get(addresses.repository("big/one") + query).content.decode()
        shown = _DIGEST.findall(page)
        assert len(shown) >= 10 or not _NEXT.search(page)
        seen.update(shown)
        pages += 1
        following = _NEXT.search(page)
        if following is None:
            break
        query = unescape(following[1])
    assert seen == digests
    assert pages > 10


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (LAYER, {LAYER}),
        ("sha256:aa", {LAYER}),
        ("aaaa", {LAYER}),
        ("sha256:", {LAYER, CONFIG}),
        (OTHER, set()),
        ("sha512:", set()),
        ("<b>", set()),
        (" sha256:bb ", {CONFIG}),
    ],
)
def test_blobs_are_found_by_digest_or_the_beginning_of_one(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, query: str, found: set[str]
) -> None:
    page = admin.get(addresses.repository(GRANTED), {"q": query}).content.decode()
    assert set(_DIGEST.findall(page)) == found
    assert ("begins with" in page) is (not found)


def test_a_blob_of_other_repositories_is_not_found_here(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    # Everything a descriptor needs is there, but for the membership.
    default_cache.hset(f"repository::{HIDDEN}::blobs::{CONFIG}", "mediatype", "a/b")
    page = admin.get(addresses.repository(HIDDEN), {"q": CONFIG}).content.decode()
    assert _DIGEST.findall(page) == []


@pytest.mark.parametrize("damage", ["evicted", "corrupt"])
def test_a_damaged_blob_is_found_by_its_digest(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, damage: str
) -> None:
    if damage == "evicted":
        default_cache.delete(f"blobs::{LAYER}")
    else:
        default_cache.hset(f"blobs::{LAYER}", "size", "x")
    page = admin.get(addresses.repository(GRANTED), {"q": LAYER}).content.decode()
    assert _DIGEST.findall(page) == [LAYER]


@override_settings(BLOBCACHE={"default": {"ADMIN_SORT_LIMIT": 100}})
def test_a_search_and_its_paging_work_together(
    provider: RedisBlobDescriptorCacheProvider, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, page=0)
    service = provider.repository_scoped("big/one")
    wanted = Digest("sha256:" + "f" * 64)
    service.set_descriptor(wanted, Descriptor(wanted, 1, "a/b"))
    for number in range(3000):
        digest = Digest(f"sha256:{number:064x}")
        service.set_descriptor(digest, Descriptor(digest, 1, "a/b"))
    found: list[str] = []
    url, pages = addresses.repository("big/one") + "?q=ffff", 0
    while True:
        page = admin.get(url).content.decode()
        found += _DIGEST.findall(page)
        pages += 1
        following = _NEXT.search(page)
        if following is None:
            break
        assert "q=ffff" in following[1]
        url = addresses.repository("big/one") + unescape(following[1])
    assert found == [wanted]
    assert pages > 1


# Clearing


def test_a_clear_is_confirmed_before_anything_happens(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    url = addresses.repository(GRANTED, "clear")
    assert admin.get(url, {"digest": LAYER, "confirmed": "yes"}).status_code == HTTPStatus.FOUND
    page = text(admin.post(url, {"digest": [LAYER, CONFIG]}))
    assert "You are about to clear these 2 blobs in the repository library/nginx" in page
    assert "Other repositories that hold the same blobs get one cache miss" in page
    assert LAYER in page
    assert set(filled.repository_scoped(GRANTED).stat_many([LAYER, CONFIG])) == {LAYER, CONFIG}
    assert not LogEntry.objects.exists()


@override_settings(BLOBCACHE={"default": {"ROLE": "primary"}})
def test_in_a_primary_store_the_confirmation_says_that_other_repositories_keep_the_blob(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.post(addresses.repository(GRANTED, "clear"), {"digest": LAYER}))
    assert "The global descriptors are kept" in page


def test_clearing_is_done_logged_and_shown_in_the_history(
    filled: RedisBlobDescriptorCacheProvider,
    admin: Client,
    text: Text,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "blobcache.audit")
    response = admin.post(
        addresses.repository(GRANTED, "clear"),
        {"digest": [LAYER, CONFIG], "confirmed": "yes", "kept": "q=sha256&cursor=&evil=1"},
        follow=True,
    )
    assert response.redirect_chain == [
        (addresses.repository(GRANTED) + "?q=sha256&cursor=", HTTPStatus.FOUND)
    ]
    assert "Cleared 2 blobs in library/nginx" in text(response)
    service = filled.repository_scoped(GRANTED)
    assert service.stat_many([LAYER, CONFIG]) == {}
    audited = [record for record in caplog.records if record.name == "blobcache.audit"]
    assert [record.__dict__["actor"] for record in audited] == ["boss", "boss"]
    assert {record.__dict__["source"] for record in audited} == {"admin"}

    entries = LogEntry.objects.filter(object_id=GRANTED)
    assert {entry.user.get_username() for entry in entries} == {"boss"}
    assert len(entries) == 2
    history = addresses.repository(GRANTED, "history")
    page = text(admin.get(history))
    assert page.count("<strong>Cleared</strong>; it was") == 2
    assert f"it was 30000000 bytes, {LAYER_TYPE}" in page
    assert "boss" in page
    page = text(admin.get(f"{history}?django=1"))
    assert f"Cleared {LAYER}; it was 30000000 bytes, {LAYER_TYPE}." in page


def test_a_blob_that_is_already_cleared_is_reported(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    response = admin.post(
        addresses.repository(GRANTED, "clear"),
        {"digest": [OTHER, LAYER], "confirmed": "yes"},
        follow=True,
    )
    assert "Cleared 1 blob in library/nginx" in text(response)
    assert "1 blob had already been cleared" in text(response)


@pytest.mark.parametrize("digests", [[], ["nonsense"], [""]])
def test_nothing_selected_clears_nothing(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text, digests: list[str]
) -> None:
    response = admin.post(
        addresses.repository(GRANTED, "clear"), {"digest": digests, "confirmed": "y"}, follow=True
    )
    assert "Select at least one blob to clear" in text(response)


def test_a_user_with_a_grant_by_name_may_clear_in_that_repository(
    filled: RedisBlobDescriptorCacheProvider, login: Any, text: Text
) -> None:
    response = login("granted").post(
        addresses.repository(GRANTED, "clear"),
        {"digest": [CONFIG], "confirmed": "yes"},
        follow=True,
    )
    assert "Cleared 1 blob" in text(response)
    with pytest.raises(BlobUnknown):
        filled.repository_scoped(GRANTED).stat(CONFIG)


# Setting


def test_setting_a_descriptor_makes_the_blob_a_member(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    response = admin.post(
        addresses.repository("brand/new", "set"),
        {"digest": OTHER, "size": "99", "media_type": "text/plain", "canonical": ""},
        follow=True,
    )
    assert f"Set the descriptor of {OTHER}." in text(response)
    assert filled.repository_scoped("brand/new").stat(OTHER) == Descriptor(OTHER, 99, "text/plain")
    (entry,) = LogEntry.objects.all()
    assert entry.object_id == "brand/new"
    assert entry.change_message == f"Set the descriptor of {OTHER} to 99 bytes, text/plain."


def test_an_alias_can_be_set(filled: RedisBlobDescriptorCacheProvider, admin: Client) -> None:
    alias = Digest("sha512:" + "e" * 128)
    admin.post(
        addresses.repository(GRANTED, "set"),
        {"digest": alias, "size": "5", "media_type": "a/b", "canonical": OTHER},
    )
    assert filled.repository_scoped(GRANTED).stat(alias).digest == OTHER


GOOD = {"digest": OTHER, "size": "1", "media_type": "a/b", "canonical": ""}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("digest", "", "This field is required"),
        ("digest", "nonsense", "does not have the form"),
        ("digest", "md5:d41d8cd98f00b204e9800998ecf8427e", "uses the algorithm"),
        ("digest", "sha256:abc", "sha256 needs 64"),
        ("size", "-1", "at least 0"),
        ("size", str(2**63), "less than 2^63"),
        ("size", "1.5", "Enter a whole number"),
        ("size", "9" * 5000, ""),
        ("media_type", "", "This field is required"),
        ("media_type", "a\x01b", "unprintable characters"),
        ("media_type", "a\x00b", "Null characters are not allowed"),
        ("canonical", "nonsense", "does not have the form"),
        ("canonical", LAYER, "cannot be digests of the same content"),
    ],
)
def test_an_error_is_shown_at_its_field(
    filled: RedisBlobDescriptorCacheProvider,
    admin: Client,
    text: Text,
    field: str,
    value: str,
    message: str,
) -> None:
    response = admin.post(addresses.repository(GRANTED, "set"), {**GOOD, field: value})
    assert response.status_code == HTTPStatus.OK
    page = unescape(text(response))
    row = re.search(rf'<div class="form-row field-{field} errors">(.*?)<label', page)
    assert row is not None
    assert message in row[1]
    with pytest.raises(BlobUnknown):
        filled.stat(OTHER)
    assert not LogEntry.objects.exists()


def test_the_form_is_filled_with_the_known_descriptor(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.repository(GRANTED, "set"), {"digest": LAYER}))
    assert f'value="{LAYER}"' in page
    assert 'value="30000000"' in page
    for digest in ("nonsense", OTHER, ""):
        page = text(admin.get(addresses.repository(GRANTED, "set"), {"digest": digest}))
        assert "application/octet-stream" in page


def test_a_name_that_only_a_registry_may_write_is_read_and_cleared(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    default_cache.sadd("repository::MyTeam/app::blobs", LAYER)
    default_cache.hset(f"repository::MyTeam/app::blobs::{LAYER}", "mediatype", "")
    page = text(admin.get(addresses.repository("MyTeam/app")))
    assert "can be read and cleared" in page
    assert "Set a descriptor<" not in page
    for response in (
        admin.get(addresses.repository("MyTeam/app", "set"), follow=True),
        admin.post(addresses.repository("MyTeam/app", "set"), GOOD, follow=True),
    ):
        assert "no descriptor can be set" in text(response)
    admin.post(addresses.repository("MyTeam/app", "clear"), {"digest": [LAYER], "confirmed": "yes"})
    assert not default_cache.exists("repository::MyTeam/app::blobs")


@pytest.mark.parametrize(
    "name",
    [
        "a/b/c",
        "history",
        "a/change",
        "a/history",
        "refresh",
        "add",
        "a__b/c--d.e",
        "x_2f",
        "blobs/set/clear",
        "host:5000/app",
        "[fe80:0:1]:5000/app",
    ],
)
def test_every_name_has_its_page(
    provider: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    text: Text,
    name: str,
) -> None:
    default_cache.sadd(f"repository::{name}::blobs", LAYER)
    provider.catalog.reindex()
    listing = text(admin.get(addresses.repositories()))
    assert f'href="{addresses.repository(name)}">{name}</a>' in listing
    for view in ("change", "history"):
        assert f"{name}" in text(admin.get(addresses.repository(name, view)))


def test_a_repository_whose_key_is_not_a_set_says_how_to_repair_it(
    provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    default_cache.set("repository::broken::blobs", "text")
    url = addresses.repository("broken")
    for query in ("", "?q=sha256", f"?q={LAYER}"):
        assert "This repository is damaged" in text(admin.get(url + query)), query
    admin.post(addresses.repository("broken", "set"), GOOD)
    assert "damaged" not in text(admin.get(url))
    assert provider.repository_scoped("broken").stat(OTHER).size == 1


def test_the_number_of_blobs_to_clear_is_limited(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    """With Django's own limit on a form's fields, and all fields that the pages' forms have."""
    digests = [f"sha256:{number:064x}" for number in range(901)]
    url = addresses.repository(GRANTED, "clear")
    form = {"csrfmiddlewaretoken": "x", "kept": "x", "confirmed": "yes"}
    page = text(admin.post(url, {**form, "digest": digests}, follow=True))
    assert "Too many blobs selected; clear at most 900 at a time." in page
    page = text(admin.post(url, {**form, "digest": digests[:900]}, follow=True))
    assert "900 blobs had already been cleared." in page
