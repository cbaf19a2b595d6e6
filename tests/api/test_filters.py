"""Filters, orders and sizes of lists."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from redis import Redis
from rest_framework.test import APIClient

from blobcache.descriptor import Descriptor
from blobcache.services import get_browsable
from tests.api.conftest import APP, DIGEST
from tests.api.test_bodies import refused
from tests.api.test_lists import digest, many, pages, rows
from tests.budgets import limit

__all__ = ["many"]

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
LISTS = ["/api/blobs/", "/api/repositories/a/blobs/"]
in_both_lists = pytest.mark.parametrize("url", LISTS)


@pytest.fixture
def mixed(default_cache: Redis) -> Redis:
    """Forty blobs: by turns small and large, of two types, some damaged or without a type."""
    scope = get_browsable().repository_scoped("a")
    for number in range(40):
        media_type = LAYER if number % 4 == 0 else APP
        scope.set_descriptor(digest(number), Descriptor(digest(number), number, media_type))
    default_cache.hset(f"blobs::{digest(1)}", "size", "many")
    default_cache.hset(f"blobs::{digest(2)}", "length", "77")
    default_cache.hdel(f"blobs::{digest(3)}", "mediatype")
    default_cache.hset(f"repository::a::blobs::{digest(3)}", "mediatype", "")
    return default_cache


def found(client: APIClient, url: str, **query: Any) -> set[int]:
    return {
        int(row["digest"].partition(":")[2], 16)
        for row in rows(client, f"{url}?{urlencode(query)}")
    }


@in_both_lists
class TestBlobs:
    def test_are_filtered(self, url: str, superuser: APIClient, mixed: Redis) -> None:
        every = set(range(40))
        assert found(superuser, url, state="corrupt") == {1}
        assert found(superuser, url, state="size-mismatch") >= {2}
        assert found(superuser, url, media_type=LAYER) == {n for n in every if n % 4 == 0}
        assert found(superuser, url, media_type="none") == {3}
        assert found(superuser, url, size_min=30) == {n for n in every if n >= 30}
        assert found(superuser, url, size_max=5) == {0, 2, 3, 4, 5}
        assert found(superuser, url, size_min=8, size_max=12, media_type=LAYER) == {8, 12}
        assert found(superuser, url, media_type="a/b") == set()

    def test_are_found_by_the_beginning_of_their_digest(
        self, url: str, superuser: APIClient, mixed: Redis
    ) -> None:
        text = "0" * 62
        assert found(superuser, url, prefix=f"sha256:{text}1") == set(range(16, 32))
        assert found(superuser, url, prefix=f"{text}1", size_min=20) == set(range(20, 32))
        assert found(superuser, url, prefix="f") == set()
        assert found(superuser, url, prefix="sha256:*") == set()

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
    def test_filtered_pages_have_no_more_rows_than_asked_for(
        self, url: str, size: int, superuser: APIClient, mixed: Redis
    ) -> None:
        seen = list(
            pages(superuser, f"{url}?media_type={urlencode({'': LAYER})[1:]}&page_size={size}")
        )
        assert max(len(page["results"]) for page in seen) <= size
        assert len({row["digest"] for page in seen for row in page["results"]}) == 10

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("state", "bogus"),
            ("state", ""),
            ("state", "OK"),
            ("media_type", ""),
            ("media_type", "a\nb"),
            ("media_type", "x" * 256),
            ("size_min", "-1"),
            ("size_min", ""),
            ("size_max", "1.5"),
            ("size_max", "9" * 20),
            ("size_max", "9" * 5000),
            ("size_min", "\u0663"),
        ],
    )
    def test_an_invalid_value_is_refused_and_says_what_is_valid(
        self, url: str, name: str, value: str, superuser: APIClient, mixed: Redis
    ) -> None:
        response = superuser.get(url, {name: value})
        refused(response, 400, "PARAMETER_INVALID")
        (error,) = response.json()["errors"]
        assert error["detail"]["parameter"] == name
        if name == "state":
            assert "size-mismatch" in error["message"]
            assert "size-mismatch" in error["detail"]["allowed"]

    def test_a_range_of_sizes_must_not_be_empty(
        self, url: str, superuser: APIClient, mixed: Redis
    ) -> None:
        response = superuser.get(url, {"size_min": 5, "size_max": 4})
        refused(response, 400, "PARAMETER_INVALID")

    def test_cursors_are_bound_to_the_filters(
        self, url: str, superuser: APIClient, mixed: Redis
    ) -> None:
        following = superuser.get(url, {"size_min": 5, "page_size": 2}).json()["next"]
        assert superuser.get(following).status_code == 200
        for other in ("size_min=6", "size_max=5", "state=ok"):
            changed = following.replace("size_min=5", other)
            refused(superuser.get(changed), 400, "CURSOR_INVALID")

    @pytest.mark.parametrize("size", [1, 2, 5, 50])
    def test_pages_have_no_more_rows_than_asked_for(
        self, url: str, size: int, superuser: APIClient, mixed: Redis
    ) -> None:
        seen = list(pages(superuser, f"{url}?page_size={size}"))
        assert max(len(page["results"]) for page in seen) <= size
        assert len({row["digest"] for page in seen for row in page["results"]}) == 40


@pytest.mark.parametrize("size", [1, 2, 10, 50, 500, 1000])
@pytest.mark.parametrize("url", ["/api/blobs/", "/api/repositories/big/blobs/"])
def test_pages_of_large_sets_have_no_more_rows_than_asked_for(
    url: str, size: int, superuser: APIClient, many: Redis
) -> None:
    following: str | None = f"{url}?page_size={size}"
    seen: set[str] = set()
    for _ in range(80):
        if following is None:
            break
        page = superuser.get(following).json()
        assert len(page["results"]) <= size
        seen |= {row["digest"] for row in page["results"]}
        following = page["next"]
    assert (len(seen) == 2500) == (size >= 50)


def test_a_filter_over_a_large_set_stays_within_its_time(
    superuser: APIClient, many: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, page=0)
    seen = list(pages(superuser, "/api/repositories/big/blobs/?size_min=1000&page_size=1000"))
    assert len(seen) > 1
    assert all(page["results"] == [] and page["count"] == 2500 for page in seen)


def test_members_are_filtered_by_the_beginning_of_their_digest(
    superuser: APIClient, mixed: Redis
) -> None:
    url = "/api/repositories/a/blobs/"
    beginning = digest(0)[:-1]
    for prefix in (beginning, beginning.partition(":")[2]):
        assert found(superuser, url, prefix=prefix) == set(range(16))
        assert found(superuser, url, prefix=prefix, size_min=10, page_size=4) == set(range(10, 16))
    assert found(superuser, url, prefix="") == set(range(40))


def test_a_repository_that_is_not_there_is_told_from_an_empty_filter(
    superuser: APIClient, mixed: Redis
) -> None:
    there = superuser.get("/api/repositories/a/blobs/", {"size_min": 999}).json()
    missing = superuser.get("/api/repositories/b/blobs/").json()
    assert (there["found"], there["results"]) == (True, [])
    assert (missing["found"], missing["results"], missing["count"]) == (False, [], 0)


def test_the_next_page_is_in_a_header_too(superuser: APIClient, many: Redis) -> None:
    for url in ("/api/repositories/", "/api/blobs/", f"/api/blobs/{digest(0)}/repositories/"):
        response = superuser.get(url, {"page_size": 3})
        assert response.headers["Link"] == f'<{response.json()["next"]}>; rel="next"'
    assert "Link" not in superuser.get("/api/repositories/").headers
    long = superuser.get("/api/repositories/", {"page_size": "3", "search": "r" * 3000})
    assert "Link" not in long.headers


class TestRepositories:
    @pytest.fixture(autouse=True)
    def counted(self, default_cache: Redis) -> None:
        """Three repositories with 1, 2 and 3 blobs, whose bytes go the other way; one uncounted."""
        provider = get_browsable()
        for place, name in enumerate(["b/one", "a/two", "c/three"], 1):
            for number in range(place):
                size = 100 // place**2
                its = digest(10 * place + number)
                scope = provider.repository_scoped(name)
                scope.set_descriptor(its, Descriptor(its, size, APP))
            while provider.figures.count_step(name).progress is not None:
                pass
        provider.repository_scoped("d/new").set_descriptor(DIGEST, Descriptor(DIGEST, 5, APP))
        provider.catalog.reindex()

    def names(self, client: APIClient, **query: Any) -> list[str]:
        return [row["name"] for row in rows(client, f"/api/repositories/?{urlencode(query)}")]

    def test_are_sorted(self, superuser: APIClient) -> None:
        one, two, three, new = "b/one", "a/two", "c/three", "d/new"
        orders = {
            "name": [two, one, three, new],
            "-name": [new, three, one, two],
            "blobs": [one, two, three, new],
            "-blobs": [three, two, one, new],
            "bytes": [three, two, one, new],
            "-bytes": [one, two, three, new],
        }
        for size in (1, 2, 100):
            got = {each: self.names(superuser, ordering=each, page_size=size) for each in orders}
            assert got == orders

    def test_have_figures_with_their_age_where_they_are_sorted(self, superuser: APIClient) -> None:
        page = superuser.get("/api/repositories/?ordering=-bytes").json()
        first, *_, last = page["results"]
        assert (first["bytes"], first["blobs"]) == (100, 1)
        assert first["counted_at"].endswith("Z")
        assert (last["name"], last["bytes"], last["counted_at"]) == ("d/new", None, None)
        assert (page["count"], page["complete"]) == (4, True)
        plain = superuser.get("/api/repositories/").json()["results"]
        assert all(row.keys() == {"name", "blobs"} for row in plain)

    def test_are_searched(self, superuser: APIClient) -> None:
        assert self.names(superuser, search="w") == ["a/two", "d/new"]
        assert self.names(superuser, search="o", ordering="-bytes") == ["b/one", "a/two"]
        assert self.names(superuser, search="o", prefix="a", ordering="blobs") == ["a/two"]
        assert self.names(superuser, prefix="d", ordering="-blobs") == ["d/new"]
        assert self.names(superuser, search="\x00") == []
        assert superuser.get("/api/repositories/?search=w").json()["count"] is None

    def test_cursors_are_bound_to_order_and_search(self, superuser: APIClient) -> None:
        following = superuser.get("/api/repositories/?ordering=blobs&page_size=1").json()["next"]
        for other in ("ordering=bytes", "ordering=-blobs", "ordering=blobs&search=o"):
            changed = following.replace("ordering=blobs", other)
            refused(superuser.get(changed), 400, "CURSOR_INVALID")

    @pytest.mark.parametrize("value", ["size", "", "blobs,name", "--blobs", "Blobs"])
    def test_an_unknown_order_is_refused(self, value: str, superuser: APIClient) -> None:
        response = superuser.get("/api/repositories/", {"ordering": value})
        refused(response, 400, "PARAMETER_INVALID")
        allowed = ["name", "-name", "blobs", "-blobs", "bytes", "-bytes"]
        assert response.json()["errors"][0]["detail"]["allowed"] == allowed


@pytest.mark.parametrize(
    "url", [*LISTS, "/api/repositories/", f"/api/blobs/{DIGEST}/repositories/"]
)
def test_an_empty_page_size_is_refused(url: str, superuser: APIClient, mixed: Redis) -> None:
    refused(superuser.get(url, {"page_size": ""}), 400, "PAGINATION_NUMBER_INVALID")
