"""The button of a confirmation page does what the page says; otherwise the page asks again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from redis import Redis

from blobcache.admin.confirmation import has_grown
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.admin import addresses
from tests.admin.conftest import LAYER, LAYER_TYPE, Login
from tests.admin.forms import confirm_to_the_end, hidden, press
from tests.budgets import counting_clock, limit
from tests.security.api.test_parameters import content
from tests.servers import cache_at

Text = Callable[[Any], str]

NAME = "team/app"


def digest(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def add_blobs(provider: RedisBlobDescriptorCacheProvider, numbers: range) -> None:
    service = provider.repository_scoped(NAME)
    for number in numbers:
        service.set_descriptor(digest(number), Descriptor(digest(number), 1, "a/b"))


def add_damage(provider: RedisBlobDescriptorCacheProvider, numbers: range) -> None:
    service = provider.repository_scoped(NAME)
    for number in numbers:
        service.set_descriptor(digest(number), Descriptor(digest(number), 1, "a/b"))
        provider.server.batch([("DEL", f"blobs::{digest(number)}")])


def add_holders(provider: RedisBlobDescriptorCacheProvider, numbers: range) -> None:
    for number in numbers:
        scope = provider.repository_scoped(f"team/app-{number:03}")
        scope.set_descriptor(LAYER, Descriptor(LAYER, 1, LAYER_TYPE))


class Action(NamedTuple):
    """A page that acts on everything that is there."""

    url: str
    data: dict[str, str]
    add: Callable[[RedisBlobDescriptorCacheProvider, range], None]
    refusal: str
    done: str


ACTIONS = {
    "empty": Action(
        addresses.repositories("empty"),
        {"repository": NAME},
        add_blobs,
        "Nothing was cleared: the number of blobs has grown from 20 to",
        "Cleared",
    ),
    "repair": Action(
        addresses.repositories("repair"),
        {"kind": "dangling-member"},
        add_damage,
        "Nothing was repaired: the number of findings has grown from 20 to",
        "Repaired",
    ),
    "repair one": Action(
        addresses.repositories("repair"),
        {"kind": "dangling-member", "repository": NAME},
        add_damage,
        "Nothing was repaired: the number of findings has grown from 20 to",
        "Repaired",
    ),
    "purge": Action(
        addresses.blob(LAYER, "purge"),
        {},
        add_holders,
        "Nothing was purged: the number of repositories that hold the blob has grown from 20 to",
        "Purged the blob",
    ),
}

EVERY_ACTION = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)


@pytest.mark.parametrize(
    ("shown", "now", "grown"),
    [
        (0, 0, False),
        (0, 1, True),
        (9, 10, True),
        (10, 11, False),
        (10, 12, True),
        (100, 110, False),
        (100, 111, True),
        (5, 1, False),
    ],
)
def test_a_number_has_grown_too_much_if_it_is_more_than_a_tenth_larger(
    shown: int, now: int, grown: bool
) -> None:
    assert has_grown(shown, now) == grown


@EVERY_ACTION
def test_a_page_asks_again_if_the_number_has_grown_too_much(
    action: Action,
    provider: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    text: Text,
) -> None:
    action.add(provider, range(20))
    provider.catalog.reindex()
    page = admin.post(action.url, action.data)
    assert hidden(page)["shown"] == ["20"]
    assert "this page asks again" in text(page)

    action.add(provider, range(20, 40))
    before = content(default_cache)
    response = press(admin, action.url, page)
    assert not response.redirect_chain
    assert action.refusal in text(response)
    assert content(default_cache) == before
    assert not LogEntry.objects.exists()

    assert hidden(response)["shown"] == ["40"]
    response = press(admin, action.url, response)
    while not response.redirect_chain:
        assert "asks again" not in text(response)
        response = press(admin, action.url, response)
    assert action.done in text(response)
    assert content(default_cache) != before


@EVERY_ACTION
def test_a_page_does_what_it_showed_if_the_number_has_grown_only_a_little(
    action: Action, provider: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    action.add(provider, range(20))
    provider.catalog.reindex()
    page = admin.post(action.url, action.data)
    action.add(provider, range(20, 22))
    response = press(admin, action.url, page)
    while not response.redirect_chain:
        assert "Nothing was" not in text(response)
        response = press(admin, action.url, response)
    assert action.done in text(response)


def cached(redis: Redis) -> dict[bytes, bytes | None]:
    """Return all keys but those of the index, beside which the page keeps what clearing frees."""
    return {key: each for key, each in content(redis).items() if not key.startswith(b"blobcache::")}


@EVERY_ACTION
@pytest.mark.parametrize("shown", [None, "", "x", "-1", "1e9", "\u0669" * 3, "9" * 60_000])
def test_a_button_without_the_number_that_was_shown_does_nothing(
    action: Action,
    shown: str | None,
    provider: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
) -> None:
    action.add(provider, range(3))
    provider.catalog.reindex()
    before = cached(default_cache)
    fields = {**action.data, "confirmed": "yes"} | ({} if shown is None else {"shown": shown})
    response = admin.post(action.url, fields, follow=True)
    assert not response.redirect_chain
    assert "asks again" in response.content.decode()
    assert cached(default_cache) == before


@EVERY_ACTION
def test_only_the_first_step_compares_the_number(
    action: Action,
    provider: RedisBlobDescriptorCacheProvider,
    admin: Client,
    text: Text,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    action.add(provider, range(20))
    provider.catalog.reindex()
    page = admin.post(action.url, action.data)
    with monkeypatch.context() as slow:
        limit(slow, clear=0, repair=0, page=0, step=5, purge=0)
        response = press(admin, action.url, page)
    assert not response.redirect_chain
    action.add(provider, range(100, 200))
    response = press(admin, action.url, response)
    assert "Nothing was" not in text(response)
    assert "asks again" not in text(response)
    assert response.redirect_chain or "in progress" in text(response)


@EVERY_ACTION
def test_a_button_does_nothing_while_the_number_cannot_be_read_from_redis(
    action: Action, provider: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    with embedded.start() as server, cache_at(server.url, SOCKET_CONNECT_TIMEOUT=0.2):
        server.stop()
        fields = {**action.data, "shown": "20", "confirmed": "yes"}
        response = admin.post(action.url, fields)
        assert "Redis is down" in text(response)
        assert "in progress" not in text(response)
        # Neither does what this page shows count as a number.
        assert hidden(response).get("shown", [""]) == [""]
    assert not LogEntry.objects.exists()


class TestRepair:
    """The findings of a large cache cannot all be counted within a request."""

    def test_says_that_it_could_not_count_them_and_asks_once(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        admin: Client,
        text: Text,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        action = ACTIONS["repair"]
        action.add(provider, range(20))
        limit(monkeypatch, preview=0)
        page = admin.post(action.url, action.data)
        assert "The number of findings of this kind is not known" in text(page)
        assert "you can stop after each step" in text(page)
        _, response = confirm_to_the_end(admin, action.url, action.data)
        assert "Repaired 20 findings" in text(response)

    def test_says_how_many_there_are_at_least(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        admin: Client,
        text: Text,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        action = ACTIONS["repair one"]
        add_damage(provider, range(2000))
        # The time is over after one read.
        limit(monkeypatch, preview=1.5, clock=counting_clock())
        page = admin.post(action.url, action.data)
        assert "findings of this kind; counting all of them takes too long" in text(page)
        assert "There are at least 1," in text(page)
        assert hidden(page)["shown"] == ["uncounted"]

    def test_asks_again_if_it_cannot_count_again(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        admin: Client,
        text: Text,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        action = ACTIONS["repair"]
        action.add(provider, range(20))
        page = admin.post(action.url, action.data)
        before = content(default_cache)
        limit(monkeypatch, preview=0)
        response = press(admin, action.url, page)
        assert "the findings could not be counted again in time" in text(response)
        assert content(default_cache) == before

    def test_is_not_offered_if_nothing_is_found(
        self, provider: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
    ) -> None:
        action = ACTIONS["repair"]
        response = admin.post(action.url, action.data, follow=True)
        assert response.redirect_chain
        assert "There are no findings of this kind to repair" in text(response)


class TestPurge:
    def test_of_a_blob_with_several_pages_of_holders_says_that_all_are_cleared(
        self, provider: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
    ) -> None:
        action = ACTIONS["purge"]
        add_holders(provider, range(150))
        provider.catalog.reindex()
        page = admin.get(action.url)
        assert "in all repositories that hold it when you confirm" in text(page)
        assert hidden(page)["shown"] == ["uncounted"]
        add_holders(provider, range(150, 300))
        response = press(admin, action.url, page)
        while not response.redirect_chain:
            response = press(admin, action.url, response)
        assert "Purged the blob" in text(response)

    def test_notices_that_one_page_has_become_many(
        self, provider: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
    ) -> None:
        action = ACTIONS["purge"]
        add_holders(provider, range(95))
        provider.catalog.reindex()
        page = admin.get(action.url)
        assert hidden(page)["shown"] == ["95"]
        add_holders(provider, range(95, 400))
        assert "Nothing was purged" in text(press(admin, action.url, page))

    def test_counts_only_what_the_user_may_view(
        self, provider: RedisBlobDescriptorCacheProvider, login: Login, text: Text
    ) -> None:
        client = login("purger", "view_blob", "delete_blob", "delete_repository", "view_repository")
        url = addresses.blob(LAYER, "purge")
        own = provider.repository_scoped("own/app")
        own.set_descriptor(LAYER, Descriptor(LAYER, 1, LAYER_TYPE))
        provider.catalog.reindex()
        with override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.own"}}):
            page = client.get(url)
            assert hidden(page)["shown"] == ["1"]
            add_holders(provider, range(20))
            response = press(client, url, page)
            while not response.redirect_chain:
                assert "Nothing was" not in text(response)
                response = press(client, url, response)
        assert "Purged" in text(response)


def own(user: object) -> list[str]:
    return ["own/"]


class TestClearingTheGlobalDescriptor:
    URL = addresses.blob(LAYER, "delete")

    def test_clears_only_the_descriptor_that_was_shown(
        self,
        filled: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        admin: Client,
        text: Text,
    ) -> None:
        page = admin.get(self.URL)
        assert "If the descriptor changes before you confirm, this page asks again." in text(page)
        default_cache.hset(f"blobs::{LAYER}", mapping={"size": 17, "length": 17})
        before = content(default_cache)
        response = press(admin, self.URL, page)
        assert "Nothing was cleared: the descriptor has changed" in text(response)
        assert "17" in text(response)
        assert content(default_cache) == before
        assert not LogEntry.objects.exists()
        assert "Cleared the global descriptor" in text(press(admin, self.URL, response))

    @pytest.mark.parametrize("shown", [None, "", "x", "9" * 60_000])
    def test_needs_the_field_that_says_what_was_shown(
        self,
        shown: str | None,
        filled: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        admin: Client,
    ) -> None:
        before = content(default_cache)
        fields = {"confirmed": "yes"} | ({} if shown is None else {"shown": shown})
        assert not admin.post(self.URL, fields, follow=True).redirect_chain
        assert content(default_cache) == before

    def test_of_a_damaged_one_asks_again_if_the_damage_has_changed(
        self,
        filled: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        admin: Client,
        text: Text,
    ) -> None:
        default_cache.hset(f"blobs::{LAYER}", "size", "many")
        page = admin.get(self.URL)
        filled.set_descriptor(LAYER, Descriptor(LAYER, 30_000_000, LAYER_TYPE))
        assert "has changed since you opened" in text(press(admin, self.URL, page))
        assert filled.stat(LAYER).size == 30_000_000
