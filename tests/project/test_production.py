"""The portal as `project.wsgi` says that it is run in production."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest
from django.utils.crypto import get_random_string

from tests.interop.processes import Server, run

OURS = ("DJANGO_", "BLOBCACHE_")
HEADERS = {"Host": "portal.example", "X-Forwarded-Proto": "https"}


class NoRedirect(HTTPRedirectHandler):
    """Hands out a redirect as it is."""

    def redirect_request(self, *_: object) -> None:
        return None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a portal with two workers, behind a proxy that the tests play."""
    directory = tmp_path_factory.mktemp("portal")
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
        "DJANGO_SECRET_KEY": get_random_string(64),
        "DJANGO_ALLOWED_HOSTS": "portal.example",
        "DJANGO_BEHIND_PROXY": "1",
        "DJANGO_DATABASE_PATH": str(directory / "portal.sqlite3"),
        "DJANGO_STATIC_ROOT": str(directory / "static"),
        "BLOBCACHE_REDIS_URL": "redis://127.0.0.1:1/0",
        "BLOBCACHE_CATALOG_URL": "redis://127.0.0.1:2/0",
    }
    for command in (["migrate", "--verbosity=0"], ["collectstatic", "--noinput"]):
        run([sys.executable, "-W", "error", "manage.py", *command], env)
    address = ["--host", "127.0.0.1", "--port", str(free_port())]
    workers = ["--workers", "2", "--blocking-threads", "2", "--respawn-failed-workers"]
    granian = str(Path(sys.executable).with_name("granian"))
    server = Server(
        [granian, "--interface", "wsgi", "--no-ws", *address, *workers, "project.wsgi:application"],
        directory / "log",
        env,
    )
    url = f"http://127.0.0.1:{address[-1]}"

    def answers() -> bool:
        try:
            return get(url, "/admin/login/")[0] == 200
        except URLError:
            return False

    try:
        server.wait_until(answers)
        yield url
    finally:
        server.stop()


def get(url: str, path: str, **headers: str) -> tuple[int, str, str]:
    """The status, the headers and the body."""
    request = Request(url + path, headers={**HEADERS, **headers})  # noqa: S310
    try:
        response = build_opener(NoRedirect).open(request)
    except HTTPError as error:
        response = error
    with response:
        return response.status, str(response.headers), response.read().decode()


def test_static_files_are_served_with_names_that_last(portal: str) -> None:
    _, _, page = get(portal, "/admin/login/")
    found = re.search(r'"(/static/admin/css/base\.[0-9a-f]{12}\.css)"', page)
    assert found
    status, headers, _ = get(portal, found[1])
    assert status == 200
    assert "immutable" in headers


def test_the_apis_documentation_is_served(portal: str) -> None:
    assert get(portal, "/api/docs/")[0] == 200
    assert get(portal, "/api/schema/")[0] == 200


def test_plain_http_is_sent_away(portal: str) -> None:
    status, headers, _ = get(portal, "/admin/login/", **{"X-Forwarded-Proto": "http"})
    assert status == 301
    assert "https://portal.example/admin/login/" in headers


def test_another_host_is_refused(portal: str) -> None:
    assert get(portal, "/admin/login/", Host="another.example")[0] == 400
