"""What the entrance does in place of middleware, and when it lets Django answer everything."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from redis import Redis

from blobcache.api.entrance.checks import check_application
from blobcache.api.entrance.stack import hosts_passed
from blobcache.checks import check_deployment, check_portal
from tests.api.conftest import DIGEST
from tests.api.entrance.wire import Both, Sent, send

HERE = "tests.api.entrance.test_middleware"
HOSTS = "tests.api.entrance.hosts"
STAT = Sent("GET", f"/api/blobs/{DIGEST}/")

application: Any = None
"""What ``WSGI_APPLICATION`` names in these tests."""


@pytest.fixture(autouse=True)
def _host(db: None, filled: Redis, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]


@pytest.mark.parametrize(
    "path",
    [
        f"{HOSTS}.Strange",
        f"{HOSTS}.Subclass",
        f"{HOSTS}.Function",
        f"{HOSTS}.FunctionThatSaysSo",
        f"{HOSTS}.made_by_an_object",
        f"{HOSTS}.SaysNo",
        f"{HOSTS}.SaysSoButHasOtherHooks",
        f"{HOSTS}.InheritsThatItSaysSo",
        f"{HOSTS}.SaysSoButIsCalled",
        "django.contrib.auth.middleware.RemoteUserMiddleware",
        "django.middleware.cache.FetchFromCacheMiddleware",
        "django.contrib.sites.middleware.CurrentSiteMiddleware",
    ],
)
def test_unknown_middleware_lets_django_answer_everything(
    path: str, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.MIDDLEWARE = [*django_settings.MIDDLEWARE, path]
    made = Both()
    assert made.entrance.handler.stack.unknown == [path]
    assert path in caplog.text
    _, _, is_own = made(STAT)
    assert not is_own


def test_middleware_that_may_be_skipped_is_not_called(settings: LazySettings) -> None:
    settings.MIDDLEWARE = [f"{HOSTS}.Strange", *django_settings.MIDDLEWARE]
    settings.BLOBCACHE_PORTAL = {"ENTRANCE_MIDDLEWARE_SKIPPED": [f"{HOSTS}.Strange"]}
    expected, answer, is_own = Both()(STAT)
    assert is_own
    assert ("X-Strange", "yes") in expected.headers
    assert {*expected.headers} - {*answer.headers} == {("X-Strange", "yes")}


def test_middleware_that_is_not_used_does_nothing(settings: LazySettings) -> None:
    settings.MIDDLEWARE = [f"{HOSTS}.NotUsed", *django_settings.MIDDLEWARE]
    _, _, is_own = Both()(STAT)
    assert is_own


def test_files_of_white_noise_outside_of_its_prefix_close_the_entrance(
    settings: LazySettings, tmp_path: Any
) -> None:
    settings.WHITENOISE_ROOT = str(tmp_path)
    assert Both().entrance.handler.stack.unknown == ["whitenoise.middleware.WhiteNoiseMiddleware"]


@pytest.mark.parametrize("prefix", ["/", "/api/", "api"])
def test_an_api_below_the_prefix_of_static_files_is_djangos(
    prefix: str, settings: LazySettings
) -> None:
    settings.STATIC_URL = prefix
    _, _, is_own = Both()(STAT)
    assert not is_own


@pytest.mark.parametrize("prefix", ["/api/", "/portal/api/"])
def test_a_prefix_counts_in_the_address_and_in_the_path_within_the_project(
    prefix: str, settings: LazySettings
) -> None:
    settings.STATIC_URL = prefix
    mounted = Sent("GET", STAT.path, headers=(("SCRIPT_NAME", "/portal"),))
    _, _, is_own = Both()(mounted)
    assert not is_own
    settings.STATIC_URL = "/static/"
    _, _, is_own = Both()(mounted)
    assert is_own


def test_w110_the_entrance_is_closed(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WSGI_APPLICATION = f"{HERE}.application"
    for path, expected in ((f"{HOSTS}.Strange", ["blobcache.W110"]), (f"{HOSTS}.NotUsed", [])):
        settings.MIDDLEWARE = [path]
        monkeypatch.setattr(f"{HERE}.application", Both().entrance)
        found = check_deployment()
        assert [message.id for message in found] == expected
        assert all(path in message.msg for message in found)


@pytest.mark.parametrize("path", [None, "", "no.such.module", f"{HERE}.STAT", f"{HOSTS}.fails"])
def test_an_application_without_an_entrance_is_not_checked(
    path: str | None, settings: LazySettings
) -> None:
    settings.WSGI_APPLICATION = path
    assert list(check_application()) == []


def test_w111_nothing_is_skipped(settings: LazySettings) -> None:
    settings.BLOBCACHE_PORTAL = {
        "ENTRANCE_MIDDLEWARE_SKIPPED": [settings.MIDDLEWARE[0], "portal.middleware.Gone"]
    }
    (message,) = check_portal()
    assert message.id == "blobcache.W111"
    assert "portal.middleware.Gone" in message.msg


def sent_to(host: str) -> Sent:
    """A stat that names the host."""
    return Sent("GET", STAT.path, headers=(("HTTP_HOST", host),))


def test_a_host_that_was_let_through_is_asked_for_again_if_the_settings_change(
    settings: LazySettings,
) -> None:
    settings.ALLOWED_HOSTS = allowed = ["testserver", "first"]
    made = Both()
    assert [made(sent_to("first"))[2] for _ in range(2)] == [True, True]
    allowed.remove("first")
    expected, answer, is_own = made(sent_to("first"))
    assert (answer, is_own) == (expected, False)
    assert answer.status.startswith("400")
    allowed.append("first")
    settings.PREPEND_WWW = True
    for _ in range(2):
        expected, answer, is_own = made(sent_to("first"))
        assert (answer, is_own) == (expected, False)
        assert answer.status.startswith("301")
    settings.PREPEND_WWW = False
    settings.USE_X_FORWARDED_HOST = True
    evil = Sent("GET", STAT.path, headers=(("HTTP_X_FORWARDED_HOST", "evil.example"),))
    expected, answer, is_own = made(evil)
    assert (answer, is_own) == (expected, False)
    assert answer.status.startswith("400")
    settings.USE_X_FORWARDED_HOST = False
    assert made(evil)[2]


def test_secrets_in_sessions_need_sessions(settings: LazySettings) -> None:
    settings.MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
    settings.CSRF_USE_SESSIONS = True
    made = Both()
    for application in (made.django, made.entrance):
        with pytest.raises(ImproperlyConfigured):
            send(application, STAT)
    assert made.passed == 1


def test_the_name_of_the_server_is_checked_in_each_request_without_a_host() -> None:
    made = Both()
    for name, status in (("testserver", "401"), ("other", "400")) * 2:
        headers: Any = (("HTTP_HOST", None), ("SERVER_NAME", name))
        expected, answer, _ = made(Sent("GET", STAT.path, headers=headers))
        assert answer == expected
        assert answer.status.startswith(status)


def test_a_user_agent_that_is_disallowed_is_refused_at_any_time(settings: LazySettings) -> None:
    made = Both()
    sent = Sent("GET", STAT.path, headers=(("HTTP_USER_AGENT", "bad bot"),))
    assert made(sent)[2]
    settings.DISALLOWED_USER_AGENTS = [re.compile("bad")]
    expected, answer, is_own = made(sent)
    assert (answer, is_own) == (expected, False)
    assert answer.status.startswith("403")


def test_hosts_that_are_let_through_do_not_pile_up(settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    made = Both().entrance
    for number in range(200):
        assert send(made, sent_to(f"host{number}")).status.startswith("40")  # anonymous
    assert 0 < len(hosts_passed()) <= 64


@pytest.mark.parametrize("change", ["method=DELETE", "method=PUT", "urlconf=tests.api.urls"])
def test_what_middleware_makes_of_a_request_counts(change: str, settings: LazySettings) -> None:
    settings.ROOT_URLCONF = "tests.api.entrance.hosts"
    settings.MIDDLEWARE = [*django_settings.MIDDLEWARE, f"{HOSTS}.Changes"]
    sent = Sent("GET", f"/mine/{DIGEST}/", headers=(("HTTP_X_CHANGE", change),))
    expected, answer, is_own = Both()(sent)
    assert not is_own
    assert answer == expected
    assert answer.status[:3] in {"404", "405", "401"}


def someone(request: Any) -> User:
    """A user who may view nothing, in a project where anonymous users may view."""
    del request
    return User(username="someone")


def sets_someone(middleware: object, request: Any) -> None:
    """What a host may have put in place of the method of Django's middleware."""
    del middleware
    request.user = someone(request)


@pytest.mark.parametrize(
    ("path", "replaced"),
    [
        ("django.contrib.auth.get_user", someone),
        ("django.contrib.auth.middleware.get_user", someone),
        ("django.contrib.auth.middleware.AuthenticationMiddleware.process_request", sets_someone),
        (f"{HOSTS}.FindsTheUser", None),
    ],
)
def test_a_user_whom_the_host_finds_without_a_session_is_the_caller(
    path: str, replaced: Any, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{HOSTS}.Public"]
    made = Both()
    for answer in made(STAT)[:2]:
        assert answer.status.startswith("200")
    if replaced is None:
        settings.MIDDLEWARE = [*django_settings.MIDDLEWARE, path]
        made = Both()
    else:
        monkeypatch.setattr(path, replaced)
    for _ in range(2):
        expected, answer, is_own = made(STAT)
        assert (answer, is_own) == (expected, True)
        assert answer.status.startswith("403")
