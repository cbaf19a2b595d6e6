"""Whatever another writer put into the state of the index, a purge misses no holder, and ends."""

from __future__ import annotations

import pytest
from django.test import Client
from redis import Redis

from benchmarks.shapes import API, A
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from project import embedded
from tests.servers import cache_at

STATE = "blobcache::{catalog}::state"
LATE = "repository::team/late::blobs"

NO_SERIALS = [
    "x",
    "",
    "1e10",
    "0x10",
    " 5",
    "5.5",
    "inf",
    "nan",
    "-1",
    "9" * 15,
    "9" * 18,
    "9" * 400,
]
"""Not one of them is the number of a build that there was."""


def purge_to_the_end(provider: RedisBlobDescriptorCacheProvider) -> int:
    """Purge `A` and return how many steps that took; fail if there are too many."""
    cursor, steps = provider.purge(A).next, 1
    while cursor is not None:
        assert steps < 5, "the purge does not end"
        cursor, steps = provider.purge(A, cursor).next, steps + 1
    return steps


@pytest.mark.parametrize("value", NO_SERIALS, ids=lambda value: ascii(value[:20]))
@pytest.mark.parametrize("field", ["begun", "indexed"])
def test_a_purge_finds_every_holder_and_ends_whatever_the_state_is(
    field: str, value: str, client: Client, default_cache: Redis
) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    for _ in range(3):
        provider.catalog.reindex()
    default_cache.hset(STATE, field, value)
    default_cache.sadd(LATE, A)  # as a registry does, without the index
    purge_to_the_end(provider)
    assert not default_cache.exists(LATE)


@pytest.mark.parametrize("value", NO_SERIALS, ids=lambda value: ascii(value[:20]))
def test_an_index_with_a_serial_newer_than_any_build_is_built_again(
    value: str, client: Client, default_cache: Redis
) -> None:
    RedisBlobDescriptorCacheProvider().catalog.reindex()
    default_cache.hset(STATE, "indexed", value)
    default_cache.sadd(LATE, A)
    page = client.get(API).json()
    assert page["complete"] is True
    assert [row["name"] for row in page["results"]] == ["team/app", "team/late"]


def test_a_purge_ends_although_the_state_is_lost_meanwhile(
    client: Client, default_cache: Redis
) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.catalog.reindex()
    cursor = RedisBlobDescriptorCacheProvider(budgets=Budgets(purge=0)).purge(A).next
    default_cache.hset(STATE, mapping={"begun": 500, "indexed": 500})
    default_cache.delete(STATE)
    for _ in range(3):
        assert cursor is not None
        cursor = provider.purge(A, cursor).next
        if cursor is None:
            break
    assert cursor is None


@pytest.mark.parametrize("value", ["inf", "nan", "9e99", "99999999999"])
def test_an_index_from_the_future_is_built_again(
    value: str, client: Client, default_cache: Redis
) -> None:
    RedisBlobDescriptorCacheProvider().catalog.reindex()
    default_cache.hset(STATE, "indexed_at", value)
    default_cache.sadd(LATE, A)
    page = client.get(API).json()
    assert page["complete"] is True
    assert len(page["results"]) == 2


def test_a_lock_that_never_ends_is_broken(client: Client, default_cache: Redis) -> None:
    for lock in ({}, {"px": 10**9}):
        default_cache.set("blobcache::{catalog}::lock", "x", **lock)  # type: ignore[arg-type]
        default_cache.sadd(LATE, A)
        purge_to_the_end(RedisBlobDescriptorCacheProvider())
        assert not default_cache.exists(LATE)


def test_a_lock_that_cannot_be_read_counts_as_held(
    client: Client, default_cache: Redis, valkey: embedded.Server
) -> None:
    user = ("ACL", "SETUSER", "restricted", "reset", "on", ">secret", "~*", "+@all", "-pttl")
    default_cache.execute_command(*user)
    default_cache.set("blobcache::{catalog}::lock", "x")
    place = valkey.url.partition("://")[2]
    try:
        with cache_at(f"redis://restricted:secret@{place}"):
            page = client.get(API)
            assert page.status_code == 200
            assert page.json()["complete"] is False
    finally:
        default_cache.execute_command("ACL", "DELUSER", "restricted")
