"""What is written into the journal, by each entrance."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from redis import Redis
from rest_framework.test import APIClient

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.history import recorded
from blobcache.journal.recording import journaled
from blobcache.management.session import system_user
from blobcache.models import JournalEntry
from blobcache.services import get_provider
from blobcache.services.audit import Change
from project import embedded
from tests.budgets import counting_clock, limit
from tests.doctor.damage import digest, write_member
from tests.management.running import run, stored
from tests.servers import commands

BLOB = Digest("sha256:" + "a" * 64)
ALIAS = Digest("sha512:" + "b" * 128)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("default_cache")]


@pytest.fixture
def user() -> User:
    return User.objects.create(username="ann", is_superuser=True)


@pytest.fixture
def client(user: User, settings: LazySettings) -> APIClient:
    settings.ROOT_URLCONF = "tests.api.urls"
    client = APIClient()
    client.force_authenticate(user)
    return client


def written(*names: str) -> list[tuple[Any, ...]]:
    """Return these columns of all entries, the oldest first."""
    return list(JournalEntry.objects.order_by("time", "id").values_list(*names))


def fill(*names: str, blob: Digest = BLOB) -> None:
    for name in names:
        get_provider().repository_scoped(name).set_descriptor(blob, Descriptor(blob, 1, "x/y"))


def oci(size: int, media_type: str = "x/y", blob: Digest = BLOB) -> dict[str, object]:
    return {"mediaType": media_type, "digest": blob, "size": size}


class TestAChange:
    def test_has_an_entry_with_what_was_there_before_and_after(self, user: User) -> None:
        provider = get_provider()
        with recorded(user, source="test"):
            provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
            provider.set_descriptor(BLOB, Descriptor(BLOB, 2, "x/y"))
            provider.repository_scoped("a/b").set_descriptor(ALIAS, Descriptor(BLOB, 2, "x/z"))
            provider.repository_scoped("a/b").clear(ALIAS)
            provider.clear(BLOB)
        assert written("action", "repository", "digest", "before", "after") == [
            ("set", None, BLOB, None, oci(1)),
            ("set", None, BLOB, oci(1), oci(2)),
            ("set", "a/b", ALIAS, None, oci(2, "x/z")),
            ("clear", "a/b", ALIAS, oci(2, "x/z"), None),
            ("clear", None, BLOB, oci(2), None),
        ]
        assert set(written("actor", "source", "system_user", "registry", "count")) == {
            ("ann", "test", "", "default", 1)
        }
        assert set(written("operation", "is_part", "is_finished")) == {("", False, True)}

    def test_is_written_even_if_an_error_follows(self, user: User) -> None:
        def change_and_fail() -> None:
            with recorded(user, source="test"):
                fill("a")
                get_provider().clear(ALIAS)

        with pytest.raises(BlobUnknown):
            change_and_fail()
        assert written("action", "repository") == [("set", "a")]

    def test_is_not_written_if_the_journal_is_off(self, user: User) -> None:
        with override_settings(BLOBCACHE_PORTAL={"JOURNAL": False}), recorded(user, source="test"):
            fill("a")
        assert written("id") == []
        assert user.logentry_set.count() == 1

    def test_by_nobody_has_no_actor(self) -> None:
        with journaled(actor=None, source="test"):
            fill("a")
        assert written("actor") == [("",)]

    def test_has_the_source_of_the_innermost_block(self, user: User) -> None:
        with recorded(user, source="outer"), journaled(actor=None, source="inner"):
            fill("a")
        assert written("actor", "source") == [("", "inner")]

    @pytest.mark.parametrize(
        ("name", "stored"),
        [
            ("a\x00b\ud800c", "a\\x00b\\ud800c"),
            ("\u202eann", "\\u202eann"),
            ("ä" * 300, "ä" * 255),
            ("=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
        ],
    )
    def test_has_a_name_that_every_database_takes(self, name: str, stored: str) -> None:
        with journaled(actor=name, source=name, system_user=name):
            fill("a")
        assert written("actor", "source", "system_user") == [(stored,) * 3]

    def test_of_many_takes_one_insert_for_each_batch(self, user: User) -> None:
        blobs = [digest(number) for number in range(60)]
        with CaptureQueriesContext(connection) as queries, journaled(actor="x", source="test"):
            for blob in blobs:
                fill("a", blob=Digest(blob))
        assert sum(each["sql"].startswith("INSERT") for each in queries) == 1

    def test_of_a_long_block_is_written_in_between(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blobcache.journal.recording.BATCH", 2)
        with journaled(actor="x", source="test"):
            fill("a")
            assert len(written("id")) == 0
            fill("b")
            assert len(written("id")) == 2
            fill("c")
        assert written("repository") == [("a",), ("b",), ("c",)]

    def test_waits_for_a_few_seconds_at_the_most(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("blobcache.journal.recording.monotonic", counting_clock())
        with journaled(actor="x", source="test"):
            fill(*"abcdefg")
            assert 0 < len(written("id")) < 7
        assert len(written("id")) == 7


class TestAPurge:
    def test_is_one_entry_with_its_parts(self, user: User) -> None:
        fill("a", "b")
        with recorded(user, source="test"):
            get_provider().purge(BLOB)
        (head,) = JournalEntry.objects.filter(is_part=False)
        assert (head.action, head.repository, head.digest) == ("purge", None, BLOB)
        assert (head.count, head.is_finished, len(head.operation)) == (1, True, 16)
        parts = JournalEntry.objects.filter(is_part=True).order_by("time", "id")
        assert list(parts.values_list("action", "repository", "digest", "before")) == [
            ("clear", None, BLOB, oci(1)),
            ("clear", "a", BLOB, None),
            ("clear", "b", BLOB, None),
        ]
        assert {part.operation for part in parts} == {head.operation}

    def test_in_memory_is_one_too(self, user: User) -> None:
        memory = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
        with override_settings(BLOBCACHE={"default": {"PROVIDER": memory}}):
            fill("a")
            with recorded(user, source="test"):
                get_provider().purge(BLOB)
        heads = JournalEntry.objects.filter(is_part=False)
        assert list(heads.values_list("action", "is_finished")) == [("purge", True)]
        assert JournalEntry.objects.filter(is_part=True).count() == 1

    def test_of_a_blob_that_nobody_has_is_an_entry_without_parts(self, user: User) -> None:
        with recorded(user, source="test"):
            get_provider().purge(BLOB)
        assert written("action", "is_part", "is_finished") == [("purge", False, True)]

    def test_of_nothing_is_no_entry(self, user: User) -> None:
        with recorded(user, source="test"):
            get_provider().purge_many([])
        assert written("id") == []

    def test_that_is_interrupted_in_its_first_step_is_not_finished(self) -> None:
        fill(*"ab")
        clears: list[Change] = []

        def interrupt(change: Change) -> None:
            clears.append(change)
            if len(clears) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), journaled(actor="x", source="y", collect=interrupt):
            get_provider().purge(BLOB)
        heads = JournalEntry.objects.filter(is_part=False)
        assert list(heads.values_list("action", "is_finished")) == [("purge", False)]
        assert JournalEntry.objects.filter(is_part=True).count() == 2

    @pytest.mark.parametrize("is_one_block", [False, True])
    def test_in_several_steps_is_one_entry_that_is_finished_at_the_end(
        self, user: User, monkeypatch: pytest.MonkeyPatch, is_one_block: bool
    ) -> None:
        fill(*"abcdef")
        provider = get_provider()
        limit(monkeypatch, purge=0)
        states: list[bool] = []
        if is_one_block:
            monkeypatch.setattr("blobcache.journal.recording.BATCH", 1)
            with recorded(user, source="test"):
                self.purge(provider, states)
        else:
            cursor: str | None = ""
            while cursor is not None:
                with recorded(user, source="test"):
                    cursor = provider.purge(BLOB, cursor).next
                states.append(self.is_finished())
        assert states[:2] == [False, False]
        assert self.is_finished()
        assert JournalEntry.objects.filter(is_part=False).count() == 1
        assert JournalEntry.objects.values("operation").distinct().count() == 1
        names = JournalEntry.objects.filter(is_part=True).values_list("repository", flat=True)
        assert [name for name in names.order_by("repository") if name] == [*"abcdef"]

    def purge(self, provider: Any, states: list[bool]) -> None:
        cursor: str | None = ""
        while cursor is not None:
            cursor = provider.purge(BLOB, cursor).next
            if cursor is not None:
                states.append(self.is_finished())

    def is_finished(self) -> bool:
        return JournalEntry.objects.get(is_part=False).is_finished

    @pytest.mark.long
    def test_of_many_blobs_is_one_entry_in_few_inserts(self, user: User) -> None:
        blobs = [digest(number) for number in range(10_000)]
        fill("a", "b", blob=Digest(blobs[0]))
        with CaptureQueriesContext(connection) as queries, recorded(user, source="test"):
            cursor: str | None = ""
            while cursor is not None:
                cursor = get_provider().purge_many(blobs, cursor).next
        journal = [each for each in queries if "blobcache_journalentry" in each["sql"]]
        assert len(journal) <= 4
        head = JournalEntry.objects.get(is_part=False)
        assert (head.digest, head.count, head.is_finished) == (None, 10_000, True)
        assert JournalEntry.objects.filter(digest=blobs[0], is_part=True).count() == 3


class TestTheApi:
    def test_a_set_costs_one_insert_and_no_round_trip(
        self, client: APIClient, valkey: embedded.Server
    ) -> None:
        def costs() -> tuple[int, int]:
            with (
                valkey.client() as observer,
                commands(observer) as traffic,
                CaptureQueriesContext(connection) as queries,
            ):
                body = {"size": 7, "mediaType": "x/y"}
                assert client.put(f"/api/blobs/{BLOB}/", body, format="json").status_code < 300
            inserts = sum(each["sql"].startswith("INSERT") for each in queries)
            return traffic.round_trips, inserts

        with override_settings(BLOBCACHE_PORTAL={"JOURNAL": False}):
            costs()
            trips, inserts = costs()
        assert costs() == (trips, inserts + 1)
        assert written("actor", "source", "action") == [("ann", "api", "set")]

    def test_a_stat_writes_nothing(self, client: APIClient) -> None:
        fill("a")
        client.get(f"/api/repositories/a/blobs/{BLOB}/")
        assert written("id") == []

    def test_a_purge_in_several_requests_is_one_entry(
        self, client: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(*"abc")
        limit(monkeypatch, purge=0)
        body: dict[str, Any] = {}
        while body.get("cursor", "") is not None:
            found = client.post(f"/api/blobs/{BLOB}/purge/", body, format="json").json()
            body = {"cursor": found["next"]}
        heads = JournalEntry.objects.filter(is_part=False)
        assert list(heads.values_list("action", "is_finished")) == [("purge", True)]


class TestACommand:
    def test_is_attributed_to_the_system_s_user(self) -> None:
        fill("a")
        assert run("clear", "--repository", "a", BLOB, "--yes").code == 0
        me = system_user()
        assert written("action", "source", "actor", "system_user", "repository") == [
            ("clear", "command", me, me, "a")
        ]

    def test_a_repair_is_a_repair(self, default_cache: Redis) -> None:
        write_member(default_cache, "a", digest(1), "two sizes")
        default_cache.sadd("repository::a::blobs", "junk")
        run("check", "--fix", "--yes")
        found = written("action", "source", "repository", "digest")
        assert sorted(found, key=str) == sorted(
            [
                ("repair", "command", None, digest(1)),
                ("repair", "command", "a", "junk"),
            ],
            key=str,
        )

    def test_a_warm_is_one_entry_for_each_repository(self, tmp_path: Any) -> None:
        with stored(tmp_path):
            assert run("warm").code == 0
        found = written("action", "source", "repository", "count", "digest")
        assert ("warm", "command", "team/app", 2, None) in found
        assert ("warm", "command", "team/web", 1, None) in found
        assert {each[0] for each in found} == {"warm"}

    def test_a_warm_that_is_written_in_between_counts_each_blob_once(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blobcache.journal.recording.BATCH", 1)
        with stored(tmp_path):
            assert run("warm").code == 0
        counts: Counter[str] = Counter()
        for name, count in written("repository", "count"):
            counts[name] += count
        assert (counts["team/app"], counts["team/web"]) == (2, 1)


def test_a_notification_has_its_source(client: APIClient) -> None:
    fill("team/app")
    envelope = {
        "events": [
            {
                "id": "1",
                "timestamp": "2026-11-25T04:13:34.447559Z",
                "action": "delete",
                "target": {"repository": "team/app", "digest": BLOB},
                "request": {"useragent": "docker"},
            }
        ]
    }
    with override_settings(
        ROOT_URLCONF="tests.notifications.urls",
        BLOBCACHE={"default": {"NOTIFICATIONS_TOKEN": "s3cret"}, "staging": {}},
    ):
        response = Client().post(
            "/events/",
            json.dumps(envelope),
            content_type="application/json",
            headers={"Authorization": "Bearer s3cret"},
        )
    assert response.status_code == 202
    assert ("clear", "notification", "", "team/app") in written(
        "action", "source", "actor", "repository"
    )
