from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings
from redis import Redis

from blobcache.exceptions import CursorInvalid
from blobcache.redis.catalog import Catalog
from blobcache.services import get_provider
from project import embedded
from tests.conformance import A, of
from tests.servers import cache_at, commands

ROOT = Path(__file__).parent.parent
MEMORY = {"PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"}


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("blobcache", *arguments, stdout=out)
    return out.getvalue()


def manage(server: embedded.Server | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py blobcache as an operator does."""
    url = server.url if server else "redis://127.0.0.1:1/0"
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "blobcache", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "BLOBCACHE_REDIS_URL": url,
            "BLOBCACHE_READ_ONLY": "0",
            "DJANGO_LOG_LEVEL": "ERROR",
        },
        capture_output=True,
        text=True,
        check=False,
    )


class TestReindex:
    def test_it_indexes_what_a_registry_wrote_and_says_how_much(self, default_cache: Redis) -> None:
        for name in ("team/app", "team/web", "MyTeam/app"):
            default_cache.sadd(f"repository::{name}::blobs", str(A))
        default_cache.set("something else", "x")
        said = re.fullmatch(r"Indexed 3 repositories as of (.+)\.\n", run("reindex"))
        assert said
        as_of = datetime.strptime(said[1], "%Y-%m-%dT%H:%M:%S%z")
        assert abs(datetime.now(UTC) - as_of) < timedelta(seconds=10)

    def test_each_run_builds_anew(self, default_cache: Redis) -> None:
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

    def test_an_unknown_registry_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(
            CommandError, match=r"invalid choice: 'missing' \(choose from '?default"
        ):
            run("reindex", "--registry", "missing")
        with pytest.raises(ImproperlyConfigured, match="no registry 'missing'"):
            call_command("blobcache", "reindex", registry="missing")

    def test_a_registry_in_memory_has_no_index(self) -> None:
        with override_settings(BLOBCACHE={"default": MEMORY}):
            get_provider().repository_scoped("team/app").set_descriptor(A, of(A))
            with pytest.raises(CommandError, match="'default' keeps no catalog"):
                run("reindex")

    def test_a_read_only_registry_is_not_indexed_in_its_own_redis(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        with (
            override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}),
            valkey.client() as observer,
            commands(observer) as traffic,
            pytest.raises(CommandError, match="'default' is read-only, its index as well"),
        ):
            run("reindex")
        assert traffic.round_trips == 0

    def test_a_read_only_registry_is_indexed_elsewhere(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        default_cache.sadd("repository::team/app::blobs", str(A))
        entry = {"READ_ONLY": True, "CATALOG_ALIAS": "index"}
        with (
            cache_at(valkey.url.replace("/0", "/1"), "index"),
            override_settings(BLOBCACHE={"default": entry}),
        ):
            assert run("reindex").startswith("Indexed 1 repositories")
        assert default_cache.keys() == [b"repository::team/app::blobs"]

    def test_a_redis_that_is_down_is_told_with_its_cause(self) -> None:
        with (
            cache_at("redis://127.0.0.1:1"),
            pytest.raises(CommandError, match=r"not available .*\(.*127\.0\.0\.1:1.*\)$"),
        ):
            run("reindex")

    def test_an_error_without_a_cause_is_told_alone(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def changed(_: Catalog) -> None:
            raise CursorInvalid("The cursor belongs to a cluster that has changed since.")

        monkeypatch.setattr(Catalog, "reindex", changed)
        with pytest.raises(CommandError, match=r"changed since\.$"):
            run("reindex")


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
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("CommandError: The cache is not available")
        assert done.stderr.count("\n") == 1

    def test_it_asks_for_a_task(self) -> None:
        done = manage(None)
        assert done.returncode == 2
        assert "TASK" in done.stderr

    def test_it_explains_itself_without_redis(self) -> None:
        done = manage(None, "reindex", "--help")
        assert done.returncode == 0
        assert "--registry" in done.stdout
