from __future__ import annotations

import logging

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.exceptions import CacheUnavailable
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from blobcache.services.base import PurgeManyResult
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.doctor.damage import contents, digest, write_member
from tests.management.running import HELLO, MEMORY, run, write_sample
from tests.servers import commands


def test_it_clears_everywhere_and_names_the_repositories(default_cache: Redis) -> None:
    write_sample(default_cache)
    done = run("purge", "--yes", HELLO, digest(9))
    assert sorted(done.rows[:-1]) == [["team/app", HELLO], ["team/web", HELLO]]
    assert done.out.endswith("Purged 2 blobs. Removed from repositories 2 times.\n")
    assert done.code == 0
    assert HELLO.encode() not in b" ".join(contents(default_cache))


def test_a_list_of_digests_takes_one_walk(default_cache: Redis, valkey: embedded.Server) -> None:
    for number in range(60):
        write_member(default_cache, f"r{number % 3}", digest(number))
    default_cache.mset({f"others:{number}": "" for number in range(1000)})
    lines = "".join(f"{digest(number)}\n" for number in range(60))

    def scans(lines: str) -> int:
        with valkey.client() as observer, commands(observer) as traffic:
            assert run("purge", "-", "--yes", "--json", stdin=lines).code == 0
        return traffic.calls["scan"]

    one = scans(f"{digest(0)}\n")
    assert scans(lines) <= one * 4
    assert not any(b"sha256" in key for key in contents(default_cache))


def test_json_has_a_line_for_each_repository(default_cache: Redis) -> None:
    write_sample(default_cache)
    assert run("purge", HELLO, "--yes", "--json").objects == [
        {"repository": "team/app", "digest": HELLO},
        {"repository": "team/web", "digest": HELLO},
    ]


@pytest.mark.parametrize("line", ["sha256:beef", f"team/app {HELLO}", "\x00", "- - -"])
def test_a_line_that_is_no_digest_is_an_error_before_anything_is_done(
    default_cache: Redis, line: str
) -> None:
    write_sample(default_cache)
    before = contents(default_cache)
    done = run("purge", "-", "--yes", stdin=f"{HELLO}\n\n{line}\n")
    assert done.err.startswith("CommandError: Nothing was done. Line 3 of standard input: ")
    assert done.code == 2
    assert contents(default_cache) == before


def test_nothing_to_purge_is_done_at_once(default_cache: Redis) -> None:
    assert run("purge", "-", stdin="").out == (
        "Purged 0 blobs. Removed from repositories 0 times.\n"
    )


def test_a_dry_run_names_what_would_be_cleared_and_changes_nothing(default_cache: Redis) -> None:
    write_sample(default_cache)
    before = contents(default_cache)
    # Leftover fields are cleared too.
    done = run("purge", "--dry-run", HELLO, digest(2), digest(9))
    assert done.rows == [
        ["-", digest(2)],
        ["-", HELLO],
        ["team/app", HELLO],
        ["team/web", HELLO],
    ]
    assert done.code == 0
    assert contents(default_cache) == before


def test_a_purge_that_fails_says_how_far_it_came(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sample(default_cache)
    purge = RedisBlobDescriptorCacheProvider.purge_many

    def first_step_only(
        self: RedisBlobDescriptorCacheProvider, digests: list[str], cursor: str = ""
    ) -> PurgeManyResult:
        if cursor:
            raise CacheUnavailable("The cache is not available.")
        return purge(self, digests, cursor)

    monkeypatch.setattr(RedisBlobDescriptorCacheProvider, "purge_many", first_step_only)
    provider = get_provider()
    assert isinstance(provider, RedisBlobDescriptorCacheProvider)
    provider.catalog.budgets = type(provider.catalog.budgets)(purge=0)
    done = run("purge", HELLO, "--yes")
    assert done.err == (
        "The purge is not complete: the global descriptors are cleared, but not all repositories. "
        "Run it again with the same digests.\n"
        "CommandError: The cache is not available.\n"
    )
    assert done.code == 2


def test_it_works_with_a_provider_that_has_no_catalog() -> None:
    with override_settings(BLOBCACHE={"default": MEMORY}):
        get_provider().repository_scoped("team/app").set_descriptor(A, make_descriptor(A))
        assert run("purge", A, B, "--yes").rows[0] == ["team/app", A]
        assert "keeps no index" in run("purge", A, "--dry-run").err


def test_every_change_is_attributed(default_cache: Redis, caplog: pytest.LogCaptureFixture) -> None:
    write_sample(default_cache)
    with caplog.at_level(logging.INFO, "blobcache.audit"):
        run("purge", "--yes", HELLO)
    assert len(caplog.messages) == 4
    assert all(line.endswith(" source='command'") for line in caplog.messages)
