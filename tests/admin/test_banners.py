"""Pages when Redis fails, when nothing may be written, when there is no catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, LAYER, OTHER
from tests.admin.forms import confirm
from tests.servers import cache_at

Text = Callable[[Any], str]

GOOD = {"digest": OTHER, "size": "1", "media_type": "a/b", "canonical": ""}


def pages() -> list[str]:
    return [
        addresses.repositories(),
        addresses.repositories() + "?q=library",
        addresses.repositories() + "?o=-bytes",
        addresses.repositories() + "?q=a&m=in",
        addresses.repositories() + "?count=on",
        addresses.repositories("consistency"),
        addresses.repositories("consistency") + f"?repository={GRANTED}",
        addresses.repositories("consistency") + "?kind=corrupt",
        addresses.repository(GRANTED),
        addresses.repository(GRANTED) + "?state=ok&o=-size",
        addresses.repository(GRANTED) + "?q=sha256:aa",
        addresses.repository(GRANTED) + f"?q={LAYER}",
        addresses.repository(GRANTED, "set") + f"?digest={LAYER}",
        addresses.blobs(),
        addresses.blob(LAYER),
        addresses.blob(LAYER, "set"),
        addresses.blob(LAYER, "delete"),
        addresses.blob(LAYER, "purge"),
    ]


def writes(client: Client) -> Iterator[Any]:
    """Return the responses to every kind of write, with the page that follows."""
    for url, data in (
        (addresses.repository(GRANTED, "clear"), {"digest": LAYER, "confirmed": "yes"}),
        (addresses.repository(GRANTED, "set"), GOOD),
        (addresses.blob(LAYER, "set"), GOOD),
        (addresses.repositories("repair"), {"kind": "corrupt", "shown": 0, "confirmed": "yes"}),
    ):
        yield client.post(url, data, follow=True)
    yield confirm(client, addresses.repositories("empty"), {"repository": GRANTED})
    yield confirm(client, addresses.blob(LAYER, "purge"))
    yield confirm(client, addresses.blob(LAYER, "delete"))


@pytest.fixture
def own() -> Iterator[embedded.Server]:
    """A server that a test may stop, with short timeouts in CACHES["default"]."""
    with embedded.start() as server, fast(server.url):
        yield server


@contextmanager
def fast(url: str) -> Iterator[Redis]:
    with cache_at(url, SOCKET_CONNECT_TIMEOUT=0.2, SOCKET_TIMEOUT=0.2) as client:
        yield client


def test_every_page_is_rendered_when_redis_is_down(
    own: embedded.Server, admin: Client, text: Text
) -> None:
    own.stop()
    for page in pages():
        response = admin.get(page)
        assert response.status_code == HTTPStatus.OK, page
        assert text(response).count("Redis is down") == 1, page
        assert str(own.port) not in text(response), page
    assert "There are no blobs" not in text(admin.get(addresses.blobs()))
    assert "There are no blobs" not in text(admin.get(addresses.repository(GRANTED)))
    page = text(admin.post(addresses.repository(GRANTED, "clear"), {"digest": LAYER}))
    assert "Redis is down" in page
    for response in writes(admin):
        assert response.status_code == HTTPStatus.OK
        assert "Redis is down" in text(response)
    page = text(admin.post(addresses.repositories("refresh"), follow=True))
    assert "Redis is down" in page
    assert not LogEntry.objects.exists()


def test_a_slow_redis_has_its_own_banner(own: embedded.Server, admin: Client, text: Text) -> None:
    admin.get(addresses.repositories())
    with own.frozen():
        assert "Redis is too slow" in text(admin.get(addresses.blobs()))


def test_a_redis_that_denies_access_has_its_own_banner(
    own: embedded.Server, admin: Client, text: Text
) -> None:
    with own.client() as client:
        client.acl_setuser("portal", enabled=True, passwords=["+swordfish"], commands=["+ping"])
    user = f"redis://portal:swordfish@{embedded.HOST}:{own.port}/0"
    stranger = f"redis://portal:wrong@{embedded.HOST}:{own.port}/0"
    for url in (user, stranger):
        with fast(url):
            for page in pages():
                shown = text(admin.get(page))
                denied = "Redis denies access" in shown
                assert denied or (url == user and "Redis does not allow SCAN" in shown), (url, page)
                assert "swordfish" not in shown


def test_a_server_that_refuses_info_is_not_an_error(
    own: embedded.Server, admin: Client, text: Text
) -> None:
    with own.client() as client:
        client.acl_setuser(
            "portal",
            enabled=True,
            passwords=["+swordfish"],
            keys=["*"],
            categories=["+@all", "-@dangerous"],
        )
    with fast(f"redis://portal:swordfish@{embedded.HOST}:{own.port}/0"):
        page = text(admin.get(addresses.repositories()))
    assert "This Redis user may not run INFO" in page
    assert "denies access" not in page


def test_the_page_explains_why_a_replica_or_a_full_server_refuses_writes(
    own: embedded.Server, admin: Client, text: Text
) -> None:
    url = addresses.repository(GRANTED, "set")
    with own.client() as client:
        client.config_set("maxmemory", 1)
        assert "Redis is full" in text(admin.post(url, GOOD))
        client.config_set("maxmemory", 0)
        client.replicaof(embedded.HOST, "1")
        assert "Redis accepts no writes" in text(admin.post(url, GOOD))


def test_blobs_that_were_cleared_before_redis_failed_are_recorded(
    filled: RedisBlobDescriptorCacheProvider,
    admin: Client,
    text: Text,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from blobcache.exceptions import CacheUnavailable  # noqa: PLC0415 - one test's
    from blobcache.redis.service import RedisService  # noqa: PLC0415

    clear = RedisService.clear

    def failing(self: RedisService, digest: str) -> object:
        if digest == CONFIG:
            raise CacheUnavailable("Gone.")
        return clear(self, digest)

    monkeypatch.setattr(RedisService, "clear", failing)
    response = admin.post(
        addresses.repository(GRANTED, "clear"),
        {"digest": [LAYER, CONFIG], "confirmed": "yes"},
        follow=True,
    )
    page = text(response)
    assert "Cleared 1 blob in library/nginx" in page
    assert "1 blob was not cleared because Redis failed" in page
    assert LogEntry.objects.count() == 1


@pytest.fixture
def read_only(
    filled: RedisBlobDescriptorCacheProvider,
) -> Iterator[embedded.Server]:
    """The registry as before, but read-only, with its index in a Redis of its own."""
    registry = {"READ_ONLY": True, "CATALOG_ALIAS": "index"}
    with (
        embedded.start() as index,
        cache_at(index.url, "index"),
        override_settings(BLOBCACHE={"default": registry}),
    ):
        yield index


@pytest.mark.usefixtures("read_only")
def test_a_read_only_registry_is_marked_and_nothing_changes_it(admin: Client, text: Text) -> None:
    for page in (
        addresses.repositories(),
        addresses.repository(GRANTED),
        addresses.blobs(),
        addresses.blob(LAYER),
    ):
        shown = text(admin.get(page))
        assert shown.count("This registry is read-only") == 1, page
        for action in ("Clear", "Set a descriptor<", "Purge everywhere"):
            assert action not in shown, (page, action)
    checked = text(admin.post(addresses.repository(GRANTED, "check"), {"digest": LAYER}))
    assert "1 blob was checked." in checked
    assert "Repair" not in checked


@pytest.mark.usefixtures("read_only")
def test_a_read_only_registry_refuses_every_write(
    admin: Client, text: Text, filled: RedisBlobDescriptorCacheProvider
) -> None:
    for response in writes(admin):
        assert "This registry is read-only" in text(response)
        assert response.redirect_chain
    assert filled.repository_scoped(GRANTED).stat(LAYER).digest == LAYER
    assert not LogEntry.objects.exists()


@pytest.mark.usefixtures("read_only")
def test_a_read_only_registry_can_have_its_index_in_another_redis(
    admin: Client, text: Text
) -> None:
    page = text(admin.post(addresses.repositories("refresh"), follow=True))
    assert "The index is up to date" in page
    assert GRANTED in page


def test_a_provider_without_a_catalog_cannot_be_browsed(admin: Client, text: Text) -> None:
    memory = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
    with override_settings(BLOBCACHE={"default": {"PROVIDER": memory}}):
        for page in pages():
            response = admin.get(page)
            assert response.status_code == HTTPStatus.OK, page
            assert "This registry cannot be browsed" in text(response), page
