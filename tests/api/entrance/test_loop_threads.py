"""Under ASGI, the steps in threads of a request that is answered in the event loop."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.signals import got_request_exception
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils import translation
from django.utils.deprecation import MiddlewareMixin
from redis import Redis

from blobcache.api.entrance import loop
from blobcache.signals import descriptor_set
from tests.api.conftest import DIGEST, UNKNOWN
from tests.api.entrance import hosts
from tests.api.entrance.test_asgi import STAT, ask
from tests.api.entrance.test_loop import (
    PARTS,
    Both,
    _public,
    plain_logs,
    read_through,
    run,
    status_and_threads,
    warmed,
)
from tests.api.entrance.wire import Answer, Sent
from tests.servers import cache_at

__all__ = ["_public"]  # the fixture

HERE = "tests.api.entrance.test_loop_threads"

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def test_an_unexpected_error_is_the_current_exception_where_it_is_reported(
    settings: LazySettings,
) -> None:
    settings.BLOBCACHE = {"default": {"API_PERMISSION_CLASSES": [f"{PARTS}.Fails"]}}
    found: list[BaseException | None] = []

    def hear(**_: object) -> None:
        found.append(sys.exc_info()[1])

    got_request_exception.connect(hear)
    try:
        assert status_and_threads(Sent("GET", STAT)) == ("500", 1)
    finally:
        got_request_exception.disconnect(hear)
    assert [str(error) for error in found] == ["the host's own error"]


def test_a_receiver_of_what_is_set_needs_no_thread_without_read_through() -> None:
    def hear(**_: object) -> None:
        raise AssertionError

    descriptor_set.connect(hear)
    try:
        assert status_and_threads(Sent("GET", STAT)) == ("200", 0)
    finally:
        descriptor_set.disconnect(hear)


def test_a_handler_of_logs_that_is_added_later_counts_after_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(loop, "monotonic", lambda: now)

    async def ask_at(*times: float) -> list[int]:
        nonlocal now
        both, threads = await warmed(), []
        for each in times:
            now = each
            found = await both(Sent("GET", STAT))
            assert found is not None
            threads.append(found[1])
            if each == times[0]:
                _API_LOG.addHandler(waiting)
        return threads

    waiting = logging.Handler()
    try:
        assert run(ask_at(100.0, 100.9, 101.0, 101.9)) == [0, 0, 1, 1]
    finally:
        _API_LOG.removeHandler(waiting)


_API_LOG = logging.getLogger("blobcache.api")

VARIABLE: ContextVar[str] = ContextVar("variable", default="")


class Noting(MiddlewareMixin):
    """Middleware that notes the context of a request. It says only that the entrance may run it."""

    runs_in_entrance = True
    noted: list[str]

    def process_request(self, request: HttpRequest) -> None:
        self.noted.append(VARIABLE.get())
        VARIABLE.set("changed")


class DeclaringNoting(Noting):
    """The same, in the event loop."""

    runs_in_entrance = True
    queries_database = False


@pytest.mark.parametrize("kind", [Noting, DeclaringNoting])
def test_a_request_has_the_context_of_the_server_wherever_it_is_answered(
    kind: type[Noting], settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MIDDLEWARE = [f"{HERE}.{kind.__name__}"]
    monkeypatch.setattr(Noting, "noted", [], raising=False)

    async def ask_twice() -> None:
        both = await warmed()
        for number in range(2):
            VARIABLE.set(f"request {number}")
            await both(Sent("GET", STAT))

    with plain_logs():
        run(ask_twice())
    assert Noting.noted == ["request 0", "request 1"]


def connect(path: Path) -> BaseDatabaseWrapper:
    """Open this thread's connection to the database, which is a file."""
    connection = connections["default"]
    if threading.current_thread() is threading.main_thread():
        return connection
    changed = {"NAME": str(path / "database"), "CONN_MAX_AGE": 0}
    connection.settings_dict = {**connection.settings_dict, **changed}
    connection.cursor().close()
    assert connection.connection is not None
    return connection


def test_a_connection_that_a_handler_of_logs_has_opened_is_closed(db: None, tmp_path: Path) -> None:
    opened: list[BaseDatabaseWrapper] = []

    class Storing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            opened.append(connect(tmp_path))

    logger, handler = logging.getLogger("django.request"), Storing()
    logger.addHandler(handler)
    try:
        sent = Sent("GET", f"/api/blobs/{UNKNOWN}/")
        assert status_and_threads(sent) == ("404", 1)
    finally:
        logger.removeHandler(handler)
    assert [each.connection for each in opened] == [None]


def test_a_connection_that_a_receiver_of_changes_has_opened_is_closed(
    db: None, filled: Redis, settings: LazySettings, tmp_path: Path
) -> None:
    digest = read_through(settings, tmp_path)
    opened: list[BaseDatabaseWrapper] = []

    def hear(**_: object) -> None:
        opened.append(connect(tmp_path))

    sent = Sent("GET", STAT.replace(DIGEST, digest))
    descriptor_set.connect(hear)
    try:
        assert status_and_threads(sent)[0] == "200"
    finally:
        descriptor_set.disconnect(hear)
    assert [each.connection for each in opened] == [None]


def test_a_handler_of_the_apps_logs_may_ask_the_database(db: None, tmp_path: Path) -> None:
    opened: list[BaseDatabaseWrapper] = []

    class Storing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            opened.append(connect(tmp_path))

    async def compare() -> list[str]:
        both = Both()
        found = await both(Sent("GET", STAT))
        assert found is not None
        return [found[0].status, (await ask(both.django, Sent("GET", STAT))).status]

    logger, handler = logging.getLogger("blobcache.api"), Storing(logging.WARNING)
    with cache_at("redis://127.0.0.1:1/0"), plain_logs():
        logger.addHandler(handler)
        try:
            assert run(compare()) == ["503", "503"]
        finally:
            logger.removeHandler(handler)
    assert [each.connection for each in opened] == [None, None]


class Replaced:
    """What a response is made of, and whether it was closed."""

    is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        hosts.note()
        yield b"a"

    def close(self) -> None:
        self.is_closed = True


class Replacing(MiddlewareMixin):
    """Middleware that sends something else."""

    runs_in_entrance = True
    queries_database = False
    content: Replaced

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> StreamingHttpResponse:
        return StreamingHttpResponse(self.content)


def test_a_response_of_parts_is_read_in_a_thread_and_closed(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Replaced()
    settings.MIDDLEWARE = [f"{HERE}.Replacing"]
    monkeypatch.setattr(Replacing, "content", content, raising=False)
    hosts.seen.clear()
    assert status_and_threads(Sent("GET", STAT)) == ("200", 1)
    assert hosts.seen == [False]
    assert content.is_closed


class SpeaksFrench(MiddlewareMixin):
    """Middleware that activates a language in the event loop."""

    runs_in_entrance = True
    queries_database = False

    def process_request(self, request: HttpRequest) -> None:
        translation.activate("fr")


def page(request: HttpRequest) -> HttpResponse:
    """Return the page of an error, in the language and below the path that are active."""
    return HttpResponse(f"{translation.get_language()} {reverse('page')}", status=500)


handler500 = page

urlpatterns = [*hosts.urlpatterns, path("page/", page, name="page")]


@pytest.mark.parametrize("classes", [[f"{PARTS}.Fails"], [f"{HERE}.FailsInAThread"]])
def test_what_was_activated_in_the_loop_is_active_in_a_thread_too(
    classes: list[str], settings: LazySettings
) -> None:
    settings.ROOT_URLCONF = HERE
    settings.MIDDLEWARE = [f"{HERE}.SpeaksFrench"]
    settings.BLOBCACHE = {"default": {"API_PERMISSION_CLASSES": classes}}

    async def ask_both() -> tuple[Answer, Answer]:
        both = await warmed()
        sent = Sent("GET", f"/portal{STAT}", headers=(("SCRIPT_NAME", "/portal"),))
        answer = await ask(both.entrance, sent)
        assert not both.was_passed
        return answer, await ask(both.django, sent)

    with plain_logs():
        answer, expected = run(ask_both())
    assert answer == expected
    assert answer.body == b"fr /portal/page/"


class FailsInAThread(hosts.Fails):
    """The same, which declares nothing, so that a thread calls it."""
