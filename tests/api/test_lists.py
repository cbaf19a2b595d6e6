"""Lists, their pages and cursors; holders, sums and purges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from redis import Redis
from rest_framework.test import APIClient

from blobcache import cursors
from blobcache.descriptor import Descriptor
from blobcache.services import get_browsable, get_provider
from tests.api.conftest import ALIAS, APP, DIGEST, OTHER, UNKNOWN, As
from tests.api.test_bodies import refused
from tests.budgets import limit

MANY = 2500


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


@pytest.fixture
def many(default_cache: Redis) -> Redis:
    """One repository with thousands of blobs, and forty with one."""
    with default_cache.pipeline(transaction=False) as pipe:
        for number in range(MANY):
            pipe.hset(
                f"blobs::{digest(number)}",
                mapping={"digest": digest(number), "size": 2, "length": 2, "mediatype": APP},
            )
            pipe.hset(f"repository::big::blobs::{digest(number)}", "mediatype", APP)
            pipe.sadd("repository::big::blobs", digest(number))
        for number in range(40):
            pipe.sadd(f"repository::r/{number:02}::blobs", digest(0))
            pipe.hset(f"repository::r/{number:02}::blobs::{digest(0)}", "mediatype", APP)
        pipe.execute()
    get_browsable().catalog.reindex()  # a busy machine may need more than the time of one request
    return default_cache


def pages(client: APIClient, url: str) -> Iterator[dict[str, Any]]:
    following: str | None = url
    while following:
        response = client.get(following)
        assert response.status_code == 200, response.content
        page: dict[str, Any] = response.json()
        assert page["previous"] is None
        yield page
        following = page["next"]
        assert following is None or following.startswith("http://testserver/api/")


def rows(client: APIClient, url: str) -> list[dict[str, Any]]:
    return [row for page in pages(client, url) for row in page["results"]]


class TestRepositories:
    def test_are_listed_by_name_with_their_counts(self, superuser: APIClient, many: Redis) -> None:
        (page,) = pages(superuser, "/api/repositories/")
        assert page["results"][0] == {"name": "big", "blobs": MANY}
        assert [row["name"] for row in page["results"][1:]] == [f"r/{n:02}" for n in range(40)]
        assert page["count"] == 41
        assert page["complete"] is True
        assert page["indexed_at"]

    def test_come_in_pages(self, superuser: APIClient, many: Redis) -> None:
        found = list(pages(superuser, "/api/repositories/?page_size=7"))
        assert [len(page["results"]) for page in found] == [7] * 5 + [6]
        assert len({row["name"] for page in found for row in page["results"]}) == 41

    def test_can_be_filtered_by_prefix(self, superuser: APIClient, many: Redis) -> None:
        found = list(pages(superuser, "/api/repositories/?prefix=r/1&page_size=3"))
        assert [len(page["results"]) for page in found] == [3, 3, 3, 1]
        assert all("prefix=r%2F1" in page["next"] for page in found[:-1])
        assert found[0]["count"] == 10

    @pytest.mark.parametrize("prefix", ["zzz", "r/1/", "%00", "%FF", "%F0%9F", "x" * 9000])
    def test_are_none_for_an_unknown_prefix(
        self, prefix: str, superuser: APIClient, many: Redis
    ) -> None:
        (page,) = pages(superuser, f"/api/repositories/?prefix={prefix}")
        assert page["results"] == []

    def test_keys_that_are_no_valid_repository_are_also_listed(
        self, superuser: APIClient, default_cache: Redis
    ) -> None:
        default_cache.set("repository::odd::blobs", "a string")
        default_cache.sadd(b"repository::\xff\x00 name::blobs", digest(1))
        assert rows(superuser, "/api/repositories/") == [
            {"name": "odd", "blobs": None},
            {"name": r"\xff\x00 name", "blobs": 1},
        ]


class TestBlobs:
    def test_are_those_of_a_repository(self, superuser: APIClient, many: Redis) -> None:
        found = list(pages(superuser, "/api/repositories/big/blobs/"))
        assert {page["count"] for page in found} == {MANY}
        assert {row["digest"] for page in found for row in page["results"]} == {
            digest(number) for number in range(MANY)
        }
        assert found[0]["results"][0].keys() == {
            "digest",
            "size",
            "mediaType",
            "canonical",
            "state",
        }

    def test_are_all_blobs_in_the_global_scope(self, superuser: APIClient, many: Redis) -> None:
        found = list(pages(superuser, "/api/blobs/?page_size=500"))
        assert {page["count"] for page in found} == {None}
        assert {row["digest"] for page in found for row in page["results"]} == {
            digest(number) for number in range(MANY)
        }

    def test_have_the_kind_of_damage(self, superuser: APIClient, default_cache: Redis) -> None:
        scope = get_provider().repository_scoped("a")
        scope.set_descriptor(ALIAS, Descriptor(DIGEST, 3, APP))
        default_cache.sadd("repository::a::blobs", UNKNOWN, "rubbish\n")
        default_cache.hset(f"blobs::{OTHER}", "size", "1")
        found = {row["digest"]: row for row in rows(superuser, "/api/repositories/a/blobs/")}
        assert found[ALIAS] == {
            "digest": ALIAS,
            "size": 3,
            "mediaType": APP,
            "canonical": DIGEST,
            "state": "ok",
        }
        assert found[DIGEST]["canonical"] is None
        assert found[UNKNOWN]["state"] == "dangling-member"
        assert found["rubbish\\n"]["state"] == "corrupt"
        everywhere = {row["digest"]: row for row in rows(superuser, "/api/blobs/")}
        assert everywhere[OTHER]["state"] == "husk"

    def test_of_an_unknown_repository_are_none(
        self, superuser: APIClient, default_cache: Redis
    ) -> None:
        (page,) = pages(superuser, "/api/repositories/not/there/blobs/")
        assert (page["count"], page["results"]) == (0, [])

    @pytest.mark.parametrize("what", ["blobs", "summary"])
    def test_are_an_error_if_the_key_is_not_a_set(
        self, what: str, superuser: APIClient, default_cache: Redis
    ) -> None:
        default_cache.set("repository::odd::blobs", "a string")
        response = superuser.get(f"/api/repositories/odd/{what}/")
        refused(response, 404, "BLOB_UNKNOWN")


class TestHolders:
    def test_are_the_repositories_that_hold_it(self, superuser: APIClient, many: Redis) -> None:
        url = f"/api/blobs/{digest(0)}/repositories/"
        assert len(rows(superuser, url)) == 41
        assert rows(superuser, url)[0] == {"name": "big", "mediaType": APP}
        found = list(pages(superuser, f"{url}?page_size=9"))
        assert [len(page["results"]) for page in found] == [9, 9, 9, 9, 5]
        assert found[0]["count"] is None
        assert found[0]["complete"] is True

    def test_of_an_unknown_blob_are_none(self, superuser: APIClient, many: Redis) -> None:
        assert rows(superuser, f"/api/blobs/{UNKNOWN}/repositories/") == []

    def test_of_a_bad_digest(self, superuser: APIClient) -> None:
        refused(superuser.get("/api/blobs/x/repositories/"), 400, "DIGEST_INVALID")


class TestSummary:
    def test_adds_up_sizes(
        self, superuser: APIClient, many: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, summary=60)
        many.sadd("repository::big::blobs", UNKNOWN)
        body = superuser.get("/api/repositories/big/summary/").json()
        assert (body["count"], body["counted"], body["bytes"]) == (MANY + 1, MANY + 1, 2 * MANY)
        assert body["media_types"] == [{"mediaType": APP, "count": MANY, "bytes": 2 * MANY}]
        assert body["states"]["ok"] == MANY
        assert body["states"]["dangling-member"] == 1
        assert body["states"]["corrupt"] == 0
        assert (body["complete"], body["next"]) == (True, None)
        assert body["kept"] is None
        assert body["other_media_types"] is None

    def test_tells_what_no_other_repository_holds(
        self, superuser: APIClient, many: Redis, as_: As, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = "/api/repositories/big/summary/"
        many.sadd("repository::team/app::blobs", *map(digest, range(3)))
        get_browsable().catalog.reindex()
        limit(monkeypatch, sharing=0)
        steps = 0
        while (body := superuser.get(url).json())["exclusive_progress"] is not None:
            assert body["exclusive"] is None
            steps += 1
        assert steps > 1
        found = body["exclusive"]
        assert found.pop("as_of").endswith("Z")
        assert found.pop("age") < 60
        assert len(found.pop("largest")) == min(MANY - 3, 100)
        assert found == {
            "blobs": MANY - 3,
            "bytes": 2 * (MANY - 3),
            "shared_blobs": 3,
            "shared_bytes": 6,
        }
        # Another repository, which the user may not view, may hold the same blobs.
        body = as_("granted").get("/api/repositories/team/app/summary/").json()
        assert body["count"] == 3
        assert (body["exclusive"], body["exclusive_progress"]) == (None, None)

    def test_returns_the_stored_figures_of_the_whole(
        self, superuser: APIClient, many: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provider = get_browsable()
        while provider.figures.count_step("big").progress is not None:
            pass
        limit(monkeypatch, summary=0)
        kept = superuser.get("/api/repositories/big/summary/").json()["kept"]
        assert (kept["count"], kept["bytes"]) == (MANY, 2 * MANY)
        assert kept["media_types"] == [{"mediaType": APP, "count": MANY, "bytes": 2 * MANY}]
        assert kept["states"]["ok"] == MANY
        assert kept["counted_at"].endswith("Z")

    def test_continues_where_it_stopped(
        self, superuser: APIClient, many: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, summary=0)
        following: str | None = "/api/repositories/big/summary/"
        parts = []
        while following:
            parts.append(superuser.get(following).json())
            following = parts[-1]["next"]
        assert len(parts) > 1
        assert [part["complete"] for part in parts] == [False] * (len(parts) - 1) + [True]
        assert sum(part["counted"] for part in parts) == MANY
        assert sum(part["bytes"] for part in parts) == 2 * MANY

    def test_of_an_unknown_repository_is_zero(
        self, superuser: APIClient, default_cache: Redis
    ) -> None:
        body = superuser.get("/api/repositories/not/there/summary/").json()
        assert (body["count"], body["bytes"], body["complete"]) == (0, 0, True)


class TestPurge:
    def test_clears_everywhere(self, superuser: APIClient, many: Redis) -> None:
        url, cursor = f"/api/blobs/{digest(0)}/purge/", None
        cleared: list[str] = []
        while True:
            response = superuser.post(url, {"cursor": cursor} if cursor else {}, format="json")
            assert response.status_code == 200
            cleared += response.json()["cleared"]
            cursor = response.json()["next"]
            if cursor is None:
                break
        assert sorted(cleared) == ["big", *(f"r/{number:02}" for number in range(40))]
        assert rows(superuser, f"/api/blobs/{digest(0)}/repositories/") == []
        assert superuser.get(f"/api/blobs/{digest(0)}/").status_code == 404
        assert LogEntry.objects.filter(object_id="r/01").exists()
        assert LogEntry.objects.filter(object_id=digest(0)).exists()

    def test_needs_no_body(self, superuser: APIClient, default_cache: Redis) -> None:
        assert superuser.post(f"/api/blobs/{UNKNOWN}/purge/").status_code == 200

    def test_of_a_bad_digest(self, superuser: APIClient) -> None:
        refused(superuser.post("/api/blobs/x/purge/"), 400, "DIGEST_INVALID")

    def test_refuses_the_cursor_of_another_purge(
        self, superuser: APIClient, many: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, page=0, step=10, purge=0)
        first = superuser.post(f"/api/blobs/{digest(0)}/purge/", {}, format="json").json()
        assert first["next"]
        for path, cursor in [
            (f"/api/blobs/{digest(1)}/purge/", first["next"]),
            (f"/api/blobs/{digest(0)}/purge/", first["next"] + "x"),
            (f"/api/blobs/{digest(0)}/purge/", "1/big"),
        ]:
            response = superuser.post(path, {"cursor": cursor}, format="json")
            refused(response, 400, "CURSOR_INVALID")


LISTS = [
    "/api/blobs/",
    "/api/repositories/",
    "/api/repositories/big/blobs/",
    "/api/repositories/big/summary/",
    f"/api/blobs/{digest(0)}/repositories/",
]


def short(url: str) -> str:
    """Ask for three rows a page, if there are rows."""
    return url if url.endswith("/summary/") else f"{url}?page_size=3"


@pytest.mark.parametrize("url", LISTS)
class TestCursors:
    @pytest.mark.parametrize("cursor", ["x", "0", "x:y", "%00", "a" * 3000, "%F0%9F%92%A9"])
    def test_of_no_list_are_refused(
        self, url: str, cursor: str, superuser: APIClient, default_cache: Redis
    ) -> None:
        refused(superuser.get(f"{url}?cursor={cursor}"), 400, "CURSOR_INVALID")

    def test_are_bound_to_their_list(
        self, url: str, superuser: APIClient, many: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, summary=0)
        following = superuser.get(short(url)).json()["next"]
        cursor = parse_qs(urlsplit(following).query)["cursor"][0]
        assert superuser.get(following).status_code == 200
        elsewhere = [each for each in LISTS if each != url]
        elsewhere += ["/api/repositories/other/blobs/", f"/api/blobs/{OTHER}/repositories/"]
        elsewhere += ["/api/repositories/?prefix=b", "/api/repositories/other/summary/"]
        for other in elsewhere:
            connector = "&" if "?" in other else "?"
            found = superuser.get(f"{other}{connector}{urlencode({'cursor': cursor})}")
            refused(found, 400, "CURSOR_INVALID")

    def test_cannot_be_changed(self, url: str, superuser: APIClient, many: Redis) -> None:
        following = superuser.get(short(url)).json()["next"]
        if following is None:
            return
        place = following.index("cursor=") + len("cursor=")
        changed = following[:place] + ("B" if following[place] != "B" else "C")
        refused(superuser.get(changed + following[place + 1 :]), 400, "CURSOR_INVALID")

    def test_of_another_secret_key_are_refused(
        self, url: str, superuser: APIClient, many: Redis, settings: LazySettings
    ) -> None:
        following = superuser.get(short(url)).json()["next"]
        if following is None:
            return
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another"
        refused(superuser.get(following), 400, "CURSOR_INVALID")


SCOPES = {
    "/api/blobs/": ("BlobListView",),
    "/api/repositories/?prefix=r": ("RepositoryListView", "r"),
    "/api/repositories/big/blobs/": ("RepositoryBlobListView", "big"),
    f"/api/blobs/{digest(0)}/repositories/": ("HolderListView", digest(0)),
    "/api/repositories/big/summary/": ("SummaryView", "big"),
}


@pytest.mark.parametrize("url", SCOPES)
def test_cursors_of_earlier_versions_stay_valid(
    url: str, superuser: APIClient, many: Redis
) -> None:
    token = cursors.seal("", "default", *SCOPES[url])
    query = urlencode({"cursor": token})
    assert superuser.get(f"{url}{'&' if '?' in url else '?'}{query}").status_code == 200


@pytest.mark.parametrize("query", ["", "?dry_run=1"])
def test_cursors_of_earlier_purges_stay_valid(
    query: str, superuser: APIClient, many: Redis
) -> None:
    kind = ("dry_run",) if query else ()
    token = cursors.seal("", "default", "PurgeView", *kind, digest(0))
    purge = f"/api/blobs/{digest(0)}/purge/{query}"
    assert superuser.post(purge, {"cursor": token}, format="json").status_code == 200


@pytest.mark.parametrize("url", [url for url in LISTS if not url.endswith("/summary/")])
class TestPageSizes:
    @pytest.mark.parametrize(
        "size", ["", "0", "-1", "x", "1.5", "\u0663", "1e3", "000", "1001", "9" * 5000]
    )
    def test_a_page_size_is_a_positive_number(
        self, url: str, size: str, superuser: APIClient, default_cache: Redis
    ) -> None:
        refused(superuser.get(url, {"page_size": size}), 400, "PAGINATION_NUMBER_INVALID")

    @pytest.mark.parametrize("size", ["1", "1000"])
    def test_a_page_has_at_most_a_thousand_rows(
        self, url: str, size: str, superuser: APIClient, many: Redis
    ) -> None:
        response = superuser.get(url, {"page_size": size})
        assert response.status_code == 200
        assert len(response.json()["results"]) <= int(size)


def test_the_size_of_a_page_is_a_setting(
    superuser: APIClient, many: Redis, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"API_PAGE_SIZE": 2}}
    assert len(superuser.get("/api/repositories/").json()["results"]) == 2
