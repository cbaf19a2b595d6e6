"""The note of the last check, and notes that another program has written in its place."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from blobcache.doctor.last_run import KEPT, LastRun
from blobcache.findings import Kind
from blobcache.redis.service import RedisBlobDescriptorCacheProvider

AT = datetime(2026, 11, 20, tzinfo=UTC)
RUN = LastRun(
    AT,
    is_compared=True,
    looked_at=10,
    doubtful=2,
    uncached=3,
    counts={Kind.CORRUPT: 4, Kind.HUSK: 1},
    places={Kind.CORRUPT: 7, Kind.HUSK: 1},
)
GOOD: list[Any] = [AT.timestamp(), True, 10, 2, 3, {"corrupt": 4, "husk": 1}]


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


def noted(provider: Any, note: object) -> LastRun | None:
    text = note if isinstance(note, str) else json.dumps(note)
    provider.notes().write({"last-check": text}, KEPT)
    return LastRun.read(provider)


def test_what_was_written_is_read(provider: Any) -> None:
    assert LastRun.read(provider) is None
    RUN.write(provider)
    assert LastRun.read(provider) == RUN
    assert RUN.errors == 4


def test_kinds_without_findings_are_left_out(provider: Any) -> None:
    counts = {Kind.CORRUPT: 0, Kind.HUSK: 1}
    replace(RUN, counts=counts, places=counts).write(provider)
    found = LastRun.read(provider)
    assert found is not None
    assert found.counts == found.places == {Kind.HUSK: 1}


def test_without_places_each_problem_has_one(provider: Any) -> None:
    replace(RUN, places={}).write(provider)
    found, older = LastRun.read(provider), noted(provider, GOOD)
    assert found is not None
    assert found == older
    assert found.places == found.counts == RUN.counts


def test_the_age_is_never_negative() -> None:
    now = datetime.now(UTC)
    assert replace(RUN, at=now + timedelta(hours=1)).age == 0
    assert replace(RUN, at=now - timedelta(hours=1)).age >= 3600


def test_negative_numbers_count_as_none(provider: Any) -> None:
    found = noted(provider, [AT.timestamp(), True, -1, -1, -1, {"husk": -1}, {"husk": -1}])
    nothing = {Kind.HUSK: 0}
    assert found == replace(
        RUN, looked_at=0, doubtful=0, uncached=0, counts=nothing, places=nothing
    )


@pytest.mark.parametrize(
    "note",
    [
        *("", "x", "[", "[" * 4000, "null", "1", "{}", "[]"),
        GOOD[:5],
        ["x", *GOOD[1:]],
        [None, *GOOD[1:]],
        [1e20, *GOOD[1:]],
        [10**400, *GOOD[1:]],
        json.dumps([float("nan"), *GOOD[1:]]),
        json.dumps([float("inf"), *GOOD[1:]]),
        [*GOOD[:2], "x", *GOOD[3:]],
        [*GOOD[:2], None, *GOOD[3:]],
        json.dumps([*GOOD[:2], float("inf"), *GOOD[3:]]),
        [*GOOD[:5], []],
        [*GOOD[:5], {"no kind": 1}],
        [*GOOD[:5], {"husk": "x"}],
        [*GOOD[:5], {"husk": None}],
        [*GOOD, []],
        [*GOOD, {"no kind": 1}],
    ],
)
def test_another_note_is_no_check(provider: Any, note: object) -> None:
    assert noted(provider, GOOD) is not None
    assert noted(provider, note) is None
