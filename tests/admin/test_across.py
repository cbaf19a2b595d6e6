"""The pages about several registries: a blob in all of them, a repository in two of them."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import pytest
from django.test import Client, override_settings
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.admin import addresses
from tests.admin.conftest import CONFIG, CONFIG_TYPE, GRANTED, LAYER, LAYER_TYPE, Login
from tests.admin.test_registries import (
    Provider,
    Text,
    blob,
    other_cache,
    providers,
    repository,
)
from tests.registries.worlds import NOWHERE
from tests.servers import cache_at, commands

__all__ = ["other_cache", "providers"]

COMPARE, EVERYWHERE = addresses.repository(GRANTED, "compare"), addresses.blob(LAYER, "registries")


@pytest.fixture
def dead(providers: dict[str, Provider]) -> Iterator[None]:
    """The other registry does not answer."""
    with cache_at(NOWHERE, "staging"):
        yield


@pytest.mark.usefixtures("providers")
class TestCompare:
    def test_each_difference_has_a_row(self, admin: Client, text: Text) -> None:
        page = text(admin.get(COMPARE))
        assert f">{LAYER}<" in page
        assert f">{CONFIG}<" in page
        assert "missing there" in page
        assert "only there" in page
        assert f'href="{addresses.blob(LAYER)}"' in page
        assert f'href="{blob(CONFIG)}"' in page

    def test_a_difference_of_one_byte_can_be_seen(
        self, admin: Client, text: Text, providers: dict[str, Provider]
    ) -> None:
        for provider, size in zip(providers.values(), (31000, 31001), strict=True):
            scope = provider.repository_scoped(GRANTED)
            scope.set_descriptor(LAYER, Descriptor(LAYER, size, LAYER_TYPE))
        page = text(admin.get(COMPARE))
        assert ">31,000 bytes<" in page
        assert ">31,001 bytes<" in page

    def test_from_the_other_registry(self, admin: Client, text: Text) -> None:
        page = text(admin.get(repository(GRANTED, "compare")))
        assert "Compare staging with" in page
        assert f'href="{addresses.repository(GRANTED)}"' in page

    def test_the_repository_s_page_leads_there(self, admin: Client, text: Text) -> None:
        assert f'href="{COMPARE}"' in text(admin.get(addresses.repository(GRANTED)))

    def test_the_same_blobs(
        self, admin: Client, text: Text, providers: dict[str, Provider]
    ) -> None:
        for provider in providers.values():
            for digest, media_type in ((LAYER, LAYER_TYPE), (CONFIG, CONFIG_TYPE)):
                scope = provider.repository_scoped(GRANTED)
                scope.set_descriptor(digest, Descriptor(digest, 1234, media_type))
        assert "has the same blobs in default and in staging" in text(admin.get(COMPARE))

    @pytest.mark.usefixtures("contexts")
    def test_the_pages_follow_each_other(
        self, admin: Client, text: Text, providers: dict[str, Provider]
    ) -> None:
        scope = providers["default"].repository_scoped(GRANTED)
        digests = {f"sha256:{number:064x}" for number in range(250)}
        for digest in digests:
            scope.set_descriptor(digest, Descriptor(digest, 1, LAYER_TYPE))
        found, response = set(), admin.get(COMPARE)
        while True:
            page = text(response)
            found |= {digest for digest in digests if digest in page}
            following = response.context["next"]
            if following is None:
                break
            response = admin.get(COMPARE + following)
        assert found == digests

    @pytest.mark.usefixtures("dead")
    def test_the_other_does_not_answer(self, admin: Client, text: Text) -> None:
        page = text(admin.get(COMPARE))
        assert "The registry staging does not answer." in page
        assert "not compared" in page
        assert "127.0.0.1" not in page

    def test_the_settings_of_the_other_are_wrong(self, admin: Client, text: Text) -> None:
        entry = {"PROVIDER": "nowhere.Provider"}
        with override_settings(BLOBCACHE={"default": {}, "staging": entry}):
            page = text(admin.get(COMPARE))
        assert "The settings of the registry staging are wrong: PROVIDER." in page

    def test_another_registry_than_there_is(self, admin: Client, text: Text) -> None:
        response = admin.get(COMPARE, {"with": "<production>"})
        assert response.status_code == HTTPStatus.BAD_REQUEST
        assert "<production>" not in response.content.decode()

    def test_this_one_does_not_answer(self, admin: Client, text: Text) -> None:
        with cache_at(NOWHERE):
            page = text(admin.get(COMPARE))
        assert "has the same blobs" not in page

    def test_who_may_view_it_in_one_registry_alone_has_no_such_page(
        self, login: Login, text: Text, other_cache: Redis
    ) -> None:
        client = login("granted")
        with commands(other_cache) as traffic:
            response = client.get(COMPARE)
        assert response.status_code == HTTPStatus.NOT_FOUND
        assert traffic.calls.total() == 0
        assert "compare" not in text(client.get(addresses.repository(GRANTED)))


@pytest.mark.usefixtures("providers")
class TestEverywhere:
    def test_a_difference_of_one_byte_can_be_seen(
        self, admin: Client, text: Text, providers: dict[str, Provider]
    ) -> None:
        for provider, size in zip(providers.values(), (31000, 31001), strict=True):
            scope = provider.repository_scoped(GRANTED)
            scope.set_descriptor(LAYER, Descriptor(LAYER, size, LAYER_TYPE))
        page = text(admin.get(EVERYWHERE))
        assert ">31,000 bytes<" in page
        assert ">31,001 bytes<" in page
        for provider in providers.values():
            provider.set_descriptor(LAYER, Descriptor(LAYER, 31000, LAYER_TYPE))
        assert ">30.3 KB<" in text(admin.get(EVERYWHERE))

    def test_each_registry_has_a_row(self, admin: Client, text: Text) -> None:
        page = text(admin.get(EVERYWHERE))
        assert page.index("in the cache") < page.index("not in the cache")
        assert f'href="{blob(LAYER)}"' in page
        assert f'href="{addresses.repository(GRANTED)}"' in page

    def test_the_blob_s_page_leads_there(self, admin: Client, text: Text) -> None:
        assert f'href="{EVERYWHERE}"' in text(admin.get(addresses.blob(LAYER)))

    @pytest.mark.usefixtures("dead")
    def test_one_that_does_not_answer(self, admin: Client, text: Text) -> None:
        page = text(admin.get(EVERYWHERE))
        assert "unreachable" in page
        assert f'href="{addresses.repository(GRANTED)}"' in page

    def test_who_may_not_view_blobs(self, login: Login) -> None:
        client = login("granted")
        assert client.get(EVERYWHERE).status_code == HTTPStatus.FORBIDDEN


def test_with_one_registry_there_is_nothing_of_this(
    filled: RedisBlobDescriptorCacheProvider,
    admin: Client,
    text: Text,
    valkey: embedded.Server,
) -> None:
    with override_settings(BLOBCACHE={"default": {}}):
        for url in (COMPARE, EVERYWHERE):
            assert admin.get(url).status_code == HTTPStatus.NOT_FOUND
        for url in (addresses.repository(GRANTED), addresses.blob(LAYER)):
            page = text(admin.get(url))
            assert "registries" not in page
            assert "compare/" not in page
