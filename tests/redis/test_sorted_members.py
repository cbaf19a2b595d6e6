"""Sorted copies of a repository's blobs: their order, their pages, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable, CursorInvalid, OperationUnsupported, Reason
from blobcache.findings import Kind
from blobcache.media_types import Category
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.sorted_entries import Prefix, pack, pack_digest, split, unpack_digest
from blobcache.services.catalog import Budgets
from blobcache.services.records import Record
from blobcache.services.rules import Rules
from blobcache.services.sorted_members import CopyStatus, MemberColumn, MemberQuery
from project import embedded
from tests.servers import cache_at, commands, monitor

NAME = "team/app"
LAYER, CONFIG = (
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.config.v1+json",
)
TYPES = (LAYER, CONFIG, OCTET_STREAM)
MANY = 240


def digest(number: int) -> Digest:
    """Not in the order of the numbers."""
    return Digest(f"sha256:{number * 7919 % 65536:04x}{number:060x}")


def fill(redis: Redis, name: str = NAME, many: int = MANY) -> dict[str, int]:
    """Blobs of three types and many sizes, each twice; return their sizes."""
    sizes = {}
    with redis.pipeline(transaction=False) as pipe:
        for number in range(many):
            each, media_type = digest(number), TYPES[number % 3]
            sizes[str(each)] = number // 2
            fields: dict[Any, Any] = {
                "digest": each,
                "size": number // 2 + 1,
                "mediatype": media_type,
            }
            pipe.hset(f"blobs::{each}", mapping=fields)
            pipe.hset(f"repository::{name}::blobs::{each}", "mediatype", media_type)
            pipe.sadd(f"repository::{name}::blobs", each)
        pipe.execute()
    return sizes


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


def made(
    provider: RedisBlobDescriptorCacheProvider, query: MemberQuery, name: str = NAME
) -> CopyStatus:
    """Make the copy to its end."""
    for _ in range(200):
        status = provider.sorted_members.copy_again(name, query)
        if status.progress is None:
            return status
    raise AssertionError("The copy is not finished.")


def pages(
    provider: RedisBlobDescriptorCacheProvider,
    query: MemberQuery,
    *,
    limit: int = 50,
    descending: bool = False,
) -> Iterator[tuple[str, ...]]:
    cursor: str | None = ""
    while cursor is not None:
        page = provider.sorted_members.page(NAME, query, cursor, limit, descending=descending)
        assert page is not None
        yield page.members
        cursor = page.next


def listed(
    provider: RedisBlobDescriptorCacheProvider,
    query: MemberQuery,
    *,
    limit: int = 50,
    descending: bool = False,
) -> list[str]:
    found = pages(provider, query, limit=limit, descending=descending)
    return [member for page in found for member in page]


class TestOrder:
    @pytest.mark.parametrize("limit", [1, 7, 1000])
    @pytest.mark.parametrize("descending", [False, True])
    def test_all_blobs_come_once_by_digest(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        limit: int,
        descending: bool,
    ) -> None:
        sizes = fill(default_cache)
        made(provider, MemberQuery())
        found = listed(provider, MemberQuery(), limit=limit, descending=descending)
        assert found == sorted(sizes, reverse=descending)

    @pytest.mark.parametrize("limit", [1, 7, 1000])
    @pytest.mark.parametrize("descending", [False, True])
    def test_all_blobs_come_once_by_size_and_those_of_a_size_by_digest(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        limit: int,
        descending: bool,
    ) -> None:
        sizes = fill(default_cache)
        query = MemberQuery(MemberColumn.SIZE)
        made(provider, query)
        found = listed(provider, query, limit=limit, descending=descending)
        assert found == sorted(sizes, key=lambda each: (sizes[each], each), reverse=descending)

    def test_blobs_come_by_the_category_of_their_type(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache)
        query = MemberQuery(MemberColumn.TYPE)
        status = made(provider, query)
        found = listed(provider, query)
        types = [each.descriptor for each in provider.repository_scoped(NAME).records(found)]
        names = [each.media_type for each in types if each]
        third = MANY // 3
        assert names == [CONFIG] * third + [LAYER] * third + [OCTET_STREAM] * third
        assert set(status.media_types) == set(TYPES)

    def test_the_worst_states_come_first(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache)
        default_cache.hset(f"blobs::{digest(7)}", "size", "many")
        default_cache.delete(f"blobs::{digest(9)}")
        query = MemberQuery(MemberColumn.STATE)
        made(provider, query)
        assert listed(provider, query)[:2] == [digest(7), digest(9)]

    def test_members_that_are_no_digests_are_listed_too(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache, many=3)
        tarsum = "tarsum.v1+sha256:" + "a" * 64
        default_cache.sadd(f"repository::{NAME}::blobs", b"\xff<i>", "no digest", tarsum)
        made(provider, MemberQuery())
        found = listed(provider, MemberQuery())
        assert set(found[3:]) == {"\\xff<i>", "no digest", tarsum}
        assert listed(provider, MemberQuery(prefix="no d")) == ["no digest"]


class TestSearch:
    @pytest.mark.parametrize(
        "prefix", ["sha256:", "sha256:1", "1", "1e", "1ee", "sh", "f", "ff", "sha512:", "x", "A"]
    )
    @pytest.mark.parametrize("column", [MemberColumn.DIGEST, MemberColumn.SIZE])
    def test_finds_the_beginnings_of_digests(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        prefix: str,
        column: MemberColumn,
    ) -> None:
        sizes = fill(default_cache)
        query = MemberQuery(column, prefix)
        made(provider, query)
        wanted = [
            each
            for each in sizes
            if each.startswith(prefix) or each.partition(":")[2].startswith(prefix)
        ]
        assert sorted(listed(provider, query, limit=3)) == sorted(wanted)
        page = provider.sorted_members.page(NAME, query)
        assert page is not None
        assert page.count == len(wanted)

    @pytest.mark.parametrize(
        "query",
        [
            MemberQuery(size_min=10, size_max=20),
            MemberQuery(MemberColumn.SIZE, size_min=10, size_max=20),
            MemberQuery(MemberColumn.SIZE, size_max=5),
            MemberQuery(MemberColumn.SIZE, size_min=100_000),
            MemberQuery(MemberColumn.SIZE, size_min=30, size_max=20),
            MemberQuery(media_type=LAYER),
            MemberQuery(MemberColumn.SIZE, category=Category.CONFIG, size_min=40),
            MemberQuery(media_type=""),
            MemberQuery(state=Kind.CORRUPT),
            MemberQuery(MemberColumn.TYPE, prefix="1", state=Kind.OK),
        ],
    )
    def test_filters_give_what_a_look_at_each_record_gives(
        self,
        provider: RedisBlobDescriptorCacheProvider,
        default_cache: Redis,
        query: MemberQuery,
    ) -> None:
        sizes = fill(default_cache)
        default_cache.hset(f"blobs::{digest(7)}", "size", "many")
        default_cache.hdel(f"blobs::{digest(8)}", "mediatype")
        default_cache.hset(f"repository::{NAME}::blobs::{digest(8)}", "mediatype", "")
        made(provider, query)
        records = provider.repository_scoped(NAME).records([Digest(each) for each in sizes])
        wanted = sorted(each.digest for each in records if query.matches(each))
        assert sorted(listed(provider, query, limit=7)) == wanted
        assert sorted(listed(provider, query, limit=7, descending=True)) == wanted

    def test_a_page_with_a_number_is_that_part_of_the_list(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache)
        query = MemberQuery(MemberColumn.SIZE)
        made(provider, query)
        whole = listed(provider, query, descending=True)
        page = provider.sorted_members.page(NAME, query, "", 10, offset=30, descending=True)
        assert page is not None
        assert list(page.members) == whole[30:40]


class TestMaking:
    def test_without_a_copy_there_is_no_page(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        assert provider.sorted_members.page(NAME, MemberQuery()) is None
        assert not provider.sorted_members.status(NAME, MemberQuery()).is_made

    def test_a_step_is_bounded_and_the_next_one_goes_on(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache, many=3000)
        provider.catalog.budgets = Budgets(page=0)
        query = MemberQuery(MemberColumn.SIZE)
        shares: list[float] = []
        status = provider.sorted_members.copy_again(NAME, query)
        while status.progress is not None and len(shares) < 50:
            shares.append(status.progress)
            status = provider.sorted_members.copy_again(NAME, query)
        assert len(shares) > 3
        assert shares == sorted(shares)
        assert all(0 <= share <= 1 for share in shares)
        assert len(listed(provider, query, limit=1000)) == 3000

    def test_another_order_needs_no_other_walk(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, observer: Redis
    ) -> None:
        fill(default_cache)
        made(provider, MemberQuery())
        with commands(observer) as sent:
            provider.sorted_members.refresh(NAME, MemberQuery(MemberColumn.SIZE))
        assert sent.calls["sscan"] == 0
        assert len(listed(provider, MemberQuery(MemberColumn.SIZE))) == MANY

    def test_the_copy_before_is_read_until_a_new_one_is_finished(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache, many=3000)
        before = made(provider, MemberQuery())
        provider.catalog.budgets = Budgets(page=0)
        status = provider.sorted_members.copy_again(NAME, MemberQuery())
        assert status.progress is not None
        assert status.copied_at == before.copied_at
        assert len(listed(provider, MemberQuery(), limit=1000)) == 3000

    def test_a_new_copy_has_what_has_changed(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache)
        query = MemberQuery(MemberColumn.SIZE)
        made(provider, query)
        default_cache.srem(f"repository::{NAME}::blobs", digest(3))
        default_cache.hset(f"blobs::{digest(0)}", "size", 10**9)
        made(provider, query)
        found = listed(provider, query)
        assert found[-1] == digest(0)
        assert digest(3) not in found

    def test_a_cursor_goes_on_behind_its_blob_in_a_new_copy(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache)
        for query in (MemberQuery(MemberColumn.TYPE), MemberQuery()):
            made(provider, query)
            for descending in (False, True):
                whole = listed(provider, query, descending=descending)
                first = provider.sorted_members.page(NAME, query, "", 50, descending=descending)
                assert first is not None
                assert first.next is not None
                gone = first.members[-1]
                default_cache.srem(f"repository::{NAME}::blobs", gone)
                made(provider, query)
                page = provider.sorted_members.page(
                    NAME, query, first.next, 50, descending=descending
                )
                assert page is not None
                assert list(page.members) == whole[50:100]

    def test_an_empty_repository_has_an_empty_copy(
        self, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        query = MemberQuery(MemberColumn.SIZE)
        assert made(provider, query).is_made
        assert listed(provider, query) == []

    def test_one_process_at_a_time_makes_a_copy(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache)
        keys = provider.catalog.index.keys
        provider.sorted_members.copy_again(NAME, MemberQuery())
        (notes,) = [key for key in default_cache.scan_iter(keys.copy("*")) if key.count(b"::") == 3]
        default_cache.set(notes + b"::lock", "another")
        before = default_cache.hgetall(notes)
        status = provider.sorted_members.copy_again(NAME, MemberQuery())
        assert status.progress == 0
        changed = default_cache.hgetall(notes)
        assert changed.pop(b"wanted") != before.pop(b"wanted")
        assert changed == before


class TestBounds:
    def test_the_oldest_copies_are_dropped(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(sorted_copies=3))
        for number in range(4):
            fill(default_cache, f"app/{number}", 5)
            made(provider, MemberQuery(MemberColumn.SIZE), f"app/{number}")
        keys = provider.catalog.index.keys
        assert default_cache.zcard(keys.copy()) == 3
        kept = [
            number
            for number in range(4)
            if provider.sorted_members.status(
                f"app/{number}", MemberQuery(MemberColumn.SIZE)
            ).is_made
        ]
        assert kept[-1] == 3
        entries = [key for key in default_cache.scan_iter(keys.copy("*")) if b"lock" not in key]
        assert len(entries) == 2 * 3  # notes and entries of each

    def test_one_list_gets_the_two_copies_that_it_needs(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(sorted_copies=1))
        fill(default_cache)
        made(provider, MemberQuery(MemberColumn.SIZE))
        assert len(listed(provider, MemberQuery(MemberColumn.SIZE))) == MANY

    def test_everything_expires(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache)
        made(provider, MemberQuery(MemberColumn.SIZE))
        keys = list(default_cache.scan_iter(b"blobcache::*copy*"))
        assert len(keys) == 5
        assert all(0 < default_cache.pttl(key) <= 3600_000 for key in keys)

    def test_no_command_adds_or_reads_many_entries(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, observer: Redis
    ) -> None:
        fill(default_cache, many=2500)
        query = MemberQuery(MemberColumn.SIZE)
        with monitor(observer) as sent:
            made(provider, query)
            listed(provider, query, limit=100)
        added = [len(words) for words in sent if words[0] == "ZADD"]
        assert max(added) <= 2 + 2 * 250
        assert len(added) >= 2 * 2500 // 250
        read = [int(words[3]) - int(words[2]) for words in sent if words[0] == "ZRANGE"]
        assert max(read) < 1000

    def test_a_page_takes_the_same_commands_at_any_size(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, observer: Redis
    ) -> None:
        counts = []
        for many in (300, 3000):
            fill(default_cache, many=many)
            for query in (MemberQuery(MemberColumn.SIZE), MemberQuery(prefix="1")):
                made(provider, query)
                with commands(observer) as sent:
                    provider.sorted_members.page(NAME, query, "", 10, offset=many // 20)
                counts.append(sent.round_trips)
        assert counts[:2] == counts[2:]
        assert max(counts) <= 12

    def test_without_copies_nothing_is_written(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(sorted_copies=None))
        assert not provider.sorted_members.may_keep
        with pytest.raises(OperationUnsupported, match="SORTED_COPIES"):
            provider.sorted_members.copy_again(NAME, MemberQuery())
        assert default_cache.dbsize() == 0

    def test_beside_the_descriptors_of_a_read_only_registry_nothing_is_written(
        self, default_cache: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider(Rules(read_only=True))
        for call in (provider.sorted_members.refresh, provider.sorted_members.copy_again):
            with pytest.raises(OperationUnsupported, match="CATALOG_ALIAS"):
                call(NAME, MemberQuery())
        assert default_cache.dbsize() == 0

    def test_a_full_redis_keeps_no_part_of_a_copy(self) -> None:
        with embedded.start() as server, cache_at(server.url) as redis:
            fill(redis, many=3000)
            redis.config_set("maxmemory-policy", "noeviction")
            provider = RedisBlobDescriptorCacheProvider()
            provider.catalog.budgets = Budgets(page=0)
            provider.sorted_members.copy_again(NAME, MemberQuery())
            redis.config_set("maxmemory", 1)
            with pytest.raises(CacheUnavailable) as caught:
                provider.sorted_members.copy_again(NAME, MemberQuery())
            assert caught.value.reason is Reason.FULL
            keys = [key for key in redis.scan_iter(b"*copy::*") if redis.type(key) == b"zset"]
            assert keys == []
            redis.config_set("maxmemory", 0)
            made(provider, MemberQuery())
            assert len(listed(provider, MemberQuery(), limit=1000)) == 3000


class TestForeignData:
    def test_a_copy_that_lost_entries_is_not_read(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache)
        made(provider, MemberQuery())
        (key,) = [
            key
            for key in default_cache.scan_iter(b"*copy::*")
            if default_cache.type(key) == b"zset"
        ]
        default_cache.zremrangebyrank(key, 0, 3)
        assert provider.sorted_members.page(NAME, MemberQuery()) is None
        made(provider, MemberQuery())
        assert len(listed(provider, MemberQuery())) == MANY

    def test_entries_and_notes_of_another_program_are_ignored(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis
    ) -> None:
        fill(default_cache, many=5)
        made(provider, MemberQuery(MemberColumn.SIZE))
        for key in default_cache.scan_iter(b"*copy::*"):
            if default_cache.type(key) == b"zset":
                default_cache.zpopmin(key)
                default_cache.zadd(key, {b"1short": 1})
        assert len(listed(provider, MemberQuery())) == 4
        for key in default_cache.scan_iter(b"*copy::*"):
            if default_cache.type(key) == b"hash":
                for field in default_cache.hkeys(key):
                    default_cache.hset(key, field, b"\xff" * 40)
        assert provider.sorted_members.page(NAME, MemberQuery()) is None
        made(provider, MemberQuery(MemberColumn.SIZE))
        assert len(listed(provider, MemberQuery(MemberColumn.SIZE))) == 5

    @pytest.mark.parametrize("cursor", ["x", "1", "1 zz", "1 abc", "nan 00", "1 " + "0" * 9000])
    def test_a_cursor_of_another_list_is_refused(
        self, provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, cursor: str
    ) -> None:
        fill(default_cache, many=5)
        made(provider, MemberQuery())
        with pytest.raises(CursorInvalid):
            provider.sorted_members.page(NAME, MemberQuery(), cursor)


@pytest.mark.parametrize(
    "text",
    [
        "sha256:" + "0f" * 32,
        "sha384:" + "f" * 96,
        "sha512:" + "a" * 128,
        "tarsum.v1+sha256:" + "a" * 64,
    ],
)
def test_digests_are_packed_and_restored(text: str) -> None:
    packed = pack_digest(Digest(text, allow_tarsum=True))
    assert unpack_digest(packed) == text
    assert isinstance(unpack_digest(packed), Digest)
    for length in (1, 8, 9, 12, len(text)):
        assert Prefix(text[:length]).matches(packed)


@pytest.mark.parametrize("raw", [b"", b"1", b"9", b"9text", b"9\x1b[\0", b"7" * 33, b"1" * 34])
def test_bytes_of_another_program_are_no_digest(raw: bytes) -> None:
    assert unpack_digest(raw) is None
    assert split(raw) is None


@pytest.mark.parametrize("media_type", [None, OCTET_STREAM, LAYER])
def test_an_entry_has_the_facts_of_its_blob(media_type: str | None) -> None:
    found = Descriptor(digest(1), 2**63 - 1, media_type)
    for descriptor in (found, None):
        entry = pack(Record(digest(1), Kind.SIZE_MISMATCH, descriptor))
        parts = split(entry)
        assert parts is not None
        packed, facts = parts
        assert packed == pack_digest(digest(1))
        assert facts.state is Kind.SIZE_MISMATCH
        assert facts.size == (descriptor.size if descriptor else None)
        assert facts.media_type == (descriptor.media_type if descriptor else None)
