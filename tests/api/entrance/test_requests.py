"""Requests for stats are those that Django's constructors make, which hardly ever run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from io import BytesIO
from typing import Any, ClassVar

import pytest
from django.conf import LazySettings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import LimitedStream, WSGIRequest

from blobcache.api.entrance.requests import ASGIRequests, WSGIRequests
from tests.api.conftest import DIGEST
from tests.api.entrance.wire import Sent, environ

STAT = f"/api/blobs/{DIGEST}/"

Make = Callable[[Any], Any]


class CountedWSGI(WSGIRequest):
    """Django's request, with the number of calls of its constructor."""

    calls: ClassVar[int] = 0

    def __init__(self, environ: dict[str, Any]) -> None:
        type(self).calls += 1
        super().__init__(environ)


class CountedASGI(ASGIRequest):
    """Likewise."""

    calls: ClassVar[int] = 0

    def __init__(self, scope: Any, body_file: Any) -> None:
        type(self).calls += 1
        super().__init__(scope, body_file)


@pytest.fixture
def under_wsgi(monkeypatch: pytest.MonkeyPatch) -> Make:
    """What makes requests, after the first one."""
    made = WSGIRequests(CountedWSGI)
    made(environ(Sent("GET", STAT)))
    monkeypatch.setattr(CountedWSGI, "calls", 0)
    return made


@pytest.fixture
def under_asgi(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Likewise."""
    made = ASGIRequests(CountedASGI)
    made(scope(), BytesIO())
    monkeypatch.setattr(CountedASGI, "calls", 0)
    return lambda scope: made(scope, BytesIO())


def scope(*headers: tuple[bytes, bytes], **changed: Any) -> dict[str, Any]:
    """The scope of a stat."""
    return {
        "type": "http",
        "method": "GET",
        "path": STAT,
        "query_string": b"",
        "headers": [(b"host", b"testserver"), *headers],
        "client": ("192.0.2.1", 4711),
        "server": ("testserver", 80),
        "root_path": "",
        "scheme": "http",
        **changed,
    }


def shown(request: Any) -> dict[str, Any]:
    """All that is set in a request, and what it says of itself."""
    values = {name: value for name, value in vars(request).items() if name != "_stream"}
    kind = type(request._stream)
    said = [request.get_host(), request.scheme, request.encoding, dict(request.GET)]
    return {**values, "kind": kind, "said": said, "body": request.body}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("HTTP_ACCEPT", "*/*"), ("HTTP_USER_AGENT", "skopeo"), ("HTTP_AUTHORIZATION", "Bearer é")),
        (("CONTENT_LENGTH", "0"), ("CONTENT_TYPE", "")),
        (("CONTENT_LENGTH", ""),),
    ],
)
def test_a_request_under_wsgi_is_as_django_makes_it(
    headers: tuple[tuple[str, str], ...], method: str, under_wsgi: Make, settings: LazySettings
) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    sent = Sent(method, STAT, "cached=only", headers)
    made, expected = (
        make({**environ(sent), "wsgi.input": BytesIO(b"of the next request")})
        for make in (under_wsgi, WSGIRequest)
    )
    assert CountedWSGI.calls == 0
    for each in (made, expected):
        assert type(each._stream) is LimitedStream
        each.META["wsgi.input"] = None
    assert shown(made) == shown(expected)
    assert made.content_params is not under_wsgi(environ(sent)).content_params


@pytest.mark.parametrize(
    "sent",
    [
        Sent("POST", f"{STAT}stat/", body=b"{}"),
        Sent("GET", STAT, headers=(("CONTENT_TYPE", "text/plain"),)),
        Sent("GET", STAT, headers=(("SCRIPT_NAME", "/portal"),)),
        Sent("GET", STAT, headers=(("SCRIPT_NAME", None),)),  # type: ignore[arg-type] # not set
    ],
    ids=str,
)
def test_what_is_unusual_is_made_by_django_under_wsgi(sent: Sent, under_wsgi: Make) -> None:
    under_wsgi(environ(sent))
    assert CountedWSGI.calls == 1


def test_the_project_may_say_where_it_is_mounted(
    under_wsgi: Make, under_asgi: Make, settings: LazySettings
) -> None:
    settings.FORCE_SCRIPT_NAME = "/portal"
    assert under_wsgi(environ(Sent("GET", STAT))).path == f"/portal{STAT}"
    assert under_asgi(scope()).script_name == "/portal"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"accept", b"*/*"), (b"user-agent", b"skopeo"), (b"authorization", b"Bearer \xe9")),
        ((b"x-forwarded-for", b"192.0.2.7"), (b"if-none-match", b'"x"'), (b"connection", b"")),
    ],
)
def test_a_request_under_asgi_is_as_django_makes_it(
    headers: tuple[tuple[bytes, bytes], ...], method: str, under_asgi: Make, settings: LazySettings
) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    sent = scope(*headers, method=method, query_string=b"cached=only")
    made, expected = under_asgi(sent), ASGIRequest(sent, BytesIO())
    assert CountedASGI.calls == 0
    assert shown(made) == shown(expected)
    assert made.content_params is not under_asgi(sent).content_params


@pytest.mark.parametrize(
    "sent",
    [
        scope((b"cookie", b"a=b")),
        scope((b"content-type", b"text/plain")),
        scope((b"content-length", b"0")),
        scope((b"x_request_id", b"1")),
        scope((b"x-own", b"1")),
        scope((b"Host", b"testserver")),
        scope((b"accept", b"*/*"), (b"accept", b"*/*")),
        scope(method="POST"),
        scope(method="get"),
        scope(root_path="/api"),
        scope(client=None),
        scope(server=None),
        scope(query_string=""),
        scope(headers=((b"host", b"testserver"),)),
    ],
    ids=str,
)
def test_what_is_unusual_is_made_by_django_under_asgi(
    sent: dict[str, Any], under_asgi: Make
) -> None:
    made, expected = under_asgi(sent), ASGIRequest(sent, BytesIO())
    assert CountedASGI.calls == 1
    assert made.META == expected.META


def test_a_query_that_is_no_text_is_the_callers_to_refuse(under_asgi: Make) -> None:
    with pytest.raises(UnicodeDecodeError):
        under_asgi(scope(query_string=b"\xff"))


class Newer(CountedWSGI):
    """What a later version of Django may be."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        self.is_newer = True


class NewerASGI(CountedASGI):
    """Likewise."""

    def __init__(self, scope: Any, body_file: Any) -> None:
        super().__init__(scope, body_file)
        self.META["wsgi.newer"] = True


class NewerMeta(CountedWSGI):
    """Likewise, where the request shares its `META` with the environment."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        self.META["wsgi.newer"] = True


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_django_that_sets_more_makes_every_request(number: int) -> None:
    by_wsgi, by_asgi = WSGIRequests(Newer), ASGIRequests(NewerASGI)
    with_meta = WSGIRequests(NewerMeta)
    for _ in range(number):
        assert by_wsgi(environ(Sent("GET", STAT))).is_newer
        assert with_meta(environ(Sent("GET", STAT))).META["wsgi.newer"]
        assert by_asgi(scope(), BytesIO()).META["wsgi.newer"]


def by_wsgi() -> Callable[[], Any]:
    """What makes requests under WSGI."""
    made = WSGIRequests(WSGIRequest)
    return lambda: made(environ(Sent("GET", STAT)))


def by_asgi() -> Callable[[], Any]:
    """Likewise under ASGI."""
    made = ASGIRequests(ASGIRequest)
    return lambda: made(scope(), BytesIO())


@pytest.mark.parametrize(("kind", "begin"), [(WSGIRequest, by_wsgi), (ASGIRequest, by_asgi)])
@pytest.mark.parametrize("made_before", [None, 0, 1, 2])
def test_a_constructor_of_the_hosts_in_place_of_djangos_is_called(
    made_before: int | None, kind: Any, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[object] = []
    plain = kind.__init__

    @wraps(plain)
    def replaced(self: object, *args: object) -> None:
        called.append(self)
        plain(self, *args)

    make: Any = None if made_before is None else begin()
    for _ in range(made_before or 0):
        make()
    monkeypatch.setattr(kind, "__init__", replaced)
    make = make or begin()
    assert [make() for _ in range(3)] == called
