"""Responses have a bounded size, however many repositories hold a blob and whatever their names."""

from __future__ import annotations

import pytest
from django.test import Client
from redis import Redis

from benchmarks.shapes import A
from blobcache.services import get_browsable
from tests.budgets import limit

MEGABYTE = 1_000_000
MANY = 4200


def hold(client: Redis, count: int, media_type: str = "") -> None:
    """Put `A` into so many repositories, whose names are as long as they can be."""
    pipe = client.pipeline(transaction=False)
    for number in range(count):
        key = f"repository::n{number:05}/{'a' * 248}::blobs"
        pipe.sadd(key, A)
        if media_type:
            pipe.hset(f"{key}::{A}", "mediatype", media_type)
    pipe.execute()
    get_browsable().catalog.reindex()


@pytest.fixture
def quick(default_cache: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no step of Redis end by time."""
    limit(monkeypatch, purge=600)


@pytest.mark.usefixtures("quick")
def test_a_step_of_a_purge_names_less_than_a_megabyte(client: Client, default_cache: Redis) -> None:
    hold(default_cache, MANY)
    body: dict[str, str] = {}
    cleared: list[str] = []
    while True:
        answer = client.post(f"/api/blobs/{A}/purge/", body, "application/json")
        assert len(answer.content) < MEGABYTE
        cleared += answer.json()["cleared"]
        if answer.json()["next"] is None:
            break
        body = {"cursor": answer.json()["next"]}
    assert len(cleared) == MANY + 1  # with team/app
    assert not list(default_cache.scan_iter("repository::*"))


def test_a_page_of_holders_stays_below_a_megabyte(client: Client, default_cache: Redis) -> None:
    hold(default_cache, 1100, "é" * 127)
    path, names = f"/api/blobs/{A}/repositories/?page_size=1000", []
    while path:
        page = client.get(path)
        assert len(page.content) < MEGABYTE
        names += [row["name"] for row in page.json()["results"]]
        path = page.json()["next"]
    assert len(names) == len(set(names)) == 1101
    assert names == sorted(names)


def test_a_page_of_holders_has_the_requested_length_if_names_are_short(
    client: Client, default_cache: Redis
) -> None:
    pipe = default_cache.pipeline(transaction=False)
    for number in range(1100):
        pipe.sadd(f"repository::n{number}::blobs", A)
    pipe.execute()
    get_browsable().catalog.reindex()
    page = client.get(f"/api/blobs/{A}/repositories/?page_size=1000").json()
    assert len(page["results"]) == 1000
    assert page["next"] is not None
