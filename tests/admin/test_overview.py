"""The overview: the app's page, the card on the admin's first page, and the look-up."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import pytest
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.doctor.last_run import LastRun
from blobcache.findings import Kind
from blobcache.models import JournalEntry
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.admin import addresses
from tests.admin.conftest import GRANTED, HIDDEN, LAYER, LAYER_TYPE, Login
from tests.admin.forms import confirm
from tests.servers import cache_at

OVERVIEW = reverse("admin:app_list", args=["blobcache"])
CARD = addresses.repositories("card")
LOOK_UP = addresses.repositories("look_up")

Text = Callable[[Any], str]


@pytest.fixture
def models_alone(login: Login, settings: Any) -> None:
    """Let no backend grant single repositories by name."""
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]


def note(provider: RedisBlobDescriptorCacheProvider, **changes: Any) -> None:
    facts: dict[str, Any] = {
        "at": datetime.now(UTC),
        "is_compared": True,
        "looked_at": 3,
        "doubtful": 0,
        "uncached": 0,
        "counts": {},
    }
    LastRun(**(facts | changes)).write(provider)


def tasks(page: str) -> list[str]:
    """The texts below "What needs doing"."""
    part = page.partition('id="bc-tasks"')[2].partition("</section>")[0]
    return [each.partition("</li>")[0].split("</span> ")[1] for each in part.split("<li>")[1:]]


@pytest.mark.usefixtures("filled")
def test_the_app_s_page_is_the_overview(admin: Client, text: Text) -> None:
    page = text(admin.get(OVERVIEW))
    assert f'action="{LOOK_UP}"' in page
    assert f'<a href="{addresses.repositories()}">Repositories</a>' in page
    assert f'<a href="{addresses.blobs()}">Blobs</a>' in page
    assert f'<a href="{addresses.repositories("consistency")}">Doctor</a>' in page
    for title in ("Server", "Memory", "Hit rate", "Repository index", "Last check"):
        assert f"<h2>{title}</h2>" in page
    assert "keys evicted" in page


def test_the_hit_rate_is_that_of_redis_and_that_of_the_portal(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    default_cache.config_resetstat()
    default_cache.get("no such key")
    filled.stat(LAYER)
    page = text(admin.get(OVERVIEW))
    assert "All reads of Redis: " in page
    assert "This portal&#x27;s stats: " in page


def test_what_needs_doing_leads_to_where_it_is_done(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    doctor = addresses.repositories("consistency")
    found = tasks(text(admin.get(OVERVIEW)))
    assert f'The whole cache was never checked. <a href="{doctor}">Check it</a>' in found
    count = f"{addresses.repositories()}?count=on"
    sizes = "Sizes are known for 0 of 2 repositories."
    assert f'{sizes} <a href="{count}">Calculate all sizes</a>' in found

    filled.figures.refresh()
    note(filled, counts={Kind.CORRUPT: 2, Kind.UNREFERENCED: 1})
    found = tasks(text(admin.get(OVERVIEW)))
    assert f'The last check found 2 errors. <a href="{doctor}">Look at the errors</a>' in found
    assert not any("Sizes" in each or "never checked" in each for each in found)

    note(filled, at=datetime.now(UTC) - timedelta(days=8))
    found = tasks(text(admin.get(OVERVIEW)))
    assert any("older than a week" in each for each in found)


def test_nothing_is_left_to_do(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text, settings: Any
) -> None:
    filled.figures.refresh()
    note(filled)
    found = tasks(text(admin.get(OVERVIEW)))
    server = filled.server_status().warnings
    assert [each for each in found if "TRUTH" not in each and each not in server] == []


def test_the_largest_repositories_come_first(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    filled.figures.refresh()
    page = text(admin.get(OVERVIEW))
    table = page.partition('id="bc-heaviest"')[2]
    assert table.index(GRANTED) < table.index(HIDDEN)
    assert f'href="{addresses.repository(GRANTED)}"' in table


@pytest.mark.usefixtures("filled")
def test_the_last_changes_are_those_that_the_user_may_see(
    admin: Client, login: Login, text: Text
) -> None:
    for name in (GRANTED, HIDDEN):
        confirm(admin, addresses.repository(name, "clear"), {"digest": LAYER})
    page = text(admin.get(OVERVIEW)).partition('id="bc-changes"')[2]
    assert page.count("<strong>Cleared</strong>") == 2
    assert HIDDEN in page
    assert f'href="{reverse("admin:blobcache_journalentry_changelist")}?since=24h"' in page
    page = text(login("granted").get(OVERVIEW)).partition('id="bc-changes"')[2]
    assert page.count("<strong>Cleared</strong>") == 1
    assert HIDDEN not in page


@pytest.mark.usefixtures("filled")
def test_a_journal_that_is_off_or_broken_is_left_out(
    admin: Client, text: Text, settings: Any
) -> None:
    settings.BLOBCACHE_PORTAL = {"JOURNAL": False}
    page = text(admin.get(OVERVIEW))
    assert 'id="bc-changes"' not in page
    settings.BLOBCACHE_PORTAL = {}
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {JournalEntry._meta.db_table}")
    page = text(admin.get(OVERVIEW))
    assert 'id="bc-changes"' not in page
    assert page.count("The journal cannot be read") == 1
    assert "<h2>Memory</h2>" in page


def test_others_see_only_what_they_may_view(
    filled: RedisBlobDescriptorCacheProvider, login: Login, text: Text
) -> None:
    filled.figures.refresh()
    note(filled, counts={Kind.CORRUPT: 2})
    page = text(login("granted").get(OVERVIEW))
    assert GRANTED in page
    for hidden in (HIDDEN, "Last check", "Memory", "Hit rate", "What needs doing", "Doctor"):
        assert hidden not in page
    page = text(login("blobs", "view_blob").get(OVERVIEW))
    assert f'action="{LOOK_UP}"' in page
    for hidden in (HIDDEN, GRANTED, "Last check", "Memory", "Doctor"):
        assert hidden not in page


@pytest.mark.usefixtures("filled")
def test_a_visible_range_hides_the_others(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    filled.figures.refresh()
    with override_settings(
        BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.only_library"}}
    ):
        page = text(admin.get(OVERVIEW))
    assert GRANTED in page
    assert HIDDEN not in page
    assert "Memory" not in page


def only_library(_: object) -> list[str]:
    return ["library/"]


@pytest.mark.usefixtures("filled", "models_alone")
def test_users_without_a_permission_get_nothing(login: Login) -> None:
    client = login("nobody", "add_blob")
    assert client.get(OVERVIEW).status_code == HTTPStatus.NOT_FOUND
    assert client.get(CARD).status_code == HTTPStatus.FORBIDDEN
    assert client.get(LOOK_UP).status_code == HTTPStatus.FORBIDDEN


def test_the_page_opens_while_redis_is_down(admin: Client, text: Text) -> None:
    with embedded.start() as server, cache_at(server.url):
        server.stop()
        for url in (OVERVIEW, CARD):
            response = admin.get(url)
            assert response.status_code == HTTPStatus.OK
            assert text(response).count("Redis is down") == 1
        assert f'action="{LOOK_UP}"' in text(admin.get(OVERVIEW))
        assert admin.get(LOOK_UP, {"q": GRANTED}).status_code == HTTPStatus.FOUND


def test_namespaces_are_added_up_with_a_bar_each(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    for number in range(10):
        service = filled.repository_scoped(f"team{number}/app")
        service.set_descriptor(LAYER, Descriptor(LAYER, 30_000_000, LAYER_TYPE))
    filled.catalog.reindex()
    filled.figures.refresh()
    table = text(admin.get(OVERVIEW)).partition('id="bc-namespaces"')[2].partition("</section>")[0]
    assert table.count("<rect") == 9
    assert f'<a href="{addresses.repositories()}?o=-bytes&amp;q=library%2F">library/</a>' in table
    assert "others" in table
    assert "of 12" not in table
    widths = [float(each) for each in re.findall(r'width="([\d.]+)%" height="10" rx', table)]
    assert sum(widths) == pytest.approx(100, abs=0.1)


def test_the_questions_to_redis_are_few_for_each_repository(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    def commands() -> int:
        before = default_cache.info("stats")["total_commands_processed"]
        admin.get(OVERVIEW)
        return int(default_cache.info("stats")["total_commands_processed"] - before)

    filled.figures.refresh()
    commands()
    few = commands()
    for number in range(50):
        filled.repository_scoped(f"many/r{number}").set_descriptor(LAYER, filled.stat(LAYER))
    filled.figures.refresh()
    assert commands() <= few + 2 * 52  # one a repository, for its number of blobs and its score


class TestFirstPage:
    """The admin's own first page, with the card."""

    def test_has_a_card_that_asks_no_redis(
        self, filled: object, default_cache: Redis, admin: Client, text: Text
    ) -> None:
        before = default_cache.info("stats")["total_commands_processed"]
        page = text(admin.get(reverse("admin:index")))
        assert default_cache.info("stats")["total_commands_processed"] == before + 1
        assert f'data-url="{CARD}"' in page
        assert f'<a href="{OVERVIEW}">Open the overview</a>' in page
        assert f'action="{LOOK_UP}"' in page
        assert page.count('class="blobcache bc-page bc-home"') == 1

    @pytest.mark.usefixtures("filled", "models_alone")
    def test_has_none_for_users_who_may_not_view(self, login: Login) -> None:
        page = login("nobody").get(reverse("admin:index")).content.decode()
        assert "bc-home" not in page

    def test_the_card_is_a_fragment(self, filled: object, admin: Client, text: Text) -> None:
        card = text(admin.get(CARD))
        assert "<html" not in card
        assert "<h2>Memory</h2>" in card
        assert f'<a href="{OVERVIEW}">Open the overview</a>' in card

    def test_other_apps_pages_have_no_card(self, filled: object, admin: Client) -> None:
        page = admin.get(reverse("admin:app_list", args=["auth"])).content.decode()
        assert "bc-home" not in page


class TestLookUp:
    """The field of the overview."""

    @pytest.mark.parametrize(
        ("text", "address"),
        [
            (LAYER, addresses.blob(LAYER)),
            (LAYER.encoded.upper(), addresses.blob(LAYER)),
            (GRANTED, addresses.repository(GRANTED)),
            (f" {GRANTED} ", addresses.repository(GRANTED)),
            ("libr", addresses.repositories() + "?q=libr"),
            ("no/such", addresses.repositories() + "?q=no%2Fsuch"),
            ("sha256:12", addresses.blobs() + "?q=sha256%3A12"),
            ("", addresses.repositories()),
            ("<script>", addresses.repositories() + "?q=%3Cscript%3E"),
        ],
    )
    def test_leads_to_what_is_meant(
        self, filled: object, admin: Client, text: str, address: str
    ) -> None:
        assert admin.get(LOOK_UP, {"q": text})["Location"] == address

    def test_says_nothing_about_what_is_hidden(self, filled: object, login: Login) -> None:
        client = login("granted")
        for name in (HIDDEN, "hidden/no-such"):
            location = client.get(LOOK_UP, {"q": name})["Location"]
            assert location.startswith(addresses.repositories() + "?q=")
        assert client.get(LOOK_UP, {"q": LAYER})["Location"].startswith(addresses.repositories())
        assert client.get(LOOK_UP, {"q": GRANTED})["Location"] == addresses.repository(GRANTED)

    def test_a_repository_whose_key_has_a_wrong_type_is_found(
        self, filled: object, default_cache: Redis, admin: Client
    ) -> None:
        default_cache.set("repository::odd/one::blobs", "text")
        found = admin.get(LOOK_UP, {"q": "odd/one"})["Location"]
        assert found == addresses.repository("odd/one")
