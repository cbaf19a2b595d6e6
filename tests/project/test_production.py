"""The portal as in production; see `project.wsgi`."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest
from django.utils.crypto import get_random_string

from tests.interop.processes import Server, run

pytestmark = pytest.mark.long

OURS = ("DJANGO_", "BLOBCACHE_")
HEADERS = {"Host": "portal.example", "X-Forwarded-Proto": "https"}


class NoRedirect(HTTPRedirectHandler):
    """Return redirects instead of following them."""

    def redirect_request(self, *_: object) -> None:
        return None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a portal with two workers; the tests send what a proxy would."""
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
    limits = ["--http", "1", "--http1-buffer-size", "8192"]
    workers = ["--workers", "2", "--blocking-threads", "2", "--respawn-failed-workers"]
    granian = str(Path(sys.executable).with_name("granian"))
    server = Server(
        [
            granian,
            "--interface",
            "wsgi",
            "--no-ws",
            *limits,
            *address,
            *workers,
            "project.wsgi:application",
        ],
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
    """Return the status, the headers and the body."""
    return send(url, path, headers)


def send(
    url: str, path: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Send a GET, or a POST if there is a form; return the same as `get`."""
    body = urlencode(form).encode() if form else None
    request = Request(url + path, body, headers={**HEADERS, **headers})  # noqa: S310
    try:
        response = build_opener(NoRedirect).open(request)
    except HTTPError as error:
        response = error
    with response:
        return response.status, str(response.headers), response.read().decode()


def test_static_files_are_served_with_hashed_names(portal: str) -> None:
    _, _, page = get(portal, "/admin/login/")
    found = re.search(r'"(/static/admin/css/base\.[0-9a-f]{12}\.css)"', page)
    assert found
    status, headers, _ = get(portal, found[1])
    assert status == 200
    assert "immutable" in headers


def test_the_apis_documentation_is_served(portal: str) -> None:
    assert get(portal, "/api/docs/")[0] == 200
    assert get(portal, "/api/schema/")[0] == 200


def test_plain_http_is_redirected_to_https(portal: str) -> None:
    status, headers, _ = get(portal, "/admin/login/", **{"X-Forwarded-Proto": "http"})
    assert status == 301
    assert "https://portal.example/admin/login/" in headers


def test_another_host_is_refused(portal: str) -> None:
    status, headers, page = get(portal, "/admin/login/", Host="another.example")
    assert status == 400
    assert "content-security-policy: default-src 'self'" in headers
    assert "<h1>Bad request</h1>" in page


def test_an_unknown_address_gets_an_error_page(portal: str) -> None:
    status, headers, page = get(portal, "/nowhere/")
    assert status == 404
    assert "content-security-policy: default-src 'self'" in headers
    assert "<h1>Page not found</h1>" in page
    assert 'href="/admin/"' in page


def test_the_server_refuses_headers_of_more_than_8_kb(portal: str) -> None:
    quotes = get(portal, "/admin/login/", Cookie='a="' + "\\" * 7000 + '"')
    assert quotes[0] == 200
    assert get(portal, "/admin/login/", Cookie='a="' + "\\" * 9000 + '"')[0] == 431


def test_basic_authentication_is_refused(portal: str) -> None:
    status, headers, _ = get(portal, "/api/status/", Authorization="Basic eDp4")
    assert status == 401
    assert "www-authenticate: Token" in headers


def fail_to_log_in(portal: str, client: str) -> int:
    """Log in with a wrong password, from this address according to the proxy; return the status."""
    _, headers, page = get(portal, "/admin/login/")
    cookie = re.search(r"csrftoken=\w+", headers)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert cookie
    assert token
    form = {"username": "nobody", "password": "wrong", "csrfmiddlewaretoken": token[1]}
    known = {"Cookie": cookie[0], "Referer": "https://portal.example/admin/login/"}
    forwarded = {"X-Forwarded-For": f"203.0.113.9, {client}"}
    return send(portal, "/admin/login/", {**known, **forwarded}, form)[0]


def test_failed_logins_are_counted_by_the_address_that_the_proxy_sends(portal: str) -> None:
    """All workers share the count."""
    assert [fail_to_log_in(portal, "192.0.2.1") for _ in range(6)] == [200] * 4 + [429] * 2
    assert fail_to_log_in(portal, "192.0.2.2") == 200
