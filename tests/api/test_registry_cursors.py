"""A cursor belongs to the registry of the list or the task that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import LazySettings
from rest_framework.test import APIClient

from blobcache.services import get_browsable
from project import embedded
from tests.api.conftest import DIGEST, OTHER, As
from tests.api.registries import Two, in_staging, two_registries
from tests.api.test_bodies import refused
from tests.servers import commands

BOTH = {"digests": [DIGEST, OTHER]}


class Walk(NamedTuple):
    """What is answered in steps: where, and with which body."""

    path: str
    body: dict[str, Any] | None = None


WALKS = [
    Walk("blobs/?page_size=1"),
    Walk("repositories/?page_size=1"),
    Walk("repositories/?page_size=1&ordering=-bytes"),
    Walk("repositories/team/1/blobs/?page_size=1"),
    Walk("repositories/team/1/summary/"),
    Walk(f"blobs/{DIGEST}/repositories/?page_size=1"),
    Walk("changes/?page_size=1"),
    Walk(f"blobs/{DIGEST}/purge/?dry_run=1", {}),
    Walk("blobs/purge/?dry_run=1", BOTH),
    Walk("doctor/check/", {}),
    Walk(f"blobs/{DIGEST}/purge/", {}),
    Walk("blobs/purge/", BOTH),
]


@pytest.fixture
def two(valkey: embedded.Server, settings: LazySettings) -> Iterator[Two]:
    """Two registries with the same in them, and so little time that nothing ends at once."""
    settings.ROOT_URLCONF = "tests.api.two_urls"
    with two_registries(valkey, API_PAGE_SIZE=1) as found:
        settings.BLOBCACHE = {
            name: {**entry, "API_PAGE_SIZE": 1} for name, entry in settings.BLOBCACHE.items()
        }
        for registry, raw in found._asdict().items():
            raw.sadd("repository::team/1::blobs", *(f"sha256:{n:064x}" for n in range(300)))
            for number in range(3):
                for digest in (DIGEST, OTHER):
                    in_staging(f"team/{number}", digest, registry=registry)
            provider = get_browsable(registry)
            provider.catalog.reindex()
            cursor: str | None = ""
            while cursor is not None:
                cursor = provider.figures.refresh(cursor).next
            no_time: Any = {"purge": 0, "preview": 0, "summary": 0, "check": 0}
            little = replace(provider.catalog.budgets, step=1, **no_time)
            provider.catalog.budgets = little
        yield found


def step(client: APIClient, root: str, walk: Walk, cursor: str | None = None) -> Any:
    if walk.body is not None:
        body = walk.body if cursor is None else {**walk.body, "cursor": cursor}
        return client.post(f"{root}{walk.path}", body, format="json")
    sign = "&" if "?" in walk.path else "?"
    path = walk.path if cursor is None else f"{walk.path}{sign}cursor={cursor}"
    return client.get(f"{root}{path}")


def cursor_of(client: APIClient, root: str, walk: Walk) -> str:
    response = step(client, root, walk)
    assert response.status_code == 200, response.content
    following: str = response.json()["next"]
    assert following
    return following if walk.body is not None else parse_qs(urlsplit(following).query)["cursor"][0]


STAGING = "/api/registries/staging/"


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.path)
@pytest.mark.parametrize(
    ("one", "other"), [("/api/", STAGING), (STAGING, "/api/"), ("/prod/", "/api/")]
)
def test_the_cursor_of_another_registry_is_refused(
    one: str, other: str, walk: Walk, as_: As, two: Two
) -> None:
    client = as_("superuser")
    if walk.path.startswith("changes"):
        for root in (one, other):
            for number in (0, 1):
                client.delete(f"{root}repositories/team/{number}/blobs/{DIGEST}/")
    cursor = cursor_of(client, one, walk)
    with commands(two.default) as traffic:
        refused(step(client, other, walk, cursor), 400, "CURSOR_INVALID")
    assert traffic.calls.total() == 0
    assert step(client, one, walk, cursor).status_code == 200


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.path)
@pytest.mark.parametrize(
    ("one", "other"), [("/api/", "/api/registries/default/"), ("/prod/", STAGING)]
)
def test_a_cursor_is_for_each_address_of_its_registry(
    one: str, other: str, walk: Walk, as_: As, two: Two
) -> None:
    client = as_("superuser")
    if walk.path.startswith("changes"):
        for number in (0, 1):
            client.delete(f"{one}repositories/team/{number}/blobs/{DIGEST}/")
    assert step(client, other, walk, cursor_of(client, one, walk)).status_code == 200
