"""The pages of blobs: looking up, browsing, holders, setting, clearing, purging."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.test import Client, override_settings
from redis import Redis

from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.models import Blob
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, HIDDEN, LAYER, LAYER_TYPE, OTHER
from tests.admin.forms import confirm, confirm_to_the_end
from tests.budgets import limit

Text = Callable[[Any], str]

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

_NEXT = re.compile(r'<a href="([^"]*)" rel="next">')
_HOLDER = re.compile(r'<th scope="row" data-label="Repository"><a href="[^"]*">([^<]*)</a>')


@pytest.mark.parametrize("query", [LAYER, LAYER.encoded, LAYER.encoded.upper(), f" {LAYER} "])
def test_a_digest_that_is_looked_up_leads_to_its_page(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, query: str
) -> None:
    response = admin.get(addresses.blobs(), {"q": query})
    assert response.status_code == HTTPStatus.FOUND
    assert response.headers["Location"] == addresses.blob(LAYER)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("nonsense", "does not have the form"),
        ("sha256:xyz", "sha256 needs 64"),
        ("sha256:" + "a" * 65, "sha256 needs 64"),
        ("<b>", "does not have the form"),
        ("\x00", "does not have the form"),
    ],
)
def test_an_invalid_digest_is_explained(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text, query: str, message: str
) -> None:
    page = text(admin.get(addresses.blobs(), {"q": query}))
    assert message in page
    assert "<b>" not in page


@pytest.mark.parametrize("query", ["sha256:aa", "AA", "aaaaaaaa", "sha256:"])
def test_the_beginning_of_a_digest_lists_the_blobs_that_begin_with_it(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text, query: str
) -> None:
    page = text(admin.get(addresses.blobs(), {"q": query}))
    assert LAYER in page
    assert (CONFIG in page) == (query == "sha256:")
    page = text(admin.get(addresses.blobs(), {"q": "sha256:ffff"}))
    assert "No digest in the cache begins with “sha256:ffff”." in page


def test_browsing_shows_every_blob(
    provider: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(django_admin.site.get_model_admin(Blob), "list_per_page", 10)
    digests = {Digest(f"sha256:{number:064x}") for number in range(300)}
    for digest in digests:
        provider.set_descriptor(digest, Descriptor(digest, 1, "a/b"))
    default_cache.hset("blobs::no digest", "size", 1)
    default_cache.set(f"blobs::{OTHER}", "text")
    seen: set[str] = set()
    query, pages = "", 0
    while True:
        page = admin.get(addresses.blobs() + query).content.decode()
        seen.update(re.findall(r'class="bc-digest"[^>]*>([^<]*)<', page))
        pages += 1
        following = _NEXT.search(page)
        if following is None:
            break
        query = unescape(following[1])
    assert seen == {*digests, OTHER, "no digest"}
    assert pages > 1


def test_the_page_shows_the_descriptor_and_the_holders(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    filled.repository_scoped(HIDDEN).set_descriptor(LAYER, Descriptor(LAYER, 30_000_000, "my/own"))
    page = text(admin.get(addresses.blob(LAYER)))
    assert "30,000,000 bytes" in page
    assert LAYER_TYPE in page
    assert _HOLDER.findall(page) == [GRANTED, HIDDEN]
    assert page.count(">differs</span>") == 1

    default_cache.hset(f"blobs::{LAYER}", "mediatype", OCTET_STREAM)
    assert "differs" not in text(admin.get(addresses.blob(LAYER)))

    default_cache.delete(f"repository::{HIDDEN}::blobs::{LAYER}")
    default_cache.hset(f"repository::{GRANTED}::blobs::{LAYER}", "mediatype", "")
    page = text(admin.get(addresses.blob(LAYER)))
    assert ">missing</span>" in page
    assert ">same as global</span>" in page


def test_holders_are_paged(
    provider: RedisBlobDescriptorCacheProvider, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(django_admin.site.get_model_admin(Blob), "list_per_page", 3)
    names = [f"r{number}" for number in range(8)]
    for name in names:
        provider.repository_scoped(name).set_descriptor(LAYER, Descriptor(LAYER, 1, "a/b"))
    found: list[str] = []
    query = ""
    while True:
        page = admin.get(addresses.blob(LAYER) + query).content.decode()
        found += _HOLDER.findall(page)
        following = _NEXT.search(page)
        if following is None:
            break
        query = unescape(following[1])
    assert found == names


def test_an_unknown_blob_has_a_page(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.blob(OTHER)))
    assert "Not in the cache" in page
    assert "Leftover fields only" not in page
    assert "No repository that you may view holds this blob" in page
    assert "version 2 of the registry" not in page


def test_what_is_not_there_cannot_be_cleared_or_purged(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    clear, purge = addresses.blob(OTHER, "delete"), addresses.blob(OTHER, "purge")
    page = text(admin.get(addresses.blob(OTHER)))
    assert clear not in page
    assert purge not in page
    # A repository still holds it: a purge takes it from there.
    default_cache.sadd(f"repository::{GRANTED}::blobs", OTHER)
    page = text(admin.get(addresses.blob(OTHER)))
    assert "Not cached" in page
    assert clear not in page
    assert purge in page


def test_who_cannot_see_all_repositories_is_not_told_that_none_holds_a_blob(
    filled: RedisBlobDescriptorCacheProvider, login: Callable[..., Client], text: Text
) -> None:
    page = text(login("granted", "view_blob").get(addresses.blob(OTHER)))
    assert "Not cached" in page
    assert "Not in the cache" not in page


@pytest.mark.parametrize(
    ("version", "media_type", "told", "not_told"),
    [
        (2, MANIFEST_TYPE, "This manifest is not listed by repository", "No repository that"),
        (2, OCTET_STREAM, "If it is a manifest, it is not listed by repository", "This manifest"),
        (3, MANIFEST_TYPE, "No repository that you may view holds", "listed by repository"),
    ],
)
def test_a_manifest_is_not_listed_by_repository_on_version_2(
    filled: RedisBlobDescriptorCacheProvider,
    admin: Client,
    text: Text,
    version: int,
    media_type: str,
    told: str,
    not_told: str,
) -> None:
    filled.set_descriptor(OTHER, Descriptor(OTHER, 700, media_type))
    with override_settings(BLOBCACHE={"default": {"REGISTRY_VERSION": version}}):
        page = text(admin.get(addresses.blob(OTHER)))
    assert told in page
    assert not_told not in page


def test_ok_says_that_the_storage_was_not_asked(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.blob(LAYER)))
    assert "storage was not asked" in unescape(page)


def test_a_blob_with_leftover_fields_is_not_shown_as_not_cached(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    default_cache.hset(f"blobs::{OTHER}", "length", 5)
    page = text(admin.get(addresses.blob(OTHER)))
    assert "Leftover fields only" in page
    assert "Not cached" not in page


@pytest.mark.parametrize("view", ["change", "history", "set", "delete", "purge"])
@pytest.mark.parametrize("key", ["nonsense", "sha256:12", "a/b::c", "<b>"])
def test_an_invalid_digest_has_no_page(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, view: str, key: str
) -> None:
    assert admin.get(addresses.blob(key, view)).status_code == HTTPStatus.NOT_FOUND
    assert admin.post(addresses.blob(key, view)).status_code == HTTPStatus.NOT_FOUND


def test_setting_the_global_descriptor(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.blob(OTHER, "set")))
    assert f'value="{OTHER}"' in page
    response = admin.post(
        addresses.blob(OTHER, "set"),
        {"digest": OTHER, "size": "3", "media_type": "a/b", "canonical": ""},
        follow=True,
    )
    assert f"Set the descriptor of {OTHER}." in text(response)
    assert filled.stat(OTHER) == Descriptor(OTHER, 3, "a/b")
    (entry,) = LogEntry.objects.all()
    assert (entry.object_id, entry.is_addition()) == (OTHER, True)


def test_clearing_the_global_descriptor_is_confirmed_done_and_logged(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    url = addresses.blob(LAYER, "delete")
    for response in (admin.get(url, {"confirmed": "yes"}), admin.post(url)):
        assert "You are about to clear" in text(response)
        assert filled.stat(LAYER).digest == LAYER
    assert "Cleared the global descriptor" in text(confirm(admin, url))
    with pytest.raises(BlobUnknown):
        filled.stat(LAYER)
    (entry,) = LogEntry.objects.all()
    assert (entry.object_id, entry.action_flag) == (LAYER, DELETION)
    history = addresses.blob(LAYER, "history")
    assert "<strong>Cleared</strong>" in text(admin.get(history))
    assert f"Cleared {LAYER}" in text(admin.get(f"{history}?django=1"))
    assert "The global descriptor was already gone" in text(
        admin.post(url, {"confirmed": "y"}, follow=True)
    )


def test_a_purge_asks_for_confirmation(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    url = addresses.blob(LAYER, "purge")
    for response in (admin.get(url, {"confirmed": "yes"}), admin.post(url)):
        page = text(response)
        assert "You are about to clear this blob globally and in 2 repositories" in page
        assert _HOLDER.findall(page) == [GRANTED, HIDDEN]
        assert len(filled.catalog.holders(LAYER).holders) == 2
    assert not LogEntry.objects.exists()


def purge(client: Client, digest: str) -> tuple[list[str], str]:
    """Press the button until it is done: the pages in between, and the last."""
    pages, last = confirm_to_the_end(client, addresses.blob(digest, "purge"))
    return [page.content.decode() for page in pages], last.content.decode()


def test_a_purge_clears_the_blob_everywhere_and_is_logged(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    default_cache.sadd("repository::unindexed::blobs", LAYER)
    _, page = purge(admin, LAYER)
    assert "Purged the blob: cleared globally and in 3 repositories" in page
    assert filled.catalog.holders(LAYER).holders == ()
    assert filled.repository_scoped(GRANTED).stat(CONFIG).digest == CONFIG
    entries = LogEntry.objects.all()
    assert {(entry.object_id, entry.action_flag) for entry in entries} == {
        (LAYER, DELETION),
        (GRANTED, CHANGE),
        (HIDDEN, CHANGE),
        ("unindexed", CHANGE),
    }
    assert any("from every repository" in entry.change_message for entry in entries)


def test_a_long_purge_takes_several_steps(
    provider: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit(monkeypatch, purge=0)
    names = [f"r{number:04}" for number in range(2300)]
    with default_cache.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.sadd(f"repository::{name}::blobs", LAYER)
        pipe.execute()
    pages, last = purge(admin, LAYER)
    assert len(pages) > 1
    assert all("Continue until it is finished" in page for page in pages)
    assert any("Cleared in this step:" in page for page in pages)
    assert "All repositories in the index have been checked" not in pages[0]
    assert "All repositories in the index have been checked" in pages[-1]
    assert "globally and in 2300 repositories" in last
    assert provider.catalog.holders(LAYER).holders == ()


def test_an_interrupted_purge_can_be_started_again(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    response = admin.post(
        addresses.blob(LAYER, "purge"), {"confirmed": "yes", "cursor": "forged"}, follow=True
    )
    assert "has expired" in text(response)
    assert len(filled.catalog.holders(LAYER).holders) == 2
    purge(admin, LAYER)
    assert filled.catalog.holders(LAYER).holders == ()


def test_a_purge_does_not_show_hidden_names(
    filled: RedisBlobDescriptorCacheProvider, login: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login("purger", "view_blob", "delete_blob", "delete_repository", "view_repository")
    with override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.library"}}):
        page = client.get(addresses.blob(LAYER, "purge")).content.decode()
        assert HIDDEN not in page
        pages, last = purge(client, LAYER)
    assert HIDDEN not in "".join([*pages, last])


def library(user: object) -> list[str]:
    return ["library/"]


def test_a_manifest_can_be_pulled_and_a_layer_cannot(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    filled.repository_scoped(GRANTED).set_descriptor(OTHER, Descriptor(OTHER, 7, MANIFEST_TYPE))
    with override_settings(BLOBCACHE={"default": {"REGISTRY_URL": "https://reg.example:5000"}}):
        for url in (addresses.blob(OTHER), addresses.repository(GRANTED)):
            page = text(admin.get(url))
            assert page.count(f"<code>docker pull reg.example:5000/{GRANTED}@{OTHER}</code>") == 1
            assert f'href="https://reg.example:5000/v2/{GRANTED}/manifests/{OTHER}"' in page
        assert "docker pull" not in text(admin.get(addresses.blob(LAYER)))
    assert "docker pull" not in text(admin.get(addresses.blob(OTHER)))


def test_the_title_in_the_browser_begins_with_the_digest(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    for view in ("change", "purge", "raw", "delete"):
        page = text(admin.get(addresses.blob(LAYER, view)))
        assert f"<title>{LAYER[:19]} | " in page
