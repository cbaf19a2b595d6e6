"""A stat whose caller is certain at once is answered without a request of REST framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIHandler
from django.http import Http404
from django.test import Client, RequestFactory
from redis import Redis
from rest_framework.authtoken.models import Token
from rest_framework.viewsets import GenericViewSet

from blobcache.api import entrance
from blobcache.api.at_once import stat_at_once
from blobcache.api.callers import kept_callers
from blobcache.api.entrance import loop
from blobcache.api.permissions import BlobCachePermission
from blobcache.api.tokens import caller_of
from blobcache.api.unchanged import _has_our_methods, is_unchanged
from blobcache.api.views import RegistryView
from blobcache.api.viewsets import _CONSTANT_HEADERS, RepositoryBlobViewSet
from blobcache.tokens.parsing import TokenRefused
from blobcache.tokens.verifier import get_verifier
from tests.api.conftest import DIGEST, UNKNOWN, user
from tests.api.entrance.hosts import Never
from tests.api.entrance.test_asgi import ask
from tests.api.entrance.wire import Both, Sent, by_the_framework, environ, send
from tests.tokens.signing import Signer, options, scope

STAT = f"/api/repositories/team/app/blobs/{DIGEST}/"

HOSTS = "tests.api.entrance.hosts"

DECLARING = f"{HOSTS}.DeclaringPublic"

Made = Callable[[], int]


@pytest.fixture(autouse=True)
def _host(db: None, filled: Redis, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ROOT_URLCONF = "tests.api.entrance.hosts"
    settings.AUTHENTICATION_BACKENDS = [DECLARING, "django.contrib.auth.backends.ModelBackend"]
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 60}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """How many requests of the framework were made."""
    count, make = [0], RegistryView.initialize_request

    def counting(view: RegistryView, *args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        return make(view, *args, **kwargs)

    counting.__module__ = RegistryView.__module__  # as if it were not replaced
    monkeypatch.setattr(RegistryView, "initialize_request", counting)
    return lambda: count[0]


def credentials(kind: str, settings: LazySettings) -> tuple[str, dict[str, str]]:
    """A path, and headers of a caller who may view there."""
    if kind == "nobody":
        return STAT, {}
    if kind == "registry token":
        signer = Signer()
        settings.BLOBCACHE = {"default": {"TOKENS": options(JWKS=signer.jwks)}}
        token = signer.token(scope("team/app", "pull"))
        path = f"/by-token/team/app/blobs/{DIGEST}/"
        return path, {"HTTP_AUTHORIZATION": f"Bearer {token}"}
    viewer = user("viewer")
    if kind == "token":
        row = Token.objects.create(user=viewer)
        found = {"HTTP_AUTHORIZATION": f"Token {row}"}
    else:
        client = Client()
        client.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
        found = {"HTTP_COOKIE": f"sessionid={client.cookies['sessionid'].value}"}
    kept_callers.forget_all()
    kept_callers._all_barred = 0.0
    kept_callers._barred.clear()
    return STAT, found


@pytest.mark.parametrize("where", ["entrance", "django"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["nobody", "registry token", "token", "session"])
def test_a_caller_who_is_certain_needs_no_request_of_the_framework(
    kind: str, method: str, where: str, made: Made, settings: LazySettings
) -> None:
    path, headers = credentials(kind, settings)
    both, sent = Both(), Sent(method, path, headers=tuple(headers.items()))
    expected = by_the_framework(sent)  # which keeps the caller, too
    passed, before = both.passed, made()
    answer = send(getattr(both, where), sent)
    assert (both.passed, made()) == (passed, before)
    assert answer.status == "200 OK"
    assert answer == expected


@pytest.mark.parametrize("query", ["cached=only", "x=1"])
def test_a_query_is_read_by_the_framework(query: str, made: Made) -> None:
    sent = Sent("GET", STAT, query)
    expected, before = by_the_framework(sent), made()
    assert send(Both().django, sent) == expected
    assert made() == before + 1


@pytest.mark.parametrize("name", ["get_permissions", "check_throttles"])
def test_what_as_view_sets_counts(name: str, made: Made) -> None:
    def replacement(*_: object) -> Any:
        raise PermissionDenied

    view = RepositoryBlobViewSet.as_view({"get": "retrieve"}, **{name: replacement})
    response = view(RequestFactory().get(STAT), name="team/app", digest=DIGEST)
    assert (response.status_code, made()) == (403, 1)


def test_a_session_whose_user_is_kept_is_not_opened(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, headers = credentials("session", settings)
    both, sent = Both(), Sent("GET", path, headers=tuple(headers.items()))
    expected = send(both.django, sent)

    def fail(*_: object) -> None:
        raise AssertionError("A session was opened.")

    monkeypatch.setattr(SessionStore, "__init__", fail)
    assert send(both.entrance, sent) == expected


def test_who_opens_it_later_sees_that_it_was_read(settings: LazySettings) -> None:
    path, headers = credentials("session", settings)
    look = "tests.api.entrance.hosts.SaysWhetherTheSessionWasRead"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, look]
    both, sent = Both(), Sent("GET", path, headers=tuple(headers.items()))
    expected = send(both.django, sent)
    assert expected.header("X-Session-Read") == "True"
    assert send(both.entrance, sent) == expected
    assert both.passed == 0


@pytest.mark.parametrize("kind", ["token", "session"])
def test_middleware_may_read_who_has_logged_in(
    kind: str, made: Made, settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.api.entrance.hosts.ReadsTheUser"]
    path, headers = credentials(kind, settings)
    both, sent = Both(), Sent("GET", path, headers=tuple(headers.items()))
    expected = send(both.django, sent)  # which keeps the caller, too
    before = made()
    assert send(both.entrance, sent) == expected
    assert made() == before


@pytest.mark.parametrize("path", [STAT.replace(DIGEST, UNKNOWN), STAT.replace(DIGEST, "md5:x")])
def test_an_error_is_made_by_the_framework(path: str, made: Made) -> None:
    expected, answer, is_own = Both()(Sent("GET", path))
    assert (is_own, made()) == (True, 2)
    assert answer == expected
    assert answer.status[:3] in {"400", "404"}


def test_a_request_of_a_caller_who_may_not_view_is_as_it_was(settings: LazySettings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    handler = Both().entrance.handler
    request = handler.request_class(environ(Sent("GET", STAT)))
    address = handler.address_of(request)
    assert address is not None
    request.user, request.auth = before = AnonymousUser(), object()
    assert stat_at_once(address.view, request, address.variables) is None
    assert (request.user, request.auth) == before
    assert request.user is before[0]


def test_a_caller_who_may_not_view_is_refused_by_the_framework(
    made: Made, settings: LazySettings
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    expected, answer, is_own = Both()(Sent("GET", STAT))
    assert (is_own, made()) == (True, 2)
    assert answer == expected
    assert answer.status[:3] == "401"


@pytest.mark.parametrize("path", [f"/overridden/{DIGEST}/", f"/throttled/{DIGEST}/"])
def test_a_view_with_more_to_do_is_called(path: str, made: Made) -> None:
    answer = send(Both().entrance, Sent("GET", path))
    assert made() == 1
    assert answer.status == "200 OK"


def refused(settings: LazySettings) -> Sent:
    """A request with a token whose signature is wrong."""
    path, headers = credentials("registry token", settings)
    bearer = headers["HTTP_AUTHORIZATION"]
    wrong = "A" if bearer[-20] != "A" else "B"
    value = f"{bearer[:-20]}{wrong}{bearer[-19:]}"
    return Sent("GET", path, headers=(("HTTP_AUTHORIZATION", value),))


def test_a_token_that_is_refused_is_verified_once(settings: LazySettings) -> None:
    sent = refused(settings)
    verifier = get_verifier("default")
    assert verifier is not None
    for number in (1, 2):  # no refused token is kept for the next request
        answer = send(Both().entrance, sent)
        assert answer.status == "401 Unauthorized"
        assert verifier.verified == number


def test_a_refusal_counts_for_the_same_registry_and_token_only(settings: LazySettings) -> None:
    signer = Signer()
    settings.BLOBCACHE = {
        "default": {"TOKENS": options(JWKS=signer.jwks)},
        "other": {"TOKENS": options(JWKS=signer.jwks, AUDIENCE="other.example.com")},
    }
    request = RequestFactory().get("/")
    token = signer.token(scope("team/app", "pull"), aud="other.example.com")
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    with pytest.raises(TokenRefused):
        caller_of(request, "default")
    found = caller_of(request, "other")
    assert found is not None
    assert found[0].registry == "other"
    with pytest.raises(TokenRefused):
        caller_of(request, "default")
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {signer.token(scope('team/app', 'pull'))}"
    found = caller_of(request, "default")
    assert found is not None
    assert found[0].registry == "default"


def test_it_is_under_asgi_too(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_LOGS", ())
    sent = refused(settings)
    verifier = get_verifier("default")
    assert verifier is not None
    answer = asyncio.run(ask(entrance.asgi(ASGIHandler()), sent))
    assert answer.status[:3] == "401"
    assert verifier.verified == 1


@pytest.fixture
def named(settings: LazySettings) -> dict[Sent, str]:
    """Requests of callers whom middleware of the host knows, and of one whom it does not know."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.api.entrance.hosts.KnowsTheCaller"]
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    settings.BLOBCACHE_PORTAL = {}
    return {
        Sent("GET", STAT, headers=(("HTTP_X_CERTIFICATE", "chief"),)): "200",
        Sent("GET", STAT, headers=(("HTTP_X_CERTIFICATE", "nobody"),)): "403",
        Sent("GET", STAT): "401",
    }


def test_middleware_of_a_host_may_know_who_calls(named: dict[Sent, str]) -> None:
    both = Both()
    for sent, status in named.items():
        expected, answer, is_own = both(sent)
        assert is_own
        assert answer == expected
        assert answer.status[:3] == status


def test_it_may_under_asgi_too(named: dict[Sent, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The handlers of pytest are not known to be quick, so nothing would be tried in the loop.
    monkeypatch.setattr(loop, "_LOGS", ())

    async def compare() -> None:
        django = ASGIHandler()
        ahead = entrance.asgi(django)
        for sent, status in named.items():
            expected, answer = await ask(django, sent), await ask(ahead, sent)
            assert answer == expected
            assert answer.status[:3] == status

    asyncio.run(compare())


@pytest.mark.parametrize("name", ["computed", "made"])
def test_a_view_whose_permissions_are_made_for_each_request_is_called(
    name: str, settings: LazySettings
) -> None:
    _, headers = credentials("token", settings)
    both, given = Both(), tuple(headers.items())
    send(both.django, Sent("GET", STAT, headers=given))  # which keeps the caller's permissions
    expected, answer, is_own = both(Sent("GET", f"/{name}/{DIGEST}/", headers=given))
    assert is_own
    assert answer == expected
    assert answer.status[:3] == "403"


@pytest.mark.parametrize(
    ("kind", "path", "status"),
    [
        ("nobody", f"/api/blobs/{DIGEST}/", "200"),
        ("nobody", STAT, "401"),
        ("token", f"/api/blobs/{DIGEST}/", "403"),
    ],
)
def test_a_backend_may_look_at_the_request(
    kind: str, path: str, status: str, settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{HOSTS}.Remembers"]
    sent = Sent("GET", path, headers=tuple(credentials(kind, settings)[1].items()))
    by_the_framework(sent)  # which keeps the caller, too
    settings.AUTHENTICATION_BACKENDS = [f"{HOSTS}.LooksAtTheRequest"]
    framework = by_the_framework(sent)
    expected, answer, is_own = Both()(sent)
    assert is_own
    assert answer == expected == framework
    assert answer.status[:3] == status


@pytest.mark.parametrize("kind", ["nobody", "token", "session"])
def test_a_backend_that_refuses_is_asked_no_more_often_than_by_the_framework(
    kind: str, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent("GET", STAT, headers=tuple(credentials(kind, settings)[1].items()))
    by_the_framework(sent)  # which keeps the caller, too
    asked: list[object] = []

    def refuses(*given: object) -> bool:
        asked.append(given)
        return False

    monkeypatch.setattr(f"{DECLARING}.has_perm", refuses, raising=False)
    settings.AUTHENTICATION_BACKENDS = [DECLARING]
    both, found = Both(), []
    for answered in (by_the_framework, partial(send, both.django), partial(send, both.entrance)):
        asked.clear()
        assert answered(sent).status[:3] in {"401", "403"}
        found.append(len(asked))
    framework, django, ahead = found
    assert framework == django
    assert ahead <= 2 * framework  # once in its own way, and once in Django's


def test_a_route_that_middleware_has_named_counts_for_nothing(settings: LazySettings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{HOSTS}.NamesAnotherAddress"]
    for path in (STAT, f"/deaf-first/{DIGEST}/"):
        expected, answer, is_own = Both()(Sent("GET", path))
        assert is_own
        assert answer == expected
        assert answer.status == "200 OK"


def test_a_decorator_that_is_an_object_is_called() -> None:
    expected, answer, is_own = Both()(Sent("GET", f"/around/{DIGEST}/"))
    assert is_own
    assert answer.status[:3] == expected.status[:3] == "403"


def test_no_class_of_the_framework_is_changed() -> None:
    assert vars(GenericViewSet).keys().isdisjoint({"basename", "suffix"})


@contextmanager
def replaced(kind: type, name: str, method: object) -> Iterator[None]:
    """Replace a method of one of our classes, as a host may before the first request."""
    _has_our_methods.cache_clear()
    is_unchanged.cache_clear()
    try:
        with patch.object(kind, name, method):
            yield
    finally:
        _has_our_methods.cache_clear()
        is_unchanged.cache_clear()


def nobody_may(view: object) -> list[Never]:
    """Replace `get_permissions`."""
    return [Never()]


def refuse(*_: object, **variables: object) -> Any:
    """Replace another method that every request meets."""
    raise Http404


@pytest.mark.parametrize("name", ["begin", "check_registry", "check_stat", "initialize_request"])
def test_a_host_may_replace_what_begins_a_request(name: str) -> None:
    both, sent = Both(), Sent("GET", STAT)
    applications = both.django, both.entrance
    with replaced(RepositoryBlobViewSet, name, refuse):
        answers = [by_the_framework(sent), *(send(each, sent) for each in applications)]
    assert {each.status[:3] for each in answers} == {"404"}


def test_a_host_may_replace_how_permissions_are_checked() -> None:
    both, sent = Both(), Sent("GET", STAT)
    applications = both.django, both.entrance
    with replaced(BlobCachePermission, "has_permission", Never.has_permission):
        answers = [by_the_framework(sent), *(send(each, sent) for each in applications)]
    assert {each.status[:3] for each in answers} == {"401"}


@pytest.mark.parametrize("is_decorated", [True, False])
def test_a_host_may_replace_a_method_of_our_own_class(is_decorated: bool) -> None:
    method: Any = wraps(RegistryView.get_permissions)(nobody_may) if is_decorated else nobody_may
    with replaced(RepositoryBlobViewSet, "get_permissions", method):
        expected, answer, is_own = Both()(Sent("GET", STAT))
    assert is_own
    assert answer == expected
    assert answer.status[:3] == "401"


@pytest.mark.parametrize("name", ["_user", "_force_auth_user"])
def test_middleware_may_say_who_calls_where_the_framework_looks(
    name: str, settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.api.entrance.hosts.TellsTheFramework"]
    expected, answer, is_own = Both()(Sent("GET", STAT, headers=(("HTTP_X_ATTRIBUTE", name),)))
    assert is_own
    assert answer == expected
    assert answer.status[:3] in {"401", "403"}


@pytest.mark.parametrize("is_entrance_first", [True, False])
def test_the_address_that_names_the_default_registry_allows_the_same(
    is_entrance_first: bool, settings: LazySettings
) -> None:
    catalog = {**settings.CACHES["default"], "KEY_PREFIX": "catalog"}
    settings.CACHES = {**settings.CACHES, "catalog": catalog}
    settings.BLOBCACHE = {"default": {"READ_ONLY": True, "CATALOG_ALIAS": "catalog"}}
    both = Both()
    for path in (f"/api/registries/default{STAT[4:]}", STAT):
        _CONSTANT_HEADERS.clear()
        for each in (both.entrance, both.django)[:: 1 if is_entrance_first else -1]:
            answer = send(each, Sent("GET", path))
            assert answer.header("Allow") == "GET, HEAD, OPTIONS", path
