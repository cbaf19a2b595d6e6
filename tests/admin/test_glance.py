"""All registries at a glance: the table on the overview and on the card."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from socket import create_server
from threading import Thread
from time import monotonic
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import reverse
from redis import Redis

from blobcache.doctor.last_run import LastRun
from blobcache.findings import Kind
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.admin import addresses
from tests.admin.conftest import Login
from tests.admin.test_registries import STAGING, at, other_cache, providers
from tests.registries.worlds import NOWHERE
from tests.servers import Meter, cache_at

__all__ = ["other_cache", "providers"]

OVERVIEW = reverse("admin:app_list", args=["blobcache"])
CARD = addresses.repositories("card")

Text = Callable[[Any], str]
Provider = RedisBlobDescriptorCacheProvider


def rows(page: str) -> dict[str, str]:
    """The rows of the table, by alias, without tags."""
    table = page.partition('id="bc-glance-title"')[2].partition("</section>")[0]
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2]):
        alias = re.search(r"<a [^>]*>([^<]*)</a>", row)
        assert alias is not None
        found[alias[1]] = " ".join(re.sub(r"<[^>]*>", " ", row).split())
    return found


@pytest.mark.parametrize("url", [OVERVIEW, CARD, at(OVERVIEW), at(CARD)])
def test_each_registry_has_a_row(
    providers: dict[str, Provider], admin: Client, text: Text, url: str
) -> None:
    earlier = datetime.now(UTC) - timedelta(hours=3)
    LastRun(earlier, True, 3, 0, 0, {Kind.CORRUPT: 2}).write(providers[STAGING])  # noqa: FBT003
    page = text(admin.get(url))
    found = rows(page)
    assert list(found) == ["default", STAGING]
    for row in found.values():
        assert "reachable cache" in row
        if "card" not in url:
            assert "MB" in row
            assert " % " in row
    assert "Warning" in found["default"]
    assert "Error The last check found 2 errors. and" in found[STAGING]
    if "card" not in url:
        assert "2 errors , 3 hours ago" in found[STAGING]
    assert f'<a href="{at(OVERVIEW)}">{STAGING}</a>' in page


def test_a_row_says_what_is_set_for_its_registry(
    providers: dict[str, Provider], admin: Client, text: Text, settings: Any
) -> None:
    other = {
        "CACHE_ALIAS": STAGING,
        "ROLE": "primary",
        "READ_ONLY": True,
        "CATALOG_ALIAS": "default",
    }
    settings.BLOBCACHE = {"default": {}, STAGING: other}
    found = rows(text(admin.get(OVERVIEW)))
    assert "reachable primary store · read-only" in found[STAGING]
    assert "reachable cache" in found["default"]


@pytest.mark.usefixtures("providers")
def test_the_title_names_the_registry_once(admin: Client, text: Text) -> None:
    for url, name in ((OVERVIEW, "default"), (at(OVERVIEW), STAGING)):
        title = re.findall("<title>(.*?)</title>", text(admin.get(url)))
        assert len(title) == 1
        assert title[0].startswith(f"{name} | Blob cache")


@pytest.mark.usefixtures("providers")
def test_the_rows_are_in_the_reader_s_language(admin: Client, text: Text) -> None:
    page = text(admin.get(OVERVIEW, headers={"accept-language": "de"}))
    assert "erreichbar" in rows(page)[STAGING]
    assert "Warnung" in rows(page)[STAGING]
    assert "warning" not in rows(page)[STAGING]


@pytest.mark.usefixtures("providers")
def test_a_dead_registry_makes_its_own_row_unreachable(admin: Client, text: Text) -> None:
    with cache_at(NOWHERE, STAGING):
        for url in (OVERVIEW, CARD):
            response = admin.get(url)
            assert response.status_code == HTTPStatus.OK
            found = rows(text(response))
            assert f"{STAGING} unreachable Redis is down" in found[STAGING]
            assert "reachable cache" in found["default"]
            assert "bc-banner bc-error" not in text(response)
        page = text(admin.get(at(OVERVIEW)))
        assert "<strong>Redis is down.</strong>" in page
        assert "reachable cache" in rows(page)["default"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"PROVIDER": "no.such.Provider"},
        {"CACHE_ALIAS": "nowhere"},
        {"CACHE_ALIAS": STAGING, "CATALOG_ALIAS": "nowhere"},
    ],
)
def test_a_registry_that_cannot_be_made_breaks_no_other(
    providers: dict[str, Provider], admin: Client, text: Text, settings: Any, wrong: dict[str, str]
) -> None:
    settings.BLOBCACHE = {"default": {}, STAGING: wrong}
    found = rows(text(admin.get(OVERVIEW)))
    problem = f"The settings of the registry {STAGING} are wrong: {list(wrong)[-1]}."
    assert f"{STAGING} unreachable {problem}" in found[STAGING]


@contextmanager
def slow_server(meter: Meter) -> Iterator[tuple[str, list[int]]]:
    """A server that answers nothing, until two others have been asked; and what these got."""
    asked: list[int] = []

    def serve() -> None:
        client, _address = listener.accept()
        end, infos = monotonic() + 60, 0
        while infos < 2 and monotonic() < end:
            infos += meter.read().calls["info"]
        asked.append(infos)
        listener.close()
        client.close()

    with create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", asked
        thread.join()


@pytest.mark.usefixtures("providers")
def test_no_registry_waits_for_another(admin: Client, text: Text, valkey: embedded.Server) -> None:
    with (
        valkey.client() as counting,
        slow_server(Meter(counting)) as (url, asked),
        cache_at(url, "slow", SOCKET_TIMEOUT=90),
        override_settings(
            BLOBCACHE={
                "default": {},
                "slow": {"CACHE_ALIAS": "slow"},
                STAGING: {"CACHE_ALIAS": STAGING},
            }
        ),
    ):
        found = rows(text(admin.get(OVERVIEW)))
    assert asked == [2]
    assert "unreachable" in found["slow"]
    assert "reachable cache" in found["default"]
    assert "reachable cache" in found[STAGING]


@pytest.mark.usefixtures("providers")
def test_who_may_not_view_all_sees_only_that_it_is_reachable(
    login: Login, text: Text, other_cache: Redis
) -> None:
    client = login("some", "view_blob")
    found = rows(text(client.get(OVERVIEW)))
    nothing = " \N{EN DASH}" * 4
    assert found == {each: f"{each} reachable cache{nothing}" for each in ("default", STAGING)}
