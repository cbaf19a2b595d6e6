"""The work for a request or for data in Redis grows no faster than the length of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client
from redis import Redis

from benchmarks.shapes import PATHS, REQUESTS, A, send
from blobcache.services import get_browsable
from tests.security.looks import LOOKS
from tests.security.work import LONGEST, Asked, assert_linear, pattern_calls, watch_patterns

LENGTHS = (300, 3000, 30_000)


def put_member(client: Redis, raw: bytes) -> None:
    client.sadd("repository::team/app::blobs", raw)


def put_field(field: str, key: str = f"blobs::{A}") -> Callable[[Redis, bytes], None]:
    def put(client: Redis, raw: bytes) -> None:
        client.hset(key, field, raw)

    return put


def put_figures(client: Redis, raw: bytes) -> None:
    client.hset("blobcache::{catalog}::figures", "team/app", raw)
    client.hset("blobcache::{catalog}::counting", "team/app", raw)


LEFT: dict[str, Callable[[Redis, bytes], object]] = {
    "a member": put_member,
    "the digest of a hash": put_field("digest"),
    "a size": put_field("size"),
    "a length": put_field("length"),
    "a media type": put_field("mediatype"),
    "an override": put_field("mediatype", f"repository::team/app::blobs::{A}"),
    "a name": lambda client, raw: client.sadd(b"repository::%b::blobs" % raw, A),
    "the digest of a key": lambda client, raw: client.hset(b"blobs::" + raw, "size", 1),
    "an orphan": lambda client, raw: client.hset(
        b"repository::team/app::blobs::" + raw,
        "mediatype",
        "a/b",
    ),
    "figures": put_figures,
    "the index's state": put_field("indexed_at", "blobcache::{catalog}::state"),
    "an index's number": put_field("indexed", "blobcache::{catalog}::state"),
}

VALUES: dict[str, Callable[[int], bytes]] = {
    "digits": lambda n: b"9" * n,
    "components": lambda n: b"a+" * (n // 2),
    "control characters": lambda n: b"\x1b" * n,
    "not UTF-8": lambda n: b"\xff" * n,
    "colons": lambda n: b"a:" * (n // 2),
    "brackets": lambda n: b"[" * n,
}


@pytest.fixture(autouse=True)
def patterns(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Every pattern of the app, with the length of the text it was matched against."""
    return watch_patterns(monkeypatch)


def grows_no_faster(call: Callable[[int], object]) -> None:
    """Assert that twice the length takes no more than twice the work."""
    call(LENGTHS[0])  # whatever is made at the first time
    for length in (LENGTHS[0], LENGTHS[-1]):
        assert_linear(lambda n: lambda: call(n), length)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_twice_the_length_takes_at_most_twice_the_work(
    name: str, client: Client, patterns: list[Asked]
) -> None:
    statuses: set[int] = set()

    def call(length: int) -> None:
        statuses.add(send(client, REQUESTS[name](length)).status_code)

    grows_no_faster(call)
    assert max(statuses) < 500
    assert {each.name: each.longest for each in patterns if each.longest > LONGEST} == {}


@pytest.mark.parametrize("name", PATHS)
def test_an_anonymous_path_of_twice_the_length_takes_at_most_twice_the_work(
    name: str, client: Client, patterns: list[Asked]
) -> None:
    stranger = Client(raise_request_exception=False)
    grows_no_faster(lambda n: stranger.get(PATHS[name](n), HTTP_ACCEPT="text/html"))
    assert {each.name: each.longest for each in patterns if each.longest > LONGEST} == {}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", LEFT)
def test_data_in_redis_is_read_in_time_linear_in_its_length(
    place: str, value: str, client: Client, default_cache: Redis, patterns: list[Asked]
) -> None:
    get_browsable().catalog.reindex()
    kept = {key: default_cache.dump(key) or b"" for key in default_cache.scan_iter()}

    def look(path: str) -> None:
        response = client.get(path)
        assert response.status_code < 500 or response.status_code == 503, path
        assert len(response.content) < 1_000_000, path

    def look_at(path: str, length: int) -> Callable[[], None]:
        default_cache.flushall()
        for key, dumped in kept.items():
            default_cache.restore(key, 0, dumped)
        LEFT[place](default_cache, VALUES[value](length))
        return lambda: look(path)

    # A fifth of the looks for each pair: every place, and every value, meets every look.
    first = (list(LEFT).index(place) + list(VALUES).index(value)) % 5
    for path in list(LOOKS.values())[first::5]:
        look_at(path, LENGTHS[0])()  # whatever is made at the first time
        assert_linear(partial(look_at, path), LENGTHS[1])
    assert {each.name: each.longest for each in patterns if each.longest > LONGEST} == {}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", LEFT)
def test_the_command_checks_whatever_is_in_redis(
    place: str, value: str, client: Client, default_cache: Redis
) -> None:
    LEFT[place](default_cache, VALUES[value](100_000))
    said = StringIO()
    with suppress(SystemExit):  # something is left
        call_command("blobcache", "check", "--fix", "--yes", stdout=said, stderr=said)
    text = said.getvalue()
    assert text
    assert len(text) < 10_000
    assert re.sub(r"[\t\n]", "", text).isprintable()  # between the cells and rows of a table


def test_every_pattern_of_ours_can_be_watched() -> None:
    calls = list(pattern_calls())
    assert calls
    assert {place for place, is_kept in calls if not is_kept} == {
        "reporting.py: compile",  # what Django asks about the names of settings
        "packing.py: split",  # a pattern of words of ours, asked about commands that are ours too
    }
