from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.management.session import system_user
from blobcache.services import get_provider
from project import embedded
from tests.backends.cases import data, layer_link
from tests.conformance import ALIAS, A, B, make_descriptor
from tests.doctor.damage import contents, digest, write_blob, write_member
from tests.management.running import GONE as GONE_REDIS
from tests.management.running import HELLO, MEMORY, Terminal, run, write_sample
from tests.servers import cache_at, commands
from tests.services.test_read_through import BLOB, DIGEST, GONE, TRUTH, storages, write


class TestStat:
    def test_each_digest_is_a_row_in_the_order_of_the_input(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        done = run("stat", "--repository", "team/app", digest(9), HELLO)
        assert done.rows == [
            ["team/app", digest(9), "-", "-", "-", "unknown"],
            ["team/app", HELLO, "5", "text/plain", "-", "ok"],
        ]
        assert done.code == 1
        assert run("stat", HELLO).rows == [["-", HELLO, "5", "a/b", "-", "ok"]]
        assert run("stat", HELLO).code == 0

    def test_json_has_the_same(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        assert run("stat", "--json", HELLO).objects == [
            {
                "repository": None,
                "digest": HELLO,
                "size": 5,
                "mediaType": "a/b",
                "canonical": None,
                "state": "ok",
                "source": "hit",
            }
        ]

    def test_an_alias_has_its_canonical_digest(self, default_cache: Redis) -> None:
        get_provider().set_descriptor(ALIAS, make_descriptor(A))
        assert run("stat", ALIAS).rows[0][1:5] == [
            ALIAS,
            "1234",
            "application/octet-stream",
            A,
        ]

    def test_damage_is_named(self, default_cache: Redis) -> None:
        write_blob(default_cache, digest(1), "no number")
        write_blob(default_cache, digest(2), "size 0")
        write_member(default_cache, "a", digest(3), override="absent")
        write_blob(default_cache, digest(4), "leftover")
        states = {row[1]: row[5] for row in run("stat", *map(digest, range(1, 5))).rows}
        assert states == {
            digest(1): "corrupt",
            digest(2): "size-mismatch",
            digest(3): "ok",
            digest(4): "unknown",
        }
        assert run("stat", "--repository", "a", digest(3)).rows[0][5] == "dangling-member"
        assert run("stat", digest(2)).code == 0  # a stat gives a descriptor
        assert run("stat", digest(1)).code == 1

    def test_pairs_name_a_repository_each(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        lines = f"team/app {HELLO}\n- {HELLO}\nteam/none\t{HELLO}\n{HELLO}\n"
        done = run("stat", "-", stdin=lines)
        assert [(row[0], row[3]) for row in done.rows] == [
            ("team/app", "text/plain"),
            ("-", "a/b"),
            ("team/none", "-"),
        ]

    def test_it_works_with_a_provider_that_has_no_catalog(self) -> None:
        with override_settings(BLOBCACHE={"default": MEMORY}):
            get_provider().set_descriptor(A, make_descriptor(A))
            assert [row[5] for row in run("stat", A, B).rows] == ["ok", "unknown"]

    def test_many_digests_share_round_trips(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        lines = "".join(f"{digest(number)}\n" for number in range(3000))
        run("stat", digest(1))
        with valkey.client() as observer, commands(observer) as traffic:
            done = run("stat", "-", stdin=lines)
        assert len(done.rows) == 3000
        assert traffic.round_trips < 100


class TestStatWithReadThrough:
    @pytest.fixture(autouse=True)
    def _registry(self, tmp_path: Path, default_cache: Redis) -> Iterator[None]:
        write(tmp_path, data(DIGEST), BLOB)
        write(tmp_path, layer_link("a", DIGEST), DIGEST.encode())
        entry = {"TRUTH": TRUTH, "READ_THROUGH": True}
        with override_settings(STORAGES=storages(tmp_path), BLOBCACHE={"default": entry}):
            yield

    def test_the_backend_is_asked_about_what_the_cache_does_not_know(
        self, default_cache: Redis
    ) -> None:
        write_sample(default_cache)
        done = run("stat", DIGEST, GONE, HELLO)
        assert [row[5:] for row in done.rows] == [
            ["ok", "backend"],
            ["unknown", "miss"],
            ["ok", "hit"],
        ]
        assert done.rows[0][2] == str(len(BLOB))
        assert done.code == 1
        assert [each["source"] for each in run("stat", DIGEST, "--json").objects] == ["hit"]

    def test_the_cache_alone_can_be_asked(self, default_cache: Redis) -> None:
        done = run("stat", DIGEST, "--cached-only")
        assert done.rows == [["-", DIGEST, "-", "-", "-", "unknown"]]
        assert done.code == 1
        assert default_cache.keys("blobs::*") == []

    def test_all_are_looked_up_although_a_batch_asks_the_backend_about_few(self) -> None:
        done = run("stat", "-", stdin="".join(f"{digest(number)}\n" for number in range(150)))
        assert {row[5] for row in done.rows} == {"unknown"}
        assert done.code == 1

    def test_what_the_backend_cannot_say_is_a_failure(self, default_cache: Redis) -> None:
        entry = {"TRUTH": TRUTH, "READ_THROUGH": True}
        write_sample(default_cache)
        with override_settings(
            STORAGES=storages(Path("/nonexistent")), BLOBCACHE={"default": entry}
        ):
            done = run("stat", DIGEST, HELLO)
        assert [row[5:] for row in done.rows] == [["unchecked", "-"], ["ok", "hit"]]
        assert done.code == 2

    def test_a_cache_that_is_down_does_not_stop_the_backend(self) -> None:
        with cache_at(GONE_REDIS):
            done = run("stat", DIGEST)
        assert done.rows[0][5:] == ["ok", "backend"]


class TestSet:
    def test_it_sets_what_a_stat_then_gives(self, default_cache: Redis) -> None:
        options = ("--repository", "team/app", "--size", "5", "--media-type", "text/plain")
        done = run("set", HELLO, *options, "--yes")
        assert done.rows == [["team/app", HELLO, "5", "text/plain", "-", "created"]]
        assert run("stat", HELLO, "--repository", "team/app").code == 0
        (again,) = run("set", HELLO, *options, "--yes", "--json").objects
        assert again["created"] is False
        assert again["before"] == {"size": 5, "mediaType": "text/plain"}

    def test_an_alias_is_set_with_its_canonical_digest(self, default_cache: Redis) -> None:
        options = ("--size", "5", "--media-type", "text/plain")
        done = run("set", ALIAS, "--canonical", A, *options, "--yes")
        assert done.rows[0][4] == A
        assert "cannot be digests of the same" in run("set", B, "--canonical", A, *options).err

    def test_a_dry_run_changes_nothing(self, default_cache: Redis) -> None:
        options = ("--size", "5", "--media-type", "text/plain", "--dry-run")
        assert run("set", A, *options).rows[0][5] == "would be created"
        write_blob(default_cache, A, "whole")
        before = contents(default_cache)
        (found,) = run("set", A, *options, "--json").objects
        assert (found["created"], found["dry_run"]) == (False, True)
        assert found["before"] == {"size": 5, "mediaType": "application/octet-stream"}
        assert contents(default_cache) == before

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            (("--size", "-1"), "'-1' is not a whole number"),
            (("--size", "1_000"), "'1_000' is not a whole number"),
            (("--size", "9" * 5000), "is not a whole number"),
            (("--size", "9" * 19), "less than 2^63"),
            (("--media-type", ""), "The media type is empty"),
            (("--media-type", "a/b\x1b[31m"), "unprintable"),
            (("--media-type", "a/\udcff"), "unprintable"),
            (("--repository", "MyTeam/app"), "but not written to"),
            (("--repository", "../x"), "not a valid repository name"),
            (("--canonical", "sha256:beef"), "4 characters after the colon"),
        ],
    )
    @pytest.mark.parametrize("how", ["--yes", "--dry-run"])
    def test_what_cannot_be_stored_is_refused(
        self, default_cache: Redis, options: tuple[str, ...], error: str, how: str
    ) -> None:
        done = run("set", A, "--size", "1", "--media-type", "a/b", *options, how)
        assert error in done.err
        assert "\x1b" not in done.err
        assert contents(default_cache) == {}


class TestClear:
    def test_each_is_cleared_in_its_scope(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        done = run("clear", "--repository", "team/app", "--yes", HELLO, digest(9))
        assert done.rows == [
            ["team/app", HELLO, "5", "text/plain", "-", "cleared"],
            ["team/app", digest(9), "-", "-", "-", "unknown"],
        ]
        assert done.code == 1
        assert not default_cache.sismember("repository::team/app::blobs", HELLO)
        assert default_cache.sismember("repository::team/web::blobs", HELLO)

    def test_pairs_are_cleared_in_their_repositories(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        lines = f"team/app {HELLO}\nteam/web {HELLO}\n"
        assert run("clear", "-", "--yes", stdin=lines).code == 0
        assert contents(default_cache).keys() & {b"repository::team/web::blobs"} == set()

    def test_a_dry_run_changes_nothing(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        write_blob(default_cache, digest(3), "no number")
        before = contents(default_cache)
        done = run("clear", "--dry-run", HELLO, digest(3), digest(9))
        assert [row[5] for row in done.rows] == ["would be cleared"] * 2 + ["unknown"]
        found = run("clear", "--dry-run", HELLO, "--json").objects
        assert [(each["cleared"], each["would_clear"]) for each in found] == [(False, True)]
        assert contents(default_cache) == before

    def test_the_audit_log_has_the_command_and_the_user_of_the_system(
        self,
        default_cache: Redis,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write_sample(default_cache)
        monkeypatch.setenv("LOGNAME", "somebody else")
        with caplog.at_level(logging.INFO, "blobcache.audit"):
            run("clear", "--yes", HELLO)
        # The journal, for which this test has no database, logs that at most once a minute.
        (record,) = [each for each in caplog.records if each.name == "blobcache.audit"]
        assert record.getMessage().startswith(
            f"clear registry='default' repository=- digest={HELLO}"
        )
        assert record.getMessage().endswith(f"actor={system_user()!r} source='command'")
        assert system_user() != "somebody else"

    def test_a_user_without_a_name_is_a_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(_: int) -> None:
            raise KeyError

        monkeypatch.setattr("pwd.getpwuid", unknown)
        assert system_user() == f"uid {os.getuid()}"


class TestQuestions:
    def test_without_a_terminal_nothing_is_changed_unless_yes(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        before = contents(default_cache)
        for arguments in (
            ("clear", HELLO),
            ("purge", HELLO),
            ("set", HELLO, "--size", "1", "--media-type", "a/b"),
        ):
            done = run(*arguments)
            assert "use --yes" in done.err
            assert done.code == 2
        assert contents(default_cache) == before

    @pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("YES\n", 0), ("", 2), ("n\n", 2)])
    def test_on_a_terminal_it_asks(self, default_cache: Redis, answer: str, code: int) -> None:
        write_sample(default_cache)
        done = run("clear", HELLO, stdin=Terminal(answer))
        assert done.err.startswith("Clear 1 blob? [y/N] ")
        assert done.code == code
        assert default_cache.exists(f"blobs::{HELLO}") == (code == 2)

    def test_a_list_on_standard_input_leaves_no_room_for_answers(
        self, default_cache: Redis
    ) -> None:
        write_sample(default_cache)
        done = run("purge", "-", stdin=Terminal(f"{HELLO}\n"))
        assert "use --yes" in done.err
        assert default_cache.exists(f"blobs::{HELLO}")


def test_a_read_only_registry_refuses_changes_before_it_asks(default_cache: Redis) -> None:
    write_sample(default_cache)
    with override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}):
        for arguments in (
            ("clear", HELLO),
            ("purge", HELLO),
            ("purge", HELLO, "--dry-run"),
            ("set", HELLO, "--size", "1", "--media-type", "a/b"),
        ):
            done = run(*arguments, stdin=Terminal("y\n"))
            assert "configured as read-only" in done.err
            assert done.code == 2
        assert run("stat", HELLO).code == 0


def test_with_the_role_primary_a_clear_in_a_repository_keeps_the_global_descriptor(
    default_cache: Redis,
) -> None:
    write_sample(default_cache)
    with override_settings(BLOBCACHE={"default": {"ROLE": "primary"}}):
        run("clear", "--repository", "team/app", "--yes", HELLO)
        assert run("stat", HELLO).code == 0
