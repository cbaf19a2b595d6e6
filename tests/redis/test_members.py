"""What a repository holds: members by the beginning of their digests, and whether one is."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import DescriptorCorrupt
from blobcache.redis import keys
from blobcache.redis.keys import Key, KeyKind
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.conformance import A
from tests.servers import monitor


def digest(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


@pytest.fixture
def provider(any_store: Redis) -> RedisBlobDescriptorCacheProvider:
    """A provider whose repository ``a`` has 3,000 members, and some that are no digests."""
    members = [digest(number) for number in range(3000)]
    members += [Digest(f"sha512:{number:0128x}") for number in range(3)]
    for start in range(0, len(members), 500):
        any_store.sadd("repository::a::blobs", *members[start : start + 500])
    any_store.sadd("repository::a::blobs", "a*b", "a[bc", b"a\\b", "aab")
    return RedisBlobDescriptorCacheProvider()


def found(provider: RedisBlobDescriptorCacheProvider, prefix: str, limit: int = 100) -> set[str]:
    members: set[str] = set()
    cursor: str | None = ""
    while cursor is not None:
        page = provider.catalog.members("a", cursor, limit, prefix)
        assert page.count == 3007
        members |= set(page.members)
        cursor = page.next
    return members


BEGINNINGS = {
    "sha256:" + "0" * 61 + "bb": 8,
    "0" * 61 + "bb": 8,
    "sha512": 3,
    "sha": 3003,
    "s": 3003,
    digest(7): 1,
    digest(7).encoded: 1,
    "sha256:f": 0,
    "SHA256": 0,
    "sha384:": 0,
    "": 3007,
    "\udcff": 0,
}
"""How many members begin with a text."""

LITERALS = {"a*": {"a*b"}, "a[": {"a[bc"}, "a\\": {"a\\b"}, "aa": {"aab"}, "a?": set(), "[": set()}
"""Which members begin with a text."""


class TestPrefix:
    def test_finds_digests_by_their_beginning_with_or_without_the_algorithm(
        self, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        for limit in (5, 100):
            sums = {prefix: len(found(provider, prefix, limit)) for prefix in BEGINNINGS}
            assert sums == BEGINNINGS, limit

    def test_has_no_special_characters_of_redis(
        self, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        assert {prefix: found(provider, prefix) for prefix in LITERALS} == LITERALS

    def test_of_a_key_that_is_not_a_set_is_an_error(self, any_store: Redis) -> None:
        any_store.set("repository::a::blobs", "text")
        with pytest.raises(DescriptorCorrupt):
            RedisBlobDescriptorCacheProvider().catalog.members("a", prefix="sha256:0")


def test_a_page_of_blobs_has_about_the_requested_number(default_cache: Redis) -> None:
    with default_cache.pipeline(transaction=False) as pipe:
        for number in range(5000):
            pipe.hset(f"blobs::{digest(number)}", "digest", digest(number))
        pipe.execute()
    catalog = RedisBlobDescriptorCacheProvider().catalog
    assert 50 <= len(catalog.blobs(limit=50).blobs) < 75


def test_among_many_other_keys_a_page_of_blobs_scans_more_and_more_keys(
    default_cache: Redis,
) -> None:
    with default_cache.pipeline(transaction=False) as pipe:
        for number in range(20_000):
            pipe.set(f"session::{number}", "x")
        pipe.hset(f"blobs::{A}", "digest", A)
        pipe.execute()
    catalog = RedisBlobDescriptorCacheProvider().catalog
    with monitor(default_cache) as seen:
        assert catalog.blobs(limit=10).blobs == (A,)
    assert len([words for words in seen if words[0] == "SCAN"]) < 35


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (b"blobs::x", Key(KeyKind.BLOB, b"", b"x")),
        (b"blobs::", Key(KeyKind.BLOB, b"", b"")),
        (b"repository::a/b::blobs", Key(KeyKind.MEMBERS, b"a/b", b"")),
        (b"repository::::blobs", Key(KeyKind.MEMBERS, b"", b"")),
        (b"repository::a::blobs::x", Key(KeyKind.OVERRIDE, b"a", b"x")),
        (b"repository::a::blobs::x::y", Key(KeyKind.OVERRIDE, b"a", b"x::y")),
        (b"repository::a::blobs::x::blobs", Key(KeyKind.MEMBERS, b"a::blobs::x", b"")),
        (b"repository::a", None),
        (b"blobcache::{catalog}::names", None),
        (b"session::1", None),
    ],
)
def test_a_key_is_taken_apart_and_put_together(key: bytes, parts: Key | None) -> None:
    assert keys.parse(key) == parts
    if parts is not None:
        build = {
            KeyKind.BLOB: lambda: keys.blob(parts.digest),
            KeyKind.MEMBERS: lambda: keys.members(parts.repository),
            KeyKind.OVERRIDE: lambda: keys.override(parts.repository, parts.digest),
        }
        assert build[parts.kind]() == key
