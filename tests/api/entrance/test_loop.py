"""Under ASGI, requests that query no database are answered in the event loop, without a thread."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import Context
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import get_script_prefix, get_urlconf
from redis import Redis
from rest_framework.authtoken.models import Token
from rest_framework.throttling import SimpleRateThrottle

from blobcache.api import entrance
from blobcache.api.callers import kept_callers
from blobcache.api.entrance import loop
from blobcache.exceptions import BlobUnknown
from blobcache.services import aio, get_provider
from project import embedded
from tests.api.conftest import DIGEST, OTHER, UNKNOWN, user
from tests.api.entrance import hosts
from tests.api.entrance.test_asgi import BATCH, STAT, ask, scope_of
from tests.api.entrance.test_equality import HOSTS, as_, differences, requests
from tests.api.entrance.wire import Answer, Sent, send
from tests.backends.cases import data, digest_of, layer_link
from tests.proxy import Fault, Replace, proxy
from tests.servers import cache_at
from tests.services.test_read_through import storages, write
from tests.tokens.signing import Signer, options, scope

T = TypeVar("T")

DECLARING = "tests.api.entrance.hosts.DeclaringPublic"

JSON = (("CONTENT_TYPE", "application/json"),)


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts what it leaves to threads."""

    crossings = 0

    def run_in_executor(  # type: ignore[override] # which is generic
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        self.crossings += 1
        return super().run_in_executor(executor, func, *args)


def crossings() -> int:
    """How many calls the running loop has left to threads."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    return loop.crossings


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop that counts, and in a context without variables."""
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        return Context().run(runner.run, coroutine)


class Both:
    """The same application, through the entrance and without it."""

    def __init__(self) -> None:
        self.django = ASGIHandler()
        self.was_passed = False
        self.entrance = entrance.asgi(self._pass)

    async def _pass(self, scope: Any, receive: Any, send: Any) -> None:
        self.was_passed = True
        await ask_nothing(send)

    async def __call__(self, sent: Sent) -> tuple[Answer, int] | None:
        """What the entrance answers, and how many threads it needs. None if Django answers."""
        self.was_passed, before = False, crossings()
        answer = await ask(self.entrance, sent)
        return None if self.was_passed else (answer, crossings() - before)


async def ask_nothing(send: Any) -> None:
    """Stand for Django's answer, which is the same without the entrance."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(autouse=True)
def _public(settings: LazySettings, filled: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest's own keep the records in memory.
    of_pytest = {type(each) for each in logging.getLogger().handlers}
    monkeypatch.setattr(loop, "_AT_ONCE", loop._AT_ONCE | of_pytest)
    settings.AUTHENTICATION_BACKENDS = [DECLARING]
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ROOT_URLCONF = "tests.api.entrance.hosts"


@contextmanager
def plain_logs() -> Iterator[None]:
    """Keep the log of requests from the handlers of pytest, which are not known to be quick."""
    logger = logging.getLogger("django.request")
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True


async def warmed() -> Both:
    """Let the loop open its connection to Redis, which takes a thread."""
    with suppress(BlobUnknown):
        await aio.astat(get_provider(), UNKNOWN)
    return Both()


# The same answers

IN_THREADS = {
    "conditional and compressed": "it may send mail about broken links",
    "sessions for CSRF": "the session may be in the database",
    "limited": "the function does not declare that it queries no database",
    "unknown middleware": "Django answers everything",
}
"""The host projects of which nothing is answered in the event loop, and why."""

FEW = {"www", "hooks that fail"}
"""Those of which Django answers nearly everything, or which fail nearly always."""


@pytest.mark.parametrize("name", [name for name in HOSTS if name != "transactions"])
def test_the_loop_answers_as_django_does(name: str, settings: LazySettings) -> None:
    credentials: dict[str, dict[str, str]] = {"nobody": {}, "b": {"HTTP_AUTHORIZATION": "Bearer x"}}

    async def compare() -> tuple[int, int]:
        both, number, alone = await warmed(), 0, 0
        for sent in table:
            found = await both(sent)
            if found is None:
                continue
            answer, threads = found
            expected = await ask(both.django, sent)
            assert differences(answer, expected) == [], sent
            number += 1
            alone += not threads
        return number, alone

    with as_(HOSTS[name], settings), plain_logs():
        table = list(islice(requests(sum(name.encode()), credentials), 150))
        number, alone = run(compare())
    if name in IN_THREADS:
        assert alone == 0
    else:
        assert alone > (0 if name in FEW else number / 3)


# Without a thread


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (Sent("GET", STAT), "200"),
        (Sent("HEAD", STAT), "200"),
        (Sent("GET", f"/api/blobs/{DIGEST}"), "200"),
        (Sent("GET", f"/api/blobs/{UNKNOWN}/"), "404"),
        (Sent("GET", "/api/blobs/sha256:ab/"), "400"),
        (Sent("GET", STAT, "cached=only"), "200"),
        (Sent("GET", STAT, headers=(("HTTP_AUTHORIZATION", "Bearer x"),)), "200"),
        (Sent("POST", BATCH, headers=JSON, body=b'{"digests": ["x"]}'), "200"),
        (Sent("POST", BATCH, headers=JSON, body=b"{"), "400"),
    ],
    ids=lambda each: each if isinstance(each, str) else f"{each.method} {each.path[:24]}",
)
def test_an_anonymous_request_needs_no_thread(sent: Sent, status: str) -> None:
    async def count() -> tuple[Answer, int] | None:
        return await (await warmed())(sent)

    with plain_logs():
        found = run(count())
    assert found is not None
    assert (found[0].status, found[1]) == (status, 0)


def test_a_request_for_another_registry_needs_no_thread(settings: LazySettings) -> None:
    settings.BLOBCACHE = {"default": {}, "staging": {}}

    async def count() -> list[tuple[Answer, int] | None]:
        both = await warmed()
        paths = (f"/api/registries/{name}{STAT[4:]}" for name in ("staging", "none"))
        return [await both(Sent("GET", path)) for path in paths]

    with plain_logs():
        known, unknown = run(count())
    assert known is not None
    assert unknown is not None
    assert (known[0].status, known[1]) == ("200", 0)
    assert unknown[0].status == "401"


@pytest.fixture
def signer(settings: LazySettings, default_cache: Redis) -> Signer:
    made = Signer()
    settings.BLOBCACHE = {"default": {"TOKENS": options(JWKS=made.jwks)}}
    return made


def test_a_caller_with_a_registry_token_needs_no_thread(signer: Signer, filled: Redis) -> None:
    def bearing(token: str, name: str = "team/app", method: str = "GET") -> Sent:
        headers = (("HTTP_AUTHORIZATION", f"Bearer {token}"),)
        if method == "POST":
            body = json.dumps({"digests": [DIGEST]}).encode()
            return Sent(method, f"/by-token/{name}/blobs/stat/", "", (*headers, *JSON), body)
        return Sent(method, f"/by-token/{name}/blobs/{DIGEST}/", headers=headers)

    token = signer.token(scope("team/app", "pull"))
    table = {
        bearing(token): "200",
        bearing(token, method="HEAD"): "200",
        bearing(token, method="POST"): "200",
        bearing(token, "other/app"): "401",
        bearing("x.y.z"): "401",
        bearing(signer.token(scope("team/app", "push"))): "401",
    }

    async def count() -> list[tuple[Answer, int] | None]:
        both = await warmed()
        found = [await both(sent) for sent in table]
        for sent, each in zip(table, found, strict=True):
            assert each is not None
            assert differences(each[0], await ask(both.django, sent)) == [], sent
        return found

    with plain_logs():
        answers = run(count())
    assert [each and (each[0].status, each[1]) for each in answers] == [
        (status, 0) for status in table.values()
    ]


@pytest.mark.parametrize("name", ["viewer", "superuser", "nobody"])
@pytest.mark.parametrize("kind", ["token", "session"])
def test_a_kept_caller_needs_no_thread(
    kind: str, name: str, settings: LazySettings, db: None
) -> None:
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 60}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    client = Client()
    client.force_login(user(name))
    header = (
        ("HTTP_AUTHORIZATION", f"Token {Token.objects.create(user=user(name))}")
        if kind == "token"
        else ("HTTP_COOKIE", f"sessionid={client.cookies['sessionid'].value}")
    )
    kept_callers.forget_all()
    kept_callers._all_barred = 0.0
    kept_callers._barred.clear()
    sent = [Sent(method, STAT, headers=(header,)) for method in ("GET", "HEAD")]
    if kind == "token":
        body = json.dumps({"digests": [DIGEST]}).encode()
        sent.append(Sent("POST", BATCH, "", (header, *JSON), body))
    # The first request queries the database, in this thread: that has the test's transaction.
    expected = [send(WSGIHandler(), each) for each in (sent[0], *sent)][1:]
    assert expected[0].status == ("403 Forbidden" if name == "nobody" else "200 OK")

    async def count() -> list[tuple[Answer, int] | None]:
        both = await warmed()
        return [await both(each) for each in sent]

    try:
        with plain_logs():
            answers = run(count())
    finally:
        kept_callers.forget_all()
    for each, answer in zip(answers, expected, strict=True):
        assert each is not None
        status = answer.status.partition(" ")[0]
        assert differences(each[0], answer._replace(status=status)) == []
        assert each[1] == 0


# What may query the database


@pytest.fixture
def seen() -> Iterator[list[bool]]:
    """Where the host's parts were called: for each call, whether in an event loop."""
    hosts.seen.clear()
    yield hosts.seen
    hosts.seen.clear()


class NotingRequest(ASGIRequest):
    """A host's class of requests, which declares nothing."""

    def is_secure(self) -> bool:
        hosts.note()
        return super().is_secure()


class OwnHandler(ASGIHandler):
    """A host's handler with that class."""

    request_class = NotingRequest


def test_a_request_of_the_hosts_own_class_is_answered_in_a_thread(seen: list[bool]) -> None:
    async def answers() -> list[Answer]:
        await warmed()
        application = entrance.asgi(OwnHandler())
        return [await ask(application, Sent("GET", STAT)) for _ in range(2)]

    with plain_logs():
        assert [each.status for each in run(answers())] == ["200", "200"]
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("path", [STAT, f"/api/blobs/{UNKNOWN}/"])
def test_a_response_of_the_hosts_own_class_is_closed_by_its_own_method(
    path: str, settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{PARTS}.ClosesItself"]

    async def answers() -> list[tuple[Answer, int] | None]:
        both = await warmed()
        return [await both(Sent("GET", path)) for _ in range(2)]

    hosts.done.clear()
    with plain_logs():
        found = run(answers())
    assert [each and each[1] for each in found] == [1, 1]  # a thread closes it
    assert hosts.done == ["closed", "closed"]


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    "sent",
    [
        Sent("GET", STAT),
        Sent("POST", BATCH, headers=JSON, body=json.dumps({"digests": [DIGEST]}).encode()),
    ],
    ids=str,
)
def test_a_hosts_function_that_finds_users_is_called_in_a_thread(
    sent: Sent, seen: list[bool], monkeypatch: pytest.MonkeyPatch, *, is_late: bool
) -> None:
    def found(request: object) -> User:
        del request
        hosts.note()
        return User(username="found")  # who may view nothing

    async def answers() -> list[Answer]:
        both = await warmed()
        if is_late:
            await both(sent)
        with monkeypatch.context() as patched:
            patched.setattr("django.contrib.auth.get_user", found)
            return [await ask(each, sent) for each in (both.django, both.entrance, both.entrance)]

    with plain_logs():
        expected, *others = run(answers())
    assert expected.status == "403"
    assert [differences(each, expected) for each in others] == [[], []]
    assert seen
    assert not any(seen)


PARTS = "tests.api.entrance.hosts"

AS_PATHS: dict[str, str] = {
    f"{parts} {name}": f"/{parts}/{name}/{{}}/"
    for parts in ("asked", "inherits", "declares")
    for name in ("authentication", "permission", "throttle")
}


def status_and_threads(sent: Sent) -> tuple[str, int]:
    async def count() -> tuple[Answer, int] | None:
        return await (await warmed())(sent)

    with plain_logs():
        found = run(count())
    assert found is not None
    return found[0].status, found[1]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("part", AS_PATHS)
def test_a_class_of_a_host_is_asked_in_a_thread_unless_it_says_otherwise(
    part: str, method: str, seen: list[bool]
) -> None:
    path = AS_PATHS[part]
    sent = (
        Sent("GET", path.format(DIGEST))
        if method == "GET"
        else Sent("POST", path.format("stat"), "", JSON, json.dumps({"digests": []}).encode())
    )
    needs_no_database = part.startswith("declares")
    assert status_and_threads(sent) == ("200", 0 if needs_no_database else 1)
    assert seen
    assert all(each is needs_no_database for each in seen)


@pytest.mark.parametrize(
    ("changed", "needs_no_database"),
    [
        ({"AUTHENTICATION_BACKENDS": [f"{PARTS}.AskedBackend"]}, False),
        ({"AUTHENTICATION_BACKENDS": [f"{PARTS}.InheritingBackend"]}, False),
        ({"AUTHENTICATION_BACKENDS": [f"{PARTS}.DeclaringBackend"]}, True),
        ({"BLOBCACHE": {"default": {"VISIBLE_REPOSITORIES": f"{PARTS}.asked_names"}}}, False),
        ({"BLOBCACHE": {"default": {"VISIBLE_REPOSITORIES": f"{PARTS}.declaring_names"}}}, True),
        ({"MIDDLEWARE": [f"{PARTS}.AskedMiddleware"]}, False),
        ({"MIDDLEWARE": [f"{PARTS}.DeclaringMiddleware"]}, True),
    ],
)
def test_a_setting_of_a_host_is_asked_in_a_thread_unless_it_says_otherwise(
    changed: dict[str, Any], needs_no_database: bool, seen: list[bool], settings: LazySettings
) -> None:
    for name, value in changed.items():
        setattr(settings, name, value)
    assert status_and_threads(Sent("GET", STAT)) == ("200", 0 if needs_no_database else 1)
    assert seen
    assert all(each is needs_no_database for each in seen)


def test_an_error_of_a_host_gets_the_answer_that_django_gives(settings: LazySettings) -> None:
    visible = {"VISIBLE_REPOSITORIES": f"{PARTS}.declaring_refusal"}
    settings.BLOBCACHE = {"default": visible}
    sent = Sent("GET", STAT)

    async def compare() -> tuple[Answer, int]:
        both = await warmed()
        found = await both(sent)
        assert found is not None
        assert differences(found[0], await ask(both.django, sent)) == []
        return found

    with plain_logs():
        answer, threads = run(compare())
    assert (answer.status, threads) == ("403", 0)


def test_a_wrong_setting_is_found_out_in_a_thread(settings: LazySettings) -> None:
    settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{PARTS}.missing"}}
    assert not is_answered_in_the_loop(Sent("GET", STAT))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_class_that_queries_the_database_although_it_declares_not_to_is_stopped(
    method: str, settings: LazySettings, db: None
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{PARTS}.LyingBackend"]
    body = b'{"digests": []}' if method == "POST" else b""
    sent = Sent(method, BATCH if body else STAT, headers=JSON if body else (), body=body)
    with CaptureQueriesContext(connection) as captured:
        status, _ = status_and_threads(sent)
    assert status == "500"
    assert len(captured) == 0


def test_a_host_that_hears_of_requests_gets_its_signals_in_a_thread(seen: list[bool]) -> None:
    def hear(**_: object) -> None:
        hosts.note()

    for signal in (request_started, request_finished):
        signal.connect(hear)
        try:
            assert status_and_threads(Sent("GET", STAT)) == ("200", 1)
        finally:
            signal.disconnect(hear)
    assert seen == [False, False]
    assert status_and_threads(Sent("GET", STAT)) == ("200", 0)


def test_an_unexpected_error_is_reported_in_a_thread(
    seen: list[bool], settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"API_PERMISSION_CLASSES": [f"{PARTS}.Fails"]}}

    def hear(**_: object) -> None:
        hosts.note()

    got_request_exception.connect(hear)
    try:
        assert status_and_threads(Sent("GET", STAT)) == ("500", 1)
    finally:
        got_request_exception.disconnect(hear)
    assert seen == [False]


class Noting(logging.Handler):
    """A handler that may send what it is given anywhere."""

    def emit(self, record: logging.LogRecord) -> None:
        hosts.note()


def test_a_handler_of_logs_that_may_wait_is_called_in_a_thread(seen: list[bool]) -> None:
    logger, sent = logging.getLogger("django.request"), Sent("GET", f"/api/blobs/{UNKNOWN}/")
    handler = Noting(logging.WARNING)
    logger.addHandler(handler)
    try:
        assert status_and_threads(sent) == ("404", 1)
        assert seen == [False]
        handler.setLevel(logging.ERROR)
        assert status_and_threads(sent) == ("404", 0)
        assert seen == [False]
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/decorated/", ("401", 1)),
        ("/noted/", ("200", 1)),
        ("/throttled/", ("200", 1)),
        ("/deaf-first/", ("200", 1)),
        ("/deaf-last/", ("200", 1)),
        ("/mine/", ("401", 0)),  # only other classes, which are known
    ],
)
def test_an_address_with_more_in_it_is_answered_in_a_thread(
    path: str, expected: tuple[str, int]
) -> None:
    assert status_and_threads(Sent("GET", f"{path}{DIGEST}/")) == expected


def test_a_long_body_is_read_in_a_thread() -> None:
    body = json.dumps({"digests": [DIGEST]}).encode()
    for length, threads in ((64 * 1024, 0), (64 * 1024 + 1, 1)):
        sent = Sent("POST", BATCH, headers=JSON, body=body.ljust(length))
        assert status_and_threads(sent) == ("200", threads)


@pytest.mark.parametrize("throttle", ["blobcache-stat", "blobcache-list"])
def test_a_rate_is_counted_in_a_thread(throttle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {throttle: "100/s"})
    expected = int(throttle == "blobcache-stat")
    assert status_and_threads(Sent("GET", STAT)) == ("200", expected)


LOCMEM: dict[str, Any] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@pytest.mark.parametrize(
    ("entry", "threads"),
    [
        (LOCMEM, 0),
        ({**LOCMEM, "KEY_FUNCTION": f"{PARTS}.key"}, 1),
        ({"BACKEND": "django.core.cache.backends.filebased.FileBasedCache"}, 1),
    ],
    ids=["memory", "with keys of the host", "files"],
)
def test_a_rate_is_counted_in_the_loop_if_that_needs_only_memory(
    entry: dict[str, Any],
    threads: int,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    caches = {"default": {"LOCATION": str(tmp_path), **entry}, "blobs": settings.CACHES["default"]}
    changed = {"CACHES": caches, "BLOBCACHE": {"default": {"CACHE_ALIAS": "blobs"}}}
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"blobcache-stat": "2/day"})

    async def ask_often() -> list[tuple[Answer, int] | None]:
        both = await warmed()
        body = json.dumps({"digests": []}).encode()
        batch = Sent("POST", BATCH, headers=JSON, body=body)
        return [await both(each) for each in (Sent("GET", STAT), batch, Sent("HEAD", STAT))]

    with plain_logs(), override_settings(**changed):
        found = run(ask_often())
    assert [each and (each[0].status, each[1]) for each in found] == [
        (status, threads) for status in ("200", "200", "429")
    ]


def test_a_caller_whose_permissions_are_not_known_is_asked_in_a_thread(
    settings: LazySettings, db: None
) -> None:
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 60}
    token = Token.objects.create(user=user("viewer"))
    client = Client(HTTP_AUTHORIZATION=f"Token {token}")
    kept_callers.forget_all()
    kept_callers._all_barred = 0.0
    kept_callers._barred.clear()
    assert client.get(STAT).status_code == 403  # by the backend for anonymous users
    kept = next(iter(kept_callers._kept.values()))
    try:
        assert "_perm_cache" not in vars(kept.user)
        settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
        sent = Sent("GET", STAT, headers=(("HTTP_AUTHORIZATION", f"Token {token}"),))
        assert not is_answered_in_the_loop(sent)
    finally:
        kept_callers.forget_all()


def test_a_transaction_is_begun_in_a_thread() -> None:
    assert is_answered_in_the_loop(Sent("GET", STAT))
    former = connection.settings_dict["ATOMIC_REQUESTS"]
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        assert not is_answered_in_the_loop(Sent("GET", STAT))
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = former


def is_answered_in_the_loop(sent: Sent) -> bool:
    """Whether the loop would answer. Nothing else does, since a thread would open a database."""

    async def answer() -> bool:
        made = entrance.asgi(ASGIHandler())
        asked = made._asked(scope_of(sent), sent.body)
        assert asked is not None
        assert made._loop.may_begin(sent.body)
        request, address = asked
        return made._loop.takes(address) and await made._loop.answer(request, address) is not None

    return run(answer())


# Redis, and many requests


@pytest.mark.parametrize(
    "fault",
    [
        Replace(b"-ERR something\r\n"),
        Replace(b"*1\r\n:x\r\n"),
        None,
    ],
    ids=["an error", "garbage", "nobody there"],
)
def test_a_fault_of_redis_gets_the_answer_that_django_gives(
    fault: Fault | None, valkey: embedded.Server
) -> None:
    body = json.dumps({"digests": [DIGEST]}).encode()
    table = [
        Sent("GET", STAT),
        Sent("HEAD", f"/api/blobs/{DIGEST}/"),
        Sent("POST", BATCH, headers=JSON, body=body),
    ]

    async def compare() -> None:
        both = Both()
        for sent in table:
            found = await both(sent)
            assert found is not None
            assert found[0].status == "503"
            assert differences(found[0], await ask(both.django, sent)) == []

    with ExitStack() as stack:
        if fault is None:
            stack.enter_context(cache_at("redis://127.0.0.1:1/0"))
        else:
            between = stack.enter_context(proxy(valkey.port))
            stack.enter_context(cache_at(between.url))
            stack.enter_context(between.causes(fault))
        run(compare())


def test_damaged_keys_get_the_answer_that_django_gives(filled: Redis) -> None:
    filled.delete(f"blobs::{DIGEST}")
    filled.hset(f"blobs::{DIGEST}", mapping={"digest": DIGEST, "size": "\xff"})
    filled.set(f"blobs::{OTHER}", "no hash")

    async def compare() -> None:
        both = await warmed()
        for path in (STAT, STAT.replace(DIGEST, OTHER), f"/api/blobs/{OTHER}/"):
            found = await both(Sent("GET", path))
            assert found is not None
            assert (found[0].status, found[1]) == ("404", 0)
            assert differences(found[0], await ask(both.django, Sent("GET", path))) == []

    with plain_logs():
        run(compare())


def read_through(settings: LazySettings, path: Path) -> str:
    """Let stats read through to a storage in this directory; return the digest that it holds."""
    digest = digest_of(b"a blob")
    write(path, data(digest), b"a blob")
    write(path, layer_link("team/app", digest), digest.encode())
    settings.STORAGES = storages(path)
    truth = {
        "BACKEND": "blobcache.backends.storage.StorageBackend",
        "OPTIONS": {"storage": "registry"},
    }
    settings.BLOBCACHE = {"default": {"TRUTH": truth, "READ_THROUGH": True}}
    return digest


def test_read_through_gets_the_answer_that_django_gives(
    filled: Redis, settings: LazySettings, tmp_path: Path
) -> None:
    digest = read_through(settings, tmp_path)
    body = json.dumps({"digests": [DIGEST, digest, UNKNOWN]}).encode()
    table = [
        Sent("GET", STAT),
        Sent("GET", STAT.replace(DIGEST, digest), "cached=only"),
        Sent("GET", STAT.replace(DIGEST, digest)),
        Sent("GET", STAT.replace(DIGEST, UNKNOWN)),
        Sent("POST", BATCH, "", JSON, body),
        Sent("POST", BATCH, "cached=only", JSON, body),
    ]

    async def compare() -> list[tuple[str, str]]:
        both, found = await warmed(), []
        for sent in table:
            answer = await both(sent)
            assert answer is not None
            assert differences(answer[0], await ask(both.django, sent)) == [], sent
            found.append((answer[0].status, answer[0].header("X-Cache")))
        return found

    with plain_logs():
        assert run(compare()) == [
            ("200", "hit"),
            ("404", "miss"),
            ("200", "backend"),
            ("404", "miss"),
            ("200", "backend"),
            ("200", "hit"),
        ]


def test_more_requests_than_may_wait_are_refused_at_once() -> None:
    async def ask_all() -> list[Answer]:
        await warmed()
        application = entrance.asgi(ASGIHandler(), threads=1, waiting=2)
        answers = await asyncio.gather(*(ask(application, Sent("GET", STAT)) for _ in range(5)))
        answers.append(await ask(application, Sent("GET", STAT)))
        return answers

    answers = run(ask_all())
    assert [answer.status for answer in answers] == ["200"] * 3 + ["503"] * 2 + ["200"]
    assert answers[3].header("Retry-After").isdigit()


def test_a_cancelled_request_makes_room_again_and_disturbs_no_other() -> None:
    async def cancel() -> list[Answer]:
        await warmed()
        application = entrance.asgi(ASGIHandler(), threads=1, waiting=1)
        tasks = [
            asyncio.create_task(ask(application, Sent("GET", path)))
            for path in (f"/api/blobs/{UNKNOWN}/", STAT)
        ]
        await asyncio.sleep(0)  # Both have asked Redis.
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        return [await tasks[1], *[await ask(application, Sent("GET", STAT)) for _ in range(3)]]

    answers = run(cancel())
    assert [answer.status for answer in answers] == ["200"] * 4


def test_many_requests_at_once_get_their_own_answers() -> None:
    async def ask_all() -> list[Answer]:
        both = await warmed()
        sent = [Sent("GET", f"/api/blobs/sha256:{number:064x}/") for number in range(200)]
        return await asyncio.gather(*(ask(both.entrance, each) for each in sent))

    with plain_logs():
        for number, answer in enumerate(run(ask_all())):
            assert answer.status == "404"
            assert f"{number:064x}".encode() in answer.body


@pytest.mark.parametrize("path", [STAT, STAT.replace(DIGEST, UNKNOWN)])
def test_nothing_of_a_request_is_left_in_the_loop(path: str) -> None:
    async def what_is_left() -> tuple[int, str | None, str]:
        found = await (await warmed())(Sent("GET", path))
        assert found is not None
        return found[1], get_urlconf(), get_script_prefix()

    assert run(what_is_left()) == (0, None, "/")


def test_each_request_has_its_own_language_and_prefix(settings: LazySettings) -> None:
    settings.LANGUAGE_CODE = "de"

    async def ask_both() -> tuple[Answer, str]:
        both = await warmed()
        headers = (("SCRIPT_NAME", "/portal"),)
        sent = Sent("GET", f"/portal/api/blobs/{UNKNOWN}/", headers=headers)
        answer = await asyncio.create_task(ask(both.entrance, sent))
        assert not both.was_passed
        return answer, get_script_prefix()

    with plain_logs():
        answer, prefix = run(ask_both())
    assert answer.header("Content-Language") == "de"
    assert prefix == "/"
