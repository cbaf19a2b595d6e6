"""A running portal never shows the password of its Redis, whatever the request is."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.utils.crypto import get_random_string

from project import embedded
from tests.interop.processes import Server, run
from tests.project.test_demo import OURS, running

SECRET = "t0p-s3cret-of-the-registry"

FOREIGN = {"Host": "evil.example"}

REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/", FOREIGN),
    ("GET", "/", {**FOREIGN, "Accept": "text/html"}),
    ("POST", "/admin/login/", FOREIGN),
    ("GET", "/api/status/", {**FOREIGN, "Accept": "application/json"}),
    ("GET", "/static/admin/css/base.css", FOREIGN),
    ("OPTIONS", "/api/docs/", {}),
    ("OPTIONS", "/api/docs/", FOREIGN),
    ("POST", "/admin/login/", {}),
    ("GET", "/nowhere/", {"Accept": "text/html"}),
    ("GET", "/metrics", {}),
    ("GET", "/api/blobs/" + "x/" * 400, {"Accept": "text/html"}),
    ("GET", "/admin/?" + "a&" * 1001, {"Accept": "text/html"}),
]
"""Requests of a stranger that lead to an error page."""


@pytest.fixture
def redis_url(valkey: embedded.Server) -> Iterator[str]:
    """A Redis that asks for a password."""
    with valkey.client() as client:
        client.flushall()
        client.acl_setuser(
            "portal", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], categories=["+@all"]
        )
        yield f"redis://portal:{SECRET}@127.0.0.1:{valkey.port}/0"
        client.acl_deluser("portal")


def answers(url: str) -> Iterator[tuple[int, str]]:
    """The status of each answer, and all of it."""
    address = urlsplit(url).netloc
    for method, path, headers in REQUESTS:
        connection = HTTPConnection(address, timeout=30)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        yield response.status, str(response.headers) + response.read().decode(errors="replace")
        connection.close()


@pytest.mark.long
def test_the_demo_on_a_registrys_redis_never_shows_its_password(
    redis_url: str, tmp_path: Path
) -> None:
    with running(tmp_path / "var", tmp_path / "log", BLOBCACHE_REDIS_URL=redis_url) as demo:
        assert "not available" not in demo.printed, "The password is right."
        for status, answer in answers(demo.url):
            assert status < 500
            assert SECRET not in answer
            assert "BLOBCACHE_REDIS_URL" not in answer
        assert SECRET not in demo.printed


@pytest.fixture
def careless(redis_url: str, tmp_path: Path) -> Iterator[str]:
    """A portal with DEBUG on, on Django's own server, which copies its environment."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
        "DJANGO_DEBUG": "1",
        "DJANGO_SECRET_KEY": get_random_string(50),
        "DJANGO_DATABASE_PATH": str(tmp_path / "portal.sqlite3"),
        "BLOBCACHE_REDIS_URL": redis_url,
        "BLOBCACHE_READ_ONLY": "0",
    }
    run([sys.executable, "manage.py", "migrate", "--verbosity=0"], env)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    serve = [sys.executable, "manage.py", "runserver", "--noreload", address]
    server = Server(serve, tmp_path / "log", env)
    try:
        server.wait_until(lambda: is_there(address))
        yield f"http://{address}/"
    finally:
        server.stop()


def is_there(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.long
def test_even_a_debug_page_does_not_show_the_password(careless: str) -> None:
    told = list(answers(careless))
    pages = [answer for _, answer in told if "DEBUG = True" in answer]
    assert len(pages) > 4, "These are Django's pages for developers."
    for _, answer in told:
        assert SECRET not in answer
        assert "BLOBCACHE_REDIS_URL" not in answer
