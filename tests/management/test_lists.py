from __future__ import annotations

from datetime import datetime
from time import time

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.doctor.last_run import LastRun
from blobcache.services import get_browsable
from project import embedded
from tests.doctor.damage import OCTETS, digest, write_member
from tests.management.running import GONE, HELLO, MEMORY, run, write_sample
from tests.servers import cache_at


class TestRepositories:
    def test_all_are_listed_by_name_although_nothing_is_indexed(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        for number in range(600):  # more than one page
            default_cache.sadd(f"repository::many/r{number:03}::blobs", HELLO)
        done = run("repositories")
        assert done.rows[:2] == [["many/r000", "1"], ["many/r001", "1"]]
        assert done.rows[-2:] == [["team/app", "2"], ["team/web", "1"]]
        assert len(done.rows) == 602
        assert done.code == 0

    def test_the_list_can_be_narrowed(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        assert run("repositories", "--prefix", "team/w").rows == [["team/web", "1"]]
        assert run("repositories", "--limit", "1").rows == [["team/app", "2"]]
        assert run("repositories", "--prefix", "none/") == (0, "", "")
        assert run("repositories", "--json", "--limit=1").objects == [
            {"name": "team/app", "blobs": 2}
        ]
        assert "at least 1" in run("repositories", "--limit", "0").err

    def test_an_index_that_is_too_old_is_built_again(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_sample(default_cache)
        run("reindex")
        default_cache.sadd("repository::team/new::blobs", HELLO)
        assert "team/new" not in run("repositories").out
        monkeypatch.setattr("blobcache.services.catalog.time", lambda: time() + 1000)
        assert "team/new" in run("repositories").out

    def test_fresh_builds_an_index_again_that_is_not_too_old(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        run("reindex")
        default_cache.sadd("repository::team/new::blobs", HELLO)
        assert "team/new" not in run("holders", HELLO).out
        assert "team/new" in run("holders", HELLO, "--fresh").out
        default_cache.sadd("repository::team/newer::blobs", HELLO)
        assert "team/newer" not in run("repositories").out
        assert "team/newer" in run("repositories", "--fresh").out
        with override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}):
            done = run("repositories", "--fresh")
        assert (done.code, done.out) == (2, "")
        assert "CATALOG_ALIAS" in done.err

    def test_an_index_that_cannot_be_built_is_a_failure_after_what_is_known(
        self, default_cache: Redis
    ) -> None:
        write_sample(default_cache)
        with override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}):
            done = run("repositories")
        assert "not complete" in done.err
        assert done.code == 2

    def test_names_that_others_wrote_do_not_reach_the_terminal_raw(
        self, default_cache: Redis
    ) -> None:
        default_cache.sadd(b"repository::\x1b]0;owned\x07\xe2\x80\xae::blobs", HELLO)
        for arguments in (("repositories",), ("repositories", "--json")):
            done = run(*arguments)
            assert done.out.isascii()
            assert set("\x1b\x07\u202e").isdisjoint(done.out)
            assert "owned" in done.out


class TestBlobs:
    def test_those_of_a_repository_have_its_media_types(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        done = run("blobs", "--repository", "team/app")
        assert sorted(done.rows) == [
            [digest(1), "0", OCTETS, "-", "size-mismatch"],
            [HELLO, "5", "text/plain", "-", "ok"],
        ]
        assert done.code == 0

    def test_the_global_ones_include_what_is_left_of_one(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        rows = {row[0]: row[4] for row in run("blobs").rows}
        assert rows == {digest(1): "size-mismatch", digest(2): "husk", HELLO: "ok"}

    def test_json_is_that_of_the_api(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        assert run("blobs", "--repository", "team/web", "--json").objects == [
            {
                "digest": HELLO,
                "size": 5,
                "mediaType": "text/plain",
                "canonical": None,
                "state": "ok",
            }
        ]

    def test_a_repository_without_blobs_is_the_answer_no(self, default_cache: Redis) -> None:
        assert run("blobs", "--repository", "team/none") == (1, "", "")
        assert run("blobs") == (0, "", "")

    def test_a_limit_ends_the_list(self, default_cache: Redis) -> None:
        for number in range(50):
            write_member(default_cache, "a", digest(number))
        assert len(run("blobs", "--limit", "7").rows) == 7
        assert len(run("blobs", "--repository", "a", "--limit", "7").rows) == 7

    def test_a_key_of_another_type_is_a_failure(self, default_cache: Redis) -> None:
        default_cache.set("repository::team/app::blobs", "x")
        done = run("blobs", "--repository", "team/app")
        assert "is not a set" in done.err
        assert done.code == 2


class TestHolders:
    def test_all_are_listed_with_their_media_types(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        done = run("holders", HELLO)
        assert done.rows == [
            ["team/app", HELLO, "text/plain"],
            ["team/web", HELLO, "text/plain"],
        ]
        assert done.code == 0
        assert run("holders", HELLO, "--json").objects[0] == {
            "name": "team/app",
            "digest": HELLO,
            "mediaType": "text/plain",
        }

    def test_a_blob_that_nobody_holds_is_the_answer_no(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        assert run("holders", digest(9)) == (1, "", "")
        assert run("holders", HELLO, digest(9)).code == 1

    def test_what_it_writes_can_be_read_again(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        pairs = "".join(f"{row[0]}\t{row[1]}\n" for row in run("holders", HELLO).rows)
        assert [row[2] for row in run("stat", "-", stdin=pairs).rows] == ["5", "5"]


class TestSummary:
    def test_blobs_and_bytes_are_added_up(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        done = run("summary", "team/app")
        assert done.rows == [
            ["Blobs", "2"],
            ["Bytes", "5"],
            ["Blobs that nobody else holds", "1"],
            ["Bytes that nobody else holds", "0"],
            ["OK", "1"],
            ["Wrong size", "1"],
            [""],
            ["text/plain", "1", "5"],
            [OCTETS, "1", "0"],
        ]
        assert done.code == 0

    def test_json_is_one_object(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        store = get_browsable().figures
        run("reindex")
        while store.refresh().next is not None:
            pass
        (found,) = run("summary", "team/app", "--json").objects
        assert datetime.fromisoformat(found["kept"].pop("counted_at")).tzinfo
        sums = {
            "bytes": 5,
            "media_types": [
                {"mediaType": "text/plain", "count": 1, "bytes": 5},
                {"mediaType": OCTETS, "count": 1, "bytes": 0},
            ],
            "other_media_types": None,
            "states": {
                "ok": 1,
                "corrupt": 0,
                "digest-mismatch": 0,
                "size-mismatch": 1,
                "dangling-member": 0,
                "husk": 0,
            },
        }
        assert found == {
            "name": "team/app",
            "count": 2,
            "counted": 2,
            **sums,
            "kept": {"count": 2, **sums},
            "exclusive": {
                "blobs": 1,
                "bytes": 0,
                "shared_blobs": 1,
                "shared_bytes": 5,
                "as_of": found["exclusive"]["as_of"],
                "age": found["exclusive"]["age"],
                "largest": [{"digest": digest(1), "size": 0}],
            },
        }

    def test_a_namespace_is_summed_up_with_each_blob_once(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        write_member(default_cache, "other/app", digest(3))
        done = run("summary", "team/")
        assert done.rows == [
            ["Blobs", "2"],
            ["Bytes", "5"],
            ["Blobs that nobody else holds", "2"],
            ["Bytes that nobody else holds", "5"],
        ]
        (found,) = run("summary", "team/", "--json").objects
        assert (found["name"], found["count"], found["bytes"]) == ("team/", 2, 5)
        assert found["exclusive"]["blobs"] == 2
        assert run("summary", "nobody/").code == 1
        assert "the first part of a name" in run("summary", "team/app/").err
        assert "not a valid repository name" in run("summary", "No Name/").err

    def test_a_repository_of_many_parts_is_added_up_to_the_end(self, default_cache: Redis) -> None:
        for number in range(130):
            write_member(default_cache, "a", digest(number))
            default_cache.hset(
                f"repository::a::blobs::{digest(number)}", "mediatype", f"a/{number}"
            )
        catalog = get_browsable().catalog
        catalog.budgets = type(catalog.budgets)(summary=0, step=10)
        (found,) = run("summary", "a", "--json").objects
        assert (found["count"], found["counted"], found["bytes"]) == (130, 130, 650)
        assert len(found["media_types"]) == 100
        assert found["other_media_types"] == {"count": 30, "bytes": 150}

    def test_a_repository_without_blobs_is_the_answer_no(self, default_cache: Redis) -> None:
        assert run("summary", "team/none").code == 1


class TestStatus:
    def test_it_has_what_the_api_says(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        run("reindex")
        (found,) = run("status", "--json").objects
        assert found["reachable"] is True
        assert (found["role"], found["read_only"]) == ("cache", False)
        assert found["server"]["product"] == "valkey"
        assert found["server"]["refused"] == []
        assert found["catalog"]["complete"] is True
        rows = run("status").rows
        assert ["server.product", "valkey"] in rows
        assert ["catalog.complete", "true"] in rows

    def test_it_has_the_last_check(self, default_cache: Redis) -> None:
        write_sample(default_cache)
        assert run("status", "--json").objects[0]["last_check"] is None
        assert ["last_check", "-"] in run("status").rows
        run("check")
        (found,) = run("status", "--json").objects
        last = LastRun.read(get_browsable())
        assert last is not None
        assert found["last_check"] == {
            "at": found["last_check"]["at"],
            "compared": False,
            "looked_at": last.looked_at,
            "doubtful": 0,
            "uncached": 0,
            "counts": {"husk": 1, "size-mismatch": 1},
            "places": {"husk": 1, "size-mismatch": 2},
        }
        rows = run("status").rows
        assert ["last_check.counts.husk", "1"] in rows
        assert ["last_check.compared", "false"] in rows

    def test_without_redis_it_fails_and_still_prints_an_object(self) -> None:
        with cache_at(GONE):
            done = run("status", "--json")
            assert run("status").out == ""
        assert done.objects == [{"reachable": False, "role": "cache", "read_only": False}]
        assert done.err.startswith("CommandError: The cache is not available")
        assert done.code == 2

    def test_a_provider_without_a_catalog_has_less_to_say(self) -> None:
        with override_settings(BLOBCACHE={"default": MEMORY}):
            (found,) = run("status", "--json").objects
        assert (found["server"], found["catalog"]) == (None, None)


@pytest.mark.parametrize(
    "arguments", [("repositories",), ("blobs",), ("holders", HELLO), ("summary", "a")]
)
def test_a_provider_without_a_catalog_has_no_lists(arguments: tuple[str, ...]) -> None:
    with override_settings(BLOBCACHE={"default": MEMORY}):
        done = run(*arguments)
    assert "keeps no index" in done.err
    assert done.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("stat", HELLO),
        ("set", HELLO, "--size=1", "--media-type=a/b", "--yes"),
        ("clear", HELLO, "--yes"),
        ("purge", HELLO, "--yes"),
        ("purge", HELLO, "--dry-run"),
        ("repositories",),
        ("blobs",),
        ("holders", HELLO),
        ("summary", "a"),
    ],
)
def test_without_redis_everything_fails_in_one_sentence(arguments: tuple[str, ...]) -> None:
    with cache_at(GONE):
        done = run(*arguments)
    assert done.code == 2
    assert done.out == ""
    last = done.err.splitlines()[-1]
    assert last.startswith("CommandError: The cache is not available")
    assert len(done.err.splitlines()) == (
        2 if arguments[0] == "purge" and "--yes" in arguments else 1
    )


def test_a_registry_can_be_named(default_cache: Redis, valkey: embedded.Server) -> None:
    write_sample(default_cache)
    with (
        cache_at(valkey.url.replace("/0", "/1"), "second") as second,
        override_settings(BLOBCACHE={"default": {}, "second": {"CACHE_ALIAS": "second"}}),
    ):
        second.flushdb()
        assert run("stat", HELLO, "--registry", "second").code == 1
        assert run("stat", HELLO).code == 0
        done = run("stat", HELLO, "--registry", "third\x1b[31m")
    assert "there is 'default', 'second'" in done.err
    assert "\x1b" not in done.err
    assert done.code == 2
