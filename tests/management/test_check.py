from __future__ import annotations

import re

import pytest
from django.test import override_settings
from redis import Redis

from tests.doctor.damage import contents, digest, write_blob, write_member
from tests.management.running import GONE, MEMORY, run
from tests.servers import cache_at


@pytest.fixture
def damaged(default_cache: Redis) -> Redis:
    """A wrong size in two repositories, and leftover fields."""
    for name in ("a", "b"):
        write_member(default_cache, name, digest(1), "size 0")
    write_blob(default_cache, digest(2), "leftover")
    write_member(default_cache, "a", digest(3))
    return default_cache


def test_an_undamaged_cache_has_no_findings(default_cache: Redis) -> None:
    write_member(default_cache, "a", digest(1))
    assert run("check") == (
        0,
        "No problems found inside the cache. The registry's storage was not checked.\n",
        "",
    )
    assert run("check", "--json").findings == []
    assert run("check", "--json", "--quiet") == (0, "", "")
    assert run("check", "--quiet") == (0, "", "")


def test_each_finding_is_a_row(damaged: Redis) -> None:
    before = contents(damaged)
    done = run("check")
    assert done.code == 1
    *rows, last = done.rows
    assert sorted(rows) == [
        ["error", "size-mismatch", "-", digest(1), "The size is 0."],
        ["error", "size-mismatch", "a", digest(1), "The size is 0."],
        ["error", "size-mismatch", "b", digest(1), "The size is 0."],
        ["info", "husk", "-", digest(2), "Leftover fields: length"],
    ]
    assert last == ["Problems: 2. Errors among them: 1. Places: 4."]
    assert contents(damaged) == before


def test_each_finding_is_a_line_of_json_if_asked_for(damaged: Redis) -> None:
    done = run("check", "--json", "--kind", "husk")
    assert done.code == 1
    assert done.findings[0] == {
        "id": f"husk/blob//{digest(2)}",
        "kind": "husk",
        "severity": "info",
        "place": "blob",
        "repository": None,
        "digest": digest(2),
        "facts": {"left": "length"},
        "repairable": True,
        "problem": f"husk/blob//{digest(2)}",
    }


def test_a_check_can_be_limited_to_repositories_and_kinds(damaged: Redis) -> None:
    assert len(run("check", "--repository", "b", "--json").findings) == 1
    assert run("check", "--repository", "b", "--repository", "a").out.startswith("error")
    assert run("check", "--repository", "b", "--kind", "corrupt", "dangling-member").code == 0
    assert "unreferenced" not in run("check").out
    write_blob(damaged, digest(4), "whole")
    assert f"\t{digest(4)}\t" in run("check", "--kind", "unreferenced").out


def test_kinds_that_cannot_be_judged_in_one_repository_are_a_failure(damaged: Redis) -> None:
    done = run("check", "--repository", "b", "--kind", "husk")
    assert done.err == "husk cannot be checked in single repositories.\n"
    assert done.code == 2
    # Findings of other kinds are reported, but they do not hide that.
    done = run("check", "--repository", "a", "--kind", "husk", "size-mismatch")
    assert len(done.rows) == 2
    assert done.code == 2


def test_a_repository_that_is_not_there_is_a_failure(damaged: Redis) -> None:
    done = run("check", "--repository", "team/misspelt")
    assert done == (2, "", "There is no repository team/misspelt. Is it misspelt?\n")
    done = run("check", "--repository", "a", "team/misspelt")
    assert done.code == 2
    assert len(done.rows) == 2
    # One whose key is damaged is there.
    damaged.set("repository::c::blobs", "text")
    assert run("check", "--repository", "c").code == 1


def test_fixed_findings_are_gone(damaged: Redis) -> None:
    done = run("check", "--fix", "--yes")
    assert done.code == 0
    assert done.out.count("\tRepaired\n") + done.out.count("\tAlready resolved, skipped\n") == 4
    sums = r"^Problems: 2\. Errors among them: 1\. Places: 4\. Repaired: \d"
    assert re.search(sums, done.out, re.MULTILINE)
    # The bad hash is deleted, and the repositories still hold the blob: a miss in each.
    assert set(contents(damaged)) == {
        f"blobs::{digest(3)}".encode(),
        b"repository::a::blobs",
        f"repository::a::blobs::{digest(1)}".encode(),
        f"repository::a::blobs::{digest(3)}".encode(),
        b"repository::b::blobs",
        f"repository::b::blobs::{digest(1)}".encode(),
    }
    assert damaged.sismember("repository::a::blobs", digest(1))
    assert damaged.sismember("repository::b::blobs", digest(1))
    left = run("check", "--json").findings
    assert {(each["kind"], each["facts"]["missing"]) for each in left} == {
        ("dangling-member", "descriptor")
    }


def test_one_bad_hash_is_one_problem_however_many_repositories_hold_the_blob(
    default_cache: Redis,
) -> None:
    for name in "abcd":
        write_member(default_cache, name, digest(1), "no number")
    done = run("check")
    assert done.rows[-1] == ["Problems: 1. Errors among them: 1. Places: 5."]
    some = run("check", "--repository", "a", "b", "c")
    assert some.rows[-1] == ["Problems: 1. Errors among them: 1. Places: 3."]
    found = run("check", "--json").findings
    assert {each["problem"] for each in found} == {f"corrupt/blob//{digest(1)}"}
    assert len({each["id"] for each in found}) == 5
    run("check", "--repository", "b", "--fix", "--yes")
    assert not default_cache.exists(f"blobs::{digest(1)}")
    assert all(default_cache.sismember(f"repository::{name}::blobs", digest(1)) for name in "abcd")
    last = run("status", "--json").objects[0]["last_check"]
    assert (last["counts"], last["places"]) == ({"corrupt": 1}, {"corrupt": 5})


def test_what_a_fix_keeps_is_still_a_finding(default_cache: Redis) -> None:
    write_member(default_cache, "a", digest(1), override="absent")
    with override_settings(BLOBCACHE={"default": {"ROLE": "primary"}}):
        done = run("check", "--fix", "--yes", "--json")
    assert (done.findings[0]["outcome"], done.code) == ("kept", 1)


def test_invalid_arguments_are_refused(default_cache: Redis) -> None:
    done = run("check", "--kind", "wrong\x1b[31m")
    assert "argument --kind: " in done.err
    assert "\x1b" not in done.err
    assert done.code == 2
    assert "expected at least one argument" in run("check", "--repository").err
    done = run("check", "--repository", "Not a Name")
    assert "not a valid repository name" in done.err
    assert done.code == 2


def test_a_read_only_registry_is_checked_and_not_fixed(damaged: Redis) -> None:
    with override_settings(BLOBCACHE={"default": {"READ_ONLY": True}}):
        assert run("check").code == 1
        done = run("check", "--fix", "--yes")
    assert "read-only" in done.err
    assert done.code == 2


def test_a_registry_in_memory_cannot_be_checked() -> None:
    with override_settings(BLOBCACHE={"default": MEMORY}):
        done = run("check")
    assert "'default' keeps no index" in done.err
    assert done.code == 2


def test_a_check_that_redis_does_not_answer_has_failed() -> None:
    with cache_at(GONE):
        done = run("check")
    assert "The cache is not available" in done.err
    assert done.code == 2


def test_each_kind_that_was_found_is_explained_on_request(damaged: Redis) -> None:
    plain, done = run("check"), run("check", "--explain")
    explained = done.out.removeprefix(plain.out[: plain.out.rindex("\n", 0, -1)])
    assert "husk: There is no descriptor, only some leftover fields of one." in explained
    for title in ("Pull", "Push", "Mount", "Repair"):
        assert f"\n  {title}: " in explained
    assert "stale-manifest" not in explained
    assert done.code == plain.code


def test_findings_that_are_harmless_need_not_be_a_failure(default_cache: Redis) -> None:
    write_blob(default_cache, digest(2), "leftover")
    assert run("check").code == 1
    assert run("check", "--fail-on", "error").code == 0
    write_member(default_cache, "a", digest(1), "size 0")
    assert run("check", "--fail-on", "error").code == 1
    # The repair leaves a miss in the repository.
    assert run("check", "--fix", "--yes").code == 0
    assert run("check", "--fail-on", "error").code == 0
    assert "invalid choice" in run("check", "--fail-on", "nothing").err


def test_the_last_line_of_json_has_the_sums(damaged: Redis) -> None:
    last = run("check", "--json").objects[-1]["summary"]
    assert last == {
        "problems": 2,
        "errors": 1,
        "places": 4,
        "kinds": {"size-mismatch": 1, "husk": 1},
        "solved": 0,
        "dry_run": False,
        "looked_at": last["looked_at"],
        "doubtful": 0,
        "uncached": 0,
        "incomparable": 0,
        "compared": False,
    }
    assert last["looked_at"] > 0
    assert run("check", "--json", "--fix", "--yes").objects[-1]["summary"]["solved"] > 0


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(damaged: Redis) -> None:
    before = contents(damaged)
    done = run("check", "--fix", "--dry-run")
    assert done.code == 1
    *rows, sums, last = done.rows
    assert [row[-1] for row in rows] == ["would be repaired"] * 4
    assert "would be repaired: 4." in sums[0]
    assert last == ["This was a dry run: nothing was changed."]
    found = run("check", "--fix", "--dry-run", "--json")
    assert {each["would"] for each in found.findings} == {"repair"}
    assert found.objects[-1]["summary"]["dry_run"] is True
    assert contents(damaged) == before


def test_a_dry_run_without_fix_is_refused(default_cache: Redis) -> None:
    done = run("check", "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert "--dry-run needs --fix" in done.err


def test_quiet_writes_findings_and_no_sums(damaged: Redis) -> None:
    assert len(run("check", "--quiet").rows) == 4
    assert len(run("check", "--quiet", "--json").objects) == 4
