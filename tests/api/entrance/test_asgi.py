"""The entrance under ASGI answers as Django's handler does there."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterable, Sequence
from contextvars import Context
from typing import Any, TypeVar

import pytest
from django.conf import LazySettings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.signals import request_finished, request_started
from redis import Redis

from blobcache.api import entrance
from tests.api.conftest import DIGEST, UNKNOWN
from tests.api.entrance import hosts
from tests.api.entrance.test_equality import HOSTS, as_, differences, requests
from tests.api.entrance.wire import Answer, Sent, masked, senders_heard

T = TypeVar("T")

STAT = f"/api/repositories/team/app/blobs/{DIGEST}/"
BATCH = "/api/repositories/team/app/blobs/stat/"


def scope_of(sent: Sent) -> dict[str, Any]:
    """The scope of a request."""
    headers: dict[str, Any] = {"HTTP_HOST": "testserver"}
    if sent.body:
        headers["CONTENT_LENGTH"] = str(len(sent.body))
    given: Any = sent.headers
    headers |= {name: value for name, value in given if value is not None}
    scheme = headers.pop("wsgi.url_scheme", "http")
    client = headers.pop("REMOTE_ADDR", "192.0.2.1")
    for name in ("SCRIPT_URL",):
        headers.pop(name, None)
    return {
        "type": "http",
        "http_version": "1.1",
        "method": sent.method,
        "scheme": scheme,
        "path": sent.path,
        "raw_path": sent.path.encode(),
        "root_path": headers.pop("SCRIPT_NAME", ""),
        "query_string": sent.query.encode(),
        "headers": [
            (name.removeprefix("HTTP_").replace("_", "-").lower().encode(), value.encode("latin1"))
            for name, value in headers.items()
        ],
        "client": (client, 1234) if client else None,
        "server": ("testserver", 80),
    }


async def ask(
    application: Any, sent: Sent, cut: int = 7, more: Sequence[tuple[bytes, bytes]] = ()
) -> Answer:
    """Send a request as a server does, its body in parts."""
    parts = [sent.body[start : start + cut] for start in range(0, len(sent.body), cut)] or [b""]
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    given: list[dict[str, Any]] = []
    finished = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await finished.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        given.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            finished.set()

    scope = scope_of(sent)
    await application({**scope, "headers": [*scope["headers"], *more]}, receive, send)
    start, *rest = given
    body = b"".join(message.get("body", b"") for message in rest)
    headers = [(name.decode(), value.decode("latin1")) for name, value in start["headers"]]
    if sent.method == "HEAD":
        body = b""
    return masked(str(start["status"]), headers, body)


def run_alone(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a context without variables.

    Django's handlers copy all variables of the context at each crossing between a thread and the
    loop, and the other tests leave thousands of them.
    """
    return Context().run(asyncio.run, coroutine)


class Both:
    """The same application, through the entrance and without it."""

    def __init__(self) -> None:
        self.django = ASGIHandler()
        self.passed = 0
        self.entrance = entrance.asgi(self._count)

    async def _count(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed += 1
        await self.django(scope, receive, send)


@pytest.fixture(autouse=True)
def _public(settings: LazySettings, filled: Redis) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.api.entrance.hosts.Public"]
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ROOT_URLCONF = "tests.api.entrance.hosts"


def ask_both(both: Both, table: Iterable[Sent]) -> int:
    """Send requests both ways, and return how many the entrance has answered itself."""

    async def run() -> int:
        number = 0
        for sent in table:
            number += 1
            expected = await ask(both.django, sent)
            assert differences(await ask(both.entrance, sent, 5), expected) == [], sent
        return number - both.passed

    return run_alone(run())


@pytest.mark.long(few=1)
@pytest.mark.parametrize(
    "name", ["the demo", "https and HSTS behind a proxy", "no middleware", "unknown middleware"]
)
def test_the_entrance_answers_as_django_does(name: str, settings: LazySettings) -> None:
    credentials: dict[str, dict[str, str]] = {"nobody": {}, "b": {"HTTP_AUTHORIZATION": "Bearer x"}}
    with as_(HOSTS[name], settings):
        table = [each for each in requests(7, credentials) if "\n" not in each.path]
        answered = ask_both(Both(), table[:150])
    assert answered == 0 if name == "unknown middleware" else answered > 20


def test_a_batch_is_answered_from_a_body_in_parts() -> None:
    body = json.dumps({"digests": [DIGEST, UNKNOWN]}).encode()
    both = Both()
    headers = (("CONTENT_TYPE", "application/json"),)
    assert ask_both(both, [Sent("POST", BATCH, headers=headers, body=body)]) == 1


@pytest.mark.parametrize("length", ["1", "99999", "", "-1", "x", "9" * 30])
def test_django_reads_a_body_of_another_length(length: str) -> None:
    headers = (("CONTENT_TYPE", "application/json"), ("CONTENT_LENGTH", length))
    both = Both()
    assert ask_both(both, [Sent("POST", BATCH, headers=headers, body=b'{"digests": []}')]) == 0
    assert both.passed == 1


@pytest.mark.parametrize(("length", "more"), [("14", True), ("15", False), ("16", False)])
def test_a_body_in_many_parts_is_kept_as_one(length: str, more: bool) -> None:
    body = b'{"digests": []}'
    came: list[dict[str, Any]] = []
    expected = [
        {"type": "http.request", "body": body, "more_body": more},
        *([{"type": "http.request", "body": b" ", "more_body": False}] if more else []),
    ]

    async def django(scope: Any, receive: Any, send: Any) -> None:
        came.append(await receive())
        if more:
            came.append(await receive())
        assert came == expected
        await ASGIHandler()(scope, _given(came), send)

    headers = (("CONTENT_TYPE", "application/json"), ("CONTENT_LENGTH", length))
    sent = Sent("POST", BATCH, "format=json", headers=headers, body=body + b" " * more)
    run_alone(ask(entrance.asgi(django), sent, cut=1))


def _given(messages: Sequence[dict[str, Any]]) -> Any:
    waiting = [*messages]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def test_a_client_that_leaves_while_it_sends_its_body_gets_nothing() -> None:
    sent: list[object] = []

    async def run(application: Any) -> None:
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: object) -> None:
            sent.append(message)

        headers = (("CONTENT_TYPE", "application/json"), ("CONTENT_LENGTH", "20"))
        await application(scope_of(Sent("POST", BATCH, headers=headers)), receive, send)

    run_alone(run(Both().entrance))
    assert sent == []


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Token a"), (b"authorization", b"Token b")],
        [(b"x_forwarded_host", b"evil.example")],
        [(b"host", b"testserver"), (b"host", b"evil.example")],
        [(b"content-length", b"0"), (b"content-length", b"5")],
        [(b"transfer-encoding", b"chunked")],
        [(b"accept", b"*/*"), (b"accept", b"text/html")],
        [(b"http-host", b"evil.example")],
        [(b"content-type", b"\xff")],
    ],
)
def test_odd_headers_are_understood_as_django_does(
    headers: Sequence[tuple[bytes, bytes]], db: None
) -> None:
    both, sent = Both(), Sent("GET", STAT)
    expected = run_alone(ask(both.django, sent, more=headers))
    assert differences(run_alone(ask(both.entrance, sent, more=headers)), expected) == []


def test_other_protocols_are_djangos() -> None:
    async def run() -> None:
        for kind in ("lifespan", "websocket"):
            with pytest.raises(ValueError, match="Django can only handle ASGI/HTTP"):
                await Both().entrance({"type": kind}, None, None)  # type: ignore[arg-type]

    run_alone(run())


def test_a_request_is_answered_by_one_thread_of_the_entrance() -> None:
    heard: list[tuple[str, str]] = []

    def started(**_: object) -> None:
        heard.append(("started", threading.current_thread().name))

    def finished(**_: object) -> None:
        heard.append(("finished", threading.current_thread().name))

    request_started.connect(started)
    request_finished.connect(finished)
    try:
        answer = run_alone(ask(Both().entrance, Sent("GET", STAT)))
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)
    assert answer.status == "200"
    assert [name for name, _ in heard] == ["started", "finished"]
    assert len({thread for _, thread in heard}) == 1
    assert heard[0][1].startswith("blobcache-entrance")


def test_more_requests_than_may_wait_are_refused_at_once() -> None:
    entered, released = threading.Event(), threading.Event()

    def started(**_: object) -> None:
        entered.set()
        assert released.wait(60)

    async def run() -> list[Answer]:
        application = entrance.asgi(ASGIHandler(), threads=1, waiting=2)
        tasks = [asyncio.create_task(ask(application, Sent("GET", STAT))) for _ in range(6)]
        refused = asyncio.create_task(ask(application, Sent("HEAD", STAT)))
        await refused
        assert entered.wait(60)
        released.set()
        answers = [*(await asyncio.gather(*tasks)), await refused]
        return [*answers, await ask(application, Sent("GET", STAT))]

    request_started.connect(started)
    try:
        answers = run_alone(run())
    finally:
        request_started.disconnect(started)
    assert [answer.status for answer in answers] == ["200"] * 3 + ["503"] * 4 + ["200"]
    assert answers[3].header("Retry-After").isdigit()
    assert json.loads(answers[3].body)["errors"][0]["code"] == "UNAVAILABLE"


def test_a_cancelled_request_makes_room_again() -> None:
    async def run() -> Answer:
        application = entrance.asgi(ASGIHandler(), threads=1, waiting=0)
        task = asyncio.create_task(ask(application, Sent("GET", STAT)))
        await asyncio.sleep(0)  # It has begun.
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while (answer := await ask(application, Sent("GET", STAT))).status == "503":
            await asyncio.sleep(0)
        return answer

    assert run_alone(run()).status == "200"


def test_many_requests_at_once_get_their_own_answers() -> None:
    async def run() -> list[Answer]:
        both = Both()
        sent = [Sent("GET", f"/api/blobs/sha256:{number:064x}/") for number in range(100)]
        return await asyncio.gather(*(ask(both.entrance, each) for each in sent))

    for number, answer in enumerate(run_alone(run())):
        assert answer.status == "404"
        assert f"{number:064x}".encode() in answer.body


@pytest.mark.parametrize("path", [STAT, f"/api/blobs/{UNKNOWN}/"])
def test_a_response_of_the_hosts_own_class_is_closed_by_its_own_method(
    path: str, settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.api.entrance.hosts.ClosesItself"]
    both, sent = Both(), Sent("GET", path)
    for application in (both.django, both.entrance, both.entrance):
        hosts.done.clear()
        run_alone(ask(application, sent))
        assert hosts.done == ["closed"]
    assert both.passed == 0


class OwnRequest(ASGIRequest):
    """A host's class of requests, which knows in another way whether they are secure."""

    def __init__(self, scope: Any, body_file: Any) -> None:
        super().__init__(scope, body_file)
        self.is_ours = True

    def is_secure(self) -> bool:
        return self.is_ours


class OwnHandler(ASGIHandler):
    """A host's handler with that class."""

    request_class = OwnRequest


def test_requests_are_of_the_class_that_the_hosts_handler_has(settings: LazySettings) -> None:
    settings.SECURE_HSTS_SECONDS = 60
    django, sent = OwnHandler(), Sent("GET", STAT)
    application = entrance.asgi(django)
    expected = run_alone(ask(django, sent))
    assert expected.header("Strict-Transport-Security").startswith("max-age=60;")
    for _ in range(3):
        assert run_alone(ask(application, sent)) == expected


@pytest.mark.parametrize("path", [STAT, f"/api/blobs/{UNKNOWN}/"])
def test_the_hosts_handler_is_the_sender_of_the_signals(path: str) -> None:
    django = OwnHandler()
    with senders_heard(OwnHandler) as heard:
        for application in (django, entrance.asgi(django)):
            for _ in range(2):
                heard.clear()
                run_alone(ask(application, Sent("GET", path)))
                assert heard == [OwnHandler, OwnHandler]
