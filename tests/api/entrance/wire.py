"""Requests as a WSGI server would pass them on, and what comes back."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple
from unittest.mock import patch

from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started

from blobcache.api import entrance

__all__ = [
    "Answer",
    "Both",
    "Sent",
    "both",
    "by_the_framework",
    "environ",
    "masked",
    "send",
    "senders_heard",
]


@dataclass(frozen=True)
class Sent:
    """A request."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """As keys of the environment, such as HTTP_ACCEPT."""

    body: bytes = b""


class Answer(NamedTuple):
    """A response. The order of the headers means nothing."""

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header that is there once."""
        (found,) = [value for each, value in self.headers if each == name]
        return found


def environ(sent: Sent) -> dict[str, Any]:
    """The environment of a WSGI application."""
    made: dict[str, Any] = {
        "REQUEST_METHOD": sent.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": sent.path.encode().decode("latin-1"),
        "QUERY_STRING": sent.query,
        "REMOTE_ADDR": "192.0.2.1",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "testserver",
        "wsgi.input": BytesIO(sent.body),
        "wsgi.url_scheme": "http",
        **dict(sent.headers),
    }
    if sent.body and "CONTENT_LENGTH" not in made:
        made["CONTENT_LENGTH"] = str(len(sent.body))
    return {name: value for name, value in made.items() if value is not None}


def send(application: Callable[..., Iterable[bytes]], sent: Sent) -> Answer:
    """Send a request as a server does: read all of the response, and close it."""
    given: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[..., Any]:
        given.append((status, headers))
        return BytesIO().write

    parts = application(environ(sent), start)
    body = b"".join(parts)
    getattr(parts, "close", lambda: None)()
    ((status, headers),) = given
    if sent.method == "HEAD":  # A server sends none, whatever the application has.
        body = b""
    return masked(status, headers, body)


def masked(status: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
    """A response without what is random in it, or the time."""
    if ("Content-Encoding", "gzip") in headers:  # Its length is random.
        body = gzip.decompress(body)
        headers = [each for each in headers if each[0] != "Content-Length"]
    body = _RANDOM.sub(b"random", body)
    shown = [(name, _masked(name, value)) for name, value in headers]
    return Answer(status, tuple(sorted(shown)), body)


_RANDOM = re.compile(rb"\b[A-Za-z0-9]{64}\b(?=[\"'])")
"""The CSRF token in a page."""


def _masked(name: str, value: str) -> str:
    """A header without what is random in it, or the time."""
    if name == "Set-Cookie":
        # Django 5.2 begins it with a space, which means nothing.
        return re.sub(r"(=[\w:.-]{32,})|(expires=[^;]*)", "", value.strip())
    return "" if name == "Expires" else value


class Both:
    """The same application, through the entrance and without it."""

    def __init__(self) -> None:
        self.django = WSGIHandler()
        self.passed = 0
        """How many requests the entrance has passed on."""

        self.entrance = entrance.wsgi(self._count)

    def _count(self, environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.passed += 1
        return self.django(environment, start)

    def __call__(self, sent: Sent) -> tuple[Answer, Answer, bool]:
        """What Django answers, what the entrance answers, and whether that did it itself."""
        expected, before = send(self.django, sent), self.passed
        return expected, send(self.entrance, sent), self.passed == before


@contextmanager
def senders_heard(sender: type) -> Iterator[list[object]]:
    """Yield a list of the senders of a request's signals, of those that this class sends."""
    heard: list[object] = []

    def hear(sender: object, **_: object) -> None:
        heard.append(sender)

    for signal in (request_started, request_finished):
        signal.connect(hear, sender=sender)
    try:
        yield heard
    finally:
        for signal in (request_started, request_finished):
            signal.disconnect(hear, sender=sender)


def by_the_framework(sent: Sent, django: WSGIHandler | None = None) -> Answer:
    """What Django answers if each stat makes a request of REST framework.

    It is asked by this handler, or by a new one with the settings of now.
    """
    with patch("blobcache.api.viewsets.made_as_ours", _never):
        return send(django or WSGIHandler(), sent)


def _never(*_: object) -> bool:
    return False


def both(sent: Sent) -> tuple[Answer, Answer, bool]:
    """Ask both with the settings of now."""
    return Both()(sent)
