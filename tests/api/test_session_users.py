"""A request without a session has no user, which is found out without making one."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Callable
from functools import wraps
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import LazySettings
from django.contrib import auth
from django.contrib.auth import middleware
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest
from django.test import Client
from django.utils.functional import SimpleLazyObject, empty
from redis import Redis

from blobcache.api import session_users
from blobcache.api.session_users import has_active_user
from tests.api.conftest import DIGEST, user
from tests.api.entrance import hosts
from tests.api.entrance.wire import Sent, send

pytestmark = pytest.mark.django_db


class Active:
    """The class of users of a host."""

    is_active = True


def active() -> Active:
    """What the middleware of a host calls."""
    return Active()


@pytest.fixture(autouse=True)
def _sessions(settings: LazySettings) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"


def request_with(session: SessionStore) -> Any:
    """A request as Django's middleware leaves it."""
    request: Any = HttpRequest()
    request.session = session
    middleware.AuthenticationMiddleware(id).process_request(request)  # type: ignore[arg-type]
    return request


def logged_in() -> SessionStore:
    """The session of a user."""
    client = Client()
    client.force_login(user("viewer"), backend="django.contrib.auth.backends.ModelBackend")
    return SessionStore(client.session.session_key)


def test_without_a_session_no_user_is_made() -> None:
    request = request_with(SessionStore())
    assert has_active_user(request) is False
    assert "_cached_user" not in vars(request)


def test_the_session_counts_as_accessed_as_if_the_user_had_been_made() -> None:
    ours, djangos = request_with(SessionStore()), request_with(SessionStore())
    assert not ours.session.accessed
    has_active_user(ours)
    assert not djangos.user.is_authenticated
    assert vars(ours.session) == vars(djangos.session)


def test_the_user_of_a_session_is_found() -> None:
    assert has_active_user(request_with(logged_in())) is True


def test_a_user_who_is_not_active_does_not_count() -> None:
    session = logged_in()
    viewer = user("viewer")
    viewer.is_active = False
    viewer.save()
    assert has_active_user(request_with(session)) is False


def test_a_user_whom_the_hosts_middleware_has_found_counts() -> None:
    request = request_with(SessionStore())
    request._cached_user = Active()
    assert has_active_user(request) is True


def test_a_user_whom_something_has_put_into_the_lazy_one_counts() -> None:
    request = request_with(SessionStore())
    assert not request.user.is_authenticated
    del request._cached_user
    vars(request.user)["_wrapped"] = Active()
    assert has_active_user(request) is True


def test_the_user_of_another_request_counts() -> None:
    request, other = request_with(SessionStore()), request_with(logged_in())
    request.user = other.user
    assert has_active_user(request) is True


class Reading(SessionStore):
    """A session of a host's own engine, which has entries that it does not list."""

    def __getitem__(self, key: str) -> Any:
        return OTHER[key] if key in OTHER else super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return OTHER.get(key, default)


OTHER: dict[str, Any] = {}


def test_a_session_that_is_read_in_another_way_is_read_by_django() -> None:
    session = logged_in()
    with patch.dict(OTHER, dict(session.items())):
        assert auth.SESSION_KEY not in Reading()
        assert has_active_user(request_with(Reading())) is True


@pytest.mark.parametrize(
    "path",
    [
        "django.contrib.auth.get_user",
        "django.contrib.auth._get_user_session_key",
        "django.contrib.auth.middleware.get_user",
        "django.contrib.auth.middleware.AuthenticationMiddleware.process_request",
        "django.contrib.sessions.backends.base.SessionBase.__getitem__",
        "django.contrib.sessions.backends.base.SessionBase.__contains__",
    ],
)
def test_what_the_host_has_replaced_before_is_not_taken_for_djangos(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: Any = pkgutil.resolve_name(path)

    @wraps(plain)
    def replaced(*args: Any) -> Any:
        if path.endswith("process_request"):
            args[1].user = SimpleLazyObject(lambda: Active())  # noqa: PLW0108 - it has code
            return None
        return plain(*args)

    where, _, name = path.rpartition(".")
    monkeypatch.setattr(pkgutil.resolve_name(where), name, replaced)
    spec: Any = session_users.__spec__
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    request = request_with(SessionStore())
    again.has_active_user(request)
    assert vars(request.user)["_wrapped"] is not empty  # it was made


@pytest.mark.parametrize("where", [auth, middleware])
def test_a_function_of_the_hosts_in_place_of_djangos_is_called(
    where: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_with(SessionStore())
    monkeypatch.setattr(where, "get_user", lambda _: Active())
    assert has_active_user(request) is True


MAKES: list[Callable[[], Any]] = [
    Active,
    lambda: SimpleLazyObject(Active),  # a function without code in Python
    lambda: SimpleLazyObject(active),
]


@pytest.mark.parametrize("make", MAKES)
def test_a_user_that_the_hosts_middleware_has_set_counts(make: Callable[[], Any]) -> None:
    request = request_with(SessionStore())
    request.user = make()
    assert has_active_user(request) is True
    assert not request.session.accessed


@pytest.mark.parametrize("value", [None, AnonymousUser()])
def test_nobody_is_nobody(value: object) -> None:
    request = request_with(SessionStore())
    request.user = value
    assert has_active_user(request) is False


def test_a_project_may_have_no_users() -> None:
    assert has_active_user(HttpRequest()) is False


def test_a_stat_behind_djangos_handler_makes_no_user(settings: LazySettings, filled: Redis) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.AUTHENTICATION_BACKENDS = ["tests.api.entrance.hosts.Public"]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.api.entrance.hosts.NotesTheUser"]
    hosts.done.clear()
    answer = send(WSGIHandler(), Sent("GET", f"/api/blobs/{DIGEST}/"))
    assert "Cookie" in answer.header("Vary").split(", ")
    assert hosts.done == ["not made"]
