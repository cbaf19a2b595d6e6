"""The walk over a registry's keys: see `blobcache.redis.walk`."""

from __future__ import annotations

from redis import Redis

from blobcache.digest import Digest
from blobcache.redis.keys import Key, KeyKind, parse
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.records import OverrideKey
from tests.conformance import A, B
from tests.doctor.damage import write_member, write_override


def test_a_step_returns_the_keys_of_each_kind(default_cache: Redis) -> None:
    write_member(default_cache, "b", B)
    write_member(default_cache, "a", A)
    write_override(default_cache, "a", "junk", "set")
    default_cache.set("unrelated", "x")
    page = RedisBlobDescriptorCacheProvider().walk().scan("", 1000)
    assert page.next == ""
    assert page.blobs == sorted([A.encode(), B.encode()])
    assert page.repositories == [b"a", b"b"]
    assert page.overrides == [
        OverrideKey(b"a", b"junk"),
        OverrideKey(b"a", A.encode()),
        OverrideKey(b"b", B.encode()),
    ]
    assert page.key_count == 7


def test_only_blobs_whose_keys_exist_have_records(default_cache: Redis) -> None:
    default_cache.hset(f"blobs::{A}", "color", "blue")
    found = RedisBlobDescriptorCacheProvider().walk().read_existing([Digest(A), Digest(B)])
    assert [record.digest for record in found] == [A]


def test_a_repository_whose_key_is_not_a_set_has_no_members(default_cache: Redis) -> None:
    default_cache.set("repository::a::blobs", "x")
    walk = RedisBlobDescriptorCacheProvider().walk()
    assert walk.scan_members(b"a", "", 10) is None
    assert walk.are_members([OverrideKey(b"a", b"x"), OverrideKey(b"b", b"x")]) == [None, False]
    assert walk.are_members([]) == []


def test_a_key_with_two_separators_is_parsed_at_the_first() -> None:
    digest = b"x::blobs::y"
    assert parse(b"repository::a::blobs::" + digest) == Key(KeyKind.OVERRIDE, b"a", digest)
