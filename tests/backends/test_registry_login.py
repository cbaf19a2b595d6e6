"""How the backend over HTTP logs in, and who never gets to see what it logs in with."""

from __future__ import annotations

import json
import logging
import ssl
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.views.debug import ExceptionReporter

from blobcache.backends.registry import RegistryBackend
from blobcache.backends.registry_http import Client
from blobcache.backends.registry_options import RegistryOptions
from blobcache.backends.tokens import Challenge, basic, challenges
from blobcache.exceptions import BackendUnavailable
from blobcache.services.truth import Answer, Doubt, Present, Reachable, Unknown
from tests.backends.cases import CASES
from tests.backends.hostile import Request, Script, Server, response, serving
from tests.backends.test_registry import fits
from tests.backends.test_registry_answers import DIGEST, NAME, first_byte
from tests.backends.token_server import TokenServer
from tests.interop.registry import Registry, running_registry

USER, PASSWORD = "bob", "correct horse"
HTPASSWD = "bob:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"

ASKED = [case for case in CASES if case.repository is not None]
HEALTHY = CASES[0]
ALL = {f"repository:{case.repository}:pull" for case in ASKED} | {"registry:catalog:*"}


def backend_of(
    url: str, clock: Callable[[], float] | None = None, **options: Any
) -> RegistryBackend:
    """Return a backend that repeats nothing, and logs in as the user unless it is told not to."""
    given = {"url": url, "retries": 0, "username": USER, "password": PASSWORD, **options}
    clocks = {} if clock is None else {"clock": clock}
    return RegistryBackend(Client(RegistryOptions(given), **clocks))


def assert_denied(answer: object) -> str:
    assert isinstance(answer, Unknown)
    assert answer.doubt is Doubt.DENIED
    assert PASSWORD not in answer.reason
    return answer.reason


def bearer(realm: str, **more: str) -> bytes:
    parameters = {"realm": realm, "service": "registry.example.com", **more}
    joined = ",".join(f'{name}="{value}"' for name, value in parameters.items())
    return response(401, WWW_Authenticate=f"Bearer {joined}")


# Real registries


@pytest.fixture(scope="module")
def with_passwords(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("htpasswd")
    users = directory / "users"
    users.write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "registry", "path": str(users)}}
    with running_registry(directory, storage=tree, auth=auth) as registry:
        yield registry


class TestPasswords:
    @pytest.mark.parametrize("case", ASKED, ids=str)
    def test_the_answers_are_those_without(self, case: Any, with_passwords: Registry) -> None:
        backend = backend_of(f"http://{with_passwords.address}")
        assert fits(case.expected[2], backend.stat(case.digest, case.repository))

    def test_everything_else_logs_in_too(self, with_passwords: Registry) -> None:
        backend = backend_of(f"http://{with_passwords.address}")
        assert isinstance(backend.root(), Reachable)
        assert HEALTHY.repository in list(backend.repositories())
        assert list(backend.members(str(HEALTHY.repository))) == []
        with backend.open(HEALTHY.digest, HEALTHY.repository) as file:
            assert file.read() == b"the bytes of own-digest"

    @pytest.mark.parametrize(
        "options", [{"password": "wrong"}, {"username": None, "password": None}]
    )
    def test_a_wrong_password_is_unknown(self, options: Any, with_passwords: Registry) -> None:
        backend = backend_of(f"http://{with_passwords.address}", **options)
        for _ in range(2):
            assert_denied(backend.stat(HEALTHY.digest, HEALTHY.repository))
            assert_denied(backend.root())
            with pytest.raises(BackendUnavailable):
                list(backend.repositories())


class WithTokens:
    """A registry that asks for tokens, and the server that issues them."""

    def __init__(self, registry: Registry, server: Server, tokens: TokenServer) -> None:
        self.registry, self.server, self.tokens = registry, server, tokens

    @property
    def url(self) -> str:
        return f"http://{self.registry.address}"


@pytest.fixture(scope="module")
def _with_tokens(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithTokens]:
    directory = tmp_path_factory.mktemp("tokens")
    tokens = TokenServer(USER, PASSWORD, ALL)
    with serving(tokens) as server:
        auth = tokens.settings(f"{server.url}/token", directory)
        with running_registry(directory, storage=tree, auth=auth) as registry:
            yield WithTokens(registry, server, tokens)


@pytest.fixture
def with_tokens(_with_tokens: WithTokens) -> WithTokens:
    tokens = _with_tokens.tokens
    tokens.granted, tokens.name, tokens.expires_in, tokens.issued = set(ALL), "token", 300, 0
    _with_tokens.server.requests.clear()
    return _with_tokens


class TestTokens:
    def test_the_answers_are_those_without(self, with_tokens: WithTokens) -> None:
        backend = backend_of(with_tokens.url)
        for case in ASKED:
            assert fits(case.expected[2], backend.stat(case.digest, case.repository)), case

    def test_everything_else_gets_one_too(self, with_tokens: WithTokens) -> None:
        backend = backend_of(with_tokens.url)
        assert isinstance(backend.root(), Reachable)
        assert HEALTHY.repository in list(backend.repositories())
        with backend.open(HEALTHY.digest, HEALTHY.repository) as file:
            assert file.read() == b"the bytes of own-digest"

    def test_a_token_is_for_one_repository_and_for_pulling_alone(
        self, with_tokens: WithTokens
    ) -> None:
        backend_of(with_tokens.url).stat(HEALTHY.digest, HEALTHY.repository)
        (request,) = with_tokens.server.requests
        assert request.query == [
            ("service", "registry.example.com"),
            ("scope", f"repository:{HEALTHY.repository}:pull"),
        ]

    def test_a_token_is_used_until_it_expires(self, with_tokens: WithTokens) -> None:
        now = 0.0
        backend = backend_of(with_tokens.url, lambda: now)
        for seconds in (0, 100, 269, 271):  # a tenth of its life is left
            now = float(seconds)
            assert isinstance(backend.stat(HEALTHY.digest, HEALTHY.repository), Present)
            assert with_tokens.tokens.issued == (1 if seconds < 270 else 2)

    @pytest.mark.parametrize("life", [None, "300", -1, 1.5, True, 10**30])
    def test_a_life_that_is_none_is_a_minute(self, life: object, with_tokens: WithTokens) -> None:
        with_tokens.tokens.expires_in = life
        now = 0.0
        backend = backend_of(with_tokens.url, lambda: now)
        longest = 3600 if life == 10**30 else 60
        for seconds in (0, 0.9 * longest - 1, longest):
            now = float(seconds)
            assert isinstance(backend.stat(HEALTHY.digest, HEALTHY.repository), Present)
        assert with_tokens.tokens.issued == 2

    def test_threads_that_need_the_same_token_share_it(self, with_tokens: WithTokens) -> None:
        backend = backend_of(with_tokens.url)
        with ThreadPoolExecutor(8) as threads:
            looks = [
                threads.submit(backend.stat, HEALTHY.digest, HEALTHY.repository) for _ in range(24)
            ]
        assert all(isinstance(look.result(), Present) for look in looks)
        assert with_tokens.tokens.issued == 1

    def test_a_token_may_have_another_name(self, with_tokens: WithTokens) -> None:
        with_tokens.tokens.name = "access_token"
        answer = backend_of(with_tokens.url).stat(HEALTHY.digest, HEALTHY.repository)
        assert isinstance(answer, Present)

    def test_too_little_access_is_unknown(self, with_tokens: WithTokens) -> None:
        with_tokens.tokens.granted = set()
        backend = backend_of(with_tokens.url)
        reason = assert_denied(backend.stat(HEALTHY.digest, HEALTHY.repository))
        assert "insufficient_scope" in reason
        assert with_tokens.tokens.issued == 1
        assert isinstance(backend.root(), Reachable)  # without its catalog

    def test_a_wrong_password_is_unknown(self, with_tokens: WithTokens) -> None:
        backend = backend_of(with_tokens.url, password="wrong")
        assert_denied(backend.stat(HEALTHY.digest, HEALTHY.repository))
        assert with_tokens.tokens.issued == 0


# Registries that are after the password


def asking(url: Callable[[], str] | str, **more: str) -> Script:
    """Return a registry that asks for a token of that realm, and is content with any."""

    def script(request: Request) -> bytes:
        if str(request.headers["Authorization"]).startswith("Bearer "):
            return first_byte()
        return bearer(url if isinstance(url, str) else url(), **more)

    return script


def issuing(request: Request) -> bytes:
    return response(200, json.dumps({"token": "abc.def-_~+/=="}))


def headers_of(server: Server) -> list[object]:
    return [request.headers["Authorization"] for request in server.requests]


REALMS = {
    "another host": "https://auth.example.com/token",
    "a host that begins like ours": "https://127.0.0.1.example.com/token",
    "no TLS": "http://registry.example.com/token",
    "a user": "http://127.0.0.1@auth.example.com/token",
    "a user of ours": "http://auth.example.com@127.0.0.1/token",
    "a file": "file:///etc/passwd",
    "nothing": "",
    "a path": "/token",
    "a space": "http://127.0.0.1 .example.com/",
    "a backslash": "http://127.0.0.1\\\\@auth.example.com/",
    "a wrong port": "http://127.0.0.1:99999/token",
    "much": "http://127.0.0.1/" + "a" * 9000,
}


class TestChallenges:
    @pytest.mark.parametrize("name", REALMS)
    def test_a_realm_elsewhere_is_not_asked(self, name: str) -> None:
        with serving(asking(REALMS[name])) as server:
            assert_denied(backend_of(server.url).stat(DIGEST, NAME))
        assert headers_of(server) == [None]

    def test_a_realm_on_another_host_gets_nothing(self) -> None:
        with (
            serving(issuing) as tokens,
            serving(asking(f"http://localhost:{tokens.port}/token")) as server,
        ):
            assert "token_hosts" in assert_denied(backend_of(server.url).stat(DIGEST, NAME))
        assert tokens.requests == []

    def test_unless_the_options_name_it(self) -> None:
        with (
            serving(issuing) as tokens,
            serving(asking(f"http://localhost:{tokens.port}/token?a=b#c")) as server,
        ):
            backend = backend_of(server.url, token_hosts=[f"LOCALHOST:{tokens.port}"])
            assert isinstance(backend.stat(DIGEST, NAME), Present)
        assert headers_of(tokens) == [basic(USER, PASSWORD)]
        assert tokens.requests[0].query[0] == ("a", "b")
        assert headers_of(server) == [None, "Bearer abc.def-_~+/=="]

    def test_and_then_over_tls_alone(self) -> None:
        with serving(asking("http://auth.invalid/token")) as server:
            backend = backend_of(server.url, token_hosts=["auth.invalid:80"])
            assert "without TLS" in assert_denied(backend.stat(DIGEST, NAME))

    def test_more_than_reading_is_never_requested(self) -> None:
        scope = "repository:team/secret:pull repository:team/app:pull,push,delete"
        with (
            serving(issuing) as tokens,
            serving(asking(lambda: f"{tokens.url}/", scope=scope)) as server,
        ):
            assert isinstance(backend_of(server.url).stat(DIGEST, NAME), Present)
        scopes = [value for name, value in tokens.requests[0].query if name == "scope"]
        assert scopes == [f"repository:{NAME}:pull"]

    def test_a_registry_that_is_never_content_gets_two_requests(self) -> None:
        with serving(issuing) as tokens:
            with serving(lambda _: bearer(tokens.url, error="invalid_token")) as server:
                assert "invalid_token" in assert_denied(backend_of(server.url).stat(DIGEST, NAME))
            assert len(server.requests) == 2
            assert len(tokens.requests) == 1

    def test_a_token_that_is_refused_is_replaced_once(self) -> None:
        numbers = count(1)
        valid = {"Bearer t1"}

        def issue(_: Request) -> bytes:
            return response(200, json.dumps({"token": f"t{next(numbers)}"}))

        with serving(issue) as tokens:

            def script(request: Request) -> bytes:
                if request.headers["Authorization"] in valid:
                    return first_byte()
                return bearer(tokens.url)

            with serving(script) as server:
                backend = backend_of(server.url)
                assert isinstance(backend.stat(DIGEST, NAME), Present)
                valid = {"Bearer t2"}
                assert isinstance(backend.stat(DIGEST, NAME), Present)
        assert headers_of(server) == [None, "Bearer t1", "Bearer t1", "Bearer t2"]

    @pytest.mark.parametrize(
        ("answer", "doubt"),
        [
            (response(401), Doubt.DENIED),
            (response(403), Doubt.DENIED),
            (response(429, Retry_After="1"), Doubt.THROTTLED),
            (response(500), Doubt.FAILED),
            (response(302, Location="http://localhost/"), Doubt.FAILED),
            (response(200, "no JSON"), Doubt.FAILED),
            (response(200, "[" * 30_000), Doubt.FAILED),
            (response(200, "[]"), Doubt.FAILED),
            (response(200, "{}"), Doubt.FAILED),
            (response(200, '{"token": ""}'), Doubt.FAILED),
            (response(200, '{"token": 1}'), Doubt.FAILED),
            (response(200, '{"token": "a\\r\\nX: y"}'), Doubt.FAILED),
            (response(200, '{"token": "a b"}'), Doubt.FAILED),
            (response(200, '{"token": "abc"' + " " * 70_000 + "}"), Doubt.FAILED),
            (response(200, '{"token": "abc"}', Content_Length="99"), Doubt.FAILED),
            (b"", Doubt.FAILED),
        ],
    )
    def test_a_token_server_that_issues_none(self, answer: bytes, doubt: Doubt) -> None:
        with serving(lambda _: answer) as tokens, serving(asking(tokens.url)) as server:
            found = backend_of(server.url).stat(DIGEST, NAME)
        assert isinstance(found, Unknown)
        assert found.doubt is doubt
        assert len(server.requests) == 1

    def test_without_a_user_a_token_is_requested_by_nobody(self) -> None:
        with serving(issuing) as tokens, serving(asking(tokens.url)) as server:
            backend = backend_of(server.url, username=None, password=None)
            assert isinstance(backend.stat(DIGEST, NAME), Present)
        assert headers_of(tokens) == [None]

    def test_a_password_is_sent_when_it_is_asked_for_and_not_before(self) -> None:
        def script(request: Request) -> bytes:
            if request.headers["Authorization"] == basic(USER, PASSWORD):
                return first_byte()
            return response(401, WWW_Authenticate='Negotiate, basic realm="a, Bearer realm=b"')

        with serving(script) as server:
            backend = backend_of(server.url)
            for _ in range(2):
                assert isinstance(backend.stat(DIGEST, NAME), Present)
        assert headers_of(server) == [None, basic(USER, PASSWORD), basic(USER, PASSWORD)]

    def test_a_password_that_was_refused_is_not_sent_twice(self) -> None:
        with serving(lambda _: response(401, WWW_Authenticate="Basic realm=a")) as server:
            backend = backend_of(server.url)
            for _ in range(2):
                assert_denied(backend.stat(DIGEST, NAME))
        assert headers_of(server) == [None, basic(USER, PASSWORD), basic(USER, PASSWORD)]

    @pytest.mark.parametrize(
        "header",
        ["Negotiate", "Digest realm=a", "", ",,,", "=", "Basic" * 5000, '"Basic"', "Bas\xefic"],
        ids=lambda header: header[:10],
    )
    def test_other_ways_to_log_in_are_not_taken(self, header: str) -> None:
        with serving(lambda _: response(401, WWW_Authenticate=header)) as server:
            assert_denied(backend_of(server.url).stat(DIGEST, NAME))
        assert headers_of(server) == [None]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_leads_away_from_the_password(host: str) -> None:
    """To another port, or to another host."""
    with serving(lambda _: first_byte()) as other:

        def script(request: Request) -> bytes:
            if request.headers["Authorization"] is None:
                return response(401, WWW_Authenticate="Basic realm=a")
            return response(307, Location=f"http://{host}:{other.port}/key")

        with serving(script) as server:
            backend = backend_of(server.url)
            for _ in range(2):
                assert isinstance(backend.stat(DIGEST, NAME), Present)
    assert headers_of(other) == [None, None]
    assert headers_of(server)[1:] == [basic(USER, PASSWORD)] * 2


def test_not_even_a_redirect_to_the_registry_itself_takes_it_along() -> None:
    def script(request: Request) -> bytes:
        if request.path == "/key":
            return first_byte()
        if request.headers["Authorization"] is None:
            return response(401, WWW_Authenticate="Basic realm=a")
        return response(307, Location="/key")

    with serving(script) as server:
        assert isinstance(backend_of(server.url).stat(DIGEST, NAME), Present)
    assert headers_of(server) == [None, basic(USER, PASSWORD), None]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic", [("basic", {})]),
        ('Bearer realm="a",service=b', [("bearer", {"realm": "a", "service": "b"})]),
        ('Bearer realm = "a" , x=""', [("bearer", {"realm": "a", "x": ""})]),
        ('A x="1, B y=2", B z=3', [("a", {"x": "1, B y=2"}), ("b", {"z": "3"})]),
        (r'A x="q\"q\\"', [("a", {"x": 'q"q\\'})]),
        ("A x=1,x=2", [("a", {"x": "1"})]),
        ("A, B", [("a", {}), ("b", {})]),
        ('A x="never ends', [("a", {"x": ""})]),
        ("x=1", []),
        ("\\" * 8000, []),
        ('A x="' + "\\" * 8000, [("a", {"x": ""})]),
        ("A " * 4000, [("a", {})] * 4000),
        ("A" * 9000, []),
    ],
    ids=lambda value: str(value)[:12],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert challenges([header]) == [Challenge(*each) for each in expected]


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("trusted") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def requiring(tls: ssl.SSLContext, authority: trustme.CA) -> ssl.SSLContext:
    """Let the server ask for a client's certificate."""
    tls.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(tls)
    return tls


def failed(answer: Answer) -> str:
    assert isinstance(answer, Unknown)
    assert answer.doubt is Doubt.FAILED
    return answer.reason


class TestTls:
    def test_a_registry_is_known_by_its_authority(self, tls: ssl.SSLContext, trusted: str) -> None:
        with serving(lambda _: first_byte(), tls) as server:
            assert isinstance(backend_of(server.url, ca=trusted).stat(DIGEST, NAME), Present)
            assert "TLS failed" in failed(backend_of(server.url).stat(DIGEST, NAME))
            elsewhere = f"https://localhost:{server.port}"
            reason = failed(backend_of(elsewhere, ca=trusted).stat(DIGEST, NAME))
            assert "TLS failed" in reason
        assert len(server.requests) == 1

    def test_files_that_cannot_be_read_are_a_failure_of_each_look(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.touch()
        mistakes: list[Any] = [
            {"ca": str(tmp_path / "missing")},
            {"client_certificate": str(empty)},
        ]
        for options in mistakes:
            backend = backend_of("https://127.0.0.1:1", **options)
            assert "cannot be read" in failed(backend.stat(DIGEST, NAME))

    def test_a_redirect_without_tls_is_not_followed(
        self, tls: ssl.SSLContext, trusted: str
    ) -> None:
        with serving(lambda _: first_byte()) as other:
            target = response(307, Location=f"{other.url}/key")
            with serving(lambda _: target, tls) as server:
                answer = backend_of(server.url, ca=trusted).stat(DIGEST, NAME)
        assert "without TLS" in failed(answer)
        assert other.requests == []

    def test_only_the_registry_gets_the_certificate(
        self, authority: trustme.CA, tls: ssl.SSLContext, trusted: str, tmp_path: Path
    ) -> None:
        own = authority.issue_cert("client.example.com")
        own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        asking = requiring(tls, authority)
        with serving(lambda _: first_byte(), asking) as other:
            target = response(307, Location=f"{other.url}/key")
            with serving(lambda _: target, asking) as server:
                options: Any = {"ca": trusted, "client_certificate": str(tmp_path / "client.pem")}
                assert isinstance(backend_of(server.url, **options).stat(DIGEST, NAME), Present)
        assert [request.has_certificate for request in server.requests] == [True]
        assert [request.has_certificate for request in other.requests] == [False]


# Error reports


def test_no_report_has_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Django's reports show the local variables of each frame, also of the error's cause."""
    caplog.set_level(logging.DEBUG)
    token = "a-token-of-some-length"
    secrets = [PASSWORD, b64encode(f"{USER}:{PASSWORD}".encode()).decode(), token]
    scripts: list[Script] = [
        lambda _: response(401, WWW_Authenticate="Basic realm=a"),
        lambda request: (
            b""
            if request.headers["Authorization"]
            else response(401, WWW_Authenticate="Basic realm=a")
        ),
        lambda request: (
            response(404, "cut", Content_Length="9")
            if request.headers["Authorization"]
            else bearer(tokens.url)
        ),
    ]
    with serving(lambda _: response(200, json.dumps({"token": token}))) as tokens:
        for script in scripts:
            with serving(script) as server:
                backend = backend_of(server.url)
                try:
                    backend.open(DIGEST, NAME)
                except BackendUnavailable:
                    reporter = ExceptionReporter(None, *sys.exc_info())
                    frames = reporter.get_traceback_frames()
                assert "_open" in {frame["function"] for frame in frames}
                # Its frames have the request as bytes.
                assert not [frame for frame in frames if "urllib3" in frame["filename"]]
                report = str(frames)
                answer = backend.stat(DIGEST, NAME)
                for shown in (report, repr(answer), repr(vars(backend)), caplog.text):
                    assert not [secret for secret in secrets if secret in shown]
