"""The runbook of the doctor's page: the commands of each symptom cure it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from redis import Redis

from blobcache.doctor import settled
from tests.backends.cases import data, digest_of, layer_link
from tests.backends.truth import storage_as_truth
from tests.doctor.test_truth import World
from tests.management.running import HELLO, ROOT, run, run_line
from tests.warming.worlds import Clock

PAGE = (ROOT / "docs" / "doctor.md").read_text()
SYMPTOMS = re.findall(
    r"^### (.+)$", PAGE.partition("\n## By symptom\n")[2].partition("\n## ")[0], re.MULTILINE
)
APP = "team/app"


def commands(heading: str) -> list[str]:
    """Our commands below that heading, in their order."""
    text = PAGE.partition(f"\n### {heading}\n")[2]
    text = re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    return [line for line in blocks.splitlines() if line.startswith("python manage.py ")]


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A registry whose repository has two blobs, one of which another one has too."""
    world = World(tmp_path, default_cache)
    for content in (b"hello", b"world"):
        world.push(APP, content)
    world.push("team/web", b"hello")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settled, "_wait", lambda _: None)
    clock = Clock()
    with (
        storage_as_truth(tmp_path, SETTLE=1),
        patch("blobcache.warming.warm.monotonic", clock),
        patch("blobcache.warming.warm.sleep", clock.pause),
    ):
        run("reindex")
        yield world


def collected(world: World) -> None:
    world.remove(data(HELLO))
    Path("gc.log").write_text(f"blob eligible for deletion: {HELLO}\n")


def stale_manifest(world: World) -> None:
    manifest = world.push(APP, b"{}")
    world.cache.srem(f"repository::{APP}::blobs", manifest)
    world.cache.delete(f"repository::{APP}::blobs::{manifest}")
    world.remove(data(manifest))
    world.remove(layer_link(APP, manifest))


def deleted(world: World) -> None:
    world.remove(layer_link(APP, HELLO))


def restored(world: World) -> None:
    for number in range(40):
        world.push(APP, b"stays %d" % number)
    for number in range(30):
        lost = world.push(APP, b"%d" % number)
        world.remove(data(lost))
        world.remove(layer_link(APP, lost))


def flushed(world: World) -> None:
    world.cache.flushdb()


DAMAGE: dict[str, Callable[[World], None]] = {
    "A pull ends in EOF": collected,
    'A push says "already exists", and the pull fails': stale_manifest,
    "A deleted image is back": deleted,
    "After a garbage collection": collected,
    "After a restore of the storage": restored,
    "Redis was flushed": flushed,
}


def test_each_symptom_has_its_damage_here() -> None:
    assert list(DAMAGE) == SYMPTOMS


@pytest.mark.parametrize("symptom", DAMAGE)
def test_the_commands_cure_it_and_keep_what_is_stored(symptom: str, world: World) -> None:
    DAMAGE[symptom](world)
    assert commands(symptom)
    for line in commands(symptom):
        done = run_line(line)
        assert done.code in (0, 1), (line, done.err)
    assert run("check").code == 0
    world_digest = digest_of(b"world")
    assert world.cache.sismember(f"repository::{APP}::blobs", world_digest)
    assert world.cache.exists(f"blobs::{world_digest}")


@pytest.mark.parametrize("symptom", ["A pull ends in EOF", "A deleted image is back"])
def test_without_a_backend_the_last_command_cures_it(symptom: str, default_cache: Redis) -> None:
    default_cache.sadd(f"repository::{APP}::blobs", HELLO)
    default_cache.hset(f"blobs::{HELLO}", mapping={"digest": HELLO, "size": 5})
    assert run_line(commands(symptom)[-1]).code == 0
    assert not default_cache.sismember(f"repository::{APP}::blobs", HELLO)
