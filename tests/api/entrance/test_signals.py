"""The signals of a request: receivers that find nothing to do are not called, all others are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.cache import BaseCache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpResponse
from django.utils.connection import BaseConnectionHandler
from redis import Redis

from blobcache.api.entrance import signals
from blobcache.api.entrance.signals import RequestSignals
from tests.api.conftest import DIGEST
from tests.api.entrance.wire import Both, Sent, send

STAT = Sent("GET", f"/api/blobs/{DIGEST}/")

pytestmark = pytest.mark.django_db


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Call something in a thread without connections, as a server's new thread is."""
    with ThreadPoolExecutor(1) as threads:

        def call(function: Callable[[], Any]) -> Any:
            return threads.submit(function).result()

        yield call
        call(connections.close_all)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note each time that all connections or caches are looked through."""
    found: list[object] = []
    plain = BaseConnectionHandler.all

    def noting(self: Any, *, initialized_only: bool = False) -> Any:
        found.append(self)
        return plain(self, initialized_only=initialized_only)

    monkeypatch.setattr(BaseConnectionHandler, "all", noting)
    return found


def request() -> None:
    """Send the signals of a request in which nothing happens."""
    made = RequestSignals(WSGIHandler)
    made.started(environ={})
    made.finish(HttpResponse())


def test_a_stat_that_opens_nothing_looks_through_no_connections_and_caches(
    in_thread: Callable[[Callable[[], Any]], Any],
    looked: list[object],
    filled: Redis,
    settings: LazySettings,
) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.AUTHENTICATION_BACKENDS = ["tests.api.entrance.hosts.Public"]
    made = Both()
    in_thread(lambda: send(made.entrance, STAT))
    looked.clear()
    answer = in_thread(lambda: send(made.entrance, STAT))
    assert (answer.status, made.passed) == ("200 OK", 0)
    assert looked == []


@pytest.mark.parametrize("seconds", [0, None])
def test_connections_past_their_time_are_closed(
    seconds: int | None, in_thread: Callable[[Callable[[], Any]], Any], tmp_path: Path
) -> None:
    def used() -> BaseDatabaseWrapper:
        connection = connections["default"]
        changed = {"NAME": str(tmp_path / "database"), "CONN_MAX_AGE": seconds}
        connection.settings_dict = {**connection.settings_dict, **changed}
        connection.cursor().close()
        assert connection.connection is not None
        request()
        return connection

    assert (in_thread(used).connection is None) is (seconds == 0)


def test_the_log_of_queries_begins_anew(in_thread: Callable[[Callable[[], Any]], Any]) -> None:
    def used() -> int:
        connections["default"].queries_log.append({"sql": "SELECT 1"})
        request()
        return len(connections["default"].queries_log)

    assert in_thread(used) == 0


class Closing(LocMemCache):
    """A cache with something to close."""

    closed = 0

    def close(self, **_: Any) -> None:
        type(self).closed += 1


@pytest.mark.parametrize(
    ("entry", "is_closed"),
    [
        ({"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, False),
        ({"BACKEND": "tests.api.entrance.test_signals.Closing"}, True),
        ({"BACKEND": "django_redis.cache.RedisCache"}, False),
        ({"BACKEND": "django_redis.cache.RedisCache", "OPTIONS": {"CLOSE_CONNECTION": 1}}, True),
        (
            {
                "BACKEND": "django_redis.cache.RedisCache",
                "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
            },
            True,
        ),
    ],
)
def test_caches_are_closed_if_that_does_anything(
    entry: dict[str, Any], is_closed: bool, settings: LazySettings, looked: list[object]
) -> None:
    settings.CACHES = {"default": {"LOCATION": "redis://127.0.0.1:1", **entry}}
    looked.clear()  # Django has closed the former ones
    request()
    assert (caches in looked) is is_closed


def test_caches_are_closed_if_the_project_says_so_for_all(
    settings: LazySettings, looked: list[object]
) -> None:
    backend = "django_redis.cache.RedisCache"
    settings.CACHES = {"default": {"LOCATION": "redis://127.0.0.1:1", "BACKEND": backend}}
    looked.clear()
    request()
    assert caches not in looked
    settings.DJANGO_REDIS_CLOSE_CONNECTION = True
    request()
    assert caches in looked


def test_a_cache_of_the_hosts_is_closed(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "tests.api.entrance.test_signals.Closing"}}
    before, cache = Closing.closed, caches["default"]
    assert isinstance(cache, BaseCache)
    request()
    assert Closing.closed == before + 1


def test_receivers_that_come_and_go_are_called(looked: list[object]) -> None:
    made = RequestSignals(WSGIHandler)
    heard: list[object] = []

    def started(sender: object, environ: object, signal: object, **_: object) -> None:
        heard.append((sender, environ, signal))

    def others(**_: object) -> None:
        heard.append("for another sender")

    made.started(environ=1)
    request_started.connect(started)
    request_started.connect(others, sender=Both)
    try:
        made.started(environ=2)
    finally:
        request_started.disconnect(started)
        request_started.disconnect(others, sender=Both)
    made.started(environ=3)
    assert heard == [(WSGIHandler, 2, request_started)]


def test_a_receiver_of_djangos_that_was_disconnected_is_not_called() -> None:
    log = connections["default"].queries_log
    log.append({"sql": "SELECT 1"})
    request_started.disconnect(reset_queries)
    try:
        request()
        assert len(log) == 1
    finally:
        request_started.connect(reset_queries)
    request()
    assert not log


def test_a_receiver_that_waits_is_called() -> None:
    heard: list[object] = []

    async def finished(sender: object, **_: object) -> None:
        heard.append(sender)

    request_finished.connect(finished)
    try:
        request()
    finally:
        request_finished.disconnect(finished)
    assert heard == [WSGIHandler]


def test_the_connections_are_those_that_django_finds(
    in_thread: Callable[[Callable[[], Any]], Any],
) -> None:
    def found() -> list[list[object]]:
        return [[*signals._connections()], [*connections.all(initialized_only=True)]]

    def made() -> list[list[object]]:
        _ = connections["default"]
        return found()

    assert in_thread(found) == [[], []]
    one, same = in_thread(made)
    assert one == same
    assert len(one) == 1


def test_a_response_is_left_as_django_leaves_it() -> None:
    closed: list[str] = []

    def failing() -> None:
        closed.append("failing")
        raise ValueError

    ours, djangos = HttpResponse(), HttpResponse()
    for each in (ours, djangos):
        each._resource_closers += [failing, lambda: closed.append("last")]  # type: ignore[attr-defined]
    RequestSignals(WSGIHandler).finish(ours)
    djangos.close()
    assert closed == ["failing", "last"] * 2
    assert {**vars(ours), "headers": None} == {**vars(djangos), "headers": None}
    assert ours.closed
