"""What a repository or a namespace holds alone, exactly, in steps of any length."""

from __future__ import annotations

import json
from dataclasses import replace
from time import time

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import DescriptorCorrupt
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from blobcache.services.figures import Shares
from blobcache.services.rules import Rules
from tests.figures.repositories import digest, write


def found_out(provider: RedisBlobDescriptorCacheProvider, scope: str) -> Shares:
    """Walk to the end."""
    for _ in range(10_000):
        status = provider.figures.share_step(scope)
        if status.progress is None:
            assert status.shares is not None
            return status.shares
    raise AssertionError("the walk does not end")


@pytest.fixture(params=["at once", "in steps"])
def walker(any_store: Redis, request: pytest.FixtureRequest) -> RedisBlobDescriptorCacheProvider:
    seconds = 60 if request.param == "at once" else 0
    return RedisBlobDescriptorCacheProvider(budgets=Budgets(sharing=seconds))


def numbers(shares: Shares) -> tuple[int, ...]:
    return tuple(map(int, shares[:4]))


def test_blobs_that_nobody_else_holds_are_exclusive(
    walker: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    write(any_store, "a", 10)
    write(any_store, "b", 4, first=6)
    write(any_store, "c", 9, first=9, size=7)
    any_store.set("repository::d::blobs", "no set")
    any_store.sadd("repository::Not a Name!::blobs", digest(0))
    walker.catalog.reindex()
    shares = found_out(walker, "a")
    # Blob 9 has the size that was written last.
    assert numbers(shares) == (6, 60, 4, 37)
    assert {each for each, _ in shares.largest} == {digest(number) for number in range(6)}
    assert round(shares.percent) == round(100 * 37 / 97)
    assert walker.figures.shares("a").shares == shares
    assert shares.age >= 0
    assert numbers(found_out(walker, "c")) == (8, 56, 1, 7)
    assert numbers(found_out(walker, "not/there")) == (0, 0, 0, 0)


def test_a_large_repository_is_counted_exactly(
    walker: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    write(any_store, "a/large", 2500)
    for number in range(12):
        write(any_store, f"b/{number}", 100, first=100 * number)
    walker.catalog.reindex()
    shares = found_out(walker, "a/large")
    assert numbers(shares) == (1300, 13_000, 1200, 12_000)
    assert len(shares.largest) == 100


def test_a_namespace_counts_each_of_its_blobs_once(
    walker: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    write(any_store, "alone", 3)
    write(any_store, "team", 5)
    write(any_store, "team-x/app", 2, first=30)
    write(any_store, "team/app", 10, first=3)
    write(any_store, "team/web", 10, first=8)
    any_store.set("repository::team/broken::blobs", "no set")
    write(any_store, "zoo/app", 2, first=17)
    walker.catalog.reindex()
    # 0 to 17; alone has 0 to 2, and zoo/app has 17.
    assert numbers(found_out(walker, "team/")) == (14, 140, 4, 40)
    assert numbers(found_out(walker, "team-x/")) == (2, 20, 0, 0)
    assert numbers(found_out(walker, "alone/")) == (0, 0, 3, 30)
    assert numbers(found_out(walker, "nobody/")) == (0, 0, 0, 0)


def test_an_alias_adds_no_bytes(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    write(any_store, "a", 1)
    alias = f"sha512:{'a' * 128}"
    any_store.hset(f"blobs::{alias}", mapping={"digest": digest(0), "size": 10})
    any_store.hset(f"repository::a::blobs::{alias}", "mediatype", "a/b")
    any_store.sadd("repository::a::blobs", alias)
    provider.catalog.reindex()
    assert numbers(found_out(provider, "a")) == (2, 10, 0, 0)


def test_a_damaged_repository_is_not_counted(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    any_store.set("repository::a::blobs", "no set")
    provider.catalog.reindex()
    with pytest.raises(DescriptorCorrupt):
        provider.figures.share_step("a")


def test_without_a_complete_index_nothing_is_said(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    write(any_store, "a", 1)
    provider.catalog.budgets = replace(provider.catalog.budgets, build=0, step=1)
    for number in range(200):
        any_store.set(f"filler:{number}", "")
    assert provider.figures.share_step("a") == (None, None)


def test_an_index_that_is_too_old_is_built_before(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    write(default_cache, "a", 2)
    provider.catalog.reindex()
    default_cache.hset("blobcache::{catalog}::state", "indexed_at", time() - 3600)
    write(default_cache, "pushed/since", 2)
    for number in range(200):
        default_cache.set(f"filler:{number}", "")
    provider.catalog.budgets = replace(provider.catalog.budgets, build=0, step=10)
    assert numbers(found_out(provider, "a")) == (0, 0, 2, 20)


@pytest.mark.parametrize("value", [b"", b"x", b"[]", b"{}", b'{"at":1}', b"[1,2,3,4,5,[[1,2]]]"])
def test_what_another_program_has_written_is_not_used(value: bytes, default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    write(default_cache, "a", 2)
    provider.catalog.reindex()
    for key in ("note::shares:a", "note::sharing:a"):
        default_cache.set(b"blobcache::{catalog}::" + key.encode(), value)
    assert provider.figures.shares("a").shares is None
    assert numbers(found_out(provider, "a")) == (2, 20, 0, 0)


def test_a_result_expires(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    write(default_cache, "a", 2)
    provider.catalog.reindex()
    found_out(provider, "a")
    assert 0 < default_cache.ttl("blobcache::{catalog}::note::shares:a") <= 7 * 24 * 3600
    assert not default_cache.exists("blobcache::{catalog}::note::sharing:a")


def test_where_nothing_can_be_stored_a_short_walk_has_a_result(default_cache: Redis) -> None:
    write(default_cache, "a", 2)
    writer = RedisBlobDescriptorCacheProvider()
    writer.catalog.reindex()
    reader = RedisBlobDescriptorCacheProvider(Rules(read_only=True), budgets=Budgets(sharing=60))
    before = set(default_cache.keys())
    shares = reader.figures.share_step("a").shares
    assert shares is not None
    assert numbers(shares) == (2, 20, 0, 0)
    reader.catalog.budgets = replace(reader.catalog.budgets, sharing=0)
    assert reader.figures.share_step("a") == (None, None)
    assert set(default_cache.keys()) == before


def test_a_step_asks_a_bounded_number_of_questions(default_cache: Redis) -> None:
    """A step without time reads some members, or asks some repositories about them."""
    write(default_cache, "a", 1000)
    for number in range(60):
        write(default_cache, f"b/{number}", 1, first=5000)
    provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(sharing=0))
    provider.catalog.reindex()
    for _ in range(3):
        before = int(default_cache.info("stats")["total_commands_processed"])
        provider.figures.share_step("a")
        asked = int(default_cache.info("stats")["total_commands_processed"]) - before
        assert asked < 2100
    position = json.loads(default_cache.get("blobcache::{catalog}::note::sharing:a") or "")
    assert len(position["left"]) <= 600
    assert all(Digest(each) for each in position["left"])
