"""How old a list is, and a list that is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis
from rest_framework.test import APIClient

from blobcache.services import get_browsable
from tests.api.conftest import DIGEST, As
from tests.budgets import limit

STATE = "blobcache::{catalog}::state"
LISTS = ["/api/repositories/", f"/api/blobs/{DIGEST}/repositories/"]


@pytest.fixture
def pushed(default_cache: Redis) -> Redis:
    """An index with one repository, and another one that a registry has pushed since."""
    default_cache.sadd("repository::team/app::blobs", DIGEST)
    get_browsable().catalog.reindex()
    default_cache.sadd("repository::team/new::blobs", DIGEST)
    return default_cache


@pytest.fixture
def superuser(as_: As) -> APIClient:
    return as_("superuser")


def names(page: Any) -> list[str]:
    return [row["name"] for row in page["results"]]


def fresh(client: APIClient, url: str) -> Iterator[Any]:
    """Yield the answers until the list is complete."""
    for _ in range(1000):
        page = client.get(f"{url}{'&' if '?' in url else '?'}fresh=1").json()
        yield page
        if page["complete"]:
            return
    raise AssertionError("The list is never complete.")


@pytest.mark.parametrize("url", LISTS)
def test_a_list_says_how_old_it_is(url: str, superuser: APIClient, pushed: Redis) -> None:
    page = superuser.get(url).json()
    assert names(page) == ["team/app"]
    assert page["complete"] is True
    assert 0 <= page["age"] < 3600
    assert page["progress"] is None


@pytest.mark.parametrize("url", LISTS)
def test_a_list_is_not_complete_while_its_index_is_too_old(
    url: str, superuser: APIClient, pushed: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed.hset(STATE, mapping={"indexed_at": repr(time() - 400), "took": 10**9})
    pushed.set("blobcache::{catalog}::lock", "another builder", px=60_000)
    page = superuser.get(url).json()
    assert page["complete"] is False
    assert page["age"] >= 400


@pytest.mark.parametrize("url", LISTS)
def test_a_fresh_list_is_built_step_by_step_until_it_is_complete(
    url: str, superuser: APIClient, pushed: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pushed.pipeline(transaction=False) as pipe:
        for number in range(5000):
            pipe.set(f"filler:{number}", "")
        pipe.execute()
    limit(monkeypatch, page=0)
    pages = list(fresh(superuser, url))
    shares = [page["progress"] for page in pages[:-1]]
    assert len(shares) > 1
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1
    monkeypatch.undo()
    assert names(superuser.get(url).json()) == ["team/app", "team/new"]


def test_the_next_page_of_a_fresh_list_is_not_built_anew(
    superuser: APIClient, pushed: Redis
) -> None:
    (page,) = fresh(superuser, "/api/repositories/?page_size=1")
    assert "fresh" not in page["next"]
    assert "page_size=1" in page["next"]
    indexed = get_browsable().catalog.status().indexed
    assert names(superuser.get(page["next"]).json()) == ["team/new"]
    assert get_browsable().catalog.status().indexed == indexed


@pytest.mark.parametrize("value", ["", "2", "yes", "True"])
def test_another_value_is_an_error(value: str, superuser: APIClient, pushed: Redis) -> None:
    response = superuser.get("/api/repositories/", {"fresh": value})
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "PARAMETER_INVALID"


@pytest.mark.parametrize("persona", ["nobody", "granted"])
def test_only_users_who_may_view_everything_can_build_anew(
    persona: str, as_: As, pushed: Redis
) -> None:
    """Nor do others learn how far a build is, which depends on everything."""
    begun = get_browsable().catalog.status().begun
    response = as_(persona).get("/api/repositories/", {"fresh": "1"})
    assert response.status_code == 403
    assert "every repository" in response.json()["errors"][0]["message"]
    assert get_browsable().catalog.status().begun == begun
    pushed.hset(STATE, mapping={"begun": begun + 1, "cursor": "=8"})
    page = as_(persona).get("/api/repositories/").json()
    assert page["progress"] is None
    assert page["age"] is not None


def test_where_no_index_may_be_kept_the_error_says_so(
    superuser: APIClient, pushed: Redis, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"READ_ONLY": True}}
    response = superuser.get("/api/repositories/", {"fresh": "1"})
    assert response.status_code == 405
    assert "CATALOG_ALIAS" in response.json()["errors"][0]["message"]


def test_the_whole_name_of_a_new_repository_finds_it(superuser: APIClient, pushed: Redis) -> None:
    page = superuser.get("/api/repositories/", {"prefix": "team/new"}).json()
    assert page["results"] == [{"name": "team/new", "blobs": 1}]
    assert page["count"] == 1


def test_the_status_has_the_age_and_its_bound(superuser: APIClient, pushed: Redis) -> None:
    now = repr(time())
    pushed.hset(STATE, mapping={"took": 2_500_000, "watched_at": now, "watched_from": 1})
    catalog = superuser.get("/api/status/").json()["catalog"]
    assert catalog["watched"] is True
    assert catalog["complete"] is True
    assert catalog["progress"] is None
    assert catalog["bound"] == 300  # not more than CATALOG_MAX_AGE


def test_a_dry_run_says_how_old_its_list_is(superuser: APIClient, pushed: Redis) -> None:
    body = superuser.post(f"/api/blobs/{DIGEST}/purge/?dry_run=1", {}, format="json").json()
    assert body["complete"] is True
    assert body["age"] >= 0
