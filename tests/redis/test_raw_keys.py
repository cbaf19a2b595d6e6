"""The keys of a blob as they are: of every type, huge, hostile, and where commands are refused."""

from __future__ import annotations

import shlex

import pytest
from redis import Redis

from blobcache.raw import printable
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.raw_keys import RawField, RawKey, shell_line
from project import embedded
from tests.doctor.damage import OCTETS, digest, write_blob, write_member
from tests.servers import cache_at

BLOB, SET = f"blobs::{digest(1)}".encode(), b"repository::a::blobs"
OVERRIDE = f"repository::a::blobs::{digest(1)}".encode()


@pytest.fixture
def provider(any_store: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


def test_the_three_keys_of_a_member_are_shown(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    write_member(any_store, "a", digest(1))
    any_store.expire(BLOB, 1000)
    blob, members, override = provider.raw_keys(digest(1), "a")
    assert (blob.key, blob.type, blob.length) == (BLOB, "hash", 4)
    assert blob.seconds is not None
    assert 0 < blob.seconds <= 1000
    assert blob.fields == [
        RawField(b"digest", digest(1).encode(), 71),
        RawField(b"length", b"5", 1),
        RawField(b"mediatype", OCTETS.encode(), len(OCTETS)),
        RawField(b"size", b"5", 1),
    ]
    assert (members.key, members.type, members.length) == (SET, "set", 1)
    assert (members.seconds, members.is_member) == (None, True)
    assert (override.key, override.length) == (OVERRIDE, 1)
    for each in (blob, members, override):
        assert each.encoding
        assert each.memory
        assert each.refused == ()
    (alone,) = provider.raw_keys(digest(1))
    assert alone._replace(seconds=None) == blob._replace(seconds=None)


def test_what_is_not_there_is_none(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    for each in provider.raw_keys(digest(1), "a"):
        assert (each.type, each.exists, each.length) == ("none", False, 0)
        assert (each.seconds, each.memory, each.fields) == (None, None, [])


def test_keys_of_other_types_are_shown_too(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    any_store.set(BLOB, b"text \xff" + 2000 * b"x")
    any_store.set(SET, "text")
    any_store.rpush(OVERRIDE, "a", "b")
    blob, members, override = provider.raw_keys(digest(1), "a")
    assert (blob.type, blob.length) == ("string", 2006)
    (field,) = blob.fields
    assert field.value is not None
    assert field.value.startswith(b"text \xffx")
    assert len(field.value) == 1024
    assert (members.type, members.is_member, members.length) == ("string", None, None)
    assert (override.type, override.fields, override.length) == ("list", [], None)


def test_huge_values_are_not_read(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    write_blob(any_store, digest(1), "whole")
    any_store.hset(BLOB, "mediatype", b"x" * 5_000_000)
    any_store.hset(BLOB, mapping={f"field{number}": number for number in range(2000)})
    (blob,) = provider.raw_keys(digest(1))
    assert blob.length == 2004
    assert {each.name: each.length for each in blob.fields} == {
        b"digest": 71,
        b"size": 1,
        b"length": 1,
        b"mediatype": 5_000_000,
    }
    known = {each.name: each.value for each in blob.fields}
    assert known == {
        b"digest": digest(1).encode(),
        b"size": b"5",
        b"length": b"5",
        b"mediatype": None,
    }


def test_a_server_that_refuses_commands_still_shows_the_rest(valkey: embedded.Server) -> None:
    with cache_at(valkey.url) as client:
        client.flushall()
        write_member(client, "a", digest(1))
        client.execute_command(
            "ACL SETUSER",
            "curious",
            *[
                "reset",
                "on",
                ">secret",
                "~*",
                "+@all",
                "-memory",
                "-object",
                "-hgetall",
                "-type",
                "-pttl",
            ],
        )
        url = valkey.url.replace("redis://", "redis://curious:secret@", 1)
        if "unix" in valkey.url:
            pytest.fail("the test needs an address with a host")
    with cache_at(url):
        blob, members, override = RedisBlobDescriptorCacheProvider().raw_keys(digest(1), "a")
        assert set(blob.refused) == {"MEMORY", "OBJECT", "TYPE", "PTTL"}
        assert (blob.type, blob.memory, blob.encoding) == (None, None, None)
        assert blob.exists
        assert {each.name: each.value for each in blob.fields}[b"size"] == b"5"
        assert members.is_member is True
        assert override.fields == [RawField(b"mediatype", OCTETS.encode(), len(OCTETS))]


def test_the_line_for_a_shell_is_quoted() -> None:
    hostile = RawKey(b"blobs::$(reboot); 'x' \x00", "hash")
    line = shell_line(hostile, digest(1))
    assert shlex.split(line) == ["redis-cli", "HGETALL", printable(hostile.key)]
    assert shell_line(RawKey(SET, "set"), digest(1)) == (
        f"redis-cli SISMEMBER repository::a::blobs {digest(1)}"
    )
