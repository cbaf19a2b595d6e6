"""The history: each change by a user becomes a LogEntry."""

from __future__ import annotations

from typing import cast
from unittest import mock

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import DatabaseError
from django.test import override_settings
from django.utils import translation
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.doctor.repair import repair_many
from blobcache.exceptions import BlobUnknown
from blobcache.history import forget_hidden, recorded
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from tests.doctor.damage import digest, findings, write_blob, write_member

BLOB = Digest("sha256:" + "a" * 64)
ALIAS = Digest("sha512:" + "b" * 128)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("default_cache")]


@pytest.fixture
def provider() -> RedisBlobDescriptorCacheProvider:
    return cast("RedisBlobDescriptorCacheProvider", get_provider())


@pytest.fixture
def user() -> User:
    return User.objects.create(username="ann", is_superuser=True)


def written() -> list[tuple[str | None, int, str]]:
    return [
        (entry.object_id, entry.action_flag, entry.get_change_message())
        for entry in LogEntry.objects.order_by("pk")
    ]


def test_each_change_has_its_entry(provider: RedisBlobDescriptorCacheProvider, user: User) -> None:
    repository = provider.repository_scoped("a/b")
    with recorded(user, source="test"):
        provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
        provider.set_descriptor(BLOB, Descriptor(BLOB, 2, "x/y"))
        repository.set_descriptor(ALIAS, Descriptor(BLOB, 2, "x/z"))
        repository.clear(ALIAS)
        provider.clear(BLOB)
    assert written() == [
        (BLOB, ADDITION, f"Set the descriptor of {BLOB} to 1 byte, x/y."),
        (
            BLOB,
            CHANGE,
            f"Set the descriptor of {BLOB} to 2 bytes, x/y; it was 1 byte, x/y.",
        ),
        ("a/b", CHANGE, f"Set the descriptor of {ALIAS} to 2 bytes, x/z, {BLOB}."),
        ("a/b", CHANGE, f"Cleared {ALIAS}; it was 2 bytes, x/z, {BLOB}."),
        (BLOB, DELETION, f"Cleared {BLOB}; it was 2 bytes, x/y."),
    ]
    assert {entry.user for entry in LogEntry.objects.all()} == {user}


def test_each_repair_has_its_entry(
    provider: RedisBlobDescriptorCacheProvider, user: User, default_cache: Redis
) -> None:
    write_member(default_cache, "a", digest(1), "two sizes")
    write_blob(default_cache, digest(2), "leftover")
    default_cache.sadd("repository::a::blobs", "junk")
    default_cache.set("blobs::junk", "x")
    default_cache.set("repository::b::blobs", "x")
    found = findings(provider).values()
    with recorded(user, source="test"):
        repair_many(provider, sorted(found, key=lambda finding: finding.id), 60)
    size = "5 bytes, application/octet-stream"
    assert sorted(written(), key=str) == sorted(
        [
            (digest(1), DELETION, f"Cleared {digest(1)}; it was {size}."),
            (digest(2), DELETION, f"Cleared {digest(2)}."),
            ("a", DELETION, "Cleared an invalid blob: junk."),
            ("b", DELETION, "Cleared an invalid repository key."),
            ("junk", DELETION, "Cleared an invalid blob: junk."),
        ],
        key=str,
    )


def test_changes_outside_of_a_block_have_no_user(
    provider: RedisBlobDescriptorCacheProvider, user: User
) -> None:
    with recorded(user, source="test"):
        pass
    provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
    assert written() == []


def test_changes_before_an_error_are_recorded(
    provider: RedisBlobDescriptorCacheProvider, user: User
) -> None:
    def change_and_fail() -> None:
        with recorded(user, source="test"):
            provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
            provider.clear(ALIAS)

    with pytest.raises(BlobUnknown):
        change_and_fail()
    assert len(written()) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_database_that_refuses_an_entry_hides_neither_success_nor_error(
    provider: RedisBlobDescriptorCacheProvider,
    user: User,
    caplog: pytest.LogCaptureFixture,
    fails: bool,
) -> None:
    def change() -> None:
        with recorded(user, source="test"):
            provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
            if fails:
                provider.clear(ALIAS)

    with mock.patch.object(type(LogEntry.objects), "log_actions", side_effect=DatabaseError):
        if fails:
            with pytest.raises(BlobUnknown):
                change()
        else:
            change()
    (record,) = [each for each in caplog.records if each.name == "blobcache.history"]
    assert BLOB in record.getMessage()
    assert provider.stat(BLOB).size == 1
    assert written() == []  # The connection still works.


@pytest.mark.parametrize("fails", [False, True])
def test_a_change_whose_message_cannot_be_formatted_is_logged_and_skipped(
    provider: RedisBlobDescriptorCacheProvider,
    user: User,
    fails: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def change() -> None:
        with recorded(user, source="test"):
            provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
            provider.set_descriptor(ALIAS, Descriptor(ALIAS, 2, "x/y"))
            provider.clear(ALIAS)
            if fails:
                provider.clear(ALIAS)

    with mock.patch("blobcache.history._set", side_effect=KeyError("as a translation's")):
        if fails:
            with pytest.raises(BlobUnknown):
                change()
        else:
            change()
    assert [record.name for record in caplog.records].count("blobcache.history") == 2
    assert [(where, flag) for where, flag, _ in written()] == [(ALIAS, DELETION)]
    assert provider.stat(BLOB).size == 1


def test_a_user_without_an_account_is_attributed_but_has_no_history(
    provider: RedisBlobDescriptorCacheProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "blobcache.audit")
    with recorded(AnonymousUser(), source="test"):
        provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
    assert written() == []
    (record,) = [each for each in caplog.records if each.name == "blobcache.audit"]
    assert (record.__dict__["actor"], record.__dict__["source"]) == (None, "test")


def test_without_django_s_admin_there_is_no_history(
    provider: RedisBlobDescriptorCacheProvider, user: User
) -> None:
    with (
        mock.patch("blobcache.history.apps.is_installed", return_value=False),
        recorded(user, source="test"),
    ):
        provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
    assert written() == []


@override_settings(LANGUAGE_CODE="en")
def test_a_history_is_in_the_language_of_the_site(
    provider: RedisBlobDescriptorCacheProvider, user: User
) -> None:
    with translation.override("de"), recorded(user, source="test"):
        provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
    assert written()[0][2].startswith("Set the descriptor of")


def test_a_purge_has_an_entry_in_each_repository_and_one_for_the_blob(
    provider: RedisBlobDescriptorCacheProvider, user: User
) -> None:
    for name in ("a", "b"):
        provider.repository_scoped(name).set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
    cursor: str | None = ""
    with recorded(user, source="test"):
        while cursor is not None:
            cursor = provider.purge(BLOB, cursor).next
    assert {entry[:2] for entry in written()} == {("a", CHANGE), ("b", CHANGE), (BLOB, DELETION)}
    assert (BLOB, DELETION, f"Purged {BLOB} from every repository.") in written()


def test_a_change_in_a_hidden_repository_is_only_in_the_audit_log(
    provider: RedisBlobDescriptorCacheProvider, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        provider.repository_scoped(name).set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
    user = User.objects.create(username="purger")
    view = Permission.objects.get(codename="view_repository")
    user.user_permissions.add(view)
    caplog.set_level("INFO", "blobcache.audit")
    with (
        override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.only_a"}}),
        recorded(user, source="test"),
    ):
        provider.purge(BLOB)
    assert {entry[:2] for entry in written()} == {("a", CHANGE), (BLOB, DELETION)}
    audited = [each.__dict__ for each in caplog.records if each.name == "blobcache.audit"]
    cleared = [each["repository"] for each in audited if each["event"] == "clear"]
    assert [name for name in cleared if name is not None] == ["a", "b"]


def test_forget_hidden_deletes_entries_about_repositories_that_their_user_may_not_view(
    provider: RedisBlobDescriptorCacheProvider, user: User
) -> None:
    other = User.objects.create(username="bob", is_superuser=True)
    for each in (user, other):
        with recorded(each, source="test"):
            for name in ("a", "b"):
                provider.repository_scoped(name).set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
            provider.set_descriptor(BLOB, Descriptor(BLOB, 1, "x/y"))
    assert forget_hidden() == 0
    other.is_superuser = False
    other.save()
    with override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": f"{__name__}.only_a"}}):
        assert forget_hidden() == 3
    left = LogEntry.objects.values_list("user__username", "object_id")
    assert sorted(left) == [("ann", "a"), ("ann", BLOB), ("bob", BLOB)]


def only_a(user: object) -> list[str]:
    return ["a"]
