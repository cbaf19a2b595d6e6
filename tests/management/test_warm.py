"""``warm`` on the command line."""

from __future__ import annotations

import shutil
import signal
from io import StringIO
from pathlib import Path

import pytest
from django.test import override_settings
from redis import Redis

from blobcache.redis.keys import CatalogKeys
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.backends.cases import layer_link
from tests.management.running import HELLO, MEMORY, Terminal, run, stored

ALL = "Read 3 links: 3 added, 0 already there.\n"


def test_it_fills_the_cache(default_cache: Redis, tmp_path: Path) -> None:
    with stored(tmp_path):
        assert run("warm", "--dry-run") == (
            0,
            "Read 3 links: 3 would be added, 0 already there.\n",
            "",
        )
        assert default_cache.keys("*") == []
        assert run("warm") == (0, ALL, "")
        assert run("warm") == (0, "Read 3 links: 0 added, 3 already there.\n", "")
    team = RedisBlobDescriptorCacheProvider().repository_scoped("team/app")
    assert team.stat(HELLO).size == 5


def test_every_change_is_attributed(
    default_cache: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stored(tmp_path), caplog.at_level("INFO", "blobcache.audit"):
        run("warm", "--repository", "team/web")
    (line,) = [each.getMessage() for each in caplog.records if each.name == "blobcache.audit"]
    assert line.startswith("set registry='default' repository=team/web")
    assert line.endswith("source='command'")


def test_what_differs_is_a_row_and_exit_code_1(default_cache: Redis, tmp_path: Path) -> None:
    default_cache.hset(f"blobs::{HELLO}", mapping={"digest": HELLO, "size": "6"})
    with stored(tmp_path):
        done = run("warm", "--repository", "team/web")
    assert done.code == 1
    row, *sums = done.rows
    assert row[:3] == ["team/web", HELLO, "differs"]
    assert sums == [["Read 1 links: 0 added, 0 already there."], ["Also: 1 differs."]]


def test_what_could_not_be_judged_is_exit_code_2(default_cache: Redis, tmp_path: Path) -> None:
    with stored(tmp_path) as world:
        world.write(layer_link("team/web", HELLO), b"\x1b[31m")
        done = run("warm", "--json")
    assert done.code == 2
    case, sums = done.objects
    assert case == {
        "repository": "team/web",
        "digest": HELLO,
        "outcome": "corrupt-link",
        "reason": case["reason"],
    }
    assert (sums["links"], sums["added"], sums["corrupt-link"]) == (3, 2, 1)
    assert (sums["waiting"], sums["resumed"]) == (0, False)


def test_a_repository_that_is_not_there_is_exit_code_1(
    default_cache: Redis, tmp_path: Path
) -> None:
    with stored(tmp_path):
        done = run("warm", "--repository", "team/wbe", "team/web")
    assert done.rows[0] == ["team/wbe", "-", "no-links", "-"]
    assert "Also: 1 no-links." in done.out
    assert done.code == 1


def test_it_says_what_is_not_there(default_cache: Redis, tmp_path: Path) -> None:
    with stored(tmp_path) as world:
        shutil.rmtree(world.root / "repositories")
        done = run("warm")
    assert done.err.startswith("CommandError: The registry's storage is not there. (")
    assert f"{world.root}/repositories is missing" in done.err
    assert done.code == 2


def test_it_says_where_it_went_on(default_cache: Redis, tmp_path: Path) -> None:
    with stored(tmp_path):
        run("warm", "--repository", "team/web")
        noted = {"low": "0", "high": "1", "batch:0": f'["team/web",[["{HELLO}",null,5,null,15]]]'}
        for name, value in noted.items():
            default_cache.hset(CatalogKeys.of().warm, name, value)
        done = run("warm")
    assert done.code == 0
    assert done.out.startswith("It continued where an earlier warm had stopped.\n")


def test_progress_is_shown_on_a_terminal(default_cache: Redis, tmp_path: Path) -> None:
    with stored(tmp_path):
        assert run("warm", err=Terminal()).out == ALL


def test_an_interrupt_says_what_it_waits_for(
    default_cache: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        if default_cache.keys("repository::*"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("blobcache.management.progress.Progress.update", interrupt)
    err = StringIO()
    with stored(tmp_path), pytest.raises(KeyboardInterrupt):
        run("warm", err=err)
    assert err.getvalue().startswith("Stopping.")
    assert "at most 10 seconds" in err.getvalue()
    assert not default_cache.exists(CatalogKeys.of().warm_lock)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, "names no backend for the registry 'default'"),
        (MEMORY, "names no backend"),
        ({"READ_ONLY": True}, "names no backend"),
    ],
)
def test_without_a_backend_there_is_nothing_to_warm_from(
    settings: dict[str, object], error: str
) -> None:
    with override_settings(BLOBCACHE={"default": settings}):
        done = run("warm")
    assert (done.code, done.out) == (2, "")
    assert error in done.err


def test_where_it_must_not_run_it_says_why(default_cache: Redis, tmp_path: Path) -> None:
    with stored(tmp_path, READ_ONLY=True):
        done = run("warm")
        assert (done.code, done.out) == (2, "")
        assert "read-only" in done.err
    with stored(tmp_path, **MEMORY):
        assert "keeps no index" in run("warm").err
    with stored(tmp_path) as world:
        world.root.rename(tmp_path / "elsewhere")
        done = run("warm")
    assert done.code == 2
    assert "storage is not there" in done.err


@pytest.mark.parametrize("number", ["0", "65", "x", "-1"])
def test_a_wrong_number_of_threads_is_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("warm", "--threads", number).code == 2
