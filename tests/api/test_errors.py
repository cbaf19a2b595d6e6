"""Errors are in the registry's envelope, and reveal nothing about Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.cache import caches
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import UnreadablePostError
from redis import Redis
from rest_framework.exceptions import APIException
from rest_framework.test import APIClient
from rest_framework.throttling import ScopedRateThrottle

from blobcache.api.exceptions import exception_handler
from project import embedded
from tests.api.conftest import DIGEST, As, user
from tests.api.test_bodies import refused
from tests.api.test_permissions import TABLE, Row, ask
from tests.servers import cache_at


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "status/x",
        "status//",
        "blobs//",
        "blobs/a/b",
        "blobs/a/b/c/",
        f"blobs/{DIGEST}/tags/",
        "blobs/a%0Ab/x",
        "repositories/a",
        "repositories/a/",
        "repositories/blobs/",
        "repositories/summary",
        "repositories//",
        "repositories/a/manifests/latest",
    ],
)
def test_an_unknown_path_of_the_api_is_an_error_in_the_envelope(
    method: str, path: str, as_: As, default_cache: Redis
) -> None:
    for persona in ("anonymous", "superuser"):
        response = as_(persona).generic(method, f"/api/{path}")
        if method == "HEAD":
            assert response.status_code == 404
        else:
            refused(response, 404, "PATH_UNKNOWN")


@pytest.mark.parametrize("path", ["", "schema/", "blob/", "statuses/"])
def test_a_path_outside_of_the_api_belongs_to_the_host(path: str, superuser: APIClient) -> None:
    response = superuser.get(f"/api/{path}")
    assert response.status_code == 404
    assert "PATH_UNKNOWN" not in response.content.decode()


@pytest.mark.parametrize("accept", ["application/xml", "image/*", "nonsense"])
def test_an_unsupported_accept_header_is_refused(
    accept: str, superuser: APIClient, filled: Redis
) -> None:
    refused(superuser.get("/api/blobs/", HTTP_ACCEPT=accept), 406, "UNSUPPORTED")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/*", "text/html,*/*"])
def test_a_supported_accept_header_is_accepted(
    accept: str, superuser: APIClient, filled: Redis
) -> None:
    assert superuser.get("/api/blobs/", HTTP_ACCEPT=accept).status_code == 200


def test_an_unknown_format_is_refused(superuser: APIClient, filled: Redis) -> None:
    refused(superuser.get("/api/blobs/?format=xml"), 406, "UNSUPPORTED")
    assert superuser.get("/api/blobs/?format=json").status_code == 200


def test_wrong_credentials_are_refused(as_: As, filled: Redis) -> None:
    client = as_("anonymous")
    response = client.get("/api/blobs/", HTTP_AUTHORIZATION="Token wrong")
    refused(response, 401, "UNAUTHORIZED")
    assert response.headers["WWW-Authenticate"] == "Token"


def test_a_session_without_a_csrf_token_is_refused(db: None, filled: Redis) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user("superuser"), "django.contrib.auth.backends.ModelBackend")
    assert client.get(f"/api/blobs/{DIGEST}/").status_code == 200
    refused(client.delete(f"/api/blobs/{DIGEST}/"), 403, "DENIED")


class TestReadOnly:
    @pytest.fixture(autouse=True)
    def read_only(self, settings: LazySettings) -> None:
        settings.BLOBCACHE = {"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}}

    @pytest.mark.parametrize(
        "row",
        [row for row in TABLE if row.method in {"PUT", "DELETE"} or row.route == "blob-purge"],
        ids=lambda row: f"{row.route}-{row.method}",
    )
    def test_writes_are_405(
        self, row: Row, superuser: APIClient, valkey: embedded.Server, default_cache: Redis
    ) -> None:
        with cache_at(valkey.url, "index"):
            response = ask(superuser, row)
        refused(response, 405, "UNSUPPORTED")
        allowed = response.headers["Allow"].split(", ")
        assert row.method not in allowed
        assert ("GET" in allowed) == ("HEAD" in allowed)
        assert not default_cache.keys()

    def test_reads_are_answered(
        self, superuser: APIClient, valkey: embedded.Server, default_cache: Redis
    ) -> None:
        with cache_at(valkey.url, "index"):
            status = superuser.get("/api/status/")
            assert status.json()["read_only"] is True
            assert superuser.get("/api/repositories/").status_code == 200
            response = superuser.get("/api/repositories/a/blobs/", HTTP_ACCEPT="text/html")
            assert response.status_code == 200


@pytest.fixture
def stopped() -> Iterator[str]:
    """A Redis that has just been stopped; yields its address."""
    with embedded.start() as server, cache_at(server.url, SOCKET_CONNECT_TIMEOUT=1) as client:
        client.ping()
        server.stop()
        yield server.url


_WITHOUT_REDIS = {"changes", "registries", "registry", "blob-registries", "repository-compare"}
"""The routes that answer without Redis: from the database, or that it is unreachable; and one that
needs a parameter. Their own tests stop it."""

EVERY_ROW_OF_REDIS = pytest.mark.parametrize(
    "row",
    [row for row in TABLE if row.route not in _WITHOUT_REDIS and not row.route.startswith("job")],
    ids=lambda row: f"{row.route}-{row.method}",
)


class TestRedisDown:
    @EVERY_ROW_OF_REDIS
    def test_is_a_503_without_delay(self, row: Row, superuser: APIClient, stopped: str) -> None:
        start = monotonic()
        response = ask(superuser, row)
        assert monotonic() - start < 1.5
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        (error,) = response.json()["errors"]
        assert error["code"] == "UNAVAILABLE"
        assert_nothing_leaks(response.content.decode(), stopped)

    @EVERY_ROW_OF_REDIS
    def test_is_a_page_for_a_browser(self, row: Row, superuser: APIClient, stopped: str) -> None:
        superuser.credentials(HTTP_ACCEPT="text/html")
        response = ask(superuser, row)
        assert response.status_code == 503
        assert "UNAVAILABLE" in response.content.decode()
        assert_nothing_leaks(response.content.decode(), stopped)

    def test_is_reported_by_the_status(self, superuser: APIClient, stopped: str) -> None:
        response = superuser.get("/api/status/")
        assert response.status_code == 503
        assert response.json()["reachable"] is False
        assert response.json()["role"] == "cache"

    def test_the_changes_need_no_redis(self, superuser: APIClient, stopped: str) -> None:
        response = superuser.get("/api/changes/")
        assert response.status_code == 200
        assert response.json()["results"] == []

    def test_a_refusal_needs_no_redis(self, as_: As, stopped: str) -> None:
        for row in TABLE:
            if "nobody" not in row.allowed:
                assert ask(as_("nobody"), row).status_code == 403
        refused(as_("superuser").get("/api/blobs/x/"), 400, "DIGEST_INVALID")


def assert_nothing_leaks(text: str, url: str) -> None:
    port = re.search(r":(\d+)", url)
    assert port
    for secret in (port[0], "onnection refused", "connecting to", "ECONN", "redis.exceptions"):
        assert secret not in text
    assert not re.search(r"Error \d+|Errno", text)


def test_a_command_that_redis_refuses_is_an_error(superuser: APIClient, filled: Redis) -> None:
    filled.config_set("maxmemory", 1)
    try:
        response = superuser.put(
            f"/api/blobs/{DIGEST}/", {"size": 1, "mediaType": "a/b"}, format="json"
        )
    finally:
        filled.config_set("maxmemory", 0)
    refused(response, 503, "UNAVAILABLE")
    assert "OOM" not in response.content.decode()
    assert "memory" not in response.content.decode()


class TestTheHostsOwn:
    def test_a_database_that_is_down_is_an_error(
        self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OperationalError("secret host")

        monkeypatch.setattr("rest_framework.authentication.TokenAuthentication.authenticate", fail)
        for accept in ("*/*", "text/html"):
            response = as_("anonymous").get("/api/blobs/", HTTP_ACCEPT=accept)
            refused(response, 503, "UNAVAILABLE")
            assert "secret" not in response.content.decode()

    @pytest.mark.parametrize("of_the_host", [[], [ScopedRateThrottle]], ids=repr)
    def test_throttles_can_have_rates_for_our_scopes(
        self,
        of_the_host: list[type[ScopedRateThrottle]],
        as_: As,
        filled: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A request counts once, even if the host has the same throttle for all its views."""
        monkeypatch.setattr("rest_framework.views.APIView.throttle_classes", of_the_host)
        monkeypatch.setattr(
            "rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES",
            {"blobcache-stat": "2/hour"},
        )
        client = as_("viewer")
        answers = [client.get(f"/api/blobs/{DIGEST}/") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        refused(answers[-1], 429, "TOOMANYREQUESTS")
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert client.get("/api/blobs/").status_code == 200
        caches["default"].clear()

    def test_the_host_can_use_its_own_throttles(
        self, as_: As, filled: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rest_framework.views.APIView.throttle_classes", [ScopedRateThrottle])
        monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"theirs": "1/hour"})
        for _ in range(2):
            assert as_("viewer").get(f"/api/blobs/{DIGEST}/").status_code == 200


class Teapot(APIException):
    status_code = 418
    default_detail = "short and stout"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PermissionDenied("why"), 403, "DENIED"),
        (UnreadablePostError("why"), 400, "BODY_INVALID"),
        (Teapot({"spout": ["short", {"in": "stout"}]}), 418, "UNKNOWN"),
    ],
    ids=repr,
)
def test_exceptions_of_the_framework_are_in_the_envelope(
    error: Exception, status: int, code: str
) -> None:
    response = exception_handler(error, {})
    assert response is not None
    assert response.status_code == status
    data: Any = response.data
    assert {each["code"] for each in data["errors"]} == {code}
    assert "why" not in str(data)


def test_unexpected_exceptions_are_left_to_the_host() -> None:
    assert exception_handler(RuntimeError("a bug"), {}) is None


def test_the_host_s_exception_handler_is_not_replaced(
    superuser: APIClient, settings: LazySettings
) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": "nowhere.handler"}
    refused(superuser.get("/api/blobs/x/"), 400, "DIGEST_INVALID")


def test_a_provider_without_a_catalog_cannot_list(
    superuser: APIClient, settings: LazySettings
) -> None:
    memory = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
    settings.BLOBCACHE = {"default": {"PROVIDER": memory}}
    body = {"size": 1, "mediaType": "a/b"}
    assert superuser.put(f"/api/blobs/{DIGEST}/", body, format="json").status_code == 201
    assert superuser.get(f"/api/blobs/{DIGEST}/").status_code == 200
    for path in (
        "repositories/",
        "repositories/a/blobs/",
        "repositories/a/summary/",
        "blobs/",
        f"blobs/{DIGEST}/repositories/",
    ):
        refused(superuser.get(f"/api/{path}"), 404, "PATH_UNKNOWN")
    assert superuser.get("/api/status/").json() == {
        "reachable": True,
        "role": "cache",
        "read_only": False,
        "server": None,
        "warnings": [],
        "catalog": None,
        "last_check": None,
    }
