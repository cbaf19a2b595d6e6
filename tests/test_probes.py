"""The probes: who asks does not matter, and Redis is asked seldom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from redis import Redis

from blobcache import probes
from blobcache.exceptions import BlobUnknown
from blobcache.probes import LIMIT
from blobcache.services import get_provider
from blobcache.services.metrics import stat_counts
from project import embedded
from tests.servers import cache_at, commands


class Clock:
    """A clock that only goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, default_cache: Redis) -> Clock:
    found = Clock()
    readiness = probes._Readiness("default", found)
    monkeypatch.setattr(probes, "_readiness", {"default": readiness})
    return found


@pytest.fixture(autouse=True, params=["/api/", "/health/"])
def root(request: pytest.FixtureRequest, settings: LazySettings) -> str:
    """The probes below the API, and mounted alone; no test uses the database."""
    settings.ROOT_URLCONF = "tests.probing_urls"
    settings.REST_FRAMEWORK = {"DEFAULT_THROTTLE_RATES": {"anon": "0/day"}}
    return str(request.param)


def get(path: str, method: str = "get", **headers: str) -> Any:
    return getattr(Client(), method)(path, headers=headers)


def test_live_asks_nobody(root: str, default_cache: Redis) -> None:
    with commands(default_cache) as traffic:
        response = get(f"{root}live/")
    assert (response.status_code, response.json()) == (200, {"live": True})
    assert response.headers["Cache-Control"] == "no-store"
    assert traffic.round_trips == 0


def test_ready_if_redis_answers(root: str, clock: Clock) -> None:
    for headers in ({}, {"Authorization": "Token wrong"}, {"Accept": "text/html"}):
        response = get(f"{root}ready/", **headers)
        assert (response.status_code, response.json()) == (200, {"ready": True})
    assert get(f"{root}ready/", "head").status_code == 200


class OnlyStats:
    """A provider that another project has written: it has what the protocol asks for."""

    @classmethod
    def from_settings(cls, _: object) -> OnlyStats:
        """Make one."""
        return cls()

    def stat(self, digest: str) -> None:
        """Know no blob."""
        raise BlobUnknown(f"There is no {digest}.")


def test_ready_if_another_provider_answers_a_stat(
    root: str, clock: Clock, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"PROVIDER": f"{__name__}.OnlyStats"}}
    assert get(f"{root}ready/").json() == {"ready": True}


def test_no_metric_counts_the_probes(root: str, clock: Clock) -> None:
    assert get(f"{root}ready/").status_code == 200
    provider: Any = get_provider()
    before = stat_counts("default")
    with suppress(BlobUnknown):
        provider.stat("sha256:" + "0" * 64)
    assert stat_counts("default") != before
    before = stat_counts("default")
    clock.now += LIMIT
    assert get(f"{root}ready/").status_code == 200
    assert stat_counts("default") == before


def test_not_ready_if_redis_does_not(root: str, clock: Clock) -> None:
    with cache_at("redis://127.0.0.1:1/0"):
        for _ in range(2):
            response = get(f"{root}ready/")
            assert (response.status_code, response.json()) == (503, {"ready": False})
            assert response.headers["Retry-After"] == "1"
            assert "127.0.0.1" not in str(response.headers)
        assert get(f"{root}live/").status_code == 200


def test_redis_is_asked_once_a_second_however_many_ask(
    root: str, clock: Clock, default_cache: Redis
) -> None:
    def ask_often() -> None:
        for _ in range(20):
            assert get(f"{root}ready/").status_code == 200

    get(f"{root}ready/")
    clock.now += LIMIT
    with commands(default_cache) as traffic:
        threads = [Thread(target=ask_often) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert traffic.round_trips == 1
    assert set(traffic.calls) == {"hmget"}


def test_an_answer_counts_for_a_second(root: str, clock: Clock) -> None:
    assert get(f"{root}ready/").status_code == 200
    probes._readiness["default"]._look.is_ready = False  # type: ignore[union-attr]
    clock.now += LIMIT - 0.1
    assert get(f"{root}ready/").status_code == 503
    clock.now += 0.2
    assert get(f"{root}ready/").status_code == 200


def test_only_reads_are_accepted(root: str, clock: Clock) -> None:
    for name in ("live", "ready"):
        for method in ("post", "put", "patch", "delete", "options", "trace"):
            response = get(f"{root}{name}/", method)
            assert response.status_code == 405
            assert response.headers["Allow"] == "GET, HEAD"


def test_a_query_is_not_read(root: str, clock: Clock) -> None:
    assert get(f"{root}live/?x=1&x=2").status_code == 200
    assert get(f"{root}ready/?" + "x&" * 2000).status_code == 200


class TestSeveralRegistries:
    @pytest.fixture(autouse=True)
    def _staging_is_down(self, clock: Clock, settings: LazySettings) -> Iterator[None]:
        settings.BLOBCACHE = {"default": {}, "staging": {"CACHE_ALIAS": "staging"}}
        with cache_at("redis://127.0.0.1:1/0", "staging"):
            yield

    def test_the_portal_is_ready_although_another_registry_is_down(self, root: str) -> None:
        assert get(f"{root}ready/").status_code == 200

    def test_another_registry_has_a_probe_where_the_host_mounts_it(
        self, valkey: embedded.Server
    ) -> None:
        assert get("/health/eu/ready/").status_code == 503
        assert get("/health/eu/live/").status_code == 200
        with cache_at(valkey.url, "staging"):
            assert get("/health/eu/ready/").status_code == 200

    def test_a_registry_that_is_not_configured_is_not_ready(self) -> None:
        assert get("/health/gone/ready/").status_code == 503

    def test_each_is_asked_once_a_second(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        with cache_at(valkey.url, "staging"), commands(default_cache) as traffic:
            for _ in range(5):
                get("/health/ready/")
                get("/health/eu/ready/")
        assert traffic.calls["hmget"] == 2
