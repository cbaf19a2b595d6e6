"""Notes: what is written, for how long, and what another program may have put in their place."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.notes import MAX_NOTE
from tests.servers import commands


@pytest.fixture
def notes(default_cache: Redis) -> Any:
    return RedisBlobDescriptorCacheProvider().notes()


def test_notes_are_kept_for_their_time(notes: Any, default_cache: Redis) -> None:
    notes.write({"a": "1", "b": "é"}, 100)
    assert notes.read(["b", "c", "a"]) == ["é", None, "1"]
    assert all(0 < default_cache.ttl(key) <= 100 for key in default_cache.scan_iter())


def test_nothing_asks_nothing(notes: Any, default_cache: Redis) -> None:
    with commands(default_cache) as traffic:
        assert notes.read([]) == []
        notes.write({}, 100)
    assert traffic.round_trips == 0


def test_a_note_has_a_limited_length(notes: Any, default_cache: Redis) -> None:
    notes.write({"a": "é" * (MAX_NOTE // 2)}, 100)
    with pytest.raises(ValueError, match=f"at most {MAX_NOTE} bytes, not {MAX_NOTE + 1}"):
        notes.write({"b": "1", "a": "x" * (MAX_NOTE + 1)}, 100)
    assert notes.read(["a", "b"]) == ["é" * (MAX_NOTE // 2), None]


@pytest.mark.parametrize("raw", [b"x" * (MAX_NOTE + 1), b"\xff"])
def test_what_is_no_note_is_read_as_none(notes: Any, default_cache: Redis, raw: bytes) -> None:
    notes.write({"a": "1"}, 100)
    (key,) = default_cache.keys()
    default_cache.set(key, raw)
    assert notes.read(["a"]) == [None]


def test_a_key_of_another_type_is_read_as_none(notes: Any, default_cache: Redis) -> None:
    notes.write({"a": "1"}, 100)
    (key,) = default_cache.keys()
    default_cache.delete(key)
    default_cache.sadd(key, "x")
    assert notes.read(["a"]) == [None]
