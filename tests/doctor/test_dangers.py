"""What a comparison with the storage could do wrong, and what keeps it from that.

Most dangers have their tests beside the code that prevents them:

- a warm or an event grants what is not stored: tests/warming/test_warm.py and test_second_look.py,
  tests/notifications/test_notifications.py
- a push is just going on: tests/doctor/test_truth.py, `test_a_push_in_flight_is_left_alone`
- the storage is not mounted, or is another one: tests/doctor/test_truth.py, the tests of the share
  and `test_a_storage_that_is_not_there_proves_nothing`; tests/backends/test_listers.py
- an answer over HTTP is taken for an absence: tests/backends/test_registry_answers.py
- nobody refills a primary store: tests/doctor/test_truth.py, `test_a_primary_store_…`
- a browser runs what has an unsafe type: tests/test_media_types.py, tests/warming/test_warm.py
- a list from a client is believed: tests/api/test_doctor.py, `test_a_list_from_a_client_…`
- a link leads out of the storage: tests/backends/test_listers.py, the tests of symbolic links
- a canary is left behind: tests/backends/test_registry.py, `test_nothing_is_left_of_it`

The others are here, and so are faults while a repair works. What a client of a real registry sees
of all this is in tests/interop/test_doctor.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.test import override_settings
from redis import Redis
from werkzeug.wrappers import Response

from blobcache.backends.listers import FileSystemLister, Unreadable
from blobcache.backends.storage import StorageBackend
from blobcache.doctor import settled
from blobcache.doctor.saved import SavedCheck
from blobcache.doctor.scan import Diagnosis
from blobcache.findings import Kind, Outcome
from blobcache.redis.removals import RedisRemovals
from blobcache.services import get_backend, get_browsable
from blobcache.services.base import Backend
from blobcache.services.truth import Doubt, Witness
from project import embedded
from tests.backends.cases import ROOT, data, digest_of, layer_link
from tests.backends.s3 import running
from tests.backends.truth import storage_as_truth
from tests.doctor.damage import contents, write_member
from tests.doctor.test_truth import World, diagnosis, find, repair, repair_truth
from tests.management.running import run
from tests.servers import cache_at
from tests.warming.test_resuming import Killed, kill_at

BACKENDS = f"{__name__}."


configured = partial(storage_as_truth, SETTLE=1)


class Circular(StorageBackend):
    """Stands for a registry that reads the very cache."""

    is_complete = False

    def witness(self, cache: object) -> Witness:
        return Witness(is_independent=False, reason="It sees a canary.")


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> World:
    return World(tmp_path, default_cache)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens between the two looks of a repair, which then waits no longer than that."""
    happens: list[Callable[[], object]] = []
    monkeypatch.setattr(settled, "_wait", lambda _: [each() for each in happens])
    return happens


def lies(world: World, number: int = 3) -> None:
    """Make so many links and so much data go away, beside much that is true."""
    for each in range(number):
        for repository in ("a", "b"):
            world.push(repository, b"true %d" % each)
            world.push(repository, b"collected %d" % each)
        world.remove(data(digest_of(b"collected %d" % each)))
        world.remove(layer_link("a", world.push("a", b"deleted %d" % each)))
        world.push("b", b"deleted %d" % each)


def what_is_true(world: World) -> dict[bytes, object]:
    """What no repair may touch."""
    true = [digest_of(b"something that stays")]
    true += [digest_of(b"true %d" % number) for number in range(10)]
    return {
        key: value
        for key, value in contents(world.cache).items()
        if any(digest.encode() in key for digest in true)
    }


def repair_until(world: World, patch: pytest.MonkeyPatch, number: int, *, sent: bool) -> bool:
    """Find, look again, and end at that round trip of the rest; return whether it came so far."""
    is_dead: list[Callable[[], bool]] = []
    with suppress(Killed):
        repair(world, meanwhile=lambda: is_dead.append(kill_at(patch, number, sent=sent)))
    return is_dead[0]()


class TestSingleDangers:
    def test_a_delete_is_going_on_and_its_link_is_still_there(self, world: World) -> None:
        """A check writes nothing back: the link may go in the next moment."""
        digest = world.push("a", b"content")
        world.cache.delete("repository::a::blobs", f"repository::a::blobs::{digest}")
        before = contents(world.cache)
        assert repair(world) == []
        assert contents(world.cache) == before

    @pytest.mark.parametrize("fix", [False, True])
    def test_the_backend_reads_the_cache_that_it_shall_judge(
        self, fix: bool, world: World, tmp_path: Path, between: list[Callable[[], object]]
    ) -> None:
        """It finds all that the cache has, so its silence must not be called agreement."""
        with configured(tmp_path, BACKENDS + "Circular"):
            done = run("check", "--repository", "keep", *["--fix", "--yes"] * fix)
            assert "agrees" not in done.out
            assert (
                "What the backend says proves nothing about this cache. It sees a canary."
                in done.err
            )
            assert done.code == 2
            world.remove(layer_link("keep", digest_of(b"something that stays")))
            before = contents(world.cache)
            done = run("check", *["--fix", "--yes"] * fix)
            assert "unlinked-member" in done.out
            assert done.code == 2
        assert contents(world.cache).items() >= before.items()

    def test_such_a_backend_does_not_keep_what_was_collected(
        self, world: World, tmp_path: Path
    ) -> None:
        digest = digest_of(b"something that stays")
        with configured(tmp_path, BACKENDS + "Circular"):
            line = f"keep: layer link eligible for deletion: {digest}\n"
            done = run("purge", "--gc-log", "-", "--yes", stdin=line)
        assert "proves nothing" in done.err
        assert done.code == 0
        assert not world.cache.sismember("repository::keep::blobs", digest)

    def test_a_pull_through_registry_is_not_asked_over_http(
        self, world: World, tmp_path: Path
    ) -> None:
        """It would download whatever it is asked for."""
        world.remove(layer_link("keep", digest_of(b"something that stays")))
        world.remove(data(digest_of(b"something that stays")))
        with configured(tmp_path, BACKENDS + "Circular", PROXY=True):
            done = run("check")
        assert done.out == ""
        assert "ask its storage" in done.err
        assert done.code == 2

    def test_a_repair_in_one_repository_costs_the_others_no_miss(self, world: World) -> None:
        """The global descriptor belongs to all: it stays while its data does."""
        digests = [world.push("a", b"content %d" % each) for each in range(5)]
        for each in range(5):
            world.push("b", b"content %d" % each)
        before = contents(world.cache)
        for digest in digests:
            world.remove(layer_link("a", digest))
        assert {each.outcome for each in repair(world)} == {Outcome.REPAIRED}
        after = contents(world.cache)
        assert not world.cache.exists("repository::a::blobs")
        assert after == {key: before[key] for key in before if b"::a::" not in key}

    def test_a_size_is_never_written(self, world: World) -> None:
        """It may be the storage that is cut."""
        digest = world.push("a", b"content")
        world.cache_blob(digest, 99)
        assert {each.outcome for each in repair(world)} <= {Outcome.REPAIRED, Outcome.HEALED}
        assert not world.cache.exists(f"blobs::{digest}")

    def test_the_others_keep_their_descriptor_where_one_repository_loses_its_link(
        self, world: World
    ) -> None:
        """Else each repair would cost all others a look at the storage."""
        digest = world.push("a", b"content")
        world.push("b", b"content")
        world.remove(layer_link("a", digest))
        repair(world)
        assert world.cache.exists(f"blobs::{digest}")
        assert world.cache.exists(f"repository::b::blobs::{digest}")

    def test_findings_are_from_yesterday(self, world: World) -> None:
        """What they say does not count any more: all of it is read again."""
        digest = world.push("a", b"content")
        world.remove(layer_link("a", digest))
        asked = diagnosis(world)
        old = [each for step in asked.run() for each in step.findings]
        world.write(layer_link("a", digest), digest.encode())
        before = contents(world.cache)
        later = settled.SettledRepair(asked.provider, world.backend, settled.Safety(settle=0))
        for finding in old:
            later.add(finding)
        assert [each.outcome for each in later.run()] == [Outcome.HEALED]
        assert contents(world.cache) == before

    def test_a_collection_is_going_on(self, world: World) -> None:
        """What goes between the looks was there in one of them, so it is found the next time."""
        kept, gone = world.push("a", b"kept"), world.push("a", b"going")
        world.remove(layer_link("a", world.push("a", b"deleted")))
        repair(world, meanwhile=lambda: world.remove(data(gone)))
        assert world.cache.sismember("repository::a::blobs", gone)
        repair(world)
        assert not world.cache.sismember("repository::a::blobs", gone)
        assert world.cache.sismember("repository::a::blobs", kept)

    def test_nothing_changes_what_is_stored(
        self, world: World, tmp_path: Path, between: list[Callable[[], object]]
    ) -> None:
        lies(world)
        before = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
        with configured(tmp_path):
            assert run("check", "--deep", "--fix", "--yes").code == 0
            assert run("check").code == 0
        after = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
        assert after == before
        names = {name for name in dir(Backend) if not name.startswith("_")}
        assert names == {
            *("blobs", "check", "concurrency", "from_settings", "members", "open"),
            *("repositories", "root", "stat", "witness"),
        }


class Failing(FileSystemLister):
    """A slow storage: it answers some questions too late."""

    asked = 0

    def size(self, path: str) -> int:
        Failing.asked += 1
        if Failing.asked % 3 == 0:
            raise Unreadable(Doubt.TIMEOUT, "No answer in time.")
        return super().size(path)


class TestFaults:
    def test_a_bucket_that_throttles_between_the_looks_proves_nothing(
        self, default_cache: Redis, between: list[Callable[[], object]]
    ) -> None:
        kept, gone = digest_of(b"kept"), digest_of(b"gone")
        files = {f"{ROOT}/{data(kept)}": b"kept", f"{ROOT}/{data(gone)}": b"gone"}
        files[f"{ROOT}/{layer_link('a', kept)}"] = kept.encode()
        files[f"{ROOT}/{layer_link('b', gone)}"] = gone.encode()
        for repository, digest in (("a", kept), ("a", gone), ("b", gone)):
            write_member(default_cache, repository, digest)
            default_cache.hset(f"blobs::{digest}", mapping={"size": 4, "length": 4})
        before = {
            key: value
            for key, value in contents(default_cache).items()
            if not key.startswith(b"blobcache::")
        }
        with running() as s3:
            storage = {
                "BACKEND": "storages.backends.s3.S3Storage",
                "OPTIONS": s3.options(s3.bucket(files)),
            }
            truth = {
                "BACKEND": "blobcache.backends.storage.StorageBackend",
                "OPTIONS": {"storage": "registry"},
            }
            slow_down = Response(
                "<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>", status=503
            )
            with override_settings(
                BLOBCACHE={"default": {"TRUTH": truth, "SETTLE": 1}},
                STORAGES={**settings.STORAGES, "registry": storage},
            ):
                assert run("check").code == 1
                between.append(lambda: setattr(s3, "answer", lambda _: slow_down))
                done = run("check", "--fix", "--yes")
                assert done.code == 2
                assert contents(default_cache).items() >= before.items()
                s3.answer = lambda _: None
                between.clear()
                assert run("check", "--fix", "--yes").code == 0
        assert not default_cache.sismember("repository::a::blobs", gone)
        assert default_cache.sismember("repository::b::blobs", gone)
        assert default_cache.sismember("repository::a::blobs", kept)

    @pytest.mark.parametrize("sent", [False, True])
    def test_killed_at_any_point_nothing_true_is_gone_and_the_next_one_cures_the_rest(
        self, world: World, monkeypatch: pytest.MonkeyPatch, sent: bool
    ) -> None:
        gone = digest_of(b"collected 0")
        for number in count(1 + sent, 2):
            lies(world, 1)
            before = what_is_true(world)
            with monkeypatch.context() as patch:
                is_dead = repair_until(world, patch, number, sent=sent)
            assert what_is_true(world) == before
            # A registry fills a repository again from a descriptor that is left.
            if world.cache.exists(f"blobs::{gone}"):
                assert all(
                    world.cache.sismember(f"repository::{name}::blobs", gone) for name in "ab"
                )
            if not is_dead:
                break
            repair_truth(world)
            assert find(world) == {}
            assert what_is_true(world) == before
        assert number > 5

    @pytest.mark.parametrize("place", [1, 3])
    def test_a_killed_process_leaves_a_cache_that_the_next_check_cures(
        self, world: World, tmp_path: Path, place: int, between: list[Callable[[], object]]
    ) -> None:
        lies(world, 2)
        before = what_is_true(world)
        with configured(tmp_path):
            child = os.fork()
            if not child:
                try:
                    removals = count(1)
                    remove = RedisRemovals.remove_member

                    def counted(self: RedisRemovals, *args: object, **options: object) -> bool:
                        if next(removals) == place:
                            os.kill(os.getpid(), signal.SIGKILL)
                        return remove(self, *args, **options)  # type: ignore[arg-type]

                    RedisRemovals.remove_member = counted  # type: ignore[method-assign]
                    run("check", "--fix", "--yes")
                finally:
                    os._exit(1)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
            assert what_is_true(world) == before
            assert run("check").code == 1
            assert run("check", "--fix", "--yes").code == 0
        assert what_is_true(world) == before

    def test_a_killed_check_goes_on_and_finds_the_rest(self, world: World, tmp_path: Path) -> None:
        """Also what is in no repository: the file of candidates was never saved."""
        for number in range(40):
            world.cache_blob(world.push("a", b"%d" % number), len(b"%d" % number))
            world.cache.srem("repository::a::blobs", digest_of(b"%d" % number))
        for place in (2, 5):
            with configured(tmp_path, REGISTRY_VERSION=3):
                child = os.fork()
                if not child:
                    try:
                        asked = Diagnosis(
                            get_browsable(),
                            kinds=[Kind.UNREFERENCED],
                            backend=get_backend(),
                        )
                        catalog = asked.provider.catalog
                        catalog.budgets = replace(catalog.budgets, check=0, step=10)
                        saved = SavedCheck(asked)
                        for number, step in enumerate(asked.run(), 1):
                            saved.write(step.next, {})
                            if number == place:
                                os.kill(os.getpid(), signal.SIGKILL)
                    finally:
                        os._exit(1)
                assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
                done = run("check", "--kind", "unreferenced", "--resume", "--json")
            assert len({each["digest"] for each in done.findings}) == 40, place

    @pytest.mark.parametrize(
        "cursor",
        ["no cursor", '{"phase":"contents","after":"_w=="}', '{"phase":"contents","link":"x"}'],
    )
    def test_a_forged_place_to_go_on_from_is_refused(
        self, world: World, tmp_path: Path, cursor: str
    ) -> None:
        with configured(tmp_path):
            SavedCheck(Diagnosis(get_browsable(), backend=get_backend())).write(cursor, {})
            done = run("check", "--resume")
            assert "The cursor does not come from this check." in done.err
            assert done.code == 2
            assert run("check").code == 0

    def test_a_storage_that_answers_too_late_proves_nothing(
        self, world: World, tmp_path: Path
    ) -> None:
        lies(world, 2)
        before = what_is_true(world)
        lister = Failing(FileSystemStorage(tmp_path), ROOT)
        healthy, world.backend = world.backend, StorageBackend(lister, 2)
        for _ in range(3):
            repair_truth(world)
            assert what_is_true(world) == before
        world.backend = healthy
        repair_truth(world)
        assert find(world) == {}
        assert what_is_true(world) == before


def test_redis_goes_away_between_the_looks_and_comes_back(
    tmp_path: Path, between: list[Callable[[], object]]
) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with (
        embedded.start(*options) as server,
        cache_at(server.url),
        configured(tmp_path),
        Redis.from_url(server.url) as client,
    ):
        world = World(tmp_path, client)
        lies(world)
        before = what_is_true(world)
        between.append(server.stop)
        done = run("check", "--fix", "--yes")
        assert done.code == 2
        between.clear()
        assert run("check", "--fix", "--yes").code == 2, "nor while it is away"
        server.restart()
        assert what_is_true(world) == before
        assert run("check", "--fix", "--yes").code == 0
        assert run("check").code == 0
        assert what_is_true(world) == before
