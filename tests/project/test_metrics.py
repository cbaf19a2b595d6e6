"""The metrics that Prometheus scrapes from the portal."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client, override_settings
from redis import Redis

from blobcache.services import get_provider
from project import embedded
from tests.conformance import A, make_descriptor
from tests.interop.processes import Server, run

TOKEN = "t0ken"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OURS = ("DJANGO_", "BLOBCACHE_", "PROMETHEUS_")


def team(_: object) -> list[str]:
    """A function for `VISIBLE_REPOSITORIES`."""
    return ["team/"]


@pytest.mark.django_db
class TestWhoMayScrape:
    @pytest.fixture(autouse=True)
    def token(self) -> Iterator[None]:
        with override_settings(METRICS_TOKEN=TOKEN):
            yield

    def test_the_right_token_is_accepted(self) -> None:
        assert Client().get("/metrics", headers=BEARER).status_code == 200

    @pytest.mark.parametrize(
        "value", ["", "Bearer", "Bearer ", "Bearer wrong", f"Token {TOKEN}", TOKEN, "Bearer t0kén"]
    )
    def test_another_token_is_refused(self, value: str) -> None:
        response = Client().get("/metrics", headers={"Authorization": value})
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.content == b""

    def test_an_empty_token_is_refused_if_none_is_configured(self) -> None:
        for nothing in (None, ""):
            with override_settings(METRICS_TOKEN=nothing):
                response = Client().get("/metrics", headers={"Authorization": "Bearer "})
                assert response.status_code == 401

    @pytest.mark.parametrize("permission", ["view_blob", "view_repository"])
    def test_a_user_who_may_view_all_blobs_or_repositories_may_scrape(
        self, permission: str
    ) -> None:
        assert self.status(permission) == 200

    @pytest.mark.parametrize("permission", ["", "change_blob", "delete_repository", "view_user"])
    def test_staff_without_a_view_permission_is_refused(self, permission: str) -> None:
        assert self.status(permission, is_staff=True) == 401

    @pytest.mark.parametrize("permission", ["view_blob", "view_repository"])
    def test_a_user_who_may_view_only_some_repositories_is_refused(
        self, permission: str, settings: LazySettings
    ) -> None:
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.team"}}
        assert self.status(permission) == 401

    def test_a_superuser_may_scrape(self) -> None:
        assert self.status("", is_superuser=True) == 200

    def test_an_inactive_user_is_refused(self) -> None:
        assert self.status("view_blob", is_active=False, is_superuser=True) == 401

    @staticmethod
    def status(permission: str, **kind: bool) -> int:
        """Return the status of the response to a user with that permission."""
        user = get_user_model().objects.create(username="somebody", **kind)
        user.user_permissions.set(Permission.objects.filter(codename=permission))
        client = Client()
        client.force_login(user)
        return client.get("/metrics").status_code


@pytest.mark.django_db
class TestWhatIsScraped:
    @pytest.fixture(autouse=True)
    def token(self) -> Iterator[None]:
        with override_settings(METRICS_TOKEN=TOKEN):
            yield

    def test_the_operations_of_the_service_are_counted(self, default_cache: Redis) -> None:
        repository = get_provider().repository_scoped("a")
        repository.set_descriptor(A, make_descriptor(A))
        repository.stat(A)
        response = Client().get("/metrics", headers=BEARER)
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert "no-cache" in response.headers["Cache-Control"]
        page = response.content.decode()
        assert re.search(
            r'^blobcache_operations_total\{operation="stat",outcome="hit",registry="default",'
            r'scope="repository"\} \d',
            page,
            re.MULTILINE,
        )
        assert "# TYPE blobcache_operation_duration_seconds histogram" in page

    def test_the_response_has_the_requested_format(self) -> None:
        accept = "application/openmetrics-text;version=1.0.0"
        response = Client().get("/metrics", headers={**BEARER, "Accept": accept})
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        assert response.content.endswith(b"# EOF\n")

    def test_a_scrape_changes_nothing(self) -> None:
        assert Client().post("/metrics", headers=BEARER).status_code == 405


PREPARE = """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from rest_framework.authtoken.models import Token
call_command("migrate", verbosity=0)
print(Token.objects.create(user=User.objects.create_superuser("admin")))
"""
"""Creates the database and a superuser, and prints their token."""


class Portal(NamedTuple):
    """A running portal."""

    port: int

    token: str
    """Of a superuser. A password would be hashed anew for each request."""


@pytest.fixture
def portal(tmp_path: Path, valkey: embedded.Server) -> Iterator[Portal]:
    """A portal with two workers that share their counts."""
    counts = tmp_path / "metrics"
    counts.mkdir()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJANGO_SECRET_KEY": "the same for both workers",
        "DJANGO_HTTPS": "0",
        "DJANGO_STATIC_FINDERS": "1",
        "DJANGO_METRICS_TOKEN": TOKEN,
        "DJANGO_DATABASE_PATH": str(tmp_path / "portal.sqlite3"),
        "BLOBCACHE_REDIS_URL": valkey.url,
        "BLOBCACHE_READ_ONLY": "0",
        "PROMETHEUS_MULTIPROC_DIR": str(counts),
    }
    token = run([sys.executable, "-c", PREPARE], env).strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    granian = str(Path(sys.executable).with_name("granian"))
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    server = Server(
        [granian, "--interface", "wsgi", "--no-ws", *address, "project.wsgi:application"],
        tmp_path / "log",
        env,
    )
    try:
        server.wait_until(lambda: answers(port))
        yield Portal(port, token)
    finally:
        server.stop()


def answers(port: int) -> bool:
    try:
        return ask(port, "/metrics")[0] == 401
    except OSError:
        return False


def ask(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Return status and body, over a new connection: any worker may answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.long
def test_workers_share_their_counts(portal: Portal) -> None:
    superuser = {"Authorization": f"Token {portal.token}"}
    unknown = f"/api/repositories/nobody/here/blobs/{A}/"
    for _ in range(40):
        assert ask(portal.port, unknown, **superuser)[0] == 404
    for _ in range(4):
        status, page = ask(portal.port, "/metrics", **BEARER)
        assert status == 200
        assert (
            'blobcache_operations_total{operation="stat",outcome="miss",registry="default",'
            'scope="repository"} 40.0\n'
        ) in page
