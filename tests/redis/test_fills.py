"""The fill: a hash with an expiry, only where there is no usable one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest
from redis import Redis

from blobcache.exceptions import CacheUnavailable
from blobcache.redis import fills
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from blobcache.transport.packing import Script
from blobcache.transport.server import Server
from project import embedded
from tests.conformance import ALIAS, LAYER, OCTETS, A, B, make_descriptor
from tests.servers import cache_at, commands, limited_user

BLOB = f"blobs::{A}"
FILLED = {"digest": str(A), "size": "7", "length": "7", "mediatype": OCTETS}

USABLE = [
    {"digest": str(A), "size": "1", "mediatype": LAYER},
    {"digest": str(A), "length": "1"},
    {"digest": str(A), "size": "1", "mediatype": ""},
    {"digest": str(ALIAS), "size": "1", "mediatype": OCTETS},
]
UNUSABLE: list[Mapping[str, str] | str] = [
    {"length": "7"},
    {"mediatype": LAYER},
    {"digest": str(A)},
    {"digest": str(A), "size": "many", "mediatype": OCTETS},
    {"digest": str(B), "size": "1", "mediatype": OCTETS},
    {"digest": "nonsense", "size": "1", "mediatype": OCTETS},
    {"digest": str(A), "size": "1", "mediatype": "a\nb"},
    {"other": "field"},
    "a string",
]


def write(client: Redis, stored: Mapping[str, str] | str, seconds: int | None = None) -> None:
    if isinstance(stored, str):
        client.set(BLOB, stored)
    else:
        for name, value in stored.items():
            client.hset(BLOB, name, value)
    if seconds is not None:
        client.expire(BLOB, seconds)


def hash_at(client: Redis) -> dict[str, str]:
    stored = cast("dict[bytes, bytes]", client.hgetall(BLOB))
    return {name.decode(): value.decode() for name, value in stored.items()}


def test_a_missing_hash_is_written_with_an_expiry_in_one_round_trip(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.fill(B, make_descriptor(B), 60)
    with commands(default_cache) as traffic:
        assert provider.fill(A, make_descriptor(A, 7, LAYER), 60)
    assert traffic.round_trips == 1
    assert hash_at(default_cache) == FILLED
    assert 0 < default_cache.ttl(BLOB) <= 60
    assert sorted(default_cache.keys()) == sorted([BLOB.encode(), f"blobs::{B}".encode()])


@pytest.mark.parametrize("seconds", [None, 5000])
@pytest.mark.parametrize("stored", USABLE, ids=str)
def test_a_usable_hash_keeps_its_fields_and_its_expiry(
    default_cache: Redis, stored: dict[str, str], seconds: int | None
) -> None:
    write(default_cache, stored, seconds)
    before = default_cache.ttl(BLOB)
    with commands(default_cache) as traffic:
        assert not RedisBlobDescriptorCacheProvider().fill(A, make_descriptor(A, 7), 9000)
    assert not {"hset", "expire", "unlink"} & set(traffic.calls)
    assert hash_at(default_cache) == stored
    assert default_cache.ttl(BLOB) <= before
    assert (default_cache.ttl(BLOB) == -1) == (seconds is None)


@pytest.mark.parametrize("seconds", [None, 5000])
@pytest.mark.parametrize("stored", UNUSABLE, ids=str)
def test_what_a_stat_cannot_read_is_replaced_as_a_whole(
    default_cache: Redis, stored: Mapping[str, str] | str, seconds: int | None
) -> None:
    write(default_cache, stored, seconds)
    assert RedisBlobDescriptorCacheProvider().fill(A, make_descriptor(A, 7), 60)
    assert hash_at(default_cache) == FILLED
    assert 0 < default_cache.ttl(BLOB) <= 60


def test_a_hash_that_was_repaired_meanwhile_is_kept(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(default_cache, {"digest": str(A), "size": "many"})
    original = Server.script

    def late(self: Server, script: Script, *args: object) -> object:
        reply = original(self, script, *args)  # type: ignore[arg-type]
        write(default_cache, {"size": "5"})
        return reply

    monkeypatch.setattr(Server, "script", late)
    assert not RedisBlobDescriptorCacheProvider().fill(A, make_descriptor(A, 7), 60)
    assert hash_at(default_cache) == {"digest": str(A), "size": "5"}
    assert default_cache.ttl(BLOB) == -1


def test_a_hash_that_others_keep_damaging_is_left_alone(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, attempts = Server.script, list[int]()

    def disturbed(self: Server, script: Script, *args: object) -> object:
        attempts.append(len(attempts))
        write(default_cache, {"digest": str(A), "size": "x" * len(attempts)})
        return original(self, script, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Server, "script", disturbed)
    with pytest.raises(CacheUnavailable, match="keeps changing"):
        RedisBlobDescriptorCacheProvider().fill(A, make_descriptor(A, 7), 60)
    assert len(attempts) == fills._ATTEMPTS
    assert default_cache.ttl(BLOB) == -1


@pytest.mark.parametrize(("ttl", "seconds"), [(None, 60), (30, 30), (90, 60)])
def test_the_shorter_of_both_times_applies(
    default_cache: Redis, ttl: int | None, seconds: int
) -> None:
    RedisBlobDescriptorCacheProvider(Rules(ttl=ttl)).fill(A, make_descriptor(A), 60)
    assert seconds - 10 < default_cache.ttl(BLOB) <= seconds


def test_only_the_configured_fields_are_written(default_cache: Redis) -> None:
    write(default_cache, {"length": "3"})
    provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(size_fields=("size",)))
    provider.fill(A, make_descriptor(A, 7), 60)
    assert hash_at(default_cache) == {"digest": str(A), "size": "7", "mediatype": OCTETS}


def test_a_later_set_keeps_the_expiry(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.fill(A, make_descriptor(A), 60)
    provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
    assert 0 < default_cache.ttl(BLOB) <= 60


def test_a_hash_that_was_cleared_is_written_without_an_expiry_again(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    provider.fill(A, make_descriptor(A), 60)
    provider.clear(A)
    provider.set_descriptor(A, make_descriptor(A))
    assert default_cache.ttl(BLOB) == -1


@pytest.mark.parametrize("command", ["hset", "expire", "unlink"])
@pytest.mark.parametrize("scripts", ["allowed", "refused"])
def test_a_fill_that_redis_refuses_leaves_nothing(
    valkey: embedded.Server, command: str, scripts: str
) -> None:
    others = ["eval", "evalsha"] if scripts == "refused" else []
    with valkey.client() as admin:
        admin.flushall()
        with cache_at(limited_user(valkey, "filler", command, *others)):
            provider = RedisBlobDescriptorCacheProvider()
            with pytest.raises(CacheUnavailable):
                provider.fill(A, make_descriptor(A), 60)
        assert not admin.keys()
