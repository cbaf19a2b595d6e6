"""The page of changes, and the histories of repositories and blobs."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse

from blobcache.history import recorded
from blobcache.models import JournalEntry
from blobcache.services import get_provider
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, HIDDEN, LAYER

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 20, 3, 4, 5, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def page() -> str:
    return addresses.changes()


def entry(number: int, **facts: Any) -> JournalEntry:
    return JournalEntry.objects.create(
        **{
            "time": START + timedelta(minutes=number),
            "registry": "default",
            "action": "set",
            "source": "api",
            "actor": f"user{number}",
            "repository": GRANTED,
            "digest": LAYER,
            **facts,
        }
    )


def client(*codenames: str, **facts: Any) -> Client:
    user = User.objects.create(username="ann", is_staff=True, **facts)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="blobcache", codename__in=codenames)
    )
    found = Client()
    found.force_login(user)
    return found


def text(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def test_is_one_click_from_the_admin_s_first_page(page: str) -> None:
    assert f'href="{page}"' in text(client("view_repository"), reverse("admin:index"))


def test_shows_when_who_what_and_where(page: str) -> None:
    entry(
        0,
        actor=HOSTILE,
        source="command",
        system_user="root",
        before={"size": 5, "mediaType": "x/y", "digest": LAYER},
        after={"size": 6, "mediaType": HOSTILE, "digest": LAYER},
    )
    entry(1, action="purge", repository=None, operation="p" * 16, is_finished=False)
    shown = text(client("view_repository", "view_blob"), page)
    assert "2026-11-20 03:04:05" in shown
    assert "5 bytes, x/y → 6 bytes, &lt;script&gt;" in shown
    assert "(root)" in shown
    assert HOSTILE not in shown
    assert "not finished" in shown
    assert f"?operation={'p' * 16}" in shown
    assert addresses.blob(LAYER) in shown


def test_filters_and_keeps_the_filters_in_links(page: str) -> None:
    entry(0)
    entry(1, action="clear")
    operator = client("view_repository")
    shown = text(operator, f"{page}?action=clear&since=2026-11-20")
    assert "user1" in shown
    assert "user0" not in shown
    assert "?since=2026-11-20&amp;action=clear&amp;format=csv" in shown


@pytest.mark.parametrize(
    ("query", "mistake"),
    [
        ("since=yesterday", "A time is in ISO form"),
        ("action=sett", "There is no such action."),
        ("digest=sha256:beef", "sha256 needs 64"),
        ("repository=A//b", "A//b"),
        ("parts=yes", "The only valid value is 1."),
        (f"actor={'x' * 600}", "This text is too long."),
        (f"repository={HIDDEN}", "You may not view this repository."),
        ("repository=not/there", "You may not view this repository."),
    ],
)
def test_says_what_is_wrong_with_a_filter(page: str, query: str, mistake: str) -> None:
    entry(0)
    shown = text(client("view_blob"), f"{page}?{query}")
    assert mistake in shown
    assert "user0" not in shown


@pytest.mark.usefixtures("contexts")
def test_pages_go_on_behind_the_last_entry(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blobcache.admin.changes.JournalEntryAdmin.list_per_page", 2)
    for number in range(3):
        entry(number)
    operator = client("view_repository")
    first = operator.get(page)
    assert [row["actor"] for row in first.context["rows"]] == ["user2", "user1"]
    second = operator.get(page + first.context["next"])
    assert [row["actor"] for row in second.context["rows"]] == ["user0"]
    assert second.context["next"] is None


def test_the_list_can_be_downloaded(page: str) -> None:
    entry(0, actor="=1+1")
    entry(1, repository=HIDDEN)
    operator = client("view_repository")
    with override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.granted"}}):
        response = operator.get(f"{page}?format=csv")
        lines = operator.get(f"{page}?format=ndjson")
    assert response.headers["Content-Disposition"] == 'attachment; filename="changes.csv"'
    rows = [*csv.DictReader(io.StringIO(response.getvalue().decode()))]
    assert [row["actor"] for row in rows] == ["'=1+1"]
    assert lines.getvalue().count(b"\n") == 1


def granted(_: object) -> list[str]:
    return [GRANTED]


@pytest.mark.usefixtures("contexts")
@override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.granted"}})
def test_hidden_repositories_leave_no_trace(page: str) -> None:
    entry(0)
    empty = client("view_repository").get(page).context["rows"]
    for number in range(1, 4):
        entry(number, repository=HIDDEN, operation="p" * 16, is_part=number > 2)
    operator = Client()
    operator.force_login(User.objects.get(username="ann"))
    assert operator.get(page).context["rows"] == empty
    assert operator.get(page).context["next"] is None
    assert HIDDEN not in text(operator, f"{page}?parts=1")
    assert "user3" not in text(operator, f"{page}?operation={'p' * 16}")


def test_whoever_may_view_nothing_may_not_open_it(page: str) -> None:
    assert client().get(page).status_code == 403
    assert Client().get(page).status_code == 302


def test_nothing_can_be_changed_there(page: str) -> None:
    entry(0)
    admin = client(is_superuser=True)
    assert admin.post(page, {"action": "delete_selected"}).status_code == 405
    for path in ("add/", "1/change/", "1/delete/", "1/history/"):
        assert admin.get(page + path).status_code == 404
    assert JournalEntry.objects.count() == 1


def test_a_database_that_fails_is_said(page: str) -> None:
    operator = client("view_repository")
    operator.get(page)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE blobcache_journalentry RENAME TO away")
    for query in ("", "?format=csv"):
        assert "The journal cannot be read" in text(operator, page + query)


def test_says_that_the_journal_is_off(page: str, settings: LazySettings) -> None:
    settings.BLOBCACHE_PORTAL = {"JOURNAL": False}
    assert "The journal is off" in text(client("view_repository"), page)


class TestHistory:
    @pytest.fixture(autouse=True)
    def changes(self, filled: object) -> None:
        user = User.objects.create(username="bob", is_superuser=True)
        with recorded(user, source="api"):
            get_provider().repository_scoped(GRANTED).clear(LAYER)
            get_provider().repository_scoped(HIDDEN).clear(LAYER)

    def test_of_a_repository_has_its_changes(self) -> None:
        shown = text(client("view_repository"), addresses.repository(GRANTED, "history"))
        assert "bob" in shown
        assert LAYER in shown
        assert HIDDEN not in shown

    def test_of_a_blob_has_its_changes_in_repositories_too(self) -> None:
        operator = client("view_repository", "view_blob")
        shown = text(operator, addresses.blob(LAYER, "history"))
        assert GRANTED in shown
        assert HIDDEN in shown
        assert "bob" not in text(operator, addresses.blob(CONFIG, "history"))

    @override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.granted"}})
    def test_of_a_blob_has_nothing_of_hidden_repositories(self) -> None:
        operator = client("view_repository", "view_blob")
        assert HIDDEN not in text(operator, addresses.blob(LAYER, "history"))
        address = addresses.repository(HIDDEN, "history")
        assert operator.get(address).status_code == 403

    def test_leads_to_django_s_own(self, settings: LazySettings) -> None:
        operator = client("view_repository")
        address = addresses.repository(GRANTED, "history")
        assert "?django=1" in text(operator, address)
        assert "Cleared sha256:" in text(operator, f"{address}?django=1")
        settings.BLOBCACHE_PORTAL = {"JOURNAL": False}
        assert "Cleared sha256:" in text(operator, address)

    def test_can_be_downloaded(self) -> None:
        operator = client("view_repository")
        address = addresses.repository(GRANTED, "history")
        response: Any = operator.get(f"{address}?format=ndjson&repository={HIDDEN}")
        assert response.getvalue().count(b"\n") == 1
