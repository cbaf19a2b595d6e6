"""A database that fails never makes a change fail, and a rollback takes no entry away."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.signals import request_finished
from django.db import connection, connections, transaction
from django.db.backends.base.base import NO_DB_ALIAS
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from redis import Redis
from rest_framework.test import APIClient

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.history import recorded
from blobcache.journal import metrics, storing
from blobcache.journal.recording import journaled
from blobcache.journal.storing import Failures
from blobcache.models import JournalEntry
from blobcache.services import get_provider
from tests.budgets import counting_clock

BLOB = Digest("sha256:" + "a" * 64)
BROKEN = NO_DB_ALIAS
"""The one alias that Django's test cases never forbid."""

pytestmark = pytest.mark.usefixtures("default_cache")


class ToBroken:
    """A router that sends the journal into another database."""

    def db_for_write(self, model: type, **_: object) -> str | None:
        return BROKEN if model is JournalEntry else None


class ToNowhere:
    """A router that fails."""

    def db_for_write(self, model: type, **_: object) -> str | None:
        if model is JournalEntry:
            raise LookupError
        return None


@pytest.fixture(autouse=True)
def failures(monkeypatch: pytest.MonkeyPatch) -> Failures:
    found = Failures()
    monkeypatch.setattr(storing, "failures", found)
    return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many entries were written and lost."""
    found = {"written": 0, "lost": 0}

    def count(outcome: str, number: int) -> None:
        found[outcome] += number

    monkeypatch.setattr(storing, "count", count)
    return found


def change(repository: str = "a") -> None:
    with journaled(actor="x", source="test"):
        scope = get_provider().repository_scoped(repository)
        scope.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))


def change_and_roll_back(repository: str) -> None:
    with transaction.atomic():
        change(repository)
        transaction.set_rollback(rollback=True)


@contextmanager
def database(name: str, **options: Any) -> Iterator[None]:
    """Another database, which the journal is written to."""
    ours = connections["default"].settings_dict
    entry = {**ours, "NAME": name, "OPTIONS": options, "ATOMIC_REQUESTS": False}
    connections.settings[BROKEN] = entry
    try:
        with override_settings(DATABASE_ROUTERS=[f"{__name__}.ToBroken"]):
            yield
    finally:
        connections[BROKEN].close()
        if connections[BROKEN].connection is not None:  # Django leaves one in memory open
            connections[BROKEN].connection.close()
        del connections[BROKEN]
        del connections.settings[BROKEN]


def is_changed() -> bool:
    return get_provider().repository_scoped("a").stat(BLOB).size == 1


@pytest.mark.django_db
class TestADatabaseThatFails:
    def test_whose_file_cannot_be_opened(
        self, counted: dict[str, int], caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        with database(str(tmp_path / "missing" / "db.sqlite3")):
            change()
        assert is_changed()
        assert counted == {"written": 0, "lost": 1}
        (record,) = [each for each in caplog.records if each.name == "blobcache.journal"]
        assert "1 entries could not be written" in record.getMessage()
        assert record.exc_info

    def test_is_asked_once_if_it_cannot_be_opened(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        asked, insert = [], storing._insert

        def insert_and_count(*arguments: Any) -> None:
            asked.append(arguments)
            insert(*arguments)

        monkeypatch.setattr(storing, "_insert", insert_and_count)
        with database(str(tmp_path / "missing" / "db.sqlite3")):
            change()
        assert len(asked) == 1

    def test_that_is_locked(self, counted: dict[str, int], tmp_path: Path) -> None:
        name = str(tmp_path / "db.sqlite3")
        with closing(sqlite3.connect(name)) as other, database(name, timeout=0):
            other.execute("CREATE TABLE blobcache_journalentry (id INTEGER)")
            other.commit()
            other.execute("BEGIN EXCLUSIVE")
            change()
            other.rollback()
        assert is_changed()
        assert counted == {"written": 0, "lost": 1}

    def test_without_the_table(self, counted: dict[str, int]) -> None:
        with database(":memory:"):
            change()
        assert is_changed()
        assert counted == {"written": 0, "lost": 1}

    def test_whose_backend_is_none(self, counted: dict[str, int]) -> None:
        with database("x"):
            connections.settings[BROKEN]["ENGINE"] = "django.db.backends.dummy"
            change()
        assert is_changed()
        assert counted == {"written": 0, "lost": 1}

    @override_settings(DATABASE_ROUTERS=[f"{__name__}.ToNowhere"])
    def test_whose_router_fails(self, counted: dict[str, int]) -> None:
        change()
        assert is_changed()
        assert counted == {"written": 0, "lost": 1}

    def test_does_not_break_the_surrounding_transaction(self, counted: dict[str, int]) -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE blobcache_journalentry RENAME TO away")
        change()
        User.objects.create(username="ann")
        assert User.objects.count() == 1
        assert counted == {"written": 0, "lost": 1}

    def test_is_logged_once_in_a_while(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storing, "monotonic", counting_clock())
        monkeypatch.setattr(storing, "_SLOW", 10)
        monkeypatch.setattr(storing, "LOG_EVERY", 6)
        with database(":memory:"):
            for _ in range(6):
                change()
        texts = [each.getMessage() for each in caplog.records if each.name == "blobcache.journal"]
        assert [text.split()[0] for text in texts] == ["1", "2", "2"]

    def test_is_left_alone_for_a_while_if_it_takes_long_to_fail(
        self, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storing, "monotonic", counting_clock())
        monkeypatch.setattr(storing, "_SLOW", 0)
        monkeypatch.setattr(storing, "PAUSE", 4)
        asked: list[object] = []

        def insert(*arguments: object) -> None:
            asked.append(arguments)
            raise ZeroDivisionError

        monkeypatch.setattr(storing, "_insert", insert)
        for _ in range(3):
            change()
        assert len(asked) == 1
        assert counted == {"written": 0, "lost": 3}


@pytest.mark.django_db(transaction=True)
class TestATransactionOfTheHost:
    def test_an_entry_is_written_after_the_commit(self) -> None:
        with transaction.atomic():
            change()
            assert JournalEntry.objects.count() == 0
        assert JournalEntry.objects.count() == 1

    def test_an_entry_survives_a_rollback(self) -> None:
        change_and_roll_back("a")
        assert JournalEntry.objects.count() == 0
        request_finished.send(None)
        assert JournalEntry.objects.count() == 1

    def test_the_next_change_writes_what_a_rollback_left(self) -> None:
        change_and_roll_back("a")
        change("b")
        found = JournalEntry.objects.order_by("id").values_list("repository", flat=True)
        assert list(found) == ["a", "b"]

    def test_an_inner_rollback_takes_nothing_away(self) -> None:
        with transaction.atomic():
            change_and_roll_back("a")
            change("b")
        assert JournalEntry.objects.count() == 2

    def test_very_many_entries_do_not_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storing, "_MAX_WAITING", 2)
        with transaction.atomic():
            for name in "abc":
                change(name)
            assert JournalEntry.objects.count() == 3

    @pytest.mark.parametrize("is_by_hand", [False, True])
    def test_a_failure_within_it_does_not_end_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_by_hand: bool
    ) -> None:
        monkeypatch.setattr(storing, "_MAX_WAITING", 0)
        name = str(tmp_path / "db.sqlite3")
        with database(name):
            if is_by_hand:
                connections[BROKEN].set_autocommit(autocommit=False)
                self.write_around_a_failure()
                connections[BROKEN].commit()
            else:
                with transaction.atomic(using=BROKEN):
                    self.write_around_a_failure()
        with closing(sqlite3.connect(name)) as other:
            assert other.execute("SELECT id FROM host").fetchall() == [(1,), (2,)]

    def write_around_a_failure(self) -> None:
        with connections[BROKEN].cursor() as cursor:
            cursor.execute("CREATE TABLE host (id INTEGER)")
            cursor.execute("INSERT INTO host VALUES (1)")
        change()  # there is no table of the journal
        with connections[BROKEN].cursor() as cursor:
            cursor.execute("INSERT INTO host VALUES (2)")

    def test_a_connection_that_the_server_has_closed_is_replaced(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, counted: dict[str, int]
    ) -> None:
        name = str(tmp_path / "db.sqlite3")
        with database(name):
            broken = connections[BROKEN]
            with broken.schema_editor() as editor:
                editor.create_model(JournalEntry)

            def is_usable() -> bool:  # SQLite has no server, and takes every connection for usable
                try:
                    broken.connection.execute("SELECT 1")
                except sqlite3.Error:
                    return False
                return True

            monkeypatch.setattr(broken, "is_usable", is_usable)
            change()
            broken.connection.close()
            change()
            assert counted == {"written": 2, "lost": 0}
            broken.connection.close()
            with journaled(actor="ann", source="test"):
                for _ in range(3):
                    change()
        with closing(sqlite3.connect(name)) as other:
            rows = other.execute("SELECT count(*) FROM blobcache_journalentry").fetchall()
        assert rows == [(sum(counted.values()),)]
        assert counted["lost"] == 0

    def test_a_connection_that_breaks_again_is_not_left_to_the_host(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, counted: dict[str, int]
    ) -> None:
        insert = storing._insert

        def break_and_insert(connection: Any, *rest: Any) -> None:
            connection.ensure_connection()
            connection.connection.close()
            insert(connection, *rest)

        monkeypatch.setattr(storing, "_insert", break_and_insert)
        with database(str(tmp_path / "db.sqlite3")):
            broken = connections[BROKEN]
            monkeypatch.setattr(broken, "is_usable", lambda: False)
            broken.ensure_connection()
            change()
            assert counted == {"written": 0, "lost": 1}
            with broken.cursor() as cursor:
                assert cursor.execute("SELECT 1").fetchall() == [(1,)]

    def test_a_broken_transaction_is_no_obstacle(self) -> None:
        with transaction.atomic():
            transaction.set_rollback(rollback=True)
            change()
        request_finished.send(None)
        assert JournalEntry.objects.count() == 1


def failing(request: HttpRequest) -> HttpResponse:
    """A view that changes something and then fails."""
    with recorded(request.user, source="view"):
        scope = get_provider().repository_scoped("a")
        scope.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
    User.objects.create(username="rolled back")
    raise ZeroDivisionError


urlpatterns = [path("failing/", failing)]


@pytest.mark.django_db(transaction=True)
class TestAtomicRequests:
    @pytest.fixture(autouse=True)
    def atomic(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", value=True)

    def test_an_entry_survives_a_request_that_fails(self, settings: LazySettings) -> None:
        settings.ROOT_URLCONF = __name__
        client = Client(raise_request_exception=False)
        assert client.get("/failing/").status_code == 500
        assert not User.objects.exists()
        assert JournalEntry.objects.get().source == "view"

    @pytest.mark.parametrize("is_broken", [False, True])
    def test_a_change_by_the_api_succeeds(
        self, settings: LazySettings, is_broken: bool, counted: dict[str, int], tmp_path: Path
    ) -> None:
        settings.ROOT_URLCONF = "tests.api.urls"
        client = APIClient()
        client.force_authenticate(User.objects.create(username="ann", is_superuser=True))

        def put() -> None:
            body = {"size": 7, "mediaType": "x/y"}
            response = client.put(f"/api/blobs/{BLOB}/", body, format="json")
            assert response.status_code == 201

        if is_broken:
            with database(str(tmp_path / "missing" / "db.sqlite3")):
                put()
        else:
            put()
        assert counted == {"written": int(not is_broken), "lost": int(is_broken)}
        assert get_provider().stat(BLOB).size == 7


def test_metrics_count_what_is_written_and_lost() -> None:
    sample: Callable[..., Any] = __import__("prometheus_client").REGISTRY.get_sample_value

    def value(outcome: str) -> float:
        name = "blobcache_journal_entries_total"
        return float(sample(name, {"outcome": outcome}) or 0)

    before = value("lost")
    metrics.count("lost", 3)
    assert value("lost") == before + 3


@pytest.mark.django_db
def test_an_entry_says_when_where_and_what(default_cache: Redis) -> None:
    change()
    text = str(JournalEntry.objects.get())
    assert text.endswith(f" set a@{BLOB}")
