"""Purging, by a provider with a catalog; see `tests.conformance` for all providers."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.exceptions import CursorInvalid
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from tests.conformance import A, purge


def test_a_purge_reaches_repositories_that_a_registry_wrote_since_the_last_index(
    any_store: Redis,
) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.catalog.reindex()
    for name in ("late/one", "late/two", "MyTeam/late"):
        any_store.sadd(f"repository::{name}::blobs", A)
    assert purge(provider, A) == {"late/one", "late/two", "MyTeam/late"}
    assert not any(any_store.exists(f"repository::late/{n}::blobs") for n in ("one", "two"))


def test_a_purge_of_many_holders_continues_in_steps(default_cache: Redis) -> None:
    for number in range(250):
        default_cache.sadd(f"repository::r{number}::blobs", A)
    provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(purge=0))
    step = provider.purge(A)
    cleared, steps = list(step.cleared), 1
    while step.next is not None:
        step = provider.purge(A, step.next)
        cleared += step.cleared
        steps += 1
    assert len(cleared) == 250
    assert steps >= 3


def test_a_step_is_limited_by_time_and_not_by_the_number_of_holders(default_cache: Redis) -> None:
    budgets = Budgets(purge=60, page=0, step=100)
    for number in range(250):
        default_cache.sadd(f"repository::r{number}::blobs", A)
    step = RedisBlobDescriptorCacheProvider(budgets=budgets).purge(A)
    assert len(step.cleared) == 250
    assert step.next is None


@pytest.mark.parametrize("cursor", ["x", "x/y", "-1/", "/"])
def test_a_cursor_of_no_purge_is_refused(any_store: Redis, cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        RedisBlobDescriptorCacheProvider().purge(A, cursor)
