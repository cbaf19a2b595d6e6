"""The entrance under WSGI: which requests it takes, what it takes over, and how it fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from unittest.mock import patch
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.conf import LazySettings
from django.core.cache import BaseCache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_script_prefix
from django.utils import translation
from redis import Redis
from rest_framework.authtoken.models import Token

from blobcache.api import entrance
from blobcache.api.callers import kept_callers
from tests.api.conftest import DIGEST, UNKNOWN, user
from tests.api.entrance import hosts
from tests.api.entrance.wire import Both, Sent, environ, send, senders_heard

STAT = f"/api/repositories/team/app/blobs/{DIGEST}/"


@pytest.fixture(autouse=True)
def _host(db: None, filled: Redis, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ROOT_URLCONF = "tests.api.entrance.hosts"


@pytest.fixture
def token() -> tuple[str, str]:
    return ("HTTP_AUTHORIZATION", f"Token {Token.objects.create(user=user('viewer'))}")


def own(sent: Sent) -> bool:
    """Whether the entrance answers a request itself; the answer is Django's in any case."""
    expected, answer, is_own = Both()(sent)
    assert answer == expected
    return is_own


@pytest.mark.parametrize(
    "path",
    [
        "/api/blobs/{}/",
        "/api/blobs/{}",
        "/api/repositories/team/app/blobs/{}/",
        "/api/registries/default/blobs/{}/",
        "/api/registries/default/repositories/team/app/blobs/{}/",
        "/mine/{}/",
        "/decorated/{}/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_stats_are_answered_wherever_they_are_mounted(
    method: str, path: str, token: tuple[str, str]
) -> None:
    assert own(Sent(method, path.format(DIGEST), headers=(token,)))


@pytest.mark.parametrize(
    "path",
    [
        "/api/repositories/first/blobs/{}/",  # the host's own address, before ours
        "/other/{}/",  # a view of the host's
        "/overridden/{}/",  # a subclass that answers a stat in its own way
        "/rendered/{}/",
        "/checked/{}/",  # a view that CsrfViewMiddleware checks
        "/hidden/{}/",  # a function that says nothing about what it calls
        "/nowhere/{}/",
        "/api/live/{}/",
    ],
)
def test_other_addresses_are_djangos(path: str, token: tuple[str, str]) -> None:
    assert not own(Sent("GET", path.format(DIGEST), headers=(token,)))


@pytest.mark.parametrize(
    "sent",
    [
        Sent("PUT", STAT),
        Sent("DELETE", STAT),
        Sent("OPTIONS", STAT),
        Sent("get", STAT),
        Sent("GET", STAT, "x=1"),
        Sent("GET", STAT, "cached=only&"),
        Sent("GET", f"{STAT}é"),
        Sent("GET", f"/api/repositories/{'a' * 3000}/blobs/{DIGEST}/"),
        Sent("GET", STAT.replace("/blobs", "%2Fblobs")),
        Sent("GET", STAT, body=b"x"),
        *(
            Sent("GET", STAT, headers=(header,))
            for header in (
                ("HTTP_ACCEPT", "text/html"),
                ("HTTP_ACCEPT", "application/json, text/html"),
                ("HTTP_ACCEPT", ""),
                ("HTTP_ACCEPT_LANGUAGE", "de"),
                ("HTTP_AUTHORIZATION", "basic eDp5"),
                ("HTTP_COOKIE", "sessionid=abcdefghij"),
                ("HTTP_COOKIE", ""),
                ("HTTP_EXPECT", "100-continue"),
                ("HTTP_HOST", "evil.example"),
                ("HTTP_HOST", "testserver/x"),
                ("HTTP_RANGE", "bytes=0-0"),
                ("HTTP_TRANSFER_ENCODING", "chunked"),
                ("HTTP_UPGRADE", "websocket"),
                ("CONTENT_LENGTH", "0, 0"),
                ("CONTENT_LENGTH", "+0"),
            )
        ),
    ],
)
def test_what_is_unusual_is_djangos(sent: Sent) -> None:
    assert not own(sent)


def test_django_gets_the_request_as_it_came() -> None:
    given: list[dict[str, Any]] = []
    made = Both()

    def application(environment: dict[str, Any], start: Any) -> Any:
        given.append({**environment})
        return made.django(environment, start)

    made.entrance.application = application
    sent = Sent("GET", f"/nowhere/{DIGEST}/", headers=(("HTTP_X_FORWARDED_FOR", "198.51.100.1"),))
    expected = environ(sent)
    send(made.entrance, sent)
    assert {**given[0], "wsgi.input": None} == {**expected, "wsgi.input": None}


def test_head_has_no_body(token: tuple[str, str]) -> None:
    made = Both()
    parts = list(
        made.entrance(environ(Sent("HEAD", STAT, headers=(token,))), lambda *_: lambda _: None)
    )
    assert b"".join(parts) == b""
    assert made.passed == 0


def test_the_signals_of_a_request_are_sent(token: tuple[str, str]) -> None:
    heard: list[tuple[str, object]] = []

    def started(sender: object, **_: object) -> None:
        heard.append(("started", sender))

    def finished(sender: object, **_: object) -> None:
        heard.append(("finished", sender))

    made, sent = Both(), Sent("GET", STAT, headers=(token,))
    request_started.connect(started)
    request_finished.connect(finished)
    try:
        send(made.django, sent)
        by_django = heard.copy()
        heard.clear()
        send(made.entrance, sent)
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)
    assert made.passed == 0
    assert heard == by_django
    assert [name for name, _ in heard] == ["started", "finished"]


class Closing(LocMemCache):
    """A cache that Django closes at the end of each request."""

    closed = 0
    fails = False
    error: type[BaseException] = RuntimeError

    def close(self, **_: Any) -> None:
        type(self).closed += 1
        if self.fails:
            raise self.error("not closed")


@pytest.fixture
def closing(settings: LazySettings) -> BaseCache:
    """One that is in use, in a project where anonymous users may view."""
    settings.AUTHENTICATION_BACKENDS = ["tests.api.entrance.hosts.Public"]
    settings.CACHES |= {"closing": {"BACKEND": "tests.api.entrance.test_wsgi.Closing"}}
    return caches["closing"]


def parts_of(application: Any, sent: Sent) -> Any:
    """What a server gets of an application, to send and then to close."""
    return application(environ(sent), lambda *_: lambda _: None)


STATS = [
    Sent(method, path) for method in ("GET", "HEAD") for path in (STAT, f"/api/blobs/{UNKNOWN}/")
]
"""Each is sent twice: the headers of the second response are remembered, if it is no error."""


@pytest.mark.parametrize("sent", STATS, ids=str)
@pytest.mark.usefixtures("closing")
def test_a_request_has_ended_when_the_server_gets_the_whole_response(sent: Sent) -> None:
    made = Both()
    for _ in range(2):
        before = Closing.closed
        parts = parts_of(made.entrance, sent)
        assert type(parts) is list
        assert (b"".join(parts) == b"") is (sent.method == "HEAD")
        assert Closing.closed == before + 1
    assert made.passed == 0


@pytest.mark.parametrize("sent", STATS, ids=str)
@pytest.mark.usefixtures("closing")
def test_an_unknown_receiver_is_called_when_the_server_closes_the_response(sent: Sent) -> None:
    heard: list[object] = []

    def finished(sender: object, **_: object) -> None:
        heard.append(sender)

    made = Both()
    request_finished.connect(finished)
    try:
        for number in range(2):
            parts = parts_of(made.entrance, sent)
            assert (b"".join(parts) == b"") is (sent.method == "HEAD")
            assert len(heard) == number
            parts.close()
            assert len(heard) == number + 1
    finally:
        request_finished.disconnect(finished)
    assert made.passed == 0


@pytest.mark.parametrize("sent", STATS, ids=str)
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_an_error_at_the_end_of_a_request_does_not_hold_up_its_response(
    sent: Sent, error: type[BaseException], closing: BaseCache
) -> None:
    made = Both()
    with patch.multiple(closing, fails=True, error=error):
        for application in (made.django, made.entrance, made.entrance):
            parts = parts_of(application, sent)
            is_empty = sent.method == "HEAD" and application is made.entrance
            assert (b"".join(parts) == b"") is is_empty
            with pytest.raises(error, match="not closed"):
                parts.close()
    assert made.passed == 0


class Quiet(WSGIRequestHandler):
    """A handler of the server's that logs nothing."""

    def log_message(self, *_: object) -> None:
        pass


def served(application: Any, sent: Sent) -> tuple[int, str | None, bytes]:
    """The status, the length and the body that Python's own server sends."""
    with (
        make_server("127.0.0.1", 0, application, handler_class=Quiet) as server,
        ThreadPoolExecutor(1) as threads,
    ):
        done = threads.submit(server.handle_request)
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.request(sent.method, sent.path, headers={"Host": "testserver"})
        response = connection.getresponse()
        found = response.status, response.getheader("Content-Length"), response.read()
        connection.close()
        done.result()
    return found


@pytest.mark.parametrize("sent", STATS, ids=str)
@pytest.mark.parametrize("is_measured", [True, False])
def test_a_server_that_adds_a_length_to_a_list_adds_no_wrong_one(
    sent: Sent, settings: LazySettings, *, is_measured: bool
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.api.entrance.hosts.Public"]
    if not is_measured:
        middleware = [each for each in settings.MIDDLEWARE if not each.endswith("CommonMiddleware")]
        settings.MIDDLEWARE = middleware
    made = Both()
    expected = served(made.django, sent)
    assert (expected[1] is not None) is is_measured
    assert [served(made.entrance, sent) for _ in range(2)] == [expected] * 2
    assert made.passed == 0


@pytest.mark.parametrize("name", ["ClosesItself", "IteratesItself"])
@pytest.mark.parametrize("sent", STATS, ids=str)
@pytest.mark.usefixtures("closing")
def test_a_response_of_the_hosts_own_class_is_iterated_and_closed_by_the_server(
    sent: Sent, name: str, settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"tests.api.entrance.hosts.{name}"]
    made = Both()
    expected: list[str] = []
    for application in (made.django, made.entrance, made.entrance):
        hosts.done.clear()
        before = Closing.closed
        parts = parts_of(application, sent)
        assert hosts.done == []
        b"".join(parts)
        assert Closing.closed == before
        parts.close()
        assert Closing.closed == before + 1
        expected = expected or hosts.done.copy()
        assert hosts.done == expected != []
    assert made.passed == 0


def test_an_error_that_nobody_expected_is_reported_once(
    settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.BLOBCACHE = {"default": {"API_PERMISSION_CLASSES": ["tests.api.entrance.hosts.Fails"]}}
    heard: list[str] = []

    def failed(sender: object, request: Any, **_: object) -> None:
        heard.append(request.path)

    got_request_exception.connect(failed)
    try:
        made = Both()
        answer = send(made.entrance, Sent("GET", STAT))
    finally:
        got_request_exception.disconnect(failed)
    assert made.passed == 0
    assert answer.status.startswith("500")
    assert heard == [STAT]
    assert [record.name for record in caplog.records].count("django.request") == 1


def test_an_error_reaches_the_server_if_django_lets_it(settings: LazySettings) -> None:
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True
    settings.BLOBCACHE = {"default": {"API_PERMISSION_CLASSES": ["tests.api.entrance.hosts.Fails"]}}
    for application in (Both().django, Both().entrance):
        with pytest.raises(RuntimeError, match="the host's own error"):
            send(application, Sent("GET", STAT))


def test_an_error_of_a_receiver_reaches_the_server(token: tuple[str, str]) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("a receiver's error")

    request_started.connect(fail)
    try:
        for application in (Both().django, Both().entrance):
            with pytest.raises(RuntimeError, match="a receiver's error"):
                send(application, Sent("GET", STAT, headers=(token,)))
    finally:
        request_started.disconnect(fail)


@pytest.mark.parametrize(
    "urlconf", ["tests.api.entrance.no_such_module", "tests.api.entrance.wire"]
)
def test_a_broken_urlconf_is_djangos_to_report(urlconf: str, settings: LazySettings) -> None:
    settings.ROOT_URLCONF = urlconf
    made = Both()
    for application in (made.django, made.entrance):
        with pytest.raises((ImportError, ImproperlyConfigured)):
            send(application, Sent("GET", STAT))
    assert made.passed == 1


def test_the_next_request_of_the_thread_has_its_own_language_and_prefix(
    token: tuple[str, str],
) -> None:
    made = Both()
    german = Sent("GET", "/api/live/", headers=(("HTTP_ACCEPT_LANGUAGE", "de"),))
    send(made.entrance, german)
    assert translation.get_language() == "de"
    answer = send(made.entrance, Sent("GET", STAT, headers=(token, ("SCRIPT_NAME", "/portal"))))
    assert made.passed == 1
    assert answer.header("Content-Language") == "en"
    assert get_script_prefix() == "/portal/"
    send(made.entrance, Sent("GET", STAT, headers=(token,)))
    assert get_script_prefix() == "/"


def test_a_session_is_answered_once_its_user_is_kept(settings: LazySettings) -> None:
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 5}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    client = Client()
    client.force_login(user("viewer"), backend="django.contrib.auth.backends.ModelBackend")
    kept_callers.forget_all()
    kept_callers._all_barred = kept_callers._barred[user("viewer").pk] = 0.0
    kept_callers._barred.clear()
    made = Both()
    cookie = ("HTTP_COOKIE", f"sessionid={client.cookies['sessionid'].value}")
    sent = Sent("GET", STAT, headers=(cookie,))
    first = send(made.entrance, sent)
    assert made.passed == 1
    with CaptureQueriesContext(connection) as captured:
        again = send(made.entrance, sent)
    assert made.passed == 1
    assert len(captured) == 0
    assert again == first
    for more in ("; django_language=de", "; messages=x", "; sessionid=other", "; é=1"):
        send(made.entrance, Sent("GET", STAT, headers=(("HTTP_COOKIE", cookie[1] + more),)))
    assert made.passed == 5
    settings.SESSION_SAVE_EVERY_REQUEST = True
    send(made.entrance, sent)
    assert made.passed == 6
    kept_callers.forget_all()


def test_throttles_count_a_request_once(settings: LazySettings) -> None:
    settings.ROOT_URLCONF = "tests.api.entrance.hosts"
    made, statuses = Both(), []
    for _ in range(4):
        answer = send(made.entrance, Sent("GET", f"/throttled/{DIGEST}/"))
        statuses.append(answer.status[:3])
    assert made.passed == 0
    assert statuses == ["200", "200", "429", "429"]


def test_django_gets_a_request_as_the_server_made_it(settings: LazySettings) -> None:
    given: list[object] = []

    def django(environment: dict[str, Any], start: Any) -> Any:
        given.append(environment)
        return made.django(environment, start)

    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.api.entrance.hosts.Marks"]
    made = Both()
    hosts.done.clear()
    for _ in range(2):
        asked = environ(Sent("GET", STAT))
        entrance.wsgi(django)(asked, lambda *_: lambda _: None)
        assert given.pop() is asked
    assert hosts.done == ["!"] * 4


class OwnRequest(WSGIRequest):
    """A host's class of requests, which knows in another way whether they are secure."""

    made = 0

    def __init__(self, environ: dict[str, Any]) -> None:
        type(self).made += 1
        super().__init__(environ)

    def is_secure(self) -> bool:
        return True


class OwnHandler(WSGIHandler):
    """A host's handler with that class."""

    request_class = OwnRequest


def test_requests_are_of_the_class_that_the_hosts_handler_has(settings: LazySettings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.api.entrance.hosts.Public"]
    settings.SECURE_HSTS_SECONDS = 60
    django, sent = OwnHandler(), Sent("GET", STAT)
    application = entrance.wsgi(django)
    expected = send(django, sent)
    assert expected.header("Strict-Transport-Security").startswith("max-age=60;")
    made: list[int] = []
    for _ in range(3):
        before = application.handler.request_class.made
        assert send(application, sent) == expected
        made.append(application.handler.request_class.made - before)
    assert made == [1, 1, 1]


@pytest.mark.parametrize("path", [STAT, f"/api/blobs/{UNKNOWN}/"])
def test_the_hosts_handler_is_the_sender_of_the_signals(path: str, settings: LazySettings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.api.entrance.hosts.Public"]
    django = OwnHandler()
    with senders_heard(OwnHandler) as heard:
        for application in (django, entrance.wsgi(django)):
            for _ in range(2):
                heard.clear()
                send(application, Sent("GET", path))
                assert heard == [OwnHandler, OwnHandler]
