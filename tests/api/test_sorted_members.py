"""Sorted lists of a repository's blobs, which come from a copy and say how old that is."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis
from rest_framework.test import APIClient

from blobcache.services import get_browsable
from blobcache.services.catalog import Budgets
from tests.api.conftest import As
from tests.api.test_lists import pages, rows
from tests.redis.test_sorted_members import LAYER, MANY, digest, fill

URL = "/api/repositories/team/app/blobs/"


@pytest.fixture
def sizes(default_cache: Redis) -> dict[str, int]:
    return fill(default_cache)


def found(client: APIClient, url: str) -> list[str]:
    return [row["digest"] for row in rows(client, url)]


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("ordering", ["digest", "size", "media_type", "state"])
def test_every_order_has_every_blob_once(
    superuser: APIClient, sizes: dict[str, int], ordering: str, sign: str
) -> None:
    listed = found(superuser, f"{URL}?ordering={sign}{ordering}&page_size=70")
    assert len(listed) == MANY
    assert set(listed) == set(sizes)


def test_blobs_are_sorted_by_size(superuser: APIClient, sizes: dict[str, int]) -> None:
    listed = found(superuser, f"{URL}?ordering=-size&page_size=50")
    assert [sizes[each] for each in listed] == sorted(sizes.values(), reverse=True)


def test_filters_and_prefix_narrow_the_sorted_list(
    superuser: APIClient, sizes: dict[str, int]
) -> None:
    query = f"?prefix=1&size_min=5&size_max=90&media_type={LAYER.replace('+', '%2B')}&state=ok"
    unsorted = found(superuser, f"{URL}{query}")
    assert unsorted
    listed = found(superuser, f"{URL}{query}&ordering=size")
    assert listed == sorted(unsorted, key=lambda each: (sizes[each], each))
    assert found(superuser, f"{URL}?media_type=none&ordering=size") == []


def test_a_page_says_how_old_the_copy_is(superuser: APIClient, sizes: dict[str, int]) -> None:
    page = superuser.get(f"{URL}?ordering=size").json()
    assert page["complete"] is True
    assert page["indexed_at"]
    assert 0 <= page["age"] < 60
    assert page["progress"] is None
    assert page["count"] == MANY
    live = superuser.get(URL).json()
    assert live["complete"] is True
    assert (live["indexed_at"], live["age"], live["progress"]) == (None, None, None)


def test_a_copy_is_made_in_steps_and_repeated_requests_finish_it(
    superuser: APIClient, default_cache: Redis
) -> None:
    fill(default_cache, many=3000)
    get_browsable().catalog.budgets = Budgets(page=0)
    seen: list[dict[str, Any]] = []
    for _ in range(50):
        seen.append(superuser.get(f"{URL}?ordering=size&page_size=1000").json())
        if seen[-1]["complete"]:
            break
    assert len(seen) > 2
    assert seen[-1]["complete"]
    for page in seen[:-1]:
        assert page["results"] == []
        assert page["found"] is True
        assert 0 <= page["progress"] < 1
    assert len(seen[-1]["results"]) == 1000


def test_fresh_makes_the_copy_again(
    superuser: APIClient, sizes: dict[str, int], default_cache: Redis
) -> None:
    before = superuser.get(f"{URL}?ordering=size").json()
    default_cache.hset(f"blobs::{digest(0)}", "size", 10**9)
    page = superuser.get(f"{URL}?ordering=-size&fresh=1&page_size=2").json()
    assert page["results"][0]["digest"] == digest(0)
    assert page["indexed_at"] > before["indexed_at"]
    assert "fresh" not in page["next"]


def test_fresh_without_an_order_is_refused(superuser: APIClient, sizes: dict[str, int]) -> None:
    response = superuser.get(f"{URL}?fresh=1")
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert error["code"] == "PARAMETER_INVALID"
    assert "ordering" in error["message"]


def test_what_is_shown_of_a_blob_is_read_anew(
    superuser: APIClient, sizes: dict[str, int], default_cache: Redis
) -> None:
    found(superuser, f"{URL}?ordering=size")
    default_cache.hset(f"blobs::{digest(0)}", "size", 77777)
    default_cache.srem("repository::team/app::blobs", digest(1))
    page = superuser.get(f"{URL}?ordering=size&page_size=5").json()
    assert page["results"][0]["size"] == 77777
    assert digest(1) not in [row["digest"] for row in page["results"]]


def test_an_unknown_repository_is_not_found(superuser: APIClient, default_cache: Redis) -> None:
    (page,) = pages(superuser, "/api/repositories/no/such/blobs/?ordering=size")
    assert page["found"] is False
    assert page["results"] == []
    assert page["complete"] is True


def test_a_user_who_may_not_view_the_repository_makes_no_copy(
    as_: As, sizes: dict[str, int], default_cache: Redis
) -> None:
    assert as_("nobody").get(f"{URL}?ordering=size").status_code == 403
    assert list(default_cache.scan_iter(b"blobcache::*cop*")) == []


def test_a_read_only_registry_says_why_it_does_not_sort(
    superuser: APIClient, sizes: dict[str, int], settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"READ_ONLY": True}}
    response = superuser.get(f"{URL}?ordering=size")
    assert response.status_code == 405
    assert "CATALOG_ALIAS" in response.json()["errors"][0]["message"]
    assert superuser.get(URL).status_code == 200


def test_an_export_is_sorted_too(superuser: APIClient, sizes: dict[str, int]) -> None:
    response = superuser.get(f"{URL}?ordering=-size", headers={"accept": "text/csv"})
    lines = b"".join(response).decode().splitlines()
    assert len(lines) == 1 + MANY
    listed = [line.partition(",")[0] for line in lines[1:]]
    assert [sizes[each] for each in listed] == sorted(sizes.values(), reverse=True)


def test_an_export_without_a_finished_copy_is_no_empty_list(
    superuser: APIClient, default_cache: Redis
) -> None:
    fill(default_cache, many=3000)
    get_browsable().catalog.budgets = Budgets(page=0)
    response = superuser.get(f"{URL}?ordering=size", headers={"accept": "text/csv"})
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert b"not finished" in response.content


def test_a_cursor_whose_copy_is_gone_gets_no_empty_page(
    superuser: APIClient, sizes: dict[str, int], default_cache: Redis
) -> None:
    following = superuser.get(f"{URL}?ordering=size&page_size=100").json()["next"]
    default_cache.delete(*default_cache.scan_iter(b"blobcache::*cop*"))
    assert len(superuser.get(following).json()["results"]) == 100


@pytest.mark.parametrize("ordering", ["", "name", "--size", "SIZE", "size,digest"])
def test_another_order_is_refused(
    superuser: APIClient, default_cache: Redis, ordering: str
) -> None:
    response = superuser.get(f"{URL}?ordering={ordering}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["detail"]["parameter"] == "ordering"
