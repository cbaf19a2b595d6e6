"""The headers that middleware gives to a stat are remembered, and are those that Django gives."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.test import override_settings
from django.utils import translation
from redis import Redis
from rest_framework.authtoken.models import Token

from blobcache.api import entrance
from blobcache.api.at_once import Stat, stat_at_once
from blobcache.api.callers import kept_callers
from blobcache.api.entrance import heads
from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from blobcache.services.cached import Source
from tests.api.conftest import DIGEST, OTHER, UNKNOWN, user
from tests.api.entrance import hosts
from tests.api.entrance.test_asgi import ask
from tests.api.entrance.wire import Answer, Both, Sent, environ, send

HOSTS = "tests.api.entrance.hosts"
PORTAL = list(django_settings.MIDDLEWARE)
BLOB = f"/api/blobs/{DIGEST}/"
LARGE = f"/api/repositories/team/app/blobs/{OTHER}/"
MISSING = f"/api/blobs/{UNKNOWN}/"


@pytest.fixture(autouse=True)
def _host(db: None, filled: Redis, settings: LazySettings) -> Iterator[None]:
    settings.ALLOWED_HOSTS = ["testserver", "other"]
    settings.AUTHENTICATION_BACKENDS = [
        f"{HOSTS}.DeclaringPublic",
        "django.contrib.auth.backends.ModelBackend",
    ]
    settings.ROOT_URLCONF = HOSTS
    large = Descriptor(OTHER, 123_456_789_012, "application/vnd.example+json; é")
    get_provider().repository_scoped("team/app").set_descriptor(OTHER, large)
    hosts.Counts.calls = 0
    yield
    kept_callers.forget_all()


def equal(made: Both, *requests: Sent) -> list[Answer]:
    """Send requests both ways, one after another; return the answers, which are the same."""
    found = []
    for each in requests:
        expected, answer, is_own = made(each)
        assert is_own
        assert answer == expected
        found.append(answer)
    return found


def remembered(made: Both) -> int:
    """For how many kinds of responses the headers are remembered."""
    return len(made.entrance.handler.heads._heads)


def test_each_blob_gets_its_own_headers_and_the_others_are_remembered(
    settings: LazySettings,
) -> None:
    settings.MIDDLEWARE = [f"{HOSTS}.Counts", *PORTAL]
    made = Both()
    first, second, missing = equal(made, Sent("GET", BLOB), Sent("GET", BLOB), Sent("GET", MISSING))
    assert first == second
    assert missing.status.startswith("404")
    large, again, head = equal(made, *[Sent("GET", LARGE)] * 2, Sent("HEAD", LARGE))
    assert large == again
    assert large.header("ETag") != first.header("ETag")
    assert json.loads(large.body)["size"] == 123_456_789_012
    assert head == large._replace(body=b"")
    assert remembered(made) == 2  # globally, and in repositories


def test_middleware_is_asked_once_for_each_kind_of_response(settings: LazySettings) -> None:
    settings.MIDDLEWARE = [f"{HOSTS}.Counts", *PORTAL]
    application = Both().entrance
    for _ in range(3):
        assert send(application, Sent("GET", BLOB)).header("X-Same") == "yes"
        assert send(application, Sent("HEAD", BLOB)).header("X-Same") == "yes"
    assert hosts.Counts.calls == 1
    send(application, Sent("GET", MISSING))
    send(application, Sent("GET", MISSING))
    assert hosts.Counts.calls == 3  # an error is no such response


def test_middleware_is_asked_once_in_an_event_loop_too(settings: LazySettings) -> None:
    settings.MIDDLEWARE = [f"{HOSTS}.Counts", *PORTAL]

    async def answers() -> list[Answer]:
        application = entrance.asgi(ASGIHandler())
        return [await ask(application, Sent(method, BLOB)) for method in ("GET", "HEAD") * 2]

    get, head, *again = asyncio.run(answers())
    assert hosts.Counts.calls == 1
    assert again == [get, head]
    assert get.status == "200"
    assert get[1:] == send(Both().django, Sent("GET", BLOB))[1:]
    assert head.body == b""


@pytest.mark.parametrize(
    "path",
    [
        f"{HOSTS}.GetsItsHookLater",
        f"{HOSTS}.InheritsThatItSetsTheSame",
        f"{HOSTS}.SetsACookie",
        f"{HOSTS}.ChangesTheBody",
        f"{HOSTS}.ChangesTheStatus",
        f"{HOSTS}.ChangesTheTag",
        f"{HOSTS}.ReadsTheRoute",
        f"{HOSTS}.SpellsTheTagInItsWay",
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
    ],
)
def test_nothing_is_remembered_with_other_middleware(path: str, settings: LazySettings) -> None:
    settings.MIDDLEWARE = [path, *PORTAL]
    made = Both()
    equal(made, Sent("GET", BLOB), Sent("GET", LARGE), Sent("GET", BLOB), Sent("GET", MISSING))
    assert not remembered(made)


def test_what_a_response_depends_on_is_part_of_its_kind(settings: LazySettings) -> None:
    settings.SECURE_HSTS_SECONDS = 60
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 60}
    token = Token.objects.create(user=user("superuser"))
    made = Both()
    variants: list[tuple[tuple[str, str], ...]] = [
        (),
        (("HTTP_X_FORWARDED_PROTO", "https"),),
        (("HTTP_HOST", "other"),),
        (("HTTP_AUTHORIZATION", f"Token {token}"),),
        (("HTTP_AUTHORIZATION", f"Token {token}"), ("HTTP_X_FORWARDED_PROTO", "https")),
    ]
    paths = (BLOB, LARGE, f"/short/{DIGEST}/", f"/mine/{DIGEST}/")
    requests = [Sent("GET", path, headers=each) for path in paths for each in variants]
    for _ in range(3):
        equal(made, *requests)
    tag = equal(made, Sent("GET", BLOB))[0].header("ETag")
    (unchanged, whole) = equal(
        made,
        Sent("GET", BLOB, headers=(("HTTP_IF_NONE_MATCH", tag),)),
        Sent("GET", BLOB, headers=(("HTTP_IF_NONE_MATCH", '"x"'),)),
    )
    assert unchanged.status.startswith("304")
    assert whole.status.startswith("200")


def test_whether_a_session_was_needed_counts(settings: LazySettings) -> None:
    settings.MIDDLEWARE = [*PORTAL, f"{HOSTS}.VariesByNothingElse"]
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 60}
    token = Token.objects.create(user=user("superuser"))
    kept_callers.forget_all()
    kept_callers._all_barred = 0.0
    kept_callers._barred.clear()
    nobody = Sent("GET", BLOB)
    kept = Sent("GET", BLOB, headers=(("HTTP_AUTHORIZATION", f"Token {token}"),))
    send(Both().django, kept)  # which keeps the caller
    varies = [each.header("Vary") for each in equal(Both(), nobody, kept, nobody, kept)]
    assert varies == ["Accept, Accept-Language, Cookie", "Accept, Accept-Language"] * 2


def test_middleware_may_say_that_a_request_is_secure(settings: LazySettings) -> None:
    settings.SECURE_HSTS_SECONDS = 60
    settings.MIDDLEWARE = [f"{HOSTS}.KnowsWhatIsSecure", *PORTAL]
    requests = Sent("GET", BLOB), Sent("GET", BLOB, headers=(("HTTP_X_TLS", "1"),))
    plain, secure, *_ = equal(Both(), *requests * 2)
    assert plain != secure


def test_a_changed_setting_is_seen_at_once() -> None:
    made = Both()
    before = equal(made, Sent("GET", BLOB), Sent("GET", BLOB))[0]
    for changed in (
        {"SECURE_REFERRER_POLICY": "no-referrer"},
        {"X_FRAME_OPTIONS": "SAMEORIGIN"},
        {"LANGUAGE_CODE": "de"},
    ):
        with override_settings(**changed):
            equal(Both(), Sent("GET", BLOB), Sent("GET", BLOB))
    with override_settings(X_FRAME_OPTIONS="SAMEORIGIN"):
        assert equal(made, Sent("GET", BLOB)) != [before]
    with override_settings(BLOBCACHE={"default": {}}):
        assert equal(made, *[Sent("GET", BLOB)] * 2) == [before, before]
        django_settings.BLOBCACHE["default"]["READ_ONLY"] = True
        assert equal(made, Sent("GET", BLOB))[0].header("Allow") != before.header("Allow")
    assert equal(made, Sent("GET", BLOB)) == [before]


@pytest.mark.parametrize("act", ["session", "message", "csrf", "language", "locked out"])
def test_what_is_done_before_the_view_has_its_effect(act: str, settings: LazySettings) -> None:
    settings.MIDDLEWARE = [*PORTAL, f"{HOSTS}.Acts"]
    made = Both()
    usual, acting = Sent("GET", BLOB), Sent("GET", BLOB, headers=(("HTTP_X_ACT", act),))
    before, _, after, again = equal(made, usual, usual, acting, usual)
    assert before == again
    assert before != after


def test_what_a_response_depends_on_may_be_over_when_it_is_remembered(
    settings: LazySettings,
) -> None:
    settings.MIDDLEWARE = [f"{HOSTS}.SpeaksTheUsualAgain", *PORTAL, f"{HOSTS}.Acts"]
    german = Sent("GET", BLOB, headers=(("HTTP_X_ACT", "language"),))
    for requests in ((german, Sent("GET", BLOB)), (Sent("GET", BLOB), german)):
        answers = equal(Both(), *requests * 2)
        assert {each.header("Content-Language") for each in answers} == {"de", "en"}


@pytest.mark.parametrize("path", [BLOB, MISSING, f"/api/blobs/{OTHER[:-1]}/"])
def test_a_language_that_was_active_in_the_thread_has_no_effect(path: str) -> None:
    made = Both()
    (expected,) = equal(made, Sent("GET", path))
    for _ in range(2):
        with translation.override("de"):
            assert send(made.entrance, Sent("GET", path)) == expected
    assert expected.header("Content-Language") == "en"


def test_a_language_that_a_backend_activates_is_that_of_the_response(
    settings: LazySettings,
) -> None:
    before = equal(Both(), *[Sent("GET", BLOB)] * 2)
    settings.AUTHENTICATION_BACKENDS = [f"{HOSTS}.SpeaksGerman"]
    after = equal(Both(), *[Sent("GET", BLOB)] * 3)
    assert {each.header("Content-Language") for each in before} == {"en"}
    assert {each.header("Content-Language") for each in after} == {"de"}


def test_a_response_that_says_where_it_comes_from_is_of_another_kind() -> None:
    handler = Both().entrance.handler
    request = handler.request_class(environ(Sent("GET", BLOB)))
    address = handler.address_of(request)
    assert address is not None
    handler.answer(request, address)
    stat = stat_at_once(address.view, request, address.variables)
    assert isinstance(stat, Stat)
    assert handler.heads.brief(handler.key(request, stat), stat)
    stat.view.source = Source.HIT
    assert handler.heads.brief(handler.key(request, stat), stat) is None


def test_an_error_in_what_django_does_not_call_changes_nothing(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> bool:
        raise LookupError

    monkeypatch.setattr(HttpRequest, "is_secure", fails)
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware"]
    equal(Both(), Sent("GET", BLOB), Sent("GET", BLOB))

    async def ask_both() -> list[Answer]:
        applications = entrance.asgi(ASGIHandler()), ASGIHandler()
        return [await ask(application, Sent("GET", BLOB)) for application in applications]

    answer, expected = asyncio.run(ask_both())
    assert answer == expected
    assert answer.status == "200"


def test_a_wrong_setting_that_django_does_not_read_changes_nothing(settings: LazySettings) -> None:
    settings.MIDDLEWARE = []
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO",)
    equal(Both(), Sent("GET", BLOB), Sent("GET", BLOB))


if django.VERSION >= (6,):  # which has the middleware

    @pytest.mark.parametrize("makes", [True, False])
    def test_no_nonce_is_used_twice(*, makes: bool, settings: LazySettings) -> None:
        settings.SECURE_CSP = {"script-src": ["'self'", "<CSP_NONCE_SENTINEL>"]}
        settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware"]
        if makes:
            settings.MIDDLEWARE += [f"{HOSTS}.MakesANonce"]
        made = Both()
        answers = [send(made.entrance, Sent("GET", BLOB)) for _ in range(3)]
        assert not made.passed
        policies = {each.header("Content-Security-Policy") for each in answers}
        assert len(policies) == (3 if makes else 1)
        assert remembered(made) == (0 if makes else 1)


def test_only_so_many_kinds_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_MAXIMUM", 1)
    made = Both()
    for _ in range(2):
        equal(made, Sent("GET", BLOB), Sent("GET", LARGE))
        assert remembered(made) == 1


def test_middleware_can_read_the_route_and_so_can_a_view(settings: LazySettings) -> None:
    settings.MIDDLEWARE = [f"{HOSTS}.ReadsTheRoute", *PORTAL]
    found: list[Any] = equal(Both(), Sent("GET", f"/mine/{DIGEST}/"), Sent("GET", MISSING))
    assert found[0].header("X-Route") == "mine/<digest>/"


def test_a_request_leaves_nothing_to_the_garbage_collection() -> None:
    application, sent = Both().entrance, Sent("GET", BLOB)
    send(application, sent)
    send(application, sent)

    def left() -> int:
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                send(application, sent)
            return gc.collect()
        finally:
            gc.enable()

    # Another thread of the process may leave something at any time.
    assert min(left() for _ in range(3)) < 10
