"""The note of an interrupted check, and notes that another program has written in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis

from blobcache.doctor.problems import Problems
from blobcache.doctor.saved import KEPT, SavedCheck
from blobcache.doctor.scan import Diagnosis
from blobcache.findings import Kind
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.notes import MAX_NOTE

COUNTS = {Kind.CORRUPT: 2, Kind.HUSK: 1}


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


def saved(provider: Any, *names: str, **options: Any) -> SavedCheck:
    return SavedCheck(Diagnosis(provider, names, **options))


def read(check: SavedCheck) -> tuple[str, dict[Kind, int], dict[Kind, int]]:
    found = Problems(is_whole=True)
    cursor = check.read(found)
    return cursor, dict(found.places), dict(found.counts)


def test_the_position_and_the_counts_are_read_again(provider: Any) -> None:
    check = saved(provider)
    assert read(check) == ("", {}, {})
    check.write("here", COUNTS, {Kind.CORRUPT: 1})
    assert read(saved(provider)) == ("here", COUNTS, {Kind.CORRUPT: 1})
    check.write("there", COUNTS)
    assert read(check) == ("there", COUNTS, COUNTS)
    check.write(None, COUNTS)
    assert read(check) == ("", {}, {})


def test_a_check_with_other_options_is_another_one(provider: Any) -> None:
    saved(provider).write("here", COUNTS)
    for other in (
        saved(provider, "a"),
        saved(provider, kinds=[Kind.CORRUPT]),
        saved(provider, deep=1),
        saved(provider, is_quick=True),
    ):
        assert read(other) == ("", {}, {})


def test_a_position_that_is_too_long_is_not_kept(provider: Any) -> None:
    check = saved(provider)
    check.write("here", COUNTS)
    check.write("x" * MAX_NOTE, COUNTS)
    assert read(check) == ("", {}, {})


@pytest.mark.parametrize(
    "note",
    [
        *("", "x", "[", "[" * 4000, "null", "1", "{}", "[]", '["here"]'),
        ["here", []],
        ["here", {"no kind": 1}],
        ["here", {"husk": "x"}],
        ["here", {"husk": None}],
        json.dumps(["here", {"husk": float("inf")}]),
        ["here", {"husk": 1}, []],
        ["here", {"husk": 1}, {"no kind": 1}],
    ],
)
def test_another_note_is_no_position(provider: Any, note: object) -> None:
    check = saved(provider)
    text = note if isinstance(note, str) else json.dumps(note)
    provider.notes().write({check._name: text}, KEPT)
    assert read(check) == ("", {}, {})


def test_negative_numbers_count_as_none(provider: Any) -> None:
    check = saved(provider)
    provider.notes().write({check._name: json.dumps(["here", {"husk": -1}])}, KEPT)
    assert read(check) == ("here", {Kind.HUSK: 0}, {Kind.HUSK: 0})
