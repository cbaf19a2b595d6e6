"""Which Redis an entry of CACHES means, by the settings."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from blobcache.redis.places import Place, place_of
from tests.test_checks import redis_cache


def place(location: object, **options: Any) -> Place:
    with override_settings(CACHES={"default": redis_cache(location, **options)}):
        return place_of("default")


@pytest.mark.parametrize(
    "location",
    [
        *("redis://localhost", "redis://LOCALHOST:6379/0", "redis://127.0.0.1", "redis://[::1]/"),
        *("redis://user:secret@localhost/0", "redis://localhost?protocol=3", "redis://"),
        *("rediss://localhost", "redis://localhost,redis://replica", ["redis://localhost/0#x"]),
        "redis://localhost/5?db=0",
    ],
)
def test_different_addresses_of_one_database_are_one_place(location: object) -> None:
    assert place(location) == Place(("localhost", 6379), 0, ())


@pytest.mark.parametrize(
    "location",
    [
        *("redis://localhost/1", "redis://localhost:6380", "redis://other", "unix:///run/redis"),
        *("redis://localhost?db=2", "redis://[::2]", "unix:///run/redis?db=1"),
        "redis://replica,redis://localhost",
    ],
)
def test_other_servers_and_databases_are_other_places(location: str) -> None:
    assert place(location) != place("redis://localhost")
    assert place(location).mark() != place("redis://localhost").mark()


def test_the_options_of_the_pool_count_where_the_address_says_nothing() -> None:
    kwargs = {"host": "Elsewhere", "port": 7, "db": 3}
    assert place("redis://", CONNECTION_POOL_KWARGS=kwargs) == Place(("elsewhere", 7), 3, ())
    assert place("redis://h:1/2", CONNECTION_POOL_KWARGS=kwargs) == Place(("h", 1), 2, ())


def test_services_of_other_sentinels_are_other_places() -> None:
    one, two = (place("redis://mymaster/0", SENTINELS=[(host, 26379)]) for host in ("one", "two"))
    assert one != two
    more = [("b", 1), ("a", 1)]
    assert place("redis://mymaster", SENTINELS=more) == place(
        "redis://mymaster", SENTINELS=more[::-1]
    )


@pytest.mark.parametrize(
    "location", [None, "", [], "redis://[::1", "redis://h:port", "redis://h:99999/x", "redis://h/x"]
)
def test_every_location_has_a_place(location: object) -> None:
    assert place(location).database == 0
    with override_settings(CACHES={}):
        assert place_of("missing").database == 0


def test_a_mark_shows_no_address_and_no_secret() -> None:
    mark = place("redis://user:secret@host.example.org/1").mark()
    assert len(mark) == 16
    assert set(mark) <= set("0123456789abcdef")
    assert mark == place("redis://user:other@host.example.org/1").mark()
