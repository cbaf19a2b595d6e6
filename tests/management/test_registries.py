"""Several registries on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now
from redis import Redis

from blobcache.access import Access
from blobcache.jobs import start
from blobcache.management.commands.blobcache import SUBCOMMANDS
from blobcache.models import Job, JournalEntry
from blobcache.services import get_provider
from project import embedded
from tests.admin.test_glance import slow_server
from tests.doctor.damage import digest, write_blob, write_member
from tests.jobs.conftest import account, begin
from tests.management.running import GONE, HELLO, ROOT, Terminal, run, run_line
from tests.servers import Meter, cache_at
from tests.warming.worlds import Clock, World

ENTRIES = {"default": {}, "staging": {"CACHE_ALIAS": "staging"}}
DOWN = {"default": {}, "down": {"CACHE_ALIAS": "down"}, "staging": ENTRIES["staging"]}


@pytest.fixture
def staging(default_cache: Redis, valkey: embedded.Server, settings: Any) -> Iterator[Redis]:
    """The raw client of the registry "staging"; the registry "default" is there as well."""
    with (
        cache_at(f"redis://localhost:{valkey.port}/1", "staging") as client,
        cache_at(GONE, "down"),
    ):
        settings.BLOBCACHE = ENTRIES
        for each, size in ((default_cache, 5), (client, 7)):
            each.hset(
                f"blobs::{HELLO}", mapping={"digest": HELLO, "size": size, "mediatype": "a/b"}
            )
            each.sadd("repository::team/app::blobs", HELLO)
            each.hset(f"repository::team/app::blobs::{HELLO}", "mediatype", "a/b")
        client.sadd("repository::new::blobs", HELLO)
        client.hset(f"repository::new::blobs::{HELLO}", "mediatype", "a/b")
        yield client


def test_one_registry_is_read_as_before(staging: Redis) -> None:
    assert run("repositories", "--registry", "staging").rows == [["new", "1"], ["team/app", "1"]]
    assert run("repositories").rows == [["team/app", "1"]]
    (found,) = run("stat", HELLO, "--json").objects
    assert "registry" not in found


class TestSeveral:
    BOTH = ("--registry", "default", "--registry", "staging")

    def test_rows_begin_with_the_name_of_the_registry(self, staging: Redis) -> None:
        assert run("repositories", *self.BOTH).rows == [
            ["default", "team/app", "1"],
            ["staging", "new", "1"],
            ["staging", "team/app", "1"],
        ]

    def test_lines_of_json_name_it(self, staging: Redis) -> None:
        found = run("stat", HELLO, "--json", *self.BOTH).objects
        assert [(each["registry"], each["size"]) for each in found] == [
            ("default", 5),
            ("staging", 7),
        ]

    def test_all_registries_are_those_of_the_settings(self, staging: Redis) -> None:
        assert run("stat", HELLO, "--all-registries").out == run("stat", HELLO, *self.BOTH).out

    def test_a_registry_that_is_named_twice_is_read_once(self, staging: Redis) -> None:
        twice = ("--registry", "staging", "--registry", "staging")
        assert run("repositories", *twice).rows == [["new", "1"], ["team/app", "1"]]

    def test_all_registries_name_theirs_although_there_is_only_one(
        self, default_cache: Redis
    ) -> None:
        """What reads the output does not depend on the settings."""
        (found,) = run("status", "--all-registries", "--json").objects
        assert (found["registry"], found["reachable"]) == ("default", True)

    def test_holders_are_listed_in_each(self, staging: Redis) -> None:
        rows = run("holders", HELLO, *self.BOTH).rows
        assert [row[:2] for row in rows] == [
            ["default", "team/app"],
            ["staging", "new"],
            ["staging", "team/app"],
        ]

    def test_sentences_name_the_registry(self, staging: Redis) -> None:
        out = run("reindex", "--all-registries").out.splitlines()
        assert [line.partition(" repositories")[0] for line in out] == [
            "default: Indexed 1",
            "staging: Indexed 2",
        ]

    def test_a_table_has_its_headings_once(self, staging: Redis) -> None:
        out = run("repositories", *self.BOTH, out=Terminal()).out.splitlines()
        assert len(out) == 4
        assert all(heading in out[0] for heading in ("Registry", "Repository", "Blobs"))

    def test_digests_are_read_from_standard_input_once(self, staging: Redis) -> None:
        done = run("stat", "-", *self.BOTH, stdin=f"{HELLO}\nnew {HELLO}\n")
        assert [row[:2] for row in done.rows] == [
            ["default", "-"],
            ["default", "new"],
            ["staging", "-"],
            ["staging", "new"],
        ]

    def test_a_wrong_line_is_wrong_for_all(self, staging: Redis) -> None:
        done = run("stat", "-", *self.BOTH, stdin=f"{HELLO}\n{'x' * 5000}\n{HELLO}\n")
        assert (done.code, done.out) == (2, "")
        assert [line[:18] for line in done.err.splitlines()] == [
            "default: Nothing w",
            "staging: Nothing w",
        ]

    def test_the_exit_code_is_the_worst(self, staging: Redis) -> None:
        assert run("stat", HELLO, "--repository", "new").code == 1
        assert run("stat", HELLO, "--repository", "new", *self.BOTH).code == 1
        assert run("stat", HELLO, "--repository", "team/app", *self.BOTH).code == 0

    def test_findings_are_of_their_registry(self, staging: Redis, default_cache: Redis) -> None:
        write_member(staging, "team/app", digest(1), "size 0")
        write_blob(default_cache, digest(2), "leftover")
        done = run("check", "--all-registries", "--json")
        assert done.code == 1
        findings = [each for each in done.objects if "digest" in each]
        assert {(each["registry"], each["digest"]) for each in findings} == {
            ("default", digest(2)),
            ("staging", digest(1)),
        }

    def test_a_repair_changes_what_is_wrong_in_each(
        self, staging: Redis, default_cache: Redis
    ) -> None:
        write_member(staging, "team/app", digest(1), "size 0")
        write_blob(default_cache, digest(2), "leftover")
        run("check", "--fix", "--yes", "--registry", "staging")
        assert default_cache.exists(f"blobs::{digest(2)}")
        assert run("check", "--fix", "--yes", "--all-registries").code == 0
        assert not default_cache.exists(f"blobs::{digest(2)}")

    def test_each_notes_its_own_check(self, staging: Redis) -> None:
        run("check", "--registry", "staging")
        found = run("status", "--all-registries", "--json").objects
        assert [each["last_check"] is None for each in found] == [True, False]


def test_the_status_of_no_registry_waits_for_another(
    staging: Redis, valkey: embedded.Server, settings: Any
) -> None:
    """The first one answers nothing until the other two have been asked."""
    with (
        valkey.client() as counting,
        slow_server(Meter(counting)) as (url, asked),
        cache_at(url, "slow", SOCKET_TIMEOUT=90),
    ):
        settings.BLOBCACHE = {
            "slow": {"CACHE_ALIAS": "slow"},
            "default": {},
            "staging": ENTRIES["staging"],
        }
        done = run("status", "--all-registries", "--json")
    assert asked == [2]
    assert [(each["registry"], each["reachable"]) for each in done.objects] == [
        ("slow", False),
        ("default", True),
        ("staging", True),
    ]
    assert done.code == 2


class TestOneIsDown:
    @pytest.fixture(autouse=True)
    def _three(self, staging: Redis, settings: Any) -> None:
        settings.BLOBCACHE = DOWN

    def test_its_status_says_so_and_the_others_are_shown(self) -> None:
        done = run("status", "--all-registries", "--json")
        assert [(each["registry"], each["reachable"]) for each in done.objects] == [
            ("default", True),
            ("down", False),
            ("staging", True),
        ]
        assert done.code == 2
        assert done.err.startswith("down: The cache is not available at the moment")
        assert done.err.count("\n") == 1

    def test_so_does_its_row(self) -> None:
        rows = run("status", "--all-registries").rows
        assert ["down", "reachable", "false"] in rows
        assert ["staging", "reachable", "true"] in rows

    def test_its_blobs_are_unreachable(self) -> None:
        done = run("stat", HELLO, digest(1), "--all-registries")
        assert done.code == 2
        states = [(row[0], row[-1]) for row in done.rows]
        assert states == [
            ("default", "ok"),
            ("default", "unknown"),
            ("down", "unreachable"),
            ("down", "unreachable"),
            ("staging", "ok"),
            ("staging", "unknown"),
        ]

    @pytest.mark.parametrize(
        "line", [["reindex"], ["repositories"], ["check"], ["summary", "team/app"], ["blobs"]]
    )
    def test_the_others_go_on(self, line: list[str]) -> None:
        done = run(*line, "--all-registries", "--json")
        found = [each for each in done.objects if each["registry"] == "down"]
        assert [set(each) for each in found] == [{"registry", "error"}]
        assert done.code == 2
        assert done.err.startswith("down: The cache is not available")
        if line != ["check"]:
            assert {each["registry"] for each in done.objects} == {"default", "down", "staging"}


class TestRefused:
    def test_an_unknown_registry_lists_the_known_ones(self, staging: Redis) -> None:
        done = run("stat", HELLO, "--registry", "default", "--registry", "prod")
        assert (done.code, done.out) == (2, "")
        assert "no registry 'prod'; there is 'default', 'staging'" in done.err

    @pytest.mark.parametrize(
        "line",
        [
            ["clear", HELLO],
            ["set", HELLO, "--size", "5", "--media-type", "a/b"],
            ["purge", HELLO],
            ["warm"],
        ],
    )
    def test_a_change_takes_one_registry(self, staging: Redis, line: list[str]) -> None:
        done = run(*line, *TestSeveral.BOTH)
        assert (done.code, done.out) == (2, "")
        assert "takes one registry at a time" in done.err
        assert "unrecognized arguments" in run(*line, "--all-registries").err

    def test_all_registries_and_a_name_do_not_go_together(self, staging: Redis) -> None:
        done = run("status", "--all-registries", "--registry", "staging")
        assert done.code == 2
        assert "not allowed with argument" in done.err

    def test_what_changes_blobs_takes_one_and_what_reads_takes_several(self) -> None:
        takes_several = {each.name: each.takes_registries for each in SUBCOMMANDS}
        assert not any(takes_several[name] for name in ("set", "clear", "purge", "warm"))
        reads = ("stat", "repositories", "blobs", "holders", "summary", "raw", "status", "log")
        assert all(takes_several[name] for name in reads)


def _change(registry: str, repository: str) -> None:
    change = ["set", digest(1), "--size", "5", "--media-type", "a/b", "--yes"]
    assert run(*change, "--repository", repository, "--registry", registry).code == 0


def test_a_warm_fills_the_cache_of_its_registry_from_its_storage(
    staging: Redis,
    default_cache: Redis,
    settings: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("blobcache.warming.warm.monotonic", clock)
    monkeypatch.setattr("blobcache.warming.warm.sleep", clock.pause)
    for name in ("production", "staging"):
        World(tmp_path / name).layer(name.encode(), "warmed")
    files = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {
        **settings.STORAGES,
        **{
            name: {"BACKEND": files, "OPTIONS": {"location": tmp_path / name}}
            for name in ("production", "staging")
        },
    }
    backend = "blobcache.backends.storage.StorageBackend"
    settings.BLOBCACHE = {
        name: {**entry, "TRUTH": {"BACKEND": backend, "OPTIONS": {"storage": storage}}}
        for (name, entry), storage in zip(ENTRIES.items(), ("production", "staging"), strict=True)
    }
    before = default_cache.dbsize()
    assert run("warm", "--registry", "staging").code == 0
    (member,) = staging.smembers("repository::warmed::blobs")
    assert member == f"sha256:{sha256(b'staging').hexdigest()}".encode()
    assert default_cache.dbsize() == before
    assert not default_cache.keys("*warm*")
    assert run("check", "--registry", "staging", "--repository", "warmed").code == 0


@pytest.mark.django_db
class TestTheJournalAndJobs:
    def test_each_change_is_one_of_its_registry(self, staging: Redis, default_cache: Redis) -> None:
        run("clear", HELLO, "--yes", "--registry", "staging")
        assert not staging.exists(f"blobs::{HELLO}")
        assert default_cache.exists(f"blobs::{HELLO}")
        assert [each.registry for each in JournalEntry.objects.all()] == ["staging"]
        assert run("log").out == ""
        (found,) = run("log", "--registry", "staging", "--json").objects
        assert (found["registry"], found["action"]) == ("staging", "clear")

    def test_a_purge_clears_one_registry(self, staging: Redis, default_cache: Redis) -> None:
        run("purge", HELLO, "--yes", "--registry", "staging")
        assert not staging.keys("repository::*")
        assert default_cache.scard("repository::team/app::blobs") == 1
        assert set(JournalEntry.objects.values_list("registry", flat=True)) == {"staging"}

    def test_the_log_of_several_is_sorted_by_time(self, staging: Redis) -> None:
        for number, name in enumerate(("default", "staging", "default")):
            _change(name, f"r{number}")
        rows = run("log", "--all-registries").rows
        assert [(row[0], row[5]) for row in rows] == [
            ("default", "r2"),
            ("staging", "r1"),
            ("default", "r0"),
        ]
        assert len(run("log", "--all-registries", "--limit", "2").rows) == 2
        lines = run("log", "--all-registries", "--csv").out.splitlines()
        assert [line.split(",")[1] for line in lines] == [
            *("registry", "default", "staging", "default"),
        ]

    def test_prune_takes_all_or_those_that_are_named(self, staging: Redis) -> None:
        for name in ("default", "staging"):
            _change(name, "r")
        JournalEntry.objects.update(time=now() - timedelta(days=1000))
        begin(account("one"), "sizes")
        Job.objects.update(changed_at=now() - timedelta(days=1000))
        run("prune", "--registry", "staging")
        assert [each.registry for each in JournalEntry.objects.all()] == ["default"]
        assert Job.objects.count() == 1
        (found,) = run("prune", "--json").objects
        assert found["deleted"] == 1
        assert Job.objects.count() == 0

    def test_a_worker_takes_the_jobs_of_the_registries_that_it_is_told(
        self, staging: Redis
    ) -> None:
        jobs = {}
        for name in ("default", "staging"):
            jobs[name] = start(Access(account(name), name), "sizes", {}, 1, source="test")
        done = run("work", "--once", "--registry", "staging")
        assert done.rows[0][0] == str(jobs["staging"].pk)
        assert Job.objects.get(pk=jobs["default"].pk).state == "waiting"
        done = run("work", "--once", "--all-registries")
        assert done.rows[0][:2] == ["default", str(jobs["default"].pk)]
        assert [row[0] for row in done.rows[1:]] == [
            "default: No job is left.",
            "staging: No job is left.",
        ]


def test_one_process_watches_several_registries(staging: Redis) -> None:
    done = run("watch", "--seconds", "1", "--all-registries", "--json")
    assert {each["registry"] for each in done.objects} == {"default", "staging"}
    assert done.code == 0
    assert get_provider("staging").catalog.status().is_built  # type: ignore[attr-defined]


def test_a_registry_that_cannot_be_watched_stops_no_other(staging: Redis, settings: Any) -> None:
    settings.BLOBCACHE = {**ENTRIES, "staging": {"CACHE_ALIAS": "staging", "READ_ONLY": True}}
    done = run("watch", "--seconds", "1", "--all-registries", "--json")
    assert done.code == 2
    assert "staging: " in done.err
    assert "default" in {json.loads(line)["registry"] for line in done.out.splitlines()}


def test_the_page_shows_what_a_terminal_shows(
    staging: Redis, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blobcache.management.writing.find_spec", lambda _: None)
    for each in (staging, default_cache):
        each.hset(f"blobs::{HELLO}", "mediatype", "text/plain")
    page = (ROOT / "docs" / "registries.md").read_text()
    (session,) = re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    for part in session.split("$ ")[1:]:
        command, _, expected = part.partition("\n")
        assert run_line(command, out=Terminal()).out == expected
