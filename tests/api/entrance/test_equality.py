"""Through the entrance and through Django, a request gets the same status, headers and body.

A table of requests is made at random, with a seed: methods, credentials, hosts, paths, headers and
bodies, most of them usual and some strange. Each is sent both ways under each kind of host project.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.db.models import QuerySet
from django.test import Client
from redis import Redis
from rest_framework.authtoken.models import Token

from blobcache.api.unchanged import made_as_ours
from blobcache.api.viewsets import DescriptorViewSet
from tests.api.conftest import ALIAS, DIGEST, OTHER, PERSONAS, UNKNOWN, user
from tests.api.entrance.wire import Answer, Both, Sent, by_the_framework

NUMBER = 400
"""Requests of each host project."""

PORTAL = list(django_settings.MIDDLEWARE)

HOSTS: dict[str, dict[str, Any]] = {
    "the demo": {},
    "https and HSTS behind a proxy": {
        "MIDDLEWARE": [
            "project.middleware.ContentSecurityPolicyMiddleware",
            "project.middleware.ClientAddressMiddleware",
            *PORTAL[1:],
        ],
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 60,
        "SECURE_HSTS_PRELOAD": True,
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        "USE_X_FORWARDED_HOST": True,
    },
    "no middleware": {"MIDDLEWARE": []},
    "no sessions": {
        "MIDDLEWARE": [
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
        ]
    },
    "conditional and compressed": {
        "MIDDLEWARE": [
            "django.middleware.gzip.GZipMiddleware",
            "django.middleware.http.ConditionalGetMiddleware",
            "django.middleware.common.BrokenLinkEmailsMiddleware",
            *PORTAL,
        ]
    },
    "logins required": {
        "MIDDLEWARE": [*PORTAL, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    },
    "mounted below a path": {"FORCE_SCRIPT_NAME": "/portal"},
    "www": {"PREPEND_WWW": True},
    "sessions for CSRF": {"CSRF_USE_SESSIONS": True},
    "transactions": {
        "DATABASES_ATOMIC": True,
    },
    "German": {"LANGUAGE_CODE": "de"},
    "no translations": {"USE_I18N": False},
    "limited": {"VISIBLE": "tests.api.grants.team_only"},
    "read only": {"READ_ONLY": True},
    "unknown middleware": {"MIDDLEWARE": [*PORTAL, "tests.api.entrance.hosts.Strange"]},
    "skipped middleware": {
        "MIDDLEWARE": [*PORTAL, "tests.api.entrance.hosts.Idle"],
        "BLOBCACHE_PORTAL": {
            "ENTRANCE_MIDDLEWARE_SKIPPED": ["tests.api.entrance.hosts.Idle"],
        },
    },
    "permissions that fail": {"PERMISSION": "tests.api.entrance.hosts.Fails"},
    "hooks that fail": {"MIDDLEWARE": [*PORTAL, "tests.api.entrance.hosts.FailsLater"]},
}

ANSWERED = {"unknown middleware": 0, "www": 1}
"""How many requests the entrance answers itself, at least; 0 if none at all."""


def weighted(random: Random, usual: Sequence[Any], strange: Sequence[Any]) -> Any:
    """Mostly something usual."""
    return random.choice(strange if random.random() < 0.08 else usual)


def paths() -> tuple[list[str], list[str]]:
    """Usual paths, and strange ones."""
    digests = [DIGEST, OTHER, UNKNOWN, ALIAS]
    usual = [f"/api/blobs/{each}/" for each in digests]
    usual += [
        f"/api/repositories/{name}/blobs/{each}{slash}"
        for name in ("team/app", "other/app", "alone", "none/such", "foo/blobs", "Upper/x")
        for each in digests
        for slash in ("/", "")
    ]
    strange = [
        *("/", "", "//", "/api", "/api/", "/api/live/", "/api/blobs/", "/api/blobs/stat/"),
        *(f"/api/blobs/{each}" for each in ("sha256:ab", "md5:" + "a" * 32, ":", "x", "sha256:é")),
        f"/api/blobs/{DIGEST.upper()}/",
        f"/api/blobs/{DIGEST}%2F",
        f"/api/blobs/{DIGEST}\n/",
        f"/api/blobs/{DIGEST}//",
        f"//api/blobs/{DIGEST}/",
        f"/api/blobs/../blobs/{DIGEST}/",
        f"/api/./blobs/{DIGEST}/",
        f"/api//blobs/{DIGEST}/",
        f"/api/repositories/team%2Fapp/blobs/{DIGEST}/",
        f"/api/repositories/../team/app/blobs/{DIGEST}/",
        f"/api/repositories/team app/blobs/{DIGEST}/",
        f"/api/repositories/tëam/app/blobs/{DIGEST}/",
        f"/api/repositories//blobs/{DIGEST}/",
        f"/api/repositories/{'a/' * 200}b/blobs/{DIGEST}/",
        f"/api/repositories/{'a' * 3000}/blobs/{DIGEST}/",
        f"/static/{DIGEST}",
        f"/portal/api/blobs/{DIGEST}/",
        f"/api/blobs/{DIGEST}/repositories/",
        f"/api/blobs/{DIGEST}/purge/",
        f"/api/blobs/{DIGEST};x/",
        f"/API/blobs/{DIGEST}/",
    ]
    return usual, strange


def headers(random: Random, credentials: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Headers as programs send them, and strange ones."""
    found: dict[str, Any] = {}
    accepted = (
        *("text/html", "text/*", "application/xml", "application/json; indent=2", ""),
        *("application/json, */*;q=0.1", "*/*, */*", "a" * 2000, "application/json;q=0"),
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    )
    found["HTTP_ACCEPT"] = weighted(random, (None, "*/*", "application/json"), accepted)
    hosts = ("evil.example", "", "testserver:99999", "testserver@evil", "a,b", "[::1", "x" * 300)
    found["HTTP_HOST"] = weighted(
        random, ("testserver", "testserver:80", "localhost", "www.localhost", "127.0.0.1"), hosts
    )
    found["HTTP_X_FORWARDED_PROTO"] = weighted(
        random, ("https", "https", None), ("http", "HTTPS", "https, http", "https ")
    )
    found |= random.choice(list(credentials.values()))
    tag = f'"{DIGEST};10;application/octet-stream"'
    extras: list[tuple[str, Any]] = [
        *(
            ("HTTP_IF_NONE_MATCH", each)
            for each in (tag, f"W/{tag}", "*", '"x"', "x", f'"x",{tag}')
        ),
        ("HTTP_IF_MATCH", tag),
        ("HTTP_IF_MODIFIED_SINCE", "Thu, 01 Jan 2099 00:00:00 GMT"),
        *(("HTTP_ACCEPT_LANGUAGE", each) for each in ("de", "en", "*", "xx;q=9", "de;q=0.1, en")),
        ("HTTP_ACCEPT_ENCODING", "gzip"),
        ("HTTP_RANGE", "bytes=0-1"),
        ("HTTP_EXPECT", "100-continue"),
        ("HTTP_TRANSFER_ENCODING", "chunked"),
        ("HTTP_X_FORWARDED_FOR", "198.51.100.7"),
        ("HTTP_X_FORWARDED_FOR", "x, y"),
        ("HTTP_X_FORWARDED_HOST", "localhost"),
        ("HTTP_X_FORWARDED_HOST", "evil.example"),
        ("HTTP_USER_AGENT", "curl/8"),
        ("HTTP_USER_AGENT", "bad bot"),
        ("HTTP_REFERER", "http://testserver/x"),
        ("HTTP_REFERER", "https://elsewhere.example/?q"),
        ("HTTP_ORIGIN", "https://evil.example"),
        ("HTTP_UPGRADE", "h2c"),
        ("HTTP_X_HTTP_METHOD_OVERRIDE", "DELETE"),
        ("HTTP_COOKIE", "django_language=de"),
        ("HTTP_COOKIE", "csrftoken=short; other=1"),
        ("HTTP_COOKIE", "messages=x; sessionid="),
        ("CONTENT_TYPE", "text/plain"),
        ("CONTENT_LENGTH", ""),
        ("CONTENT_LENGTH", "0"),
        ("CONTENT_LENGTH", "-1"),
        ("CONTENT_LENGTH", "x"),
        ("CONTENT_LENGTH", "9" * 30),
        ("SCRIPT_NAME", "/portal"),
        ("SCRIPT_URL", "/portal/api/"),
        ("REMOTE_ADDR", ""),
        ("wsgi.url_scheme", "https"),
    ]
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        name, value = random.choice(extras)
        found[name] = value
    return found


def bodies(random: Random) -> tuple[bytes, str | None]:
    """A body of a batch stat and its media type."""
    usual = [
        json.dumps({"digests": each}).encode()
        for each in ([DIGEST], [DIGEST, OTHER, UNKNOWN], [], [DIGEST] * 3, ["x", DIGEST, "sha256:"])
    ]
    strange = [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"digests": 1}',
        b'{"digests": [1]}',
        b'{"digests": [], "digests": []}',
        b'{"digests": [NaN]}',
        b'{"other": []}',
        b'{"digests": ["\xff"]}',
        b'{"digests": ["\\ud800"]}',
        b"[" * 100_000,
        b'{"digests": [' + b"9" * 5000 + b"]}",
        json.dumps({"digests": [DIGEST] * 1001}).encode(),
        b" " * (1024 * 1024 + 1),
    ]
    types = ("application/json", "application/json; charset=utf-8")
    others = (None, "", "text/plain", "application/x-www-form-urlencoded", "application/json; x=é")
    return weighted(random, usual, strange), weighted(random, types, others)


def requests(seed: int, credentials: dict[str, dict[str, str]]) -> Iterator[Sent]:
    """Yield the requests of the table."""
    random, (usual, strange) = Random(seed), paths()  # noqa: S311 - no secrets
    batches = [
        f"/api/{scope}blobs/stat{slash}"
        for scope in ("", "repositories/team/app/", "repositories/none/such/", "repositories/-/")
        for slash in ("/", "")
    ]
    for _ in range(NUMBER):
        method = weighted(
            random,
            ("GET", "GET", "GET", "HEAD", "HEAD", "POST"),
            ("OPTIONS", "TRACE", "PATCH", "get", "GETT", "DELETE"),
        )
        found = headers(random, credentials)
        body = b""
        if method == "POST":
            path = weighted(random, batches, usual)
            body, kind = bodies(random)
            found = {"CONTENT_TYPE": kind, **found}
        else:
            path = weighted(random, usual, [*strange, *batches])
            if random.random() < 0.02:
                body = b"a body that nobody reads"
        query = weighted(
            random,
            ("", "", "", "cached=only"),
            (
                "cached=no",
                "cached=only&cached=only",
                "x=1",
                "format=json",
                "format=api",
                "&",
                "%ff",
            ),
        )
        yield Sent(method, path, query, tuple(found.items()), body)


@pytest.fixture
def credentials(users: None, db: None) -> dict[str, dict[str, str]]:
    """The headers of each kind of caller."""
    found: dict[str, dict[str, str]] = {"nobody said": {}}
    for persona in PERSONAS:
        if persona == "anonymous":
            continue
        someone = user(persona)
        token, _ = Token.objects.get_or_create(user=someone)
        found[f"token of {persona}"] = {"HTTP_AUTHORIZATION": f"Token {token}"}
    client = Client()
    client.force_login(user("viewer"), backend="django.contrib.auth.backends.ModelBackend")
    session = client.cookies["sessionid"].value
    found["session"] = {"HTTP_COOKIE": f"sessionid={session}"}
    found["session and token"] = found["session"] | found["token of granted"]
    found["no such session"] = {"HTTP_COOKIE": "sessionid=abcdefghij"}
    gone = user("gone")
    gone.is_active = False
    gone.save()
    found["deactivated"] = {"HTTP_AUTHORIZATION": f"Token {Token.objects.create(user=gone)}"}
    for text in (
        "Token",
        "Token a b",
        "Token x",
        "Bearer x",
        "Basic eDp5",
        "basic",
        "x" * 5000,
        "é",
    ):
        found[text[:10]] = {"HTTP_AUTHORIZATION": text}
    return found


class ReadOnce:
    """The names of permissions, as Django's backend asks a query for them."""

    def __init__(self, permissions: QuerySet[Permission]) -> None:
        self._names = [
            *permissions.values_list("content_type__app_label", "codename").order_by(),
        ]

    def values_list(self, *_: str) -> ReadOnce:
        return self

    def order_by(self) -> ReadOnce:
        return self

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._names)


@pytest.fixture
def permissions_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Query the permissions of each user once: no request changes them."""
    for name in ("_get_user_permissions", "_get_group_permissions"):
        query = getattr(ModelBackend, name)
        found: dict[int, ReadOnce] = {}

        def read(
            backend: ModelBackend,
            caller: User,
            query: Callable[..., QuerySet[Permission]] = query,
            found: dict[int, ReadOnce] = found,
        ) -> ReadOnce:
            if caller.pk not in found:
                found[caller.pk] = ReadOnce(query(backend, caller))
            return found[caller.pk]

        monkeypatch.setattr(ModelBackend, name, read)


@contextmanager
def as_(host: dict[str, Any], settings: LazySettings) -> Iterator[None]:
    """Run as this host project."""
    special = {"DATABASES_ATOMIC", "VISIBLE", "READ_ONLY", "PERMISSION"}
    settings.ALLOWED_HOSTS = ["testserver", "localhost", "www.localhost", "127.0.0.1"]
    settings.ROOT_URLCONF = "tests.api.entrance.hosts"
    for name, value in host.items():
        if name not in special:
            setattr(settings, name, value)
    entry: dict[str, object] = {"READ_ONLY": host.get("READ_ONLY", False)}
    if "VISIBLE" in host:
        entry["VISIBLE_REPOSITORIES"] = host["VISIBLE"]
    if "PERMISSION" in host:
        entry["API_PERMISSION_CLASSES"] = [host["PERMISSION"]]
    settings.BLOBCACHE = {"default": entry}
    former = connection.settings_dict["ATOMIC_REQUESTS"]
    connection.settings_dict["ATOMIC_REQUESTS"] = host.get("DATABASES_ATOMIC", False)
    try:
        yield
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = former


def differences(answer: Answer, expected: Answer) -> list[object]:
    """What is not the same in two responses."""
    others = sorted({*answer.headers} ^ {*expected.headers})
    if ("Content-Type", "text/html; charset=utf-8") in expected.headers:  # with a random token
        others = [each for each in others if each[0] != "ETag"]
    found: list[object] = [*others]
    if answer.status != expected.status:
        found.append((answer.status, expected.status))
    if answer.body != expected.body:
        found.append((answer.body[:300], expected.body[:300]))
    return found


@pytest.mark.long(few=1)
@pytest.mark.usefixtures("permissions_are_read_once", "unlogged")
@pytest.mark.parametrize("name", HOSTS)
def test_the_entrance_answers_as_django_does(
    name: str,
    filled: Redis,
    credentials: dict[str, dict[str, str]],
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, compared = 0, 0
    asked: list[DescriptorViewSet] = []

    def noticed(viewset: DescriptorViewSet) -> bool:
        asked.append(viewset)
        return made_as_ours(viewset)

    monkeypatch.setattr("blobcache.api.viewsets.made_as_ours", noticed)
    with as_(HOSTS[name], settings):
        ask = Both()
        for sent in requests(sum(name.encode()), credentials):
            asked.clear()
            expected, answer, is_own = ask(sent)
            assert differences(answer, expected) == [], sent
            if asked:  # else the framework has answered already
                compared += 1
                assert differences(by_the_framework(sent, ask.django), expected) == [], sent
            answered += is_own
    least = ANSWERED.get(name, NUMBER // 8)
    assert answered >= least
    assert least or not answered
    assert compared >= NUMBER // 10


@pytest.mark.long(few=1)
@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("fault", ["Redis", "database"])
def test_the_entrance_answers_as_django_does_under_a_fault(
    fault: str, credentials: dict[str, dict[str, str]], settings: LazySettings, filled: Redis
) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("the database is down")

    with as_({}, settings):
        if fault == "Redis":
            settings.CACHES = {
                "default": {
                    "BACKEND": "django_redis.cache.RedisCache",
                    "LOCATION": "redis://127.0.0.1:1/0",
                }
            }
        ask, answered = Both(), 0
        for sent in requests(1, credentials):
            if fault == "database":
                with connection.execute_wrapper(refuse):
                    expected, answer, is_own = ask(sent)
            else:
                expected, answer, is_own = ask(sent)
            assert differences(answer, expected) == [], sent
            answered += is_own and answer.status.startswith("503")
    assert answered > 10
