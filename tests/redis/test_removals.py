"""Removals of a read-only registry: each is refused before Redis is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from blobcache.exceptions import OperationUnsupported
from blobcache.findings import Kind
from blobcache.redis.removals import RedisRemovals
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services.records import Record
from blobcache.services.rules import Rules
from tests.conformance import A
from tests.servers import commands

MEMBER = Record(A, Kind.DANGLING_MEMBER, None, repository=RepositoryName("a"))

CALLS: dict[str, Callable[[Any], object]] = {
    "require_writable": lambda removals: removals.require_writable(),
    "remove_member": lambda removals: removals.remove_member(MEMBER),
    "remove_blob_of_member": lambda removals: removals.remove_blob_of_member(MEMBER),
    "remove_blob": lambda removals: removals.remove_blob(MEMBER),
    "remove_orphan": lambda removals: removals.remove_orphan(b"a", A.encode()),
    "remove_invalid_blob_key": lambda removals: removals.remove_invalid_blob_key(b"junk"),
    "remove_invalid_member": lambda removals: removals.remove_invalid_member(b"a", b"junk"),
    "remove_wrong_type_set": lambda removals: removals.remove_wrong_type_set(b"a"),
    "remove_invalid_repository": lambda removals: removals.remove_invalid_repository(b"no name"),
}


def test_each_removal_is_among_these() -> None:
    assert {name for name in vars(RedisRemovals) if not name.startswith("_")} == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_a_read_only_registry_refuses_it(name: str, default_cache: Redis) -> None:
    removals = RedisBlobDescriptorCacheProvider(Rules(read_only=True)).removals()
    with commands(default_cache) as traffic, pytest.raises(OperationUnsupported):
        CALLS[name](removals)
    assert traffic.round_trips == 0


@pytest.mark.parametrize("name", CALLS)
def test_without_anything_to_remove_nothing_is_removed(name: str, default_cache: Redis) -> None:
    assert not CALLS[name](RedisBlobDescriptorCacheProvider().removals())
    assert not default_cache.keys()
