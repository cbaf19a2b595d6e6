from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings
from redis import Redis

from blobcache.exceptions import CursorInvalid
from blobcache.findings import FINDING_KINDS, TRUTH_KINDS
from blobcache.redis.listings import RedisCatalog
from blobcache.services import get_provider
from project import embedded
from tests.conformance import A, make_descriptor
from tests.doctor.damage import contents, digest, write_blob, write_member
from tests.servers import cache_at, commands

ROOT = Path(__file__).parent.parent
# If the portal cannot run here, use the settings of this test run.
HAS_PORTAL = settings.ROOT_URLCONF == "project.urls"
SETTINGS = "project.settings" if HAS_PORTAL else settings.SETTINGS_MODULE
GONE = "redis://127.0.0.1:1/0"
MEMORY = {"PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"}


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("blobcache", *arguments, stdout=out)
    return out.getvalue()


def manage(server: embedded.Server | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py blobcache as an operator does."""
    url = server.url if server else GONE
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "blobcache", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "BLOBCACHE_REDIS_URL": url,
            "BLOBCACHE_READ_ONLY": "0",
            "DJANGO_LOG_LEVEL": "ERROR",
        },
        capture_output=True,
        text=True,
        check=False,
    )


class TestReindex:
    def test_it_indexes_what_a_registry_wrote_and_prints_the_number(
        self, default_cache: Redis
    ) -> None:
        for name in ("team/app", "team/web", "MyTeam/app"):
            default_cache.sadd(f"repository::{name}::blobs", str(A))
        default_cache.set("something else", "x")
        output = re.fullmatch(r"Indexed 3 repositories as of (.+)\.\n", run("reindex"))
        assert output
        as_of = datetime.strptime(output[1], "%Y-%m-%dT%H:%M:%S%z")
        assert abs(datetime.now(UTC) - as_of) < timedelta(seconds=10)

    def test_each_run_builds_the_index_again(self, default_cache: Redis) -> None:
        assert run("reindex").startswith("Indexed 0 repositories")
        default_cache.sadd("repository::team/app::blobs", str(A))
        assert run("reindex").startswith("Indexed 1 repositories")

    def test_a_registry_can_be_named(self, default_cache: Redis, valkey: embedded.Server) -> None:
        default_cache.sadd("repository::team/app::blobs", str(A))
        with (
            cache_at(valkey.url.replace("/0", "/1"), "second") as second,
            override_settings(BLOBCACHE={"default": {}, "second": {"CACHE_ALIAS": "second"}}),
        ):
            second.flushdb()
            assert run("reindex", "--registry", "second").startswith("Indexed 0 repositories")
            assert run("reindex", "--registry=default").startswith("Indexed 1 repositories")
            assert run("reindex").startswith("Indexed 1 repositories")

    def test_an_unknown_registry_is_refused_and_the_known_ones_are_listed(self) -> None:
        wrong = pytest.raises(CommandError, match="no registry 'missing'; there is 'default'")
        with wrong as error:
            run("reindex", "--registry", "missing")
        assert error.value.returncode == 2
        with wrong:
            call_command("blobcache", "reindex", registry="missing")

    def test_a_registry_in_memory_has_no_index(self) -> None:
        with override_settings(BLOBCACHE={"default": MEMORY}):
            get_provider().repository_scoped("team/app").set_descriptor(A, make_descriptor(A))
            with pytest.raises(CommandError, match="'default' keeps no index"):
                run("reindex")

    def test_a_read_only_registry_is_not_indexed_in_its_own_redis(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        with (
            override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}),
            valkey.client() as observer,
            commands(observer) as traffic,
            pytest.raises(CommandError, match="'default' is read-only and keeps its index"),
        ):
            run("reindex")
        assert traffic.round_trips == 0

    def test_a_read_only_registry_is_indexed_elsewhere(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        default_cache.sadd("repository::team/app::blobs", str(A))
        entry = {"READ_ONLY": True, "CATALOG_ALIAS": "index"}
        with (
            embedded.start() as elsewhere,
            cache_at(elsewhere.url, "index"),
            override_settings(BLOBCACHE={"default": entry}),
        ):
            assert run("reindex").startswith("Indexed 1 repositories")
        assert default_cache.keys() == [b"repository::team/app::blobs"]

    def test_a_read_only_registry_is_not_indexed_on_its_own_server(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        entry = {"READ_ONLY": True, "CATALOG_ALIAS": "index"}
        with (
            cache_at(valkey.url.replace("/0", "/1"), "index"),
            override_settings(BLOBCACHE={"default": entry}),
            pytest.raises(CommandError, match="in the same Redis"),
        ):
            run("reindex")

    def test_a_redis_that_is_down_is_reported_with_the_cause(self) -> None:
        with (
            cache_at("redis://127.0.0.1:1"),
            pytest.raises(CommandError, match=r"not available .*\(.*127\.0\.0\.1:1.*\)$"),
        ):
            run("reindex")

    def test_an_error_without_a_cause_is_reported(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def changed(_: RedisCatalog, progress: object) -> None:
            raise CursorInvalid("The cursor belongs to a cluster that has changed since.")

        monkeypatch.setattr(RedisCatalog, "reindex", changed)
        with pytest.raises(CommandError, match=r"changed since\.$"):
            run("reindex")


def check(*arguments: str) -> tuple[str, int]:
    """Run the check, and return what it printed and its exit code."""
    out = StringIO()
    try:
        call_command("blobcache", "check", *arguments, stdout=out)
    except SystemExit as end:
        return out.getvalue(), int(end.code or 0)
    return out.getvalue(), 0


class TestCheck:
    @pytest.fixture
    def damaged(self, default_cache: Redis) -> Redis:
        """A wrong size in two repositories, and leftover fields."""
        for name in ("a", "b"):
            write_member(default_cache, name, digest(1), "size 0")
        write_blob(default_cache, digest(2), "leftover")
        write_member(default_cache, "a", digest(3))
        return default_cache

    def test_an_undamaged_cache_has_no_findings(self, default_cache: Redis) -> None:
        write_member(default_cache, "a", digest(1))
        assert check() == (
            "No problems found inside the cache. The registry's storage was not checked.\n",
            0,
        )
        assert check("--json") == ("", 0)

    def test_each_finding_is_a_row(self, damaged: Redis) -> None:
        before = contents(damaged)
        output, code = check()
        assert code == 1
        *rows, last = output.splitlines()
        assert sorted(rows) == [
            f"error\tsize-mismatch\t-\t{digest(1)}\tThe size is 0.",
            f"error\tsize-mismatch\ta\t{digest(1)}\tThe size is 0.",
            f"error\tsize-mismatch\tb\t{digest(1)}\tThe size is 0.",
            f"info\thusk\t-\t{digest(2)}\tLeftover fields: length",
        ]
        assert last == "4 findings, 3 of them errors."
        assert contents(damaged) == before

    def test_each_finding_is_a_line_of_json_if_asked_for(self, damaged: Redis) -> None:
        output, code = check("--json", "--kind", "husk")
        assert code == 1
        assert json.loads(output) == {
            "id": f"husk/blob//{digest(2)}",
            "kind": "husk",
            "severity": "info",
            "place": "blob",
            "repository": None,
            "digest": digest(2),
            "facts": {"left": "length"},
            "repairable": True,
        }

    def test_a_check_can_be_limited_to_repositories_and_kinds(self, damaged: Redis) -> None:
        assert check("--repository", "b", "--json")[0].count("\n") == 1
        assert check("--repository", "b", "--repository", "a")[0].startswith("error")
        assert check("--repository", "b", "--kind", "corrupt", "dangling-member")[1] == 0
        assert "unreferenced" not in check()[0]
        write_blob(damaged, digest(4), "whole")
        assert f"\t{digest(4)}\t" in check("--kind", "unreferenced")[0]

    def test_kinds_that_cannot_be_found_in_one_repository_are_refused(self, damaged: Redis) -> None:
        err = StringIO()
        arguments = ("--repository", "c", "--kind", "husk")
        with pytest.raises(SystemExit) as end:
            call_command("blobcache", "check", *arguments, stdout=StringIO(), stderr=err)
        assert end.value.code == 2
        assert err.getvalue() == "husk cannot be checked in single repositories.\n"

    def test_fixed_findings_are_gone(
        self, damaged: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        output, code = check("--fix", "--yes")
        assert code == 0
        assert output.count("\tRepaired\n") + output.count("\tAlready resolved, skipped\n") == 4
        assert re.search(r"^4 findings, 3 of them errors\. Repaired: \d", output, re.MULTILINE)
        assert check("--kind", *(frozenset(FINDING_KINDS) - TRUTH_KINDS)) == check()
        assert set(contents(damaged)) == {
            f"blobs::{digest(3)}".encode(),
            b"repository::a::blobs",
            f"repository::a::blobs::{digest(3)}".encode(),
        }

    def test_what_a_fix_keeps_is_still_a_finding(self, default_cache: Redis) -> None:
        write_member(default_cache, "a", digest(1), override="absent")
        with override_settings(BLOBCACHE={"default": {"ROLE": "primary"}}):
            output, code = check("--fix", "--yes", "--json")
        assert (json.loads(output)["outcome"], code) == ("kept", 1)

    def test_invalid_arguments_are_refused(self, default_cache: Redis) -> None:
        for arguments in (["--kind", "wrong"], ["--repository"]):
            with pytest.raises(CommandError):
                check(*arguments)
        with pytest.raises(CommandError, match="not a valid repository name") as error:
            check("--repository", "Not a Name")
        assert error.value.returncode == 2

    def test_a_read_only_registry_is_checked_and_not_fixed(self, damaged: Redis) -> None:
        with override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}):
            assert check()[1] == 1
            with pytest.raises(CommandError, match="read-only") as error:
                check("--fix", "--yes")
        assert error.value.returncode == 2

    def test_a_registry_in_memory_cannot_be_checked(self) -> None:
        with (
            override_settings(BLOBCACHE={"default": MEMORY}),
            pytest.raises(CommandError, match="'default' keeps no index") as error,
        ):
            check()
        assert error.value.returncode == 2

    def test_exit_codes(self, damaged: Redis, valkey: embedded.Server) -> None:
        done = manage(valkey, "check", "--json")
        assert (done.returncode, done.stdout.count("\n")) == (1, 4), done.stderr
        run("check", "--kind", "orphan-override")  # which are not there: this is success
        with (
            cache_at(GONE),
            pytest.raises(CommandError, match="The cache is not available") as error,
        ):
            check()
        assert error.value.returncode == 2


class TestCommandLine:
    def test_it_prints_one_line_and_succeeds(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        done = manage(valkey, "reindex")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Indexed 0 repositories as of ")
        assert done.stderr == ""

    def test_it_fails_in_one_line_without_a_traceback_when_redis_is_down(self) -> None:
        done = manage(None, "reindex")
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("CommandError: The cache is not available")
        assert done.stderr.count("\n") == 1

    def test_without_a_subcommand_it_exits_with_a_usage_error(self) -> None:
        done = manage(None)
        assert done.returncode == 2
        assert "SUBCOMMAND" in done.stderr

    def test_help_works_without_redis(self, capsys: pytest.CaptureFixture[str]) -> None:
        with cache_at(GONE), pytest.raises(SystemExit) as end:
            run("reindex", "--help")
        assert end.value.code == 0
        assert "--registry" in capsys.readouterr().out
