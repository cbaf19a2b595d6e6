"""Conditional clears while other programs write, and over damaged keys."""

from __future__ import annotations

from functools import partial

import pytest
from redis import Redis

from blobcache.exceptions import BlobUnknown, CacheUnavailable
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.conformance import A, make_descriptor
from tests.redis.test_guarded_sets import BLOB, MEMBERS, NAME, OVERRIDE, Meddler
from tests.redis.test_guarded_sets import client as client  # noqa: PLC0414 - the fixture
from tests.servers import commands


def test_what_changes_after_the_look_is_shown_to_the_guard(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    is_cluster = provider.server.is_cluster
    for scope in (provider, provider.repository_scoped(NAME)):
        scope.set_descriptor(A, make_descriptor(A, 1))
        meddler = Meddler(partial(scope.set_descriptor, A, make_descriptor(A, 2)))
        before = scope.clear_guarded(A, meddler)
        assert before == make_descriptor(A, 2)
        if not (is_cluster and scope is not provider):
            assert [each for each, _ in meddler.seen] == [
                make_descriptor(A, 1),
                make_descriptor(A, 2),
            ]
        assert scope.stat_many([A]) == {}


def test_what_keeps_changing_is_not_cleared(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.set_descriptor(A, make_descriptor(A, 0))
    writes = [
        lambda size=size: provider.set_descriptor(A, make_descriptor(A, size))
        for size in range(1, 100)
    ]
    with pytest.raises(CacheUnavailable):
        provider.clear_guarded(A, Meddler(*writes))
    assert provider.stat(A).size > 0


def test_a_blob_that_goes_after_the_look_is_unknown(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    for scope in (provider, provider.repository_scoped(NAME)):
        scope.set_descriptor(A, make_descriptor(A, 1))
        with pytest.raises(BlobUnknown):
            scope.clear_guarded(A, Meddler(partial(scope.clear, A)))


def test_keys_of_the_wrong_type_are_deleted(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    repository = provider.repository_scoped(NAME)
    repository.set_descriptor(A, make_descriptor(A, 1))
    client.delete(BLOB, OVERRIDE, MEMBERS)
    for key in (BLOB, OVERRIDE, MEMBERS):
        client.set(key, "text")
    assert repository.clear_guarded(A, lambda *_: None) is None
    assert [client.exists(key) for key in (BLOB, OVERRIDE, MEMBERS)] == [0, 0, 0]
    client.set(BLOB, "text")
    assert provider.clear_guarded(A, lambda *_: None) is None
    assert client.exists(BLOB) == 0


def test_an_interrupted_clear_is_finished(client: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    repository = provider.repository_scoped(NAME)
    client.hset(OVERRIDE, "mediatype", "a/b")
    assert repository.clear_guarded(A, lambda *_: None) is None
    assert client.exists(OVERRIDE) == 0


def test_a_clear_takes_two_round_trips(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    for scope in (provider, provider.repository_scoped(NAME)):
        for _ in range(2):  # Redis learns the script
            scope.set_descriptor(A, make_descriptor(A, 1))
            with commands(default_cache) as sent:
                scope.clear_guarded(A, lambda *_: None)
        assert sent.round_trips == 2
