"""The demo portal's settings, with only those variables in the environment that a test sets.

They are read as a new process reads them; where more than settings is tested, in a new process.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import RequestFactory, override_settings
from django.utils.crypto import get_random_string
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from blobcache.api.views import LIST, STAT, WRITE
from blobcache.checks import check_settings
from project import embedded
from project import settings as portal_settings
from project.logins import BasicAuthentication
from tests.servers import cache_at

ROOT = Path(__file__).parents[2]
REGISTRY, CATALOG = "redis://registry.example/0", "redis://catalog.example/0"
OURS = ("DJANGO_", "BLOBCACHE_")


def only(env: Mapping[str, str]) -> dict[str, str]:
    """The environment, with only these variables of the portal."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**rest, **env}


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python at the project's root."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=only(env),
        capture_output=True,
        text=True,
        check=False,
    )


def read(**env: str) -> dict[str, Any]:
    """Return all settings."""
    with patch.dict(os.environ, only(env), clear=True):
        return runpy.run_path(str(ROOT / "project" / "settings.py"))


def test_the_portal_needs_no_variable() -> None:
    done = run("-W", "error", "manage.py", "check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_both_applications_can_be_imported(interface: str, tmp_path: Path) -> None:
    collected = str(tmp_path)
    code = f"from project.{interface} import application"
    done = run("-W", "error", "-c", code, DJANGO_STATIC_ROOT=collected)
    assert done.returncode == 0, done.stderr


def test_debug_is_off_unless_asked_for() -> None:
    assert read()["DEBUG"] is False
    assert read(DJANGO_DEBUG="1")["DEBUG"] is True


def test_each_process_generates_a_secret_key_if_there_is_none() -> None:
    assert read()["SECRET_KEY"] != read()["SECRET_KEY"]
    given = get_random_string(64)
    assert read(DJANGO_SECRET_KEY=given)["SECRET_KEY"] == given


def test_lists_are_separated_by_commas() -> None:
    found = read(DJANGO_ALLOWED_HOSTS="a.example, b.example,")["ALLOWED_HOSTS"]
    assert found == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"DJANGO_DEBUG": "yes"}, "DJANGO_DEBUG must be 0 or 1, not 'yes'."),
        ({"DJANGO_BASIC_AUTH": "on"}, "DJANGO_BASIC_AUTH must be 0 or 1, not 'on'."),
        ({"DJANGO_THROTTLE_STAT": "9"}, "DJANGO_THROTTLE_STAT must be a rate such as 200/s"),
        ({"DJANGO_THROTTLE_LIST": "0/s"}, "DJANGO_THROTTLE_LIST must be a rate such as 200/s"),
        ({"DJANGO_THROTTLE_WRITE": "9/week"}, "DJANGO_THROTTLE_WRITE must be a rate such as"),
        ({"DJANGO_HSTS_SECONDS": "-1"}, "DJANGO_HSTS_SECONDS must be a natural number, not '-1'."),
        ({"BLOBCACHE_REDIS_URL": REGISTRY}, "BLOBCACHE_CATALOG_URL"),
        ({"BLOBCACHE_READ_ONLY": "1"}, "BLOBCACHE_CATALOG_URL"),
        ({"BLOBCACHE_STAGING_REDIS_URL": REGISTRY}, "BLOBCACHE_STAGING_REDIS_URL is only read"),
        (
            {"BLOBCACHE_REDIS_URL": REGISTRY, "BLOBCACHE_CATALOG_URL": REGISTRY},
            "the catalog's index needs another server",
        ),
    ],
)
def test_the_portal_does_not_start_with_an_invalid_variable(
    env: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(message)):
        read(**env)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"BLOBCACHE_CATALOG_URL": CATALOG},
        {"BLOBCACHE_REDIS_URL": REGISTRY, "BLOBCACHE_CATALOG_URL": CATALOG},
        {"BLOBCACHE_REDIS_URL": REGISTRY, "BLOBCACHE_READ_ONLY": "0"},
    ],
)
def test_the_deployment_check_finds_nothing(env: Mapping[str, str], settings: LazySettings) -> None:
    key = get_random_string(64)
    portal = read(DJANGO_SECRET_KEY=key, DJANGO_ALLOWED_HOSTS="portal.example", **env)
    ours = {
        name: value
        for name, value in portal.items()
        # Only `check --database` looks at the database.
        if name.isupper() and name != "DATABASES" and value != getattr(settings, name, None)
    }
    assert {"ALLOWED_HOSTS", "CACHES", "BLOBCACHE", "SECURE_SSL_REDIRECT"} <= set(ours)
    with override_settings(**ours):
        call_command("check", deploy=True, fail_level="WARNING")


@pytest.mark.parametrize(
    ("env", "read_only", "index"),
    [
        ({}, False, None),
        ({"BLOBCACHE_REDIS_URL": REGISTRY, "BLOBCACHE_CATALOG_URL": CATALOG}, True, "catalog"),
        ({"BLOBCACHE_REDIS_URL": REGISTRY, "BLOBCACHE_READ_ONLY": "0"}, False, None),
    ],
)
def test_a_redis_of_a_registry_is_read_only_by_default(
    env: Mapping[str, str], read_only: bool, index: str | None
) -> None:
    entry = read(**env)["BLOBCACHE"]["default"]
    expected = {"CACHE_ALIAS": "blobs", "CATALOG_ALIAS": index, "READ_ONLY": read_only}
    assert {name: entry[name] for name in expected} == expected


def test_a_storage_is_the_truth_and_passes_the_checks() -> None:
    assert read()["BLOBCACHE"]["default"]["TRUTH"] is None
    found = read(BLOBCACHE_STORAGE="/registry")
    storage = found["STORAGES"]["registry"]
    assert storage["OPTIONS"] == {"location": "/registry"}
    assert found["BLOBCACHE"]["default"]["TRUTH"]["OPTIONS"] == {"storage": "registry"}
    with override_settings(**{name: found[name] for name in ("BLOBCACHE", "CACHES", "STORAGES")}):
        assert check_settings() == []


def test_beside_a_registry_a_size_has_one_field() -> None:
    assert read()["BLOBCACHE"]["default"]["SIZE_FIELDS"] == ("size",)


def test_the_portals_own_cache_is_not_the_registrys() -> None:
    own = read(BLOBCACHE_REDIS_URL=REGISTRY, BLOBCACHE_CATALOG_URL=CATALOG)["CACHES"]["default"]
    assert "locmem" in own["BACKEND"]


def test_one_variable_allows_plain_http() -> None:
    for name in ("SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"):
        assert read()[name] is True
        assert read(DJANGO_HTTPS="0")[name] is False
        assert read(DJANGO_DEBUG="1")[name] is False


def test_headers_of_a_proxy_are_used_only_if_it_is_trusted() -> None:
    name = "SECURE_PROXY_SSL_HEADER"
    assert name not in read()
    assert read(DJANGO_BEHIND_PROXY="1")[name] == ("HTTP_X_FORWARDED_PROTO", "https")


def test_the_clients_address_is_taken_from_a_trusted_proxy_only() -> None:
    middleware = "project.middleware.ClientAddressMiddleware"
    assert middleware not in read()["MIDDLEWARE"]
    assert middleware in read(DJANGO_BEHIND_PROXY="1")["MIDDLEWARE"]


def test_basic_authentication_is_off_unless_asked_for() -> None:
    name = "DEFAULT_AUTHENTICATION_CLASSES"
    assert not any("Basic" in each for each in read()["REST_FRAMEWORK"][name])
    asked_for = read(DJANGO_BASIC_AUTH="1")["REST_FRAMEWORK"][name]
    assert "project.logins.BasicAuthentication" in asked_for


def test_the_api_has_rates() -> None:
    name = "DEFAULT_THROTTLE_RATES"
    assert read()["REST_FRAMEWORK"][name] == {
        "blobcache-stat": "200/s",
        "blobcache-list": "20/s",
        "blobcache-write": "50/s",
    }
    others = read(DJANGO_THROTTLE_STAT="", DJANGO_THROTTLE_LIST="9/min")["REST_FRAMEWORK"]
    assert others[name] == {"blobcache-list": "9/min", "blobcache-write": "50/s"}


def test_each_scope_of_the_api_has_a_rate() -> None:
    rates = portal_settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]
    assert isinstance(rates, dict)
    assert set(rates) == {STAT, LIST, WRITE}


def test_x_forwarded_for_from_a_client_is_ignored() -> None:
    request = Request(RequestFactory(headers={"X-Forwarded-For": "x"}).get("/"))
    with override_settings(REST_FRAMEWORK=read()["REST_FRAMEWORK"]):
        assert BaseThrottle().get_ident(request) == "127.0.0.1"


def test_static_files_are_collected_unless_finders_serve_them() -> None:
    collected, found = read(), read(DJANGO_STATIC_FINDERS="1")
    assert "CompressedManifest" in collected["STORAGES"]["staticfiles"]["BACKEND"]
    assert "CompressedManifest" not in found["STORAGES"]["staticfiles"]["BACKEND"]
    assert collected["WHITENOISE_USE_FINDERS"] is False
    assert found["WHITENOISE_USE_FINDERS"] is True
    done = run("-W", "error", "-c", "import project.wsgi", DJANGO_STATIC_FINDERS="1")
    assert done.returncode == 0, done.stderr


def within_the_timeout(client: Redis, error: type[RedisError]) -> bool:
    """Return whether a command fails with this error within the second that the settings allow."""
    began = time.monotonic()
    with pytest.raises(error):
        client.get("key")
    return time.monotonic() - began < 1.5


def test_a_redis_that_is_down_costs_no_more_than_the_timeout() -> None:
    options = portal_settings.CACHES["blobs"]["OPTIONS"]
    assert isinstance(options, dict)
    with embedded.start() as server, cache_at(server.url, **options) as client:
        client.ping()
        with server.frozen():
            assert within_the_timeout(client, RedisTimeoutError)
        client.ping()
        server.kill()
        assert within_the_timeout(client, RedisConnectionError)
        server.restart()
        assert client.ping()


def test_a_restart_of_redis_is_not_noticed() -> None:
    options = portal_settings.CACHES["blobs"]["OPTIONS"]
    assert isinstance(options, dict)
    with embedded.start() as server, cache_at(server.url, **options) as client:
        client.ping()
        server.restart()
        assert client.ping()


def test_the_schema_knows_how_the_demo_accepts_passwords() -> None:
    scheme = OpenApiAuthenticationExtension.get_match(BasicAuthentication())
    assert scheme is not None
    assert scheme.name == "basicAuth"


@pytest.mark.parametrize(("env", "read_only"), [({}, True), ({"BLOBCACHE_READ_ONLY": "0"}, False)])
def test_a_second_registry_is_read_only_by_default(env: Mapping[str, str], read_only: bool) -> None:
    urls = {"BLOBCACHE_STAGING_REDIS_URL": REGISTRY, "BLOBCACHE_CATALOG_URL": CATALOG}
    found = read(**urls, **env)
    entry = found["BLOBCACHE"]["staging"]
    expected = {"CACHE_ALIAS": "staging", "CATALOG_ALIAS": "catalog", "READ_ONLY": read_only}
    assert entry.items() >= expected.items()
    assert found["CACHES"]["staging"]["LOCATION"] == REGISTRY
    assert "project.permissions.RegistryBackend" in found["AUTHENTICATION_BACKENDS"]


def test_without_its_address_there_is_no_second_registry() -> None:
    found = read()
    assert list(found["BLOBCACHE"]) == ["default"]
    assert "project.permissions.RegistryBackend" not in found["AUTHENTICATION_BACKENDS"]
