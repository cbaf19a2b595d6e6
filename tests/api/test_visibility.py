"""What a caller may not view, no list, count or time tells of."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission
from redis import Redis

from blobcache.services import get_browsable
from tests.api import grants
from tests.api.conftest import APP, DIGEST, As, user
from tests.api.test_lists import pages, rows
from tests.budgets import limit
from tests.servers import commands

NAMES = ["alone", "alone/x", "other/app", "team", "team/app", "team/b", "teams/a", "zoo"]
HIDDEN = "secret-project"


@pytest.fixture
def filled(default_cache: Redis) -> Redis:
    for name in NAMES:
        default_cache.sadd(f"repository::{name}::blobs", DIGEST)
        default_cache.hset(f"repository::{name}::blobs::{DIGEST}", "mediatype", APP)
    get_browsable().catalog.reindex()
    return default_cache


def names(as_: As, persona: str, url: str = "/api/repositories/") -> list[str]:
    return [row["name"] for row in rows(as_(persona), url)]


HOLDERS = f"/api/blobs/{DIGEST}/repositories/"


class TestByObject:
    def test_a_list_shows_what_is_granted(self, as_: As, filled: Redis) -> None:
        assert names(as_, "granted") == ["team/app"]
        assert names(as_, "nobody") == names(as_, "deleter") == []
        assert names(as_, "viewer") == names(as_, "superuser") == NAMES

    def test_holders_are_those_that_are_granted(self, as_: As, filled: Redis) -> None:
        granted = user("granted")
        granted.user_permissions.set(user("viewer").user_permissions.filter(codename="view_blob"))
        assert names(as_, "granted", HOLDERS) == ["team/app"]

    def test_there_is_no_count_of_what_is_not_shown(self, as_: As, filled: Redis) -> None:
        (page,) = pages(as_("granted"), "/api/repositories/")
        assert page["count"] is None
        (page,) = pages(as_("viewer"), "/api/repositories/")
        assert page["count"] == len(NAMES)

    def test_pages_go_on_over_what_is_not_shown(
        self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, page=0)
        found = list(pages(as_("granted"), "/api/repositories/"))
        assert len(found) > 1
        assert [row["name"] for page in found for row in page["results"]] == ["team/app"]

    @pytest.mark.parametrize("url", ["/api/repositories/", HOLDERS])
    @pytest.mark.parametrize("others", [1, 999, 2500])
    def test_a_full_page_has_a_next_one_only_for_what_is_shown(
        self,
        url: str,
        others: int,
        as_: As,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        limit(monkeypatch, page=60)
        user("granted").user_permissions.set(
            user("viewer").user_permissions.filter(codename="view_blob")
        )
        hidden = [f"{place}/{number}" for number in range(others) for place in ("a", "zoo")]
        for name in ("team/app", *hidden):
            default_cache.sadd(f"repository::{name}::blobs", DIGEST)
        get_browsable().catalog.reindex()
        page = as_("granted").get(url, {"page_size": 1}).json()
        assert [row["name"] for row in page["results"]] == ["team/app"]
        assert page["next"] is None

    @pytest.mark.parametrize("url", ["/api/repositories/", HOLDERS])
    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_pages_of_what_is_shown_leave_nothing_out(
        self, url: str, size: int, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, step=2, page=60)
        shown = {"alone/x", "other/app", "team/app", "zoo"}
        monkeypatch.setattr(grants, "GRANTED", shown)
        user("granted").user_permissions.set(
            user("viewer").user_permissions.filter(codename="view_blob")
        )
        found = list(pages(as_("granted"), f"{url}?page_size={size}"))
        assert [row["name"] for page in found for row in page["results"]] == sorted(shown)
        assert [len(page["results"]) for page in found[:-1]] == [size] * (len(found) - 1)
        assert found[-1]["results"]

    def test_a_cursor_holds_no_name_that_can_be_read(
        self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, page=0)
        page = as_("granted").get("/api/repositories/").json()
        token = page["next"].partition("cursor=")[2].partition("%3A")[0]
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        assert not any(name.encode() in raw for name in NAMES)

    @pytest.mark.parametrize("prefix", ["", HIDDEN, HIDDEN[:3], f"{HIDDEN}/x"])
    @pytest.mark.parametrize("persona", ["granted", "nobody"])
    def test_redis_is_asked_the_same_whether_it_exists_or_not(
        self, persona: str, prefix: str, as_: As, filled: Redis
    ) -> None:
        client, told = as_(persona), []
        for _ in range(2):
            with commands(filled) as traffic:
                response = client.get("/api/repositories/", {"prefix": prefix})
            told.append((traffic.calls, traffic.round_trips, response.json()))
            filled.sadd(f"repository::{HIDDEN}::blobs", DIGEST)
            filled.zadd("blobcache::{catalog}::names", {HIDDEN: 0})
        assert told[0] == told[1]

    def test_a_purge_names_what_its_caller_may_view(self, as_: As, filled: Redis) -> None:
        user("deleter").user_permissions.add(Permission.objects.get(codename="view_blob"))
        response = as_("deleter").post(f"/api/blobs/{DIGEST}/purge/")
        assert response.json() == {"cleared": [], "next": None}
        assert names(as_, "superuser", HOLDERS) == []


class TestVisibleRepositories:
    @pytest.fixture(autouse=True)
    def narrowed(self, settings: LazySettings) -> None:
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": grants.visible}}

    def test_narrows_lists(self, as_: As, filled: Redis) -> None:
        assert names(as_, "viewer") == ["alone", "team/app", "team/b"]
        assert names(as_, "superuser") == NAMES
        assert names(as_, "viewer", "/api/repositories/?page_size=1") == [
            "alone",
            "team/app",
            "team/b",
        ]

    def test_counts_what_is_left(self, as_: As, filled: Redis) -> None:
        (page,) = pages(as_("viewer"), "/api/repositories/")
        assert page["count"] == 3
        (page,) = pages(as_("viewer"), "/api/repositories/?prefix=te")
        assert page["count"] == 2

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("team", ["team/app", "team/b"]),
            ("team/", ["team/app", "team/b"]),
            ("team/a", ["team/app"]),
            ("alone", ["alone"]),
            ("alone/", []),
            ("teams", []),
            ("zoo", []),
        ],
    )
    def test_meets_the_prefix(
        self, prefix: str, expected: list[str], as_: As, filled: Redis
    ) -> None:
        assert names(as_, "viewer", f"/api/repositories/?prefix={prefix}") == expected

    def test_narrows_holders(self, as_: As, filled: Redis) -> None:
        assert names(as_, "viewer", HOLDERS) == ["alone", "team/app", "team/b"]
        assert names(as_, "viewer", HOLDERS + "?page_size=2") == ["alone", "team/app", "team/b"]

    def test_never_grants(self, as_: As, filled: Redis) -> None:
        assert names(as_, "nobody") == []
        assert names(as_, "granted") == ["team/app"]

    @pytest.mark.parametrize("tail", ["blobs/", "summary/", f"blobs/{DIGEST}/"])
    def test_bars_what_lies_beyond(self, tail: str, as_: As, filled: Redis) -> None:
        filled.hset(f"blobs::{DIGEST}", mapping={"digest": DIGEST, "size": 1, "length": 1})
        for name, status in [("team/app", 200), ("alone", 200), ("alone/x", 403), ("zoo", 403)]:
            url = f"/api/repositories/{name}/{tail}"
            assert as_("viewer").get(url).status_code == status
            assert as_("superuser").get(url).status_code == 200

    def test_a_stranger_gets_a_list_if_there_is_something_to_see(
        self, as_: As, filled: Redis
    ) -> None:
        assert names(as_, "anonymous") == []

    def test_may_be_empty(self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        nothing: Any = lambda _: []  # noqa: E731
        monkeypatch.setattr(grants, "team_only", nothing)
        assert names(as_, "viewer") == []
        assert as_("anonymous").get("/api/repositories/").status_code == 401
        (page,) = pages(as_("viewer"), "/api/repositories/")
        assert page["count"] == 0

    def test_thousands_of_names(
        self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wide: Any = lambda _: {f"x/{number}" for number in range(5000)} | {"zoo", "team/"}  # noqa: E731
        monkeypatch.setattr(grants, "team_only", wide)
        assert names(as_, "viewer") == ["team/app", "team/b", "zoo"]
        assert names(as_, "viewer", HOLDERS + "?page_size=1") == ["team/app", "team/b", "zoo"]
