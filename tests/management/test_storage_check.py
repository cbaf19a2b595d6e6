"""``check`` with a backend, on the command line."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from blobcache.doctor import settled
from blobcache.doctor.last_run import LastRun
from blobcache.doctor.saved import SavedCheck
from blobcache.doctor.scan import Diagnosis
from blobcache.findings import Kind
from blobcache.services import get_backend, get_browsable
from tests.backends.cases import data, layer_link
from tests.backends.truth import storage_as_truth
from tests.doctor.test_truth import World
from tests.management.running import run


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> Iterator[World]:
    world = World(tmp_path, default_cache)
    with storage_as_truth(tmp_path, SETTLE=1):
        yield world


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times that a repair waits, which it does not do here."""
    found: list[float] = []
    monkeypatch.setattr(settled, "_wait", found.append)
    return found


def unlinked(world: World, count: int = 1) -> list[str]:
    digests = [world.push("team/app", b"%d" % number) for number in range(count)]
    for digest in digests:
        world.remove(layer_link("team/app", digest))
    return digests


def test_a_cache_that_agrees_is_said_to(world: World) -> None:
    assert run("check") == (
        0,
        "No problems found: the cache agrees with the registry's storage.\n",
        "",
    )


def test_a_lie_is_found_and_cured(world: World, waits: list[float]) -> None:
    (digest,) = unlinked(world)
    done = run("check")
    assert done.rows[0][:4] == ["error", "unlinked-member", "team/app", digest]
    assert "link is missing" in done.rows[0][4]
    assert done.code == 1
    done = run("check", "--fix", "--yes")
    assert done.rows[0][5] == "Repaired"
    assert (done.code, len(waits)) == (0, 1)
    assert run("check").code == 0


def test_what_only_the_storage_can_cure_is_only_reported(world: World, waits: list[float]) -> None:
    digest = world.push("team/app", b"content")
    world.write(layer_link("team/app", digest), b"rubbish")
    (row, *_) = run("check", "--fix", "--yes").rows
    assert (row[1], row[5]) == ("corrupt-link", "Only reported")


def test_too_much_is_refused_and_shown(world: World, waits: list[float]) -> None:
    digests = unlinked(world, 21)
    done = run("check", "--fix", "--yes")
    assert done.code == 2
    assert "which is more than 10 %. Nothing was cleared by it." in done.err
    assert {row[3] for row in done.rows} == set(digests)
    assert waits == []
    assert run("check", "--fix", "--yes", "--max-share", "100").code == 0


def test_what_cannot_be_judged_is_a_failure(world: World) -> None:
    shutil.rmtree(world.root)
    done = run("check", "--fix", "--yes")
    assert done.code == 2
    assert "3 entries could not be judged." in done.err
    assert "No problems found" not in done.out


def test_an_interrupted_check_goes_on(world: World) -> None:
    unlinked(world)
    world.remove(data(world.push("team/web", b"gone")))
    diagnosis = Diagnosis(get_browsable(), backend=get_backend())
    step = diagnosis.step("", budget=0)
    before = len(step.findings)
    SavedCheck(diagnosis).write(step.next, Counter(each.kind for each in step.findings))
    done = run("check", "--resume", "--json")
    assert len(done.findings) + before == 3
    assert done.code == 1
    assert len(run("check", "--resume", "--json").findings) == 3, (
        "the end is no place to go on from"
    )


def test_a_check_goes_on_only_with_the_same_options(world: World) -> None:
    diagnosis = Diagnosis(get_browsable(), backend=get_backend())
    SavedCheck(diagnosis).write(diagnosis.step("", budget=0).next, {Kind.MISSING_DATA: 5})
    assert run("check", "--resume", "--quick").code == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--resume", "--fix", "--yes"], "--resume and --fix do not go together."),
        (["--quick", "--repository", "keep"], "--quick and --repository do not go together."),
        (["--deep", "00000101"], "'00000101' is not a number from 0 to 100."),
        (["--deep", "101"], "'101' is not a number from 0 to 100."),
        (["--max-share", "many"], "'many' is not a number from 0 to 100."),
    ],
)
def test_wrong_options_are_said(arguments: list[str], error: str, world: World) -> None:
    done = run("check", *arguments)
    assert done.code == 2
    assert error in done.err


def test_deep_reads_the_data(world: World) -> None:
    digest = world.push("team/app", b"content")
    world.write(data(digest), b"CONTENT")
    assert run("check").code == 0
    done = run("check", "--deep")
    assert done.rows[0][:4] == ["error", "storage-damage", "-", digest]
    assert run("check", "--deep", "0%").code == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--quick"], "unlinked-member cannot be checked with --quick.\n"),
        (["--repository", "keep"], "stale-manifest cannot be checked in single repositories.\n"),
    ],
)
def test_why_a_kind_cannot_be_checked_is_said(
    arguments: list[str], error: str, world: World
) -> None:
    done = run("check", "--kind", error.split(maxsplit=1)[0], *arguments)
    assert (done.code, done.err) == (2, error)


def test_quick_looks_at_the_global_descriptors_alone(world: World) -> None:
    unlinked(world)
    assert run("check", "--quick").code == 0


def test_without_a_backend_the_storage_was_not_checked(default_cache: Redis) -> None:
    assert "The registry's storage was not checked." in run("check").out
    done = run("check", "--kind", "missing-data")
    assert (done.code, done.err) == (
        2,
        "missing-data cannot be checked without a backend: see the setting TRUTH.\n",
    )
    assert run("check", "--deep").code == 2


def test_the_result_of_a_whole_check_is_kept(world: World, waits: list[float]) -> None:
    assert LastRun.read(get_browsable()) is None
    unlinked(world)
    run("check", "--quick")
    run("check", "--repository", "team/app")
    run("check", "--kind", "unlinked-member")
    assert LastRun.read(get_browsable()) is None, "these have not looked at everything"
    run("check")
    last = LastRun.read(get_browsable())
    assert last is not None
    assert last.is_compared
    assert last.counts == {Kind.UNLINKED_MEMBER: 1}
    assert (last.errors, last.doubtful) == (1, 0)
    assert last.looked_at > 0
    assert last.age < 60
    run("check", "--fix", "--yes")
    last = LastRun.read(get_browsable())
    assert last is not None
    assert last.counts == {}


@pytest.mark.parametrize("note", ["", "[]", "[1e99, 1, 1, 1, 1, {}]", '["x", 1, 1, 1, 1, {}]', "1"])
def test_a_damaged_note_is_as_good_as_none(note: str, default_cache: Redis) -> None:
    notes = get_browsable().notes()
    assert notes is not None
    notes.write({"last-check": note}, 60)
    assert LastRun.read(get_browsable()) is None


def test_a_dry_run_says_what_needs_a_second_look(world: World, waits: list[float]) -> None:
    (digest,) = unlinked(world)
    done = run("check", "--fix", "--dry-run")
    assert done.rows[0][3] == digest
    assert done.rows[0][5] == "would be repaired if a second look at the storage confirms it"
    assert (done.code, waits) == (1, [])
    assert run("check").rows[0][3] == digest


def test_a_dry_run_says_that_it_would_be_refused(world: World, waits: list[float]) -> None:
    unlinked(world, 21)
    done = run("check", "--fix", "--dry-run")
    assert "would not be repaired" in done.err
    assert "more than 10 %" in done.err
    assert done.code == 1
