"""What the entrance does in place of middleware, and when it lets Django answer everything."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from redis import Redis

from blobcache.api.entrance.checks import check_application
from blobcache.checks import check_deployment, check_portal
from tests.api.conftest import DIGEST
from tests.api.entrance.wire import Both, Sent

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
