"""Long values in a request take no more time than reading them, and are cut in responses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import OperationalError
from redis import Redis
from rest_framework.test import APIClient
from rest_framework.utils import breadcrumbs, mediatypes

from tests.api.conftest import APP, DIGEST, As, user
from tests.api.test_bodies import refused

BLOB, BATCH = f"/api/blobs/{DIGEST}/", "/api/blobs/stat/"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], Mock]:
    """Count the calls of a function, and still call it."""

    def count(module: Any, name: str) -> Mock:
        spy = Mock(wraps=getattr(module, name))
        monkeypatch.setattr(module, name, spy)
        return spy

    return count


@pytest.mark.parametrize("name", ["x" * 900_000, "\u00e9" * 300_000, "\x1b[2J" * 100, "a\u202eb"])
def test_an_unknown_field_is_quoted_and_cut_in_the_error(
    name: str, superuser: APIClient, filled: Redis
) -> None:
    response = superuser.put(BLOB, {"size": 1, "mediaType": APP, name: 1}, format="json")
    refused(response, 400, "BODY_INVALID")
    assert len(response.content) < 5000
    message = response.json()["errors"][0]["message"]
    assert message.isascii()
    assert message.isprintable()


ACCEPTS = {
    "many": "text/html," + "a/b," * 15_000,
    "long": "text/" + "h" * 60_000,
    "parameters": "text/html" + ";a=b" * 15_000,
    "quoted": 'text/html;a="' + ";" * 60_000,
    "json last": "a/b," * 15_000 + "application/json",
}


@pytest.mark.parametrize("accept", ACCEPTS.values(), ids=ACCEPTS)
@pytest.mark.parametrize(
    "path", [BLOB, "/api/blobs/", "/api/blobs/a/b/c/", "/api/blobs/?format=json"]
)
def test_an_accept_that_is_too_long_counts_as_accepting_everything(
    path: str, accept: str, superuser: APIClient, filled: Redis, counted: Callable[[Any, str], Mock]
) -> None:
    parsed = counted(mediatypes, "parse_header_parameters")
    response = superuser.get(path, HTTP_ACCEPT=accept)
    assert response.headers["Content-Type"] == "application/json"
    assert response.status_code == (404 if "a/b/c" in path else 200)
    assert max([len(call.args[0]) for call in parsed.call_args_list], default=0) < 100


@pytest.mark.parametrize("count", [1, 10, 100])
def test_an_accept_is_parsed_at_most_once_for_each_media_type(
    count: int, superuser: APIClient, filled: Redis, counted: Callable[[Any, str], Mock]
) -> None:
    parsed = counted(mediatypes, "parse_header_parameters")
    accept = ",".join(f"a/b{number}" for number in range(count))
    assert superuser.get("/api/blobs/", HTTP_ACCEPT=accept).status_code == 406
    # A few for each: some versions of the framework parse it again for each renderer.
    assert parsed.call_count <= 12 * (count + 1)


@pytest.mark.parametrize(
    "media_type",
    # Django itself refuses those with more than 10,000 characters.
    ["application/json" + ";a=b" * 2_000, 'application/json;a="' + ";" * 5_000, "x" * 9_000],
    ids=["parameters", "quoted", "long"],
)
def test_a_media_type_that_is_too_long_is_not_parsed_and_is_cut_in_the_error(
    media_type: str, superuser: APIClient, filled: Redis, counted: Callable[[Any, str], Mock]
) -> None:
    parsed = counted(mediatypes, "parse_header_parameters")
    response = superuser.generic("PUT", BLOB, "{}", content_type=media_type)
    refused(response, 415, "UNSUPPORTED")
    assert len(response.content) < 1000
    assert max([len(call.args[0]) for call in parsed.call_args_list], default=0) < 100


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("9" * 18, 413),
        ("9" * 19, 413),
        ("9" * 4000, 413),
        ("9" * 60_000, 413),
        ("0" * 60_000, 413),
        ("+5", 400),
        ("1_0", 400),
        (" 5", 400),
        ("\u0665", 400),
        ("-1", 400),
        ("5.0", 400),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_content_length_is_a_plain_number_of_bytes(
    length: str, status: int, superuser: APIClient, filled: Redis
) -> None:
    response = superuser.generic(
        "PUT", BLOB, "{}", content_type="application/json", CONTENT_LENGTH=length
    )
    refused(response, status, "BODY_INVALID")
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    "path",
    [
        "/api/repositories/a" + "/x" * 480,
        "/api/repositories/a" + "/blobs/x" * 120,
        "/api/blobs/" + "/" * 600,
    ],
    ids=["slashes", "blobs", "empty"],
)
@pytest.mark.parametrize("persona", ["anonymous", "superuser"])
def test_a_page_for_a_long_path_has_no_breadcrumbs(
    path: str, persona: str, as_: As, filled: Redis, counted: Callable[[Any, str], Mock]
) -> None:
    resolved = counted(breadcrumbs, "resolve")
    response = as_(persona).get(path, HTTP_ACCEPT="text/html")
    assert response.status_code in {400, 401, 404}
    assert resolved.call_count == 0
    assert len(response.content) < 100_000


def test_a_page_for_a_usual_path_has_breadcrumbs(
    superuser: APIClient, filled: Redis, counted: Callable[[Any, str], Mock]
) -> None:
    resolved = counted(breadcrumbs, "resolve")
    superuser.get(f"/api/repositories/{'a/' * 20}blobs/{DIGEST}/", HTTP_ACCEPT="text/html")
    assert 0 < resolved.call_count <= 64


def test_an_unknown_address_is_cut_in_the_error(superuser: APIClient, filled: Redis) -> None:
    response = superuser.get("/api/status/" + "\u00e9" * 1000)
    refused(response, 404, "PATH_UNKNOWN")
    assert len(response.content) < 2000


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("persona", ["anonymous", "superuser"])
@pytest.mark.parametrize("path", ["status/", "blobs/", "repositories/"])
def test_a_path_longer_than_any_valid_one_is_refused_first(
    path: str,
    persona: str,
    method: str,
    as_: As,
    filled: Redis,
    counted: Callable[[Any, str], Mock],
) -> None:
    resolved = counted(breadcrumbs, "resolve")
    response = as_(persona).generic(method, f"/api/{path}" + "x" * 1025, HTTP_ACCEPT="text/html")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert resolved.call_count == 0
    if method == "HEAD":
        assert response.status_code == 414
    else:
        refused(response, 414, "URI_TOO_LONG")
        assert len(response.content) < 1000


@pytest.mark.parametrize(
    "name", ["a%0Ablobcache.audit%20cleared", "a%1B[2J", "%E2%80%AE", "a" * 900]
)
def test_a_path_cannot_inject_lines_into_the_log(
    name: str, as_: As, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("The database is down.")

    monkeypatch.setattr("rest_framework.authentication.TokenAuthentication.authenticate", fail)
    caplog.set_level(logging.WARNING, "blobcache.api")
    assert as_("anonymous").get(f"/api/blobs/{name}/").status_code == 503
    (line,) = [each.getMessage() for each in caplog.records if each.name == "blobcache.api"]
    assert line.isprintable()
    assert len(line) < 500


class TestSessions:
    """A browser's requests, whose CSRF check reads the body before the view does."""

    @pytest.fixture
    def session(self, db: None, filled: Redis) -> APIClient:
        client = APIClient(enforce_csrf_checks=True)
        client.force_login(user("superuser"), "django.contrib.auth.backends.ModelBackend")
        client.cookies["csrftoken"] = "a" * 32
        return client

    def test_a_body_is_read_once_more_after_the_check(self, session: APIClient) -> None:
        for path, body in (
            (BATCH, {"digests": [DIGEST]}),
            (f"{BLOB}purge/?dry_run=1", {"cursor": None}),
            (f"{BLOB}purge/", {"cursor": None}),
        ):
            response = session.post(path, body, format="json", HTTP_X_CSRFTOKEN="a" * 32)
            assert response.status_code == 200, response.content

    def test_a_body_that_is_too_long_is_not_read_for_the_check(self, session: APIClient) -> None:
        response = session.post(BATCH, {"digests": ["x" * 3_000_000]}, format="json")
        refused(response, 413, "BODY_INVALID")

    def test_a_form_with_too_many_fields_is_refused(self, session: APIClient) -> None:
        form = "&".join(f"x{number}=1" for number in range(1001))
        response = session.generic(
            "POST", BATCH, form, content_type="application/x-www-form-urlencoded"
        )
        assert response.status_code in {400, 415}
        assert list(response.json()) == ["errors"]
