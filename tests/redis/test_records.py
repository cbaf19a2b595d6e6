"""A record holds what one read of a blob's keys gives: see `blobcache.redis.records`."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from blobcache.digest import Digest
from blobcache.exceptions import DescriptorCorrupt, DigestInvalid
from blobcache.findings import Kind, Part
from blobcache.redis import records
from blobcache.redis.records import parse_descriptors, parse_member
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services.records import WRONG_TYPE, Fields
from blobcache.services.rules import Rules
from project import embedded
from tests.conformance import ALIAS, A, B, make_descriptor
from tests.doctor.damage import write_member
from tests.servers import cache_at, commands


@pytest.fixture
def provider(any_store: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


class TestMembership:
    def test_is_read_with_the_other_keys(
        self, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        scope = provider.repository_scoped("a")
        scope.set_descriptor(A, make_descriptor(A))
        any_store.hset(f"repository::a::blobs::{B}", "mediatype", "x")
        member, other = scope.records([A, B])
        assert (member.kind, member.is_member) == (Kind.OK, True)
        assert (other.kind, other.is_member) == (Kind.DANGLING_MEMBER, False)
        any_store.srem("repository::a::blobs", A)
        (left,) = scope.records([A])
        assert (left.kind, left.is_member) == (Kind.OK, False)
        any_store.set(f"blobs::{A}", "text")
        assert scope.records([A])[0].is_member is False
        assert provider.records([A])[0].is_member is None

    def test_is_unknown_if_the_key_is_not_a_set(self, any_store: Redis) -> None:
        any_store.set("repository::a::blobs", "text")
        (record,) = RedisBlobDescriptorCacheProvider().repository_scoped("a").records([A])
        assert record.is_member is None


@pytest.mark.parametrize("scope", ["global", "repository"])
@pytest.mark.parametrize("allow_tarsum", [False, True])
def test_a_record_is_what_a_stat_by_the_registrys_rules_gives(
    default_cache: Redis, scope: str, allow_tarsum: bool
) -> None:
    tarsum = Digest(f"tarsum.v1+sha256:{'a' * 64}", allow_tarsum=True)
    for each in (tarsum, A):
        fields: dict[Any, Any] = {"digest": tarsum, "size": 1, "mediatype": "a/b"}
        default_cache.hset(f"blobs::{each}", mapping=fields)
        default_cache.hset(f"repository::a::blobs::{each}", "mediatype", "a/b")
        default_cache.sadd("repository::a::blobs", each)
    provider = RedisBlobDescriptorCacheProvider(Rules(allow_tarsum=allow_tarsum))
    service = provider if scope == "global" else provider.repository_scoped("a")
    for record in service.records([tarsum, A]):
        if allow_tarsum:
            assert record.descriptor == service.stat(record.digest)
            assert record.kind is Kind.OK
        else:
            with pytest.raises((DigestInvalid, DescriptorCorrupt)):
                service.stat(str(record.digest))
            assert (record.descriptor, record.kind) == (None, Kind.CORRUPT)


def test_a_record_holds_the_fields_as_they_are_stored(default_cache: Redis) -> None:
    write_member(default_cache, "a", A, "two sizes")
    (record,) = RedisBlobDescriptorCacheProvider().repository_scoped("a").records([A])
    media_type = b"application/octet-stream"
    assert record.fields == Fields(A.encode(), b"5", b"6", media_type)
    assert isinstance(record.override, bytes)
    assert (record.kind, record.global_kind) == (Kind.SIZE_MISMATCH, Kind.SIZE_MISMATCH)
    assert record.is_blob_damaged
    assert record.repository == "a"


def test_a_key_of_the_wrong_type_is_no_value(default_cache: Redis) -> None:
    write_member(default_cache, "a", A, "string", "string")
    (record,) = RedisBlobDescriptorCacheProvider().repository_scoped("a").records([A])
    assert record.fields is WRONG_TYPE
    assert record.override is WRONG_TYPE
    assert (record.kind, record.part) == (Kind.CORRUPT, Part.KEY)


@pytest.mark.parametrize(
    ("override", "kind", "part"),
    [
        ("absent", Kind.DANGLING_MEMBER, None),
        ("unprintable", Kind.CORRUPT, Part.OVERRIDE),
        ("string", Kind.CORRUPT, Part.OVERRIDE_KEY),
    ],
)
def test_damage_of_an_override_is_not_damage_of_the_blob(
    override: str, kind: Kind, part: Part | None, default_cache: Redis
) -> None:
    write_member(default_cache, "a", A, "whole", override)
    provider = RedisBlobDescriptorCacheProvider()
    (record,) = provider.repository_scoped("a").records([A])
    assert (record.kind, record.part, record.descriptor) == (kind, part, None)
    assert record.global_kind is Kind.OK
    assert record.global_descriptor == provider.stat(A)
    assert not record.is_blob_damaged


def test_the_records_of_the_doctor_take_one_round_trip(valkey: embedded.Server) -> None:
    with cache_at(valkey.url) as client, valkey.client() as observer:
        client.flushall()
        write_member(client, "a", A)
        provider = RedisBlobDescriptorCacheProvider()
        walk, repository = provider.walk(), provider.repository_scoped("a").repository
        digests = [Digest(A), Digest(B)]
        walk.read(repository, digests)
        with commands(observer) as traffic:
            assert [record.is_member for record in walk.read(repository, digests)] == [True, False]
        assert traffic.round_trips == 1


TEXTS = [None, b"", b"a/b", b"c/d", b"a/" + b"b" * 254, b"\xff"]
SIZES = [None, b"", b"0", b"00", b"5", b"+5", b"9" * 19, b"x"]
ERROR = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


@pytest.mark.long(few=1)
@pytest.mark.parametrize(
    "digest", [A, ALIAS, Digest("tarsum+sha256:" + "c" * 64, allow_tarsum=True)]
)
def test_what_is_whole_is_read_the_short_way_with_the_same_result(
    digest: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every combination of replies: a registry's usual ones, damaged and missing ones."""
    hashes = [
        [name, size, length, media_type]
        for name in (None, digest.encode(), A.encode(), B.encode(), b"sha256:x")
        for size, length in product(SIZES, SIZES)
        for media_type in TEXTS
    ]
    answers: list[Any] = [
        (member, fields, override)
        for member in (0, 1, ERROR)
        for fields in (*hashes, ERROR)
        for override in (*TEXTS, ERROR)
    ]

    def read() -> list[object]:
        found: list[object] = [
            parse_member(RepositoryName("a"), digest, *each, allow_tarsum=allow_tarsum)
            for each in answers
            for allow_tarsum in (False, True)
        ]
        for each in answers:
            known = parse_descriptors(
                RepositoryName("a"), [digest], [each], allow_tarsum=True, errors={}
            )
            found.append(known)
        return found

    short = read()
    whole = [each for each in answers if records._whole_descriptor(digest, *each) is not None]
    assert 0 < len(whole) < len(answers) / 100
    monkeypatch.setattr(records, "_whole_descriptor", lambda *_: None)
    assert read() == short
