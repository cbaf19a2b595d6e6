"""A warm that is killed, interrupted, or not alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from threading import Event
from typing import Any, cast

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable
from blobcache.redis.keys import CatalogKeys
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.work import RedisWork
from blobcache.services.truth import Answer, Doubt, Unknown
from blobcache.transport.server import Server
from blobcache.warming import reading, warm
from blobcache.warming.journal import Journal, Place
from blobcache.warming.report import Outcome, WarmRefused
from tests.warming.test_warm import OTHER, stats
from tests.warming.worlds import TEAM, Clock, World

ADDED, KNOWN, TAKEN_BACK = Outcome.ADDED, Outcome.KNOWN, Outcome.TAKEN_BACK

KEYS = CatalogKeys.of()


class Killed(BaseException):
    """The process ends here: nothing more reaches Redis."""


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int, *, sent: bool) -> Callable[[], bool]:
    """Let a warm end at a round trip, before or after that; return whether it came so far."""
    trips = count(1)
    is_dead = False
    for name in ("batch", "run_template_many", "script"):
        method = getattr(Server, name)

        def counted(self: Server, *args: Any, method: Any = method, **options: Any) -> Any:
            nonlocal is_dead
            is_last = next(trips) == number
            if is_last and sent:
                method(self, *args, **options)
            is_dead |= is_last
            if is_dead:
                raise Killed
            return method(self, *args, **options)

        monkeypatch.setattr(Server, name, counted)
    return lambda: is_dead


def waiting(client: Redis) -> list[bytes]:
    """What is noted to wait for its second look."""
    names = cast("list[bytes]", client.hkeys(KEYS.warm))
    return [name for name in names if name.startswith(b"batch:")]


@pytest.mark.parametrize("sent", [False, True])
def test_killed_at_any_point_the_next_one_leaves_nothing_wrong(
    world: World, default_cache: Redis, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    """Whatever was written before is looked at again, although its link is gone by then."""
    monkeypatch.setattr(reading, "BATCH", 2)
    for number in count(1):
        default_cache.flushdb()
        going, *staying = [world.layer(b"%d" % each) for each in range(5)]
        others = [world.layer(b"other %d" % each, OTHER) for each in range(2)]
        with monkeypatch.context() as patch:
            is_dead = kill_at(patch, number, sent=sent)
            with suppress(Killed):
                world.warm(threads=1)
            if not is_dead():
                break
        world.unlink(going)
        default_cache.delete(KEYS.warm_lock)  # as it expires
        if len(default_cache.keys("repository::*::blobs")) == 2 and not waiting(default_cache):
            break  # All second looks were made, before the link was gone.
        report = world.warm()
        assert report.is_judged
        assert stats(TEAM, going, *staying).keys() == set(staying), number
        assert stats(OTHER, *others).keys() == set(others), number
        assert not default_cache.sismember(f"repository::{TEAM}::blobs", going)
        # Nothing is left to do.
        assert not world.warm().is_resumed
        assert not waiting(default_cache)
    assert number > 10


def test_it_goes_on_after_what_was_done(
    world: World, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH", 2)
    names = [f"team/{number}" for number in range(4)]
    for name in names:
        for number in range(3):
            world.layer(b"%b %d" % (name.encode(), number), name)
    pauses = 0

    def progress(links: int, _share: float | None) -> None:
        nonlocal pauses
        pauses += 1
        if links >= 5:
            raise KeyboardInterrupt

    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        world.warm(threads=1, progress=progress, clock=clock, pause=clock.pause)
    signature, *place = json.loads(default_cache.hget(KEYS.warm, "place") or b"")
    assert place == ["team/0", "team/1", place[2]]
    report = world.warm()
    assert report.is_resumed
    assert sum(report.counts.values()) == 12 - 5
    # The place of another version's links means nothing.
    default_cache.hset(KEYS.warm, "place", json.dumps([signature, "team/2", "", ""]))
    assert sum(world.warm(version=3).counts.values()) == 12


def test_it_goes_on_before_what_could_not_be_read(
    world: World, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the second run would end as if nothing were missing."""
    names = [f"team/{number}" for number in range(4)]
    digests = [world.layer(name.encode(), name) for name in names]
    backend = world.backend()
    stat = backend.stat

    def denied(digest: str, repository: str | None = None) -> Answer:
        return Unknown(Doubt.DENIED, "no") if digest == digests[1] else stat(digest, repository)

    def progress(links: int, _share: float | None) -> None:
        if links == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backend, "stat", denied)
        with pytest.raises(KeyboardInterrupt):
            world.warm(threads=1, progress=progress, backend=backend)
    assert json.loads(default_cache.hget(KEYS.warm, "place") or b"")[1:] == [names[0], "", ""]
    assert world.counts() == {ADDED: 1, KNOWN: 2}
    assert stats(names[1], digests[1])


def test_it_says_that_it_still_runs_while_it_waits_for_second_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage may take longer for them than others wait before they take over."""
    monkeypatch.setattr(warm, "_RENEWAL", 0)
    monkeypatch.setattr(warm, "_TICK", 0.001)
    world.layer(b"1")
    backend, renewed = world.backend(), Event()
    stat, renew = backend.stat, Journal.renew
    looking, left = Event(), 3

    def slow(digest: str, repository: str | None = None) -> Answer:
        if repository is not None:
            looking.set()
            assert renewed.wait(5)
        return stat(digest, repository)

    def noted(self: Journal, place: Place | None) -> None:
        nonlocal left
        left -= looking.is_set()
        if left == 0:
            renewed.set()
        renew(self, place)

    monkeypatch.setattr(backend, "stat", slow)
    monkeypatch.setattr(Journal, "renew", noted)
    assert world.counts(backend=backend) == {ADDED: 1}


def test_an_interrupt_does_not_leave_out_the_second_looks(world: World) -> None:
    digests = [world.layer(b"%d" % number) for number in range(3)]

    def progress(links: int, _share: float | None) -> None:
        if links:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.warm(progress=progress, happens=lambda: world.unlink(digests[0]))
    assert stats(TEAM, *digests).keys() == set(digests[1:])
    assert not world.warm().counts[TAKEN_BACK]


def test_only_one_warm_runs_at_a_time(world: World, default_cache: Redis) -> None:
    digest = world.layer(b"1")

    def second() -> None:
        with pytest.raises(WarmRefused, match="Another warm"):
            world.warm()
        assert world.counts(dry_run=True) == {KNOWN: 1}

    assert world.counts(happens=second) == {ADDED: 1}
    assert stats(TEAM, digest)
    assert not default_cache.exists(KEYS.warm_lock)


def test_two_warms_at_once_are_both_right(world: World, default_cache: Redis) -> None:
    """One was paused for so long that its lease is over, and goes on beside the other."""
    going, staying = world.layer(b"1"), world.layer(b"2")
    counts: dict[Outcome, int] = {}

    def second() -> None:
        default_cache.delete(KEYS.warm_lock)
        world.unlink(going)
        counts.update(world.counts())

    with pytest.raises(CacheUnavailable, match="more than 30 seconds"):
        world.warm(happens=second)
    # The other one has made the second looks of both.
    assert counts == {KNOWN: 1, TAKEN_BACK: 1}
    assert stats(TEAM, going, staying).keys() == {staying}
    assert not default_cache.exists(KEYS.warm_lock)


@pytest.mark.parametrize(
    "noted",
    [
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'["team/app", {}]',
        b'["no name", []]',
        b'["team/app", [1, [], ["x", null, 1, null, 15], [null, null, null, null, null]]]',
        json.dumps(["team/app", [["sha256:" + "a" * 64, None, -1, None, 15]]]).encode(),
        json.dumps(["team/app", [["sha256:" + "a" * 64, None, 1, "a\n", 15]]]).encode(),
    ],
)
def test_notes_that_are_damaged_are_left_out(
    world: World, default_cache: Redis, noted: bytes
) -> None:
    digest = world.layer(b"1")
    default_cache.hset(
        KEYS.warm,
        mapping={"low": "0", "high": "3", "batch:0": noted, "batch:2": noted, "place": noted},
    )
    assert world.counts() == {ADDED: 1}
    assert stats(TEAM, digest)
    assert not default_cache.hexists(KEYS.warm, "batch:0")


@pytest.mark.parametrize(
    "place", [["a", "a", "another/sha256:" + "a" * 64], ["a", "a", None], [["a"], "", ""], ["a"]]
)
def test_a_place_that_is_damaged_is_the_beginning(
    world: World, default_cache: Redis, place: list[object]
) -> None:
    world.layer(b"1", "a")
    world.warm()
    signature = json.loads(default_cache.hget(KEYS.warm, "place") or b"")[0]
    default_cache.hset(KEYS.warm, "place", json.dumps([signature, *place]))
    assert world.counts() == {KNOWN: 1}


def test_notes_of_very_many_batches_are_bounded(world: World, default_cache: Redis) -> None:
    world.layer(b"1")
    default_cache.hset(KEYS.warm, mapping={"low": "0", "high": str(10**12)})
    assert world.counts() == {ADDED: 1}


def test_what_is_noted_of_others_gets_a_second_look_of_the_storage(
    world: World, default_cache: Redis
) -> None:
    """Whoever can write notes gets a look at the storage by that, and nothing removed."""
    digest = world.layer(b"1")
    world.warm()
    rows = [
        [digest, canonical, size, None, flags]
        for size in (1, 999)
        for flags in (9, 15)
        for canonical in (None, "sha256:" + "a" * 64)
    ]
    noted = json.dumps([TEAM, rows])
    default_cache.hset(KEYS.warm, mapping={"low": "0", "high": "1", "batch:0": noted})
    assert world.counts()[KNOWN] == 1
    assert stats(TEAM, digest)


def test_the_notes_expire(world: World, default_cache: Redis) -> None:
    digest = world.layer(b"1")

    def look() -> None:
        assert 0 < default_cache.pttl(KEYS.warm_lock) <= 30_000
        assert 0 < default_cache.pttl(KEYS.warm) <= 7 * 24 * 3_600_000
        assert default_cache.hlen(KEYS.warm) == 4

    world.warm(happens=look)
    assert stats(TEAM, Digest(digest))
    assert RedisBlobDescriptorCacheProvider().warm_work().read(["batch:0"]) == [None]


def test_notes_that_could_not_be_read_are_not_lost(
    world: World, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis fails while the next warm reads them, and works again for its last note."""
    digest = world.layer(b"1")
    world.warm()
    noted = json.dumps([TEAM, [[digest, None, 1, None, 15]]])
    place = json.dumps(["0" * 16, TEAM, "", ""])
    default_cache.hset(
        KEYS.warm, mapping={"low": "0", "high": "80", "batch:70": noted, "place": place}
    )
    world.unlink(digest)
    with monkeypatch.context() as patch:
        read = RedisWork.read

        def failing(self: RedisWork, names: Iterable[str]) -> list[bytes | None]:
            wanted = list(names)
            if "batch:70" in wanted:
                raise CacheUnavailable("Redis does not answer.")
            return read(self, wanted)

        patch.setattr(RedisWork, "read", failing)
        with pytest.raises(CacheUnavailable):
            world.warm(OTHER)
    assert default_cache.hget(KEYS.warm, "place") == place.encode()
    world.layer(b"2")
    assert world.warm().counts[TAKEN_BACK] == 1
    assert not stats(TEAM, digest)


def test_a_stale_warm_notes_nothing(default_cache: Redis) -> None:
    stale, other = (RedisBlobDescriptorCacheProvider().warm_work() for _ in range(2))
    assert stale.begin()
    default_cache.delete(KEYS.warm_lock)
    assert other.begin()
    assert other.note({"low": "1", "batch:1": "x"})
    assert not stale.note({"low": "2"}, ["batch:1"])
    assert other.read(["low", "batch:1"]) == [b"1", b"x"]
