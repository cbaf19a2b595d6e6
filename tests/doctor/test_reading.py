"""How a check reads the cache and the storage: at the same time, and each list once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, get_ident
from typing import Any

import pytest
from redis import Redis

from blobcache.doctor import contents
from blobcache.doctor.scan import Diagnosis, Limits
from blobcache.doctor.truth import Comparison
from blobcache.findings import Kind
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.walk import RedisKeyWalk
from blobcache.reference import RepositoryName
from blobcache.services.truth import Answer, StoredLink
from tests.backends.cases import layer_link
from tests.doctor.test_truth import World


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> World:
    return World(tmp_path, default_cache)


def diagnosis(world: World, *args: Any, **options: Any) -> Diagnosis:
    return Diagnosis(RedisBlobDescriptorCacheProvider(), *args, backend=world.backend, **options)


def test_the_cache_is_read_while_the_storage_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look at the storage ends when the next records have been read from Redis."""
    for number in range(3):
        world.push("keep", b"%d" % number)
    stat, read = world.backend.stat, RedisKeyWalk.read
    looking, has_read = Event(), Event()
    lookers, readers = set(), set()

    def answer(digest: str, repository: str | None = None) -> Answer:
        lookers.add(get_ident())
        looking.set()
        assert has_read.wait(30)
        return stat(digest, repository)

    def noted(self: RedisKeyWalk, *args: Any) -> Any:
        found = read(self, *args)
        readers.add(get_ident())
        if looking.is_set():
            has_read.set()
        return found

    monkeypatch.setattr(world.backend, "stat", answer)
    monkeypatch.setattr(RedisKeyWalk, "read", noted)
    looked_at = 0
    asked = diagnosis(world, limits=Limits(records=1))
    for number, step in enumerate(asked.run()):
        looked_at = step.progress.judged
        assert number < 100
        assert not step.findings
        assert not step.doubtful
    assert looked_at == 8
    assert readers == {get_ident()}
    assert readers.isdisjoint(lookers)


def test_every_step_ends_with_all_that_it_has_read_judged(world: World) -> None:
    """Whoever goes on with its cursor, in another process, misses nothing."""
    digests = [world.push("keep", b"%d" % number) for number in range(20)]
    for digest in digests:
        world.remove(layer_link("keep", digest))
    asked = diagnosis(world, kinds={Kind.UNLINKED_MEMBER}, limits=Limits(records=3))
    found: list[str | None] = []
    cursor: str | None = ""
    while cursor is not None:
        step = diagnosis(world, kinds={Kind.UNLINKED_MEMBER}, limits=Limits(records=3)).step(
            cursor, 0, 4
        )
        found += [finding.subject.digest for finding in step.findings]
        assert len(step.findings) < 20
        cursor = step.next
    assert set(found) == set(digests)
    assert asked.is_compared


def test_an_interrupt_does_not_wait_for_all_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `deep` they may take hours."""
    for number in range(5):
        world.push("keep", b"%d" % number)
    looking, stopped = Event(), Event()
    stat, stop = world.backend.stat, Comparison.stop
    looks: list[str] = []

    def answer(digest: str, repository: str | None = None) -> Answer:
        looks.append(digest)
        looking.set()
        assert stopped.wait(30)
        return stat(digest, repository)

    def interrupted(*_: object) -> None:
        assert looking.wait(30)
        raise KeyboardInterrupt

    def noted(self: Comparison) -> None:
        stop(self)
        stopped.set()

    monkeypatch.setattr(world.backend, "stat", answer)
    monkeypatch.setattr(RedisKeyWalk, "read_existing", interrupted)
    monkeypatch.setattr(Comparison, "stop", noted)
    with pytest.raises(KeyboardInterrupt):
        diagnosis(world).step(budget=60)
    assert len(looks) == 1


def test_an_error_of_the_backend_is_raised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(digest: str, repository: str | None = None) -> Answer:
        raise RuntimeError("This backend has a bug.")

    monkeypatch.setattr(world.backend, "stat", broken)
    with pytest.raises(RuntimeError, match="has a bug"):
        list(diagnosis(world).run())


def test_a_list_is_begun_once_in_a_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """To begin it again for each part would read all names before that part again."""
    monkeypatch.setattr(contents, "_LINKS", 2)
    for number in range(7):
        world.push("keep", b"%d" % number)
        world.push(f"team/{number}", b"%d" % number)
    begun: list[str] = []
    members, repositories = world.backend.members, world.backend.repositories

    def links(repository: str, after: str = "") -> Iterator[StoredLink]:
        begun.append(repository)
        return members(repository, after)

    def names(after: str = "") -> Iterator[RepositoryName]:
        begun.append("")
        return repositories(after)

    monkeypatch.setattr(world.backend, "members", links)
    monkeypatch.setattr(world.backend, "repositories", names)
    step = diagnosis(world, kinds={Kind.MISSING_CONTENT}).step(budget=60)
    assert step.next is None
    assert step.progress.looked_at == 15
    assert sorted(begun) == ["", "keep", *[f"team/{number}" for number in range(7)]]


def test_uncached_links_are_counted_with_two_round_trips_at_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One if the cache has all of them."""
    digests = [world.push("team/app", b"%d" % number) for number in range(5)]
    trips: list[str] = []
    for name in ("read", "are_members"):
        method = getattr(RedisKeyWalk, name)

        def counted(self: RedisKeyWalk, *args: Any, method: Any = method, name: str = name) -> Any:
            found = method(self, *args)
            trips.extend([name] * bool(args[-1]))
            return found

        monkeypatch.setattr(RedisKeyWalk, name, counted)
    asked = diagnosis(world, ["team/app"], kinds={Kind.MISSING_CONTENT})
    assert asked.step().progress.uncached == 0
    assert trips == ["are_members"]
    for digest in digests[:2]:
        world.cache.srem("repository::team/app::blobs", digest)
    assert asked.step().progress.uncached == 2
    assert trips == ["are_members"] * 2
