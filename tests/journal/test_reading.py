"""Filters, pages, visibility and exports of the journal, and what they cost the database."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from blobcache.access import Access
from blobcache.exceptions import CursorInvalid
from blobcache.exports import csv_lines, json_lines
from blobcache.journal import reading
from blobcache.journal.pruning import prune
from blobcache.journal.reading import Filters, Journal, parse_moment
from blobcache.models import JournalEntry
from blobcache.services.catalog import Budgets
from tests.budgets import counting_clock
from tests.doctor.damage import digest
from tests.management.running import run

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 20, tzinfo=UTC)
HOSTILE = "=cmd|' /C calc'!A0"


def entry(number: int, **facts: Any) -> JournalEntry:
    """An entry, each a minute after the one before."""
    return JournalEntry(
        **{
            "time": START + timedelta(minutes=number),
            "registry": "default",
            "action": "set",
            "source": "api",
            "actor": "ann",
            "repository": "a/b",
            "digest": digest(number),
            **facts,
        }
    )


def add(*entries: JournalEntry) -> None:
    JournalEntry.objects.bulk_create(entries)


def numbers(rows: Any) -> list[int]:
    return [int((row.time - START) / timedelta(minutes=1)) for row in rows]


def all_pages(journal: Journal, limit: int) -> Iterator[list[int]]:
    position: str | None = ""
    while position is not None:
        page = journal.page(position, limit)
        yield numbers(page.rows)
        position = page.next


def user(name: str, *codenames: str) -> User:
    found = User.objects.create(username=name)
    found.user_permissions.set(
        Permission.objects.filter(content_type__app_label="blobcache", codename__in=codenames)
    )
    return found


def only_a(_: object) -> list[str]:
    return ["a/", "c"]


class TestPages:
    def test_are_newest_first_and_have_each_entry_once(self) -> None:
        add(*(entry(number) for number in range(7)))
        assert [*all_pages(Journal("default"), 3)] == [[6, 5, 4], [3, 2, 1], [0]]

    def test_entries_of_one_moment_are_told_apart(self) -> None:
        add(*(entry(0) for _ in range(5)))
        assert [len(page) for page in all_pages(Journal("default"), 2)] == [2, 2, 1]

    def test_a_full_last_page_is_the_last_one(self) -> None:
        add(*(entry(number) for number in range(4)))
        assert [*all_pages(Journal("default"), 2)] == [[3, 2], [1, 0]]

    @pytest.mark.parametrize("position", ["x", "/", "2026-11-20/x", "x/1"])
    def test_another_position_is_refused(self, position: str) -> None:
        with pytest.raises(CursorInvalid):
            Journal("default").page(position)

    def test_parts_and_others_are_merged(self) -> None:
        add(*(entry(number, is_part=number % 3 == 1) for number in range(8)))
        assert [*all_pages(Journal("default"), 3)] == [[7 - 1, 5, 3], [2, 0]]
        everything = Journal("default", Filters(parts=True))
        assert [*all_pages(everything, 3)] == [[7, 6, 5], [4, 3, 2], [1, 0]]


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [4, 3, 1, 0]),
    ({"since": START + timedelta(minutes=1)}, [4, 3, 1]),
    ({"until": START + timedelta(minutes=3)}, [1, 0]),
    ({"actor": "bob"}, [1]),
    ({"action": "purge"}, [3]),
    ({"source": "command"}, [4]),
    ({"repository": "a/b"}, [4, 2, 1, 0]),
    ({"digest": digest(2)}, [2]),
    ({"operation": "p1"}, [3, 2]),
    ({"parts": True}, [4, 3, 2, 1, 0]),
    ({"actor": "ann", "parts": True}, [4, 3, 2, 0]),
    ({"actor": "x\x00"}, []),
    ({"actor": "\ud800"}, []),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_each_filter_narrows_the_list(filters: dict[str, Any], expected: list[int]) -> None:
    purge = {"action": "purge", "repository": None, "operation": "p1", "digest": None}
    add(
        entry(0),
        entry(1, actor="bob"),
        entry(2, action="clear", is_part=True, operation="p1"),
        entry(3, **purge),
        entry(4, source="command"),
        entry(5, registry="other"),
    )
    assert numbers(Journal("default", Filters(**filters)).entries()) == expected


class TestVisibility:
    @pytest.fixture(autouse=True)
    def entries(self) -> None:
        add(
            entry(0, repository="a/b"),
            entry(1, repository="b"),
            entry(2, repository=None),
            entry(3, repository="c"),
            entry(4, repository="a/x", is_part=True, operation="p1", action="clear"),
            entry(5, repository="b", is_part=True, operation="p1", action="clear"),
            entry(6, repository=None, operation="p1", action="purge"),
            entry(7, repository="a\\x00b"),
        )

    def seen(self, by: User, **filters: Any) -> list[int]:
        return numbers(Journal("default", Filters(**filters), Access(by)).entries())

    def test_whoever_may_view_everything_sees_everything(self) -> None:
        viewer = user("viewer", "view_repository", "view_blob")
        assert self.seen(viewer, parts=True) == [7, 6, 5, 4, 3, 2, 1, 0]

    def test_the_global_scope_needs_the_permission_to_view_blobs(self) -> None:
        assert self.seen(user("viewer", "view_repository"), parts=True) == [7, 5, 4, 3, 1, 0]
        assert self.seen(user("other", "view_blob"), parts=True) == [6, 2]

    def test_whoever_may_view_nothing_sees_nothing(self) -> None:
        assert self.seen(user("nobody"), parts=True) == []

    @override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.only_a"}})
    def test_hidden_repositories_have_no_entries(self) -> None:
        viewer = user("viewer", "view_repository", "view_blob")
        assert self.seen(viewer, parts=True) == [6, 4, 3, 2, 0]
        assert self.seen(viewer, operation="p1") == [6, 4]
        assert self.seen(viewer, digest=digest(1)) == []
        assert self.seen(viewer, repository="b") == []

    @override_settings(
        AUTHENTICATION_BACKENDS=[
            "django.contrib.auth.backends.ModelBackend",
            "tests.api.grants.GrantBackend",
        ]
    )
    def test_repositories_that_are_granted_by_name_are_looked_for_in_a_limited_number(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        granted = User.objects.create(username="granted")
        add(*(entry(number, repository="hidden") for number in range(10, 30)))
        add(entry(30, repository="team/app"), entry(9, repository="team/app"))
        monkeypatch.setattr(reading, "_CHUNK", 5)
        monkeypatch.setattr(reading, "_MAX_LOOKED_AT", 10)
        pages = [*all_pages(Journal("default", Filters(), Access(granted)), 2)]
        assert pages == [[30], [], [9]]
        JournalEntry.objects.filter(digest=digest(21)).update(repository="team/app")
        pages = [*all_pages(Journal("default", Filters(), Access(granted)), 2)]
        assert pages == [[30, 21], [], [9]]

    @override_settings(
        AUTHENTICATION_BACKENDS=[
            "django.contrib.auth.backends.ModelBackend",
            "tests.api.grants.GrantBackend",
        ]
    )
    @pytest.mark.parametrize("seconds", [0, 5])
    def test_a_page_asks_for_permissions_for_a_limited_time(self, seconds: float) -> None:
        granted = user("granted")
        add(*(entry(number, repository=f"hidden/{number}") for number in range(10, 30)))
        add(entry(30, repository="team/app"), entry(9, repository="team/app"))
        budgets = Budgets(page=seconds, clock=counting_clock())
        access = Access(granted)
        pages = [*all_pages(Journal("default", Filters(), access, budgets=budgets), 2)]
        assert len(pages) > 3
        assert [number for page in pages for number in page] == [30, 9]


FILL = """
INSERT INTO blobcache_journalentry
    (time, registry, action, source, actor, system_user, repository, digest, count, operation,
     is_part, is_finished)
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 99999)
SELECT
    strftime('%Y-%m-%d %H:%M:%S', '2026-11-20', '+' || n || ' minutes'),
    'default', 'set', CASE n % 3 WHEN 0 THEN 'api' ELSE 'admin' END, 'user' || (n % 50), '',
    'team/app' || (n % 500), 'sha256:' || (n % 1000), 1,
    CASE n % 1000 WHEN 0 THEN 'p1' ELSE '' END, n % 10 = 0, 1
FROM numbers
"""

LISTS: list[tuple[dict[str, Any], str]] = [
    ({}, "time"),
    ({"since": START, "until": START + timedelta(days=60)}, "time"),
    ({"parts": True}, "time"),
    ({"actor": "user7"}, "actor"),
    ({"action": "set"}, "action"),
    ({"source": "api"}, "source"),
    ({"repository": "team/app3"}, "repository"),
    ({"digest": "sha256:5"}, "digest"),
    ({"operation": "p1"}, "operation"),
]


def plan(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return " ".join(str(row[-1]) for row in cursor.fetchall())


def test_a_page_of_any_list_uses_its_index_alone_among_100_000_entries() -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL)
    assert JournalEntry.objects.count() == 100_000
    position = f"{(START + timedelta(minutes=50_000)).isoformat()}/5"
    for filters, index in LISTS:
        with CaptureQueriesContext(connection) as queries:
            assert len(Journal("default", Filters(**filters)).page(position, 20).rows) == 20
        assert len(queries) == 1 + bool(filters.get("parts"))
        for sql in [query["sql"] for query in queries]:
            assert f"USING INDEX blobcache_journal_{index}" in plan(sql), (filters, plan(sql))
            assert "TEMP B-TREE" not in plan(sql)
            assert "OFFSET" not in sql
            assert "COUNT" not in sql
    with CaptureQueriesContext(connection) as queries:
        assert sum(prune(36_500)) == 0
    for sql in [query["sql"] for query in queries]:
        assert "USING COVERING INDEX blobcache_journal_" in plan(sql)


class TestMoments:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-11-20T00:00:00Z", START),
            ("2026-11-20T01:00+01:00", START),
            ("2026-11-20", START),
            ("2026-11-20 00:00", START),
        ],
    )
    @override_settings(TIME_ZONE="UTC")
    def test_are_in_iso_form(self, text: str, expected: datetime) -> None:
        assert parse_moment(text) == expected

    @pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("2d", 48), ("1w", 168), ("60m", 1)])
    def test_or_an_age(self, text: str, hours: int) -> None:
        ago = datetime.now(UTC) - parse_moment(text)
        assert abs(ago - timedelta(hours=hours)) < timedelta(minutes=1)

    @pytest.mark.parametrize(
        "text",
        ["", "x", "12", "-1h", "1y", "99999h", "0001-01-01T00:00+05:00", "2026-13-01", "9" * 99],
    )
    def test_others_are_errors_that_say_what_is_right(self, text: str) -> None:
        with pytest.raises(ValueError, match="12h"):
            parse_moment(text)


def test_no_cell_of_a_csv_file_is_a_formula() -> None:
    lines = csv_lines(["a", "b"], [[HOSTILE, "+1"], ["-1", "@x"], [None, -1], ['a"\n,', "\t="]])
    found = [*csv.reader(io.StringIO("".join(lines)))]
    assert found == [
        ["a", "b"],
        [f"'{HOSTILE}", "'+1"],
        ["'-1", "'@x"],
        ["", "-1"],
        ['a"\n,', "'\t="],
    ]


def test_lines_of_json_are_lines() -> None:
    (line,) = json_lines([{"a": "\u2028\n\x7f"}])
    assert line.count("\n") == 1
    assert line.isascii()


class TestTheApi:
    @pytest.fixture(autouse=True)
    def portal(self, settings: LazySettings) -> None:
        settings.ROOT_URLCONF = "tests.api.urls"
        settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]

    @pytest.fixture
    def as_(self) -> Callable[..., APIClient]:
        def client(*codenames: str) -> APIClient:
            found = APIClient()
            found.force_authenticate(user("viewer", *codenames))
            return found

        return client

    def test_lists_pages(self, as_: Callable[..., APIClient]) -> None:
        add(*(entry(number) for number in range(3)))
        client = as_("view_repository")
        first = client.get("/api/changes/?page_size=2").json()
        assert first["count"] is None
        assert [row["digest"] for row in first["results"]] == [digest(2), digest(1)]
        second = client.get(first["next"]).json()
        assert [row["digest"] for row in second["results"]] == [digest(0)]
        assert second["next"] is None
        assert second["results"][0] == {
            "time": "2026-11-20T00:00:00Z",
            "registry": "default",
            "action": "set",
            "source": "api",
            "actor": "ann",
            "system_user": None,
            "repository": "a/b",
            "digest": digest(0),
            "before": None,
            "after": None,
            "count": 1,
            "operation": None,
            "part": False,
            "finished": True,
        }

    def test_names_that_an_entry_does_not_have_are_null(
        self, as_: Callable[..., APIClient]
    ) -> None:
        add(entry(1, actor="", system_user="root", operation="p1"), entry(0, actor=""))
        first, second = as_("view_repository").get("/api/changes/").json()["results"]
        names = ("actor", "system_user", "operation")
        assert [first[name] for name in names] == [None, "root", "p1"]
        assert [second[name] for name in names] == [None, None, None]

    def test_a_cursor_belongs_to_its_filters(self, as_: Callable[..., APIClient]) -> None:
        add(*(entry(number) for number in range(3)))
        client = as_("view_repository")
        following = client.get("/api/changes/?page_size=2").json()["next"]
        assert client.get(f"{following}&actor=ann").status_code == 400

    def test_pages_of_a_list_with_an_age_follow_each_other(
        self, as_: Callable[..., APIClient]
    ) -> None:
        add(*(entry(number, time=datetime.now(UTC)) for number in range(3)))
        first = (client := as_("view_repository")).get("/api/changes/?page_size=2&since=12h").json()
        second = client.get(first["next"])
        assert second.status_code == 200
        assert [row["digest"] for row in second.json()["results"]] == [digest(0)]

    @override_settings(USE_TZ=False, TIME_ZONE="America/Chicago")
    @pytest.mark.parametrize("query", ["since=0001-01-01T00:00:00Z", "until=0001-01-01T00:00:00Z"])
    def test_the_first_moment_that_there_is(
        self, as_: Callable[..., APIClient], query: str
    ) -> None:
        assert as_("view_repository").get(f"/api/changes/?{query}").status_code == 200

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("actors=ann", "PARAMETER_INVALID"),
            ("action=sett", "PARAMETER_INVALID"),
            ("action=", "PARAMETER_INVALID"),
            ("since=yesterday", "PARAMETER_INVALID"),
            ("parts=yes", "PARAMETER_INVALID"),
            ("actor=a&actor=b", "PARAMETER_INVALID"),
            ("digest=sha256:beef", "DIGEST_INVALID"),
            ("repository=A//b", "NAME_INVALID"),
            ("cursor=x", "CURSOR_INVALID"),
        ],
    )
    @pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-ndjson"])
    def test_refuses_wrong_parameters(
        self, as_: Callable[..., APIClient], query: str, code: str, accept: str
    ) -> None:
        response = as_("view_repository").get(f"/api/changes/?{query}", headers={"Accept": accept})
        assert response.status_code == 400
        assert response.json()["errors"][0]["code"] == code

    def test_filters(self, as_: Callable[..., APIClient]) -> None:
        add(entry(0), entry(1, actor="bob"), entry(2, actor="bob", action="clear"))
        client = as_("view_repository")
        found = client.get("/api/changes/?actor=bob&action=set&since=2026-11-20T00:00:00Z").json()
        assert [row["digest"] for row in found["results"]] == [digest(1)]

    def test_another_s_repository_is_refused(self, as_: Callable[..., APIClient]) -> None:
        client = as_("view_blob")
        assert client.get("/api/changes/?repository=a/b").status_code == 403
        assert client.get("/api/changes/?repository=not/there").status_code == 403
        assert client.get("/api/changes/").json()["results"] == []

    def test_anonymous_users_are_refused(self) -> None:
        assert APIClient().get("/api/changes/").status_code in {401, 403}

    def test_streams_csv(self, as_: Callable[..., APIClient]) -> None:
        before = {"size": 5, "mediaType": "x/y", "digest": digest(0)}
        add(entry(0, actor=HOSTILE, before=before), *(entry(number) for number in range(1, 1500)))
        response = as_("view_repository").get("/api/changes/", headers={"Accept": "text/csv"})
        assert response.streaming
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert "private" in response.headers["Cache-Control"]
        rows = [*csv.DictReader(io.StringIO(response.getvalue().decode()))]
        assert len(rows) == 1500
        assert rows[-1]["actor"] == f"'{HOSTILE}"
        assert (rows[-1]["before_size"], rows[-1]["part"]) == ("5", "false")

    def test_streams_lines_of_json_from_a_cursor_on(self, as_: Callable[..., APIClient]) -> None:
        add(*(entry(number) for number in range(5)))
        client = as_("view_repository")
        following = client.get("/api/changes/?page_size=2").json()["next"]
        response = client.get(following, headers={"Accept": "application/x-ndjson"})
        lines = [json.loads(line) for line in response.getvalue().splitlines()]
        assert [line["digest"] for line in lines] == [digest(2), digest(1), digest(0)]

    @pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-ndjson"])
    def test_a_database_that_fails_is_a_503(
        self, as_: Callable[..., APIClient], accept: str
    ) -> None:
        client = as_("view_repository")
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE blobcache_journalentry RENAME TO away")
        response = client.get("/api/changes/", headers={"Accept": accept})
        assert response.status_code == 503
        assert response.json()["errors"][0]["code"] == "UNAVAILABLE"


@pytest.mark.usefixtures("default_cache")
class TestCommands:
    def test_log_writes_the_newest_first(self) -> None:
        after = {"size": 5, "mediaType": "x/y", "digest": digest(1)}
        add(entry(0), entry(1, after=after), entry(2, registry="other"))
        done = run("log")
        assert done.code == 0
        assert done.rows[0] == [
            *("2026-11-20T00:01:00Z", "ann", "api", "set", "a/b", digest(1), "- > 5 x/y")
        ]
        assert len(done.rows) == 2

    def test_log_filters(self) -> None:
        add(entry(0), entry(1, actor="bob"), entry(2, repository="c"))
        assert len(run("log", "--actor", "ann").rows) == 2
        assert len(run("log", "--repository", "c").rows) == 1
        assert len(run("log", "--limit", "1").rows) == 1
        assert len(run("log", "--since", "2026-11-20T00:01:00Z").rows) == 2
        assert run("log", "--since", "1h").rows == []

    def test_log_writes_json_and_csv(self) -> None:
        add(entry(0, actor=HOSTILE))
        assert run("log", "--json").objects[0]["actor"] == HOSTILE
        (row,) = csv.DictReader(io.StringIO(run("log", "--csv").out))
        assert row["actor"] == f"'{HOSTILE}"

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--since", "yesterday"),
            ("--digest", "sha256:beef"),
            ("--repository", "A//b"),
            ("--action", "sett"),
            ("--csv", "--json"),
            ("--limit", "0"),
        ],
    )
    def test_log_refuses_wrong_arguments(self, arguments: tuple[str, ...]) -> None:
        assert run("log", *arguments).code == 2

    def test_prune_deletes_what_is_old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("blobcache.journal.pruning._BATCH", 2)
        now = datetime.now(UTC)
        for days in (1, 89, 91, 100, 1000):
            for registry in ("default", "gone"):
                for is_part in (False, True):
                    time = now - timedelta(days=days)
                    add(entry(0, time=time, registry=registry, is_part=is_part))
        done = run("prune")
        assert done.out == "Deleted 12 entries that were older than 90 days.\n"
        assert JournalEntry.objects.count() == 8
        assert run("prune", "--days", "30", "--json").objects == [{"deleted": 4, "days": 30}]

    def test_both_say_that_the_database_fails(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE blobcache_journalentry RENAME TO away")
        for command in ("log", "prune"):
            done = run(command)
            assert done.code == 2
            assert "migrate" in done.err

    def test_a_command_may_name_a_user(self) -> None:
        User.objects.create(username="ann")
        blob = digest(1)
        done = run("set", "--as", "ann", blob, "--size", "5", "--media-type", "x/y", "--yes")
        assert done.code == 0, done.err
        found = JournalEntry.objects.get()
        assert (found.actor, found.source) == ("ann", "command")
        assert found.system_user

    @pytest.mark.parametrize("name", ["nobody", "\x00", "ann "])
    def test_a_user_who_does_not_exist_is_refused(self, name: str) -> None:
        User.objects.create(username="ann")
        done = run("set", "--as", name, digest(1), "--size", "5", "--media-type", "x/y", "--yes")
        assert done.code == 2
        assert "There is no user" in done.err
        assert not JournalEntry.objects.exists()
