"""Which requests and which views the entrance leaves to Django, one reason at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import wraps
from typing import Any

import pytest
from django.conf import LazySettings
from django.http import HttpRequest
from django.test import Client
from django.urls import include, path
from redis import Redis
from rest_framework.authtoken.models import Token

from blobcache.api.callers import kept_callers
from tests.api.conftest import DIGEST, user
from tests.api.entrance.hosts import Mine, stat
from tests.api.entrance.wire import Both, Sent, send

STAT = f"/api/repositories/team/app/blobs/{DIGEST}/"
BATCH = "/api/repositories/team/app/blobs/stat/"
LOGIN = "django.contrib.auth.middleware.LoginRequiredMiddleware"


def for_members(view: Any) -> Any:
    """A view for which the host wants a login, whatever the view itself says."""

    @wraps(view)
    def wrapped(request: HttpRequest, **variables: str) -> Any:
        return view(request, **variables)

    wrapped.login_required = True  # type: ignore[attr-defined]
    return wrapped


def later(view: Any) -> Any:
    """A view that must be awaited."""

    @wraps(view)
    async def wrapped(request: HttpRequest, **variables: str) -> Any:
        return view(request, **variables)

    return wrapped


urlpatterns = [
    path("api/", include("blobcache.api.urls")),
    path("later/<digest>/", later(stat(Mine))),
    path("members/<digest>/", for_members(stat(Mine))),
]


@pytest.fixture(autouse=True)
def _host(db: None, filled: Redis, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def token() -> tuple[str, str]:
    return ("HTTP_AUTHORIZATION", f"Token {Token.objects.create(user=user('viewer'))}")


@pytest.fixture
def session(settings: LazySettings) -> Iterator[tuple[str, str]]:
    """The cookie of a session whose user the entrance keeps."""
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 3600}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    client = Client()
    client.force_login(user("viewer"), backend="django.contrib.auth.backends.ModelBackend")
    kept_callers.forget_all()
    kept_callers._all_barred = kept_callers._barred[user("viewer").pk] = 0.0
    kept_callers._barred.clear()
    cookie = ("HTTP_COOKIE", f"sessionid={client.cookies['sessionid'].value}")
    send(Both().django, Sent("GET", STAT, headers=(cookie,)))
    assert own(Sent("GET", STAT, headers=(cookie,)))
    yield cookie
    kept_callers.forget_all()


def own(sent: Sent) -> bool:
    """Whether the entrance answers a request itself; the answer is Django's in any case."""
    expected, answer, is_own = Both()(sent)
    assert answer == expected
    return is_own


def batch(*headers: tuple[str, str]) -> Sent:
    """A batch stat."""
    body = json.dumps({"digests": [DIGEST]}).encode()
    return Sent("POST", BATCH, "", (("CONTENT_TYPE", "application/json"), *headers), body)


def test_a_view_that_wants_a_login_is_djangos(
    token: tuple[str, str], settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN]
    made = Both()
    expected, answer, is_own = made(Sent("GET", f"/members/{DIGEST}/", headers=(token,)))
    assert not is_own
    assert answer.status == expected.status == "302 Found"
    assert own(Sent("GET", STAT, headers=(token,)))


def test_a_view_that_must_be_awaited_is_djangos(token: tuple[str, str]) -> None:
    assert not own(Sent("GET", f"/later/{DIGEST}/", headers=(token,)))


def test_a_session_sends_no_batch_past_the_csrf_check(session: tuple[str, str]) -> None:
    """The entrance does not check CSRF tokens, which a POST with a session's cookie must have."""
    sent = batch(session)
    expected, answer, is_own = Both()(sent)
    assert not is_own
    assert answer == expected
    assert answer.status.startswith("403")


def test_a_batch_with_a_token_needs_no_csrf_check(token: tuple[str, str]) -> None:
    assert own(batch(token))


@pytest.mark.parametrize(
    ("more", "is_own"),
    [
        (f"; csrftoken={'a' * 32}", True),
        ("; csrftoken=é", False),
        (f"; csrftoken={'a' * 32}; other=1", False),
    ],
)
def test_the_cookie_of_the_csrf_check_may_come_with_a_session(
    session: tuple[str, str], more: str, is_own: bool
) -> None:
    assert own(Sent("GET", STAT, headers=((session[0], session[1] + more),))) is is_own


@pytest.mark.parametrize("length", ["", "x", "+9", "-1", "1.0"])
def test_a_batch_without_a_length_is_djangos(token: tuple[str, str], length: str) -> None:
    assert not own(batch(token, ("CONTENT_LENGTH", length)))


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=latin-1", ""])
def test_a_batch_of_another_type_is_djangos(token: tuple[str, str], kind: str) -> None:
    assert not own(batch(token, ("CONTENT_TYPE", kind)))
