"""The note whether a backend is independent of the cache."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis

from blobcache.doctor.witness import KEPT, ask_witness, known_witness
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.truth import Witness


class Registry:
    """A backend that asks a registry, which may read this very cache."""

    is_complete = False

    def __init__(self, *, is_independent: bool = True) -> None:
        self.answer = Witness(is_independent, "It was asked.")
        self.asked = 0

    def witness(self, cache: object) -> Witness:
        """See `Backend.witness`."""
        self.asked += 1
        return self.answer


class Storage(Registry):
    """A backend that reads a storage."""

    is_complete = True


class OtherRegistry(Registry):
    """Another one, as after a change of the settings."""


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


def known(provider: Any, backend: Any) -> Witness | None:
    found = known_witness(provider, backend)
    assert backend.is_complete or not backend.asked
    return found


@pytest.mark.parametrize("is_independent", [True, False])
def test_the_answer_is_known_without_asking_again(provider: Any, is_independent: bool) -> None:
    asked: Any = Registry(is_independent=is_independent)
    assert ask_witness(provider, asked) == asked.answer
    assert known(provider, Registry()) == Witness(is_independent, "It was asked.")


def test_nothing_is_known_before_somebody_asked(provider: Any) -> None:
    assert known(provider, Registry()) is None


def test_the_answer_of_another_backend_does_not_count(provider: Any) -> None:
    asked: Any = Registry()
    ask_witness(provider, asked)
    assert known(provider, OtherRegistry()) is None


def test_the_answer_is_kept_for_an_hour(provider: Any, default_cache: Redis) -> None:
    asked: Any = Registry()
    ask_witness(provider, asked)
    (key,) = default_cache.keys()
    assert KEPT - 60 < default_cache.ttl(key) <= KEPT == 3600


def test_a_storage_is_asked_each_time_and_nothing_is_noted(
    provider: Any, default_cache: Redis
) -> None:
    backend: Any = Storage()
    assert ask_witness(provider, backend) == known(provider, backend) == backend.answer
    assert backend.asked == 2
    assert not default_cache.keys()


@pytest.mark.parametrize(
    "note",
    [
        "",
        "x",
        "[",
        "[" * 4000,
        "{}",
        "null",
        "[]",
        json.dumps(["Registry", True]),
        json.dumps(["Registry", True, None]),
        json.dumps(["Registry", True, 1]),
        json.dumps(["Registry", True, "It was asked.", 1]),
        json.dumps([None, True, "It was asked."]),
    ],
)
def test_a_note_of_another_program_says_nothing(provider: Any, note: str) -> None:
    provider.notes().write({"witness": note}, KEPT)
    assert known(provider, Registry()) is None


@pytest.mark.parametrize("word", ["true", 1, [True], None])
def test_only_a_clear_yes_is_one(provider: Any, word: object) -> None:
    provider.notes().write({"witness": json.dumps(["Registry", word, "So."])}, KEPT)
    assert known(provider, Registry()) == Witness(is_independent=False, reason="So.")
