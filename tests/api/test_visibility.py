"""No list, count or time reveals anything that the caller may not view."""

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
    def test_a_list_has_only_granted_repositories(self, as_: As, filled: Redis) -> None:
        assert names(as_, "granted") == ["team/app"]
        assert names(as_, "nobody") == names(as_, "deleter") == []
        assert names(as_, "viewer") == names(as_, "superuser") == NAMES

    def test_holders_are_only_granted_repositories(self, as_: As, filled: Redis) -> None:
        granted = user("granted")
        granted.user_permissions.set(user("viewer").user_permissions.filter(codename="view_blob"))
        assert names(as_, "granted", HOLDERS) == ["team/app"]

    def test_hidden_repositories_are_not_counted(self, as_: As, filled: Redis) -> None:
        (page,) = pages(as_("granted"), "/api/repositories/")
        assert page["count"] is None
        (page,) = pages(as_("viewer"), "/api/repositories/")
        assert page["count"] == len(NAMES)

    def test_pages_continue_past_hidden_repositories(
        self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, page=0)
        found = list(pages(as_("granted"), "/api/repositories/"))
        assert len(found) > 1
        assert [row["name"] for page in found for row in page["results"]] == ["team/app"]

    @pytest.mark.parametrize("url", ["/api/repositories/", HOLDERS])
    @pytest.mark.parametrize("others", [1, 999, 2500])
    def test_a_full_page_has_a_next_page_only_for_visible_repositories(
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
    def test_pages_list_every_visible_repository(
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

    def test_a_cursor_has_no_readable_name(
        self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, page=0)
        page = as_("granted").get("/api/repositories/").json()
        token = page["next"].partition("cursor=")[2].partition("%3A")[0]
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        assert not any(name.encode() in raw for name in NAMES)

    @pytest.mark.parametrize("prefix", ["", HIDDEN, HIDDEN[:3], f"{HIDDEN}/x"])
    @pytest.mark.parametrize("persona", ["granted", "nobody"])
    def test_the_commands_to_redis_are_the_same_whether_a_repository_exists_or_not(
        self, persona: str, prefix: str, as_: As, filled: Redis
    ) -> None:
        client, answers = as_(persona), []
        for _ in range(2):
            with commands(filled) as traffic:
                response = client.get("/api/repositories/", {"prefix": prefix})
            answer = response.json()
            assert answer.pop("age") is not None
            answers.append((traffic.calls, traffic.round_trips, answer))
            filled.sadd(f"repository::{HIDDEN}::blobs", DIGEST)
            filled.zadd("blobcache::{catalog}::names", {HIDDEN: 0})
        assert answers[0] == answers[1]

    def test_a_purge_names_only_repositories_that_the_caller_may_view(
        self, as_: As, filled: Redis
    ) -> None:
        user("deleter").user_permissions.add(Permission.objects.get(codename="view_blob"))
        response = as_("deleter").post(f"/api/blobs/{DIGEST}/purge/")
        assert response.json() == {"cleared": [], "next": None, "certain": "everywhere"}
        assert names(as_, "superuser", HOLDERS) == []


class TestVisibleRepositories:
    @pytest.fixture(autouse=True)
    def narrowed(self, settings: LazySettings) -> None:
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": grants.visible}}

    def test_limits_lists(self, as_: As, filled: Redis) -> None:
        assert names(as_, "viewer") == ["alone", "team/app", "team/b"]
        assert names(as_, "superuser") == NAMES
        assert names(as_, "viewer", "/api/repositories/?page_size=1") == [
            "alone",
            "team/app",
            "team/b",
        ]

    def test_counts_only_visible_repositories(self, as_: As, filled: Redis) -> None:
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
    def test_is_combined_with_the_prefix(
        self, prefix: str, expected: list[str], as_: As, filled: Redis
    ) -> None:
        assert names(as_, "viewer", f"/api/repositories/?prefix={prefix}") == expected

    def test_limits_holders(self, as_: As, filled: Redis) -> None:
        assert names(as_, "viewer", HOLDERS) == ["alone", "team/app", "team/b"]
        assert names(as_, "viewer", HOLDERS + "?page_size=2") == ["alone", "team/app", "team/b"]

    def test_grants_no_permission(self, as_: As, filled: Redis) -> None:
        assert names(as_, "nobody") == []
        assert names(as_, "granted") == ["team/app"]

    @pytest.mark.parametrize("tail", ["blobs/", "summary/", f"blobs/{DIGEST}/"])
    def test_forbids_other_repositories(self, tail: str, as_: As, filled: Redis) -> None:
        filled.hset(f"blobs::{DIGEST}", mapping={"digest": DIGEST, "size": 1, "length": 1})
        for name, status in [("team/app", 200), ("alone", 200), ("alone/x", 403), ("zoo", 403)]:
            url = f"/api/repositories/{name}/{tail}"
            assert as_("viewer").get(url).status_code == status
            assert as_("superuser").get(url).status_code == 200

    def test_an_anonymous_user_gets_a_list_if_some_repository_is_visible(
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

    def test_may_be_thousands_of_names(
        self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wide: Any = lambda _: {f"x/{number}" for number in range(5000)} | {"zoo", "team/"}  # noqa: E731
        monkeypatch.setattr(grants, "team_only", wide)
        assert names(as_, "viewer") == ["team/app", "team/b", "zoo"]
        assert names(as_, "viewer", HOLDERS + "?page_size=1") == ["team/app", "team/b", "zoo"]
