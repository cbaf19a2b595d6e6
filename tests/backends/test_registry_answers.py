"""What answers prove nothing: all that a server may send that is not a registry's own word."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import signal
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from blobcache.backends import registry
from blobcache.backends.registry import RegistryBackend
from blobcache.backends.registry_http import USER_AGENT, Client
from blobcache.backends.registry_options import RegistryOptions
from blobcache.exceptions import BackendUnavailable
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.truth import Absent, Damage, Doubt, Present, Reachable, Unknown
from tests.backends.hostile import Request, Script, response, serving
from tests.interop.oci import digest_of

CONTENT = b"the bytes of a blob"
DIGEST = digest_of(CONTENT)
OTHER = digest_of(b"others")
NAME = "team/app"
HTML = "<!doctype html><title>Welcome</title>"


def backend_of(url: str, version: int = 2, **options: Any) -> RegistryBackend:
    """Return a backend that repeats nothing."""
    return RegistryBackend(Client(RegistryOptions({"url": url, "retries": 0, **options})), version)


def errors(*codes: str) -> str:
    return json.dumps({"errors": [{"code": code, "message": "m"} for code in codes]})


def first_byte(size: int = len(CONTENT), **headers: str) -> bytes:
    """Return what a registry answers to a request for the first byte."""
    named = {"Docker_Content_Digest": DIGEST, "Content_Range": f"bytes 0-0/{size}"}
    return response(206, CONTENT[:1], **{**named, **headers})


def chunked(body: str) -> bytes:
    """Return a response in chunks, but for the empty one at its end."""
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return head + b"".join(b"1\r\n%c\r\n" % byte for byte in body.encode())


def refusing(answer: bytes) -> Script:
    return lambda _: answer


def forever(chunk: bytes, begin: bytes = b"") -> Script:
    return lambda _: itertools.chain([begin], itertools.repeat(chunk))


def redirecting(target: str) -> Script:
    return refusing(response(307, Location=target))


DEEP = "[" * 20_000

USELESS: dict[str, tuple[Script, Doubt]] = {
    "401 without a challenge": (refusing(response(401, errors("UNAUTHORIZED"))), Doubt.DENIED),
    "403": (refusing(response(403, errors("DENIED"))), Doubt.DENIED),
    "407": (refusing(response(407)), Doubt.FAILED),
    "429": (refusing(response(429, errors("TOOMANYREQUESTS"))), Doubt.THROTTLED),
    "500": (refusing(response(500, errors("UNKNOWN"))), Doubt.FAILED),
    "500 that says blob unknown": (refusing(response(500, errors("BLOB_UNKNOWN"))), Doubt.FAILED),
    "502": (refusing(response(502, HTML)), Doubt.FAILED),
    "503": (refusing(response(503)), Doubt.FAILED),
    "504": (refusing(response(504)), Doubt.TIMEOUT),
    "410 that says blob unknown": (refusing(response(410, errors("BLOB_UNKNOWN"))), Doubt.FAILED),
    "204": (refusing(response(204)), Doubt.FAILED),
    "a page": (refusing(response(404, HTML, Content_Type="text/html")), Doubt.FAILED),
    "a plain 404": (refusing(response(404, "404 page not found\n")), Doubt.FAILED),
    "an empty 404": (refusing(response(404)), Doubt.FAILED),
    "name unknown": (refusing(response(404, errors("NAME_UNKNOWN"))), Doubt.FAILED),
    "another error too": (refusing(response(404, errors("BLOB_UNKNOWN", "DENIED"))), Doubt.FAILED),
    "no error": (refusing(response(404, errors())), Doubt.FAILED),
    "a code that is a number": (refusing(response(404, '{"errors":[{"code":1}]}')), Doubt.FAILED),
    "errors that are none": (refusing(response(404, '{"errors":"BLOB_UNKNOWN"}')), Doubt.FAILED),
    "a list": (refusing(response(404, '["BLOB_UNKNOWN"]')), Doubt.FAILED),
    "nested too deeply": (refusing(response(404, DEEP)), Doubt.FAILED),
    "an error that is cut": (
        refusing(response(404, errors("BLOB_UNKNOWN"), Content_Length="500")),
        Doubt.FAILED,
    ),
    "an error that is too long": (
        refusing(response(404, errors("BLOB_UNKNOWN") + " " * 70_000)),
        Doubt.FAILED,
    ),
    "an error without its last chunk": (refusing(chunked(errors("BLOB_UNKNOWN"))), Doubt.FAILED),
    "a body that is cut": (refusing(first_byte()[:-1]), Doubt.FAILED),
    "a body that is too long": (refusing(first_byte(Content_Length="2") + b"x"), Doubt.FAILED),
    "200 whose body is cut": (
        refusing(response(200, Content_Length="19", Docker_Content_Digest=DIGEST)),
        Doubt.FAILED,
    ),
    "200 without a length": (
        refusing(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody"),
        Doubt.FAILED,
    ),
    "a length that is no number": (
        refusing(response(200, HTML, Content_Length="+19")),
        Doubt.FAILED,
    ),
    "a length of many digits": (
        refusing(response(200, HTML, Content_Length="9" * 5000)),
        Doubt.FAILED,
    ),
    "a length beyond all": (
        refusing(response(200, CONTENT, Content_Length="9" * 19)),
        Doubt.FAILED,
    ),
    "two lengths": (
        refusing(response(200, CONTENT, Content_Length="19\r\nContent-Length: 20")),
        Doubt.FAILED,
    ),
    "another range": (refusing(first_byte(Content_Range="bytes 5-5/19")), Doubt.FAILED),
    "a range of unknown size": (refusing(first_byte(Content_Range="bytes 0-0/*")), Doubt.FAILED),
    "a range of nothing": (refusing(first_byte(size=0)), Doubt.FAILED),
    "a range that is none": (refusing(first_byte(Content_Range="bytes 0-0/1e9")), Doubt.FAILED),
    "a page for everything": (
        refusing(response(200, HTML, Content_Type="text/html; charset=utf-8")),
        Doubt.FAILED,
    ),
    "something encoded": (
        refusing(
            response(200, gzip.compress(bytes(10**6)), Content_Encoding="gzip", Content_Type="a/b")
        ),
        Doubt.FAILED,
    ),
    "no HTTP": (refusing(b"SSH-2.0-OpenSSH\r\n"), Doubt.FAILED),
    "nothing": (refusing(b""), Doubt.FAILED),
    "half a head": (refusing(b"HTTP/1.1 404 Not Found\r\nContent-Le"), Doubt.FAILED),
    "a head without an end": (
        forever(b"X: " + b"x" * 1000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"),
        Doubt.FAILED,
    ),
    "a line without an end": (forever(b"x" * 1000, b"HTTP/1.1 200 OK\r\nX: "), Doubt.FAILED),
    "continue without an end": (forever(b"HTTP/1.1 100 Continue\r\n\r\n"), Doubt.FAILED),
    "a redirect without an end": (
        lambda request: response(302, Location=request.target),
        Doubt.FAILED,
    ),
    "a redirect to a file": (redirecting("file:///etc/passwd"), Doubt.FAILED),
    "a redirect to a user": (redirecting("http://user:pw@127.0.0.1/"), Doubt.FAILED),
    "a redirect to a long name": (redirecting(f"http://{'a' * 300}/"), Doubt.FAILED),
    "a redirect to nothing": (redirecting("http://"), Doubt.FAILED),
    "a redirect to a wrong port": (redirecting("http://127.0.0.1:99999/"), Doubt.FAILED),
    "a redirect with a new line": (redirecting("http://127.0.0.1/\x0bX:y"), Doubt.FAILED),
    "a redirect without a target": (refusing(response(307)), Doubt.FAILED),
}


@pytest.mark.parametrize("name", USELESS)
@pytest.mark.parametrize("version", [2, 3])
def test_an_answer_that_proves_nothing_is_unknown(name: str, version: int) -> None:
    script, doubt = USELESS[name]
    with serving(script) as server:
        answer = backend_of(server.url, version).stat(DIGEST, NAME)
    assert isinstance(answer, Unknown)
    assert answer.doubt is doubt
    assert answer.damage is None
    assert answer.reason.isprintable()
    assert len(answer.reason) < 1000


def test_a_registry_that_is_not_there_is_unknown() -> None:
    with serving(refusing(b"")) as server:
        url = server.url
    answer = backend_of(url).stat(DIGEST, NAME)
    assert answer == Unknown(Doubt.FAILED, f"GET {url}/v2/{NAME}/blobs/{DIGEST}: no connection.")


@pytest.mark.parametrize("code", ["BLOB_UNKNOWN", "MANIFEST_UNKNOWN"])
def test_absent_is_what_the_registry_says_to_a_get(code: str) -> None:
    with serving(refusing(response(404, errors(code)))) as server:
        answer = backend_of(server.url, 3).stat(DIGEST, NAME)
    assert isinstance(answer, Absent)
    assert f"404 {code}" in answer.evidence
    assert [request.method for request in server.requests] == ["GET", "GET"]
    blob, manifest = server.requests
    assert blob.path == f"/v2/{NAME}/blobs/{DIGEST}"
    assert blob.headers["Range"] == "bytes=0-0"
    assert manifest.path == f"/v2/{NAME}/manifests/{DIGEST}"
    assert manifest.headers["Accept"].count("application/vnd.") == 4
    for request in server.requests:
        assert request.headers["User-Agent"] == USER_AGENT
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.headers["Authorization"] is None


def test_the_registrys_word_may_come_in_chunks() -> None:
    with serving(refusing(chunked(errors("BLOB_UNKNOWN")) + b"0\r\n\r\n")) as server:
        assert isinstance(backend_of(server.url).stat(DIGEST, NAME), Absent)


def test_a_blob_is_present_by_its_first_byte() -> None:
    with serving(refusing(first_byte())) as server:
        answer = backend_of(server.url).stat(DIGEST, NAME)
    assert isinstance(answer, Present)
    assert answer.descriptor.size == len(CONTENT)


def test_of_a_registry_without_ranges_no_more_than_a_byte_is_read() -> None:
    def script(_: Request) -> Iterator[bytes]:
        yield response(200, Content_Length=str(2**40), Docker_Content_Digest=DIGEST)
        while True:
            yield bytes(2**16)

    with serving(script) as server:
        answer = backend_of(server.url).stat(DIGEST, NAME)
    assert isinstance(answer, Present)
    assert answer.descriptor.size == 2**40


def test_an_empty_blob_may_have_no_first_byte() -> None:
    empty = digest_of(b"")

    def script(request: Request) -> bytes:
        return response(416) if "Range" in request.headers else response(200)

    with serving(script) as server:
        answer = backend_of(server.url).stat(empty, NAME)
        damaged = backend_of(server.url).stat(DIGEST, NAME)
    assert isinstance(answer, Present)
    assert (answer.descriptor.size, answer.damage) == (0, None)
    assert isinstance(damaged, Present)
    assert damaged.damage is Damage.STORAGE_DAMAGE


def test_another_blob_of_the_same_algorithm_is_a_corrupt_link() -> None:
    with serving(refusing(first_byte(Docker_Content_Digest=OTHER))) as server:
        answer = backend_of(server.url).stat(DIGEST, NAME)
    assert isinstance(answer, Unknown)
    assert (answer.doubt, answer.damage) == (Doubt.LINK, Damage.CORRUPT_LINK)


@pytest.mark.parametrize("header", ["sha256:beef", "x" * 5000, "sha512:" + "0" * 128])
def test_a_digest_that_names_nothing_useful_is_ignored(header: str) -> None:
    with serving(refusing(first_byte(Docker_Content_Digest=header))) as server:
        answer = backend_of(server.url).stat(DIGEST, NAME)
    assert isinstance(answer, Present)
    assert answer.descriptor.digest == DIGEST


def test_a_manifest_has_to_have_its_digest() -> None:
    def script(request: Request) -> bytes:
        if "/blobs/" in request.path:
            return response(404, errors("BLOB_UNKNOWN"))
        return response(200, b"something else", Docker_Content_Digest=DIGEST)

    with serving(script) as server:
        answer = backend_of(server.url, 3).stat(DIGEST, NAME)
    assert isinstance(answer, Unknown)
    assert answer.doubt is Doubt.FAILED


def test_a_manifest_is_not_read_beyond_its_largest_size() -> None:
    def script(request: Request) -> Iterator[bytes]:
        if "/blobs/" in request.path:
            yield response(404, errors("BLOB_UNKNOWN"))
            return
        yield response(200, Content_Length=str(2**40))
        while True:
            yield bytes(2**18)

    with serving(script) as server:
        answer = backend_of(server.url, 3).stat(DIGEST, NAME)
    assert isinstance(answer, Unknown)
    assert "more than 4194304 bytes" in answer.reason


def test_a_redirect_is_followed_to_where_the_data_is() -> None:
    with serving(refusing(response(206, b"t", Content_Range="bytes 0-0/19"))) as storage:
        target = f"{storage.url}/bucket/key?signature=secret"
        with serving(redirecting(target)) as server:
            answer = backend_of(server.url).stat(DIGEST, NAME)
    assert isinstance(answer, Present)
    assert answer.descriptor.size == 19
    assert "secret" not in answer.evidence
    assert storage.requests[0].headers["Range"] == "bytes=0-0"


@pytest.mark.parametrize(
    "gone",
    [
        response(404, errors("BLOB_UNKNOWN")),
        response(404, "<Error><Code>NoSuchKey</Code></Error>"),
        response(200, HTML, Content_Type="text/html", Docker_Content_Digest=DIGEST),
    ],
)
def test_where_a_redirect_leads_nobody_says_absent(gone: bytes) -> None:
    with (
        serving(refusing(gone)) as storage,
        serving(redirecting(f"{storage.url}/bucket/key?signature=secret")) as server,
    ):
        answer = backend_of(server.url).stat(DIGEST, NAME)
    assert isinstance(answer, Unknown)
    assert "secret" not in answer.reason
    assert storage.url in answer.reason


def test_a_circle_of_redirects_ends_soon() -> None:
    with serving(lambda request: response(302, Location=request.target)) as server:
        backend_of(server.url).stat(DIGEST, NAME)
    assert len(server.requests) == 6


def test_a_redirect_shows_that_the_registry_sees_a_canary() -> None:
    """It redirects by what its cache says; that nothing is there is noticed elsewhere."""
    with serving(refusing(response(404))) as storage:

        def script(request: Request) -> bytes:
            if request.method == "HEAD":
                return response(307, Location=f"{storage.url}/key")
            if request.path.startswith("/v2/blobcache-canary/"):
                return response(404, errors("BLOB_UNKNOWN"))
            return response(200, '{"repositories": ["a"]}')

        with serving(script) as server:
            witness = backend_of(server.url).witness(MemoryBlobDescriptorCacheProvider())
    assert not witness.is_independent
    assert "reads this cache" in witness.reason


class TestRoot:
    """The registry answers at all; the second answer is about its catalog."""

    def root_of(self, catalog: bytes, base: bytes | None = None) -> object:
        answers = [response(200, "{}") if base is None else base, catalog]
        with serving(lambda _: answers[len(server.requests) - 1]) as server:
            return backend_of(server.url).root()

    @pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
    def test_a_registry_without_a_catalog_for_us_is_there(self, status: int) -> None:
        assert isinstance(self.root_of(response(status)), Reachable)

    @pytest.mark.parametrize("body", ['{"repositories": []}', '{"repositories": null}'])
    def test_an_empty_catalog_may_be_a_missing_storage(self, body: str) -> None:
        answer = self.root_of(response(200, body))
        assert isinstance(answer, Unknown)
        assert answer.doubt is Doubt.NO_ROOT

    @pytest.mark.parametrize(
        "catalog", [response(429), response(500), response(503), response(200, HTML), b""]
    )
    def test_a_catalog_that_fails_is_no_root(self, catalog: bytes) -> None:
        assert isinstance(self.root_of(catalog), Unknown)

    @pytest.mark.parametrize(
        "base", [response(404), response(500), response(302, Location="/login"), b""]
    )
    def test_what_is_no_registry_is_no_root(self, base: bytes) -> None:
        assert isinstance(self.root_of(response(200, HTML), base), Unknown)


class Clock:
    """A clock that goes on a second with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"HTTP/1.1 404 Not Found\r\nX: ",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 60000\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\nea60\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 60000\r\n\r\n",
    ],
)
def test_a_server_that_drips_ends_in_time(begin: bytes) -> None:
    """Each byte comes at once, so that no limit for a single read is ever reached."""
    with serving(forever(b"x", begin)) as server:
        options = RegistryOptions({"url": server.url, "timeout": 60, "retries": 0})
        answer = RegistryBackend(Client(options, clock=Clock())).stat(DIGEST, NAME)
    assert isinstance(answer, Unknown)
    assert answer.doubt in {Doubt.TIMEOUT, Doubt.DENIED}


def test_a_server_that_is_silent_ends_in_time() -> None:
    def script(_: Request) -> Iterator[bytes]:
        server.ended.wait(20)
        yield b""

    times = itertools.chain([0.0], itertools.repeat(0.95))
    with serving(script) as server:
        options = RegistryOptions({"url": server.url, "timeout": 1, "retries": 0})
        answer = RegistryBackend(Client(options, clock=lambda: next(times))).stat(DIGEST, NAME)
        assert isinstance(answer, Unknown)
        assert answer.doubt is Doubt.TIMEOUT


class TestBusy:
    def test_a_request_is_repeated_when_the_registry_asks_for_it(self) -> None:
        answers = [response(429, Retry_After="0"), response(503, Retry_After="0"), first_byte()]
        with serving(lambda _: answers[len(server.requests) - 1]) as server:
            answer = backend_of(server.url, retries=2).stat(DIGEST, NAME)
        assert isinstance(answer, Present)
        assert len(server.requests) == 3

    def test_and_no_more_often_than_the_options_say(self) -> None:
        with serving(refusing(response(429, Retry_After="0"))) as server:
            answer = backend_of(server.url, retries=1).stat(DIGEST, NAME)
        assert isinstance(answer, Unknown)
        assert answer.doubt is Doubt.THROTTLED
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        "header", ["3600", "9" * 9, formatdate(4_000_000_000, usegmt=True)], ids=len
    )
    def test_a_registry_that_asks_for_more_time_is_left_alone_for_it(self, header: str) -> None:
        now = 0.0
        with serving(refusing(response(429, Retry_After=header))) as server:
            options = RegistryOptions({"url": server.url})
            backend = RegistryBackend(Client(options, clock=lambda: now))
            for _ in range(3):
                answer = backend.stat(DIGEST, NAME)
                assert isinstance(answer, Unknown)
                assert answer.doubt is Doubt.THROTTLED
            assert len(server.requests) == 1
            now = 61.0  # at most a minute, whatever it says
            backend.stat(DIGEST, NAME)
            assert len(server.requests) == 2

    @pytest.mark.parametrize(
        "header",
        ["soon", "-1", "1.5", "9" * 100, "Mon, 99 Foo 2026 00:00:00 GMT", "\xb2"],
        ids=ascii,
    )
    def test_a_time_that_does_not_parse_is_ignored(self, header: str) -> None:
        with serving(refusing(response(429, Retry_After=header))) as server:
            backend = backend_of(server.url)
            backend.stat(DIGEST, NAME)
            backend.stat(DIGEST, NAME)
        assert len(server.requests) == 2

    def test_a_connection_that_breaks_is_made_again(self) -> None:
        answers = [b"", first_byte()]
        with serving(lambda _: answers[len(server.requests) - 1]) as server:
            answer = backend_of(server.url, retries=1).stat(DIGEST, NAME)
        assert isinstance(answer, Present)


class TestPages:
    """The catalog, page by page."""

    def names(self, links: list[str | None]) -> tuple[list[str], list[Request]]:
        """Return the names on pages that each have one name, and such a link to the next."""

        def script(request: Request) -> bytes:
            number = len(server.requests) - 1
            link = links[min(number, len(links) - 1)]
            more = {} if link is None else {"Link": link.replace("SERVER", server.url)}
            return response(200, json.dumps({"repositories": [f"team/app{number}"]}), **more)

        with serving(script) as server:
            return list(map(str, backend_of(server.url).repositories())), server.requests

    @pytest.mark.parametrize(
        "link",
        [
            '</v2/_catalog?last=a&n=1>; rel="next"',
            "<_catalog?last=a&n=1>;rel=next",
            '<SERVER/v2/_catalog?last=a&n=1> ; rel = "next" ',
            '<?last=a&n=1>; rel="next"',
        ],
    )
    def test_they_are_followed(self, link: str) -> None:
        names, requests = self.names([link, None])
        assert names == ["team/app0", "team/app1"]
        assert requests[0].query == [("n", "1000")]
        assert requests[1].path == "/v2/_catalog"
        assert requests[1].query == [("last", "a"), ("n", "1")]

    @pytest.mark.parametrize(
        "link",
        [
            '<http://registry.example.com/v2/_catalog?last=a>; rel="next"',
            '<//127.0.0.1:1/v2/_catalog?last=a>; rel="next"',
            '<http://127.0.0.1/>; rel="next"',
            '<file:///etc/passwd>; rel="next"',
            '<http://[>; rel="next"',
            '</v2/_catalog>; rel="prev"',
            "</v2/_catalog",
            "<" * 8000,
            "</" + "a" * 9000 + '>; rel="next"',
            '</v2/_catalog?n=1000>; rel="next"',
        ],
        ids=lambda link: link[:24],
    )
    def test_but_not_elsewhere_nor_in_a_circle(self, link: str) -> None:
        with pytest.raises(BackendUnavailable):
            self.names([link])

    def test_pages_that_do_not_end_are_unavailable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "_MAX_PAGES", 5)

        def script(_: Request) -> bytes:
            link = f'<?last={len(server.requests)}>; rel="next"'
            return response(200, '{"repositories": null}', Link=link)

        with serving(script) as server, pytest.raises(BackendUnavailable):
            list(backend_of(server.url).repositories())
        assert len(server.requests) == 5

    @pytest.mark.parametrize(
        "body",
        ["", "[]", "null", '{"repositories": "a"}', '{"repositories": [1]}', "{}", DEEP, HTML],
        ids=lambda body: body[:24],
    )
    def test_a_page_that_is_none_is_unavailable(self, body: str) -> None:
        with (
            serving(refusing(response(200, body))) as server,
            pytest.raises(BackendUnavailable),
        ):
            list(backend_of(server.url).repositories())

    def test_names_that_are_none_are_left_out(self) -> None:
        names = ["a", "../b", "c" * 300, "d\x00", "", "e"]
        body = json.dumps({"repositories": names})
        with serving(refusing(response(200, body))) as server:
            assert list(backend_of(server.url).repositories()) == ["a", "e"]

    @pytest.mark.parametrize("tag", ["../../_catalog", "a b", "", "a" * 129, "v1?x=y"])
    def test_a_tag_that_is_none_is_not_asked_for(self, tag: str) -> None:
        with (
            serving(refusing(response(200, json.dumps({"tags": [tag]})))) as server,
            pytest.raises(BackendUnavailable),
        ):
            list(backend_of(server.url).members(NAME))
        assert len(server.requests) == 1

    def test_manifests_that_name_very_many_blobs_are_unavailable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "_MAX_NAMED", 5)
        layers = [{"digest": f"sha256:{number:064}", "size": 1} for number in range(5)]
        manifest = json.dumps({"schemaVersion": 2, "layers": layers})
        digest = digest_of(manifest.encode())
        answers = [
            response(200, json.dumps({"tags": ["v1"]})),
            response(200, manifest, Docker_Content_Digest=digest),
        ]
        with serving(lambda _: answers[len(server.requests) - 1]) as server:
            with pytest.raises(BackendUnavailable) as failure:
                list(backend_of(server.url).members(NAME))
            assert "more than 5 blobs" in failure.value.reason
            assert len(server.requests) == 2

    def test_an_error_in_the_middle_is_unavailable(self) -> None:
        answers = [
            response(200, json.dumps({"repositories": ["a"]}), Link='<?last=a>; rel="next"'),
            response(500),
        ]
        with serving(lambda _: answers[len(server.requests) - 1]) as server:
            found = backend_of(server.url).repositories()
            assert next(found) == "a"
            with pytest.raises(BackendUnavailable):
                next(found)


def test_a_process_that_is_forked_has_connections_and_locks_of_its_own() -> None:
    with serving(refusing(first_byte())) as server:
        client = Client(RegistryOptions({"url": server.url}))
        backend = RegistryBackend(client)
        backend.stat(DIGEST, NAME)
        with client._lock, client._login._lock:
            child = os.fork()
            if child == 0:
                status = 1
                signal.alarm(20)  # rather than to hang
                try:
                    status = 0 if isinstance(backend.stat(DIGEST, NAME), Present) else 1
                finally:
                    os._exit(status)
            status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 0
        assert isinstance(backend.stat(DIGEST, NAME), Present)


class TestOpen:
    @pytest.mark.parametrize(
        "answer",
        [
            response(403),
            response(404, HTML),
            response(206, b"ytes", Content_Range="bytes 2-5/19"),
            response(206, b"ytes", Content_Range="bytes 1-4/19", Docker_Content_Digest=OTHER),
            response(416, Content_Range="bytes */19"),
            response(200, CONTENT),
        ],
    )
    def test_what_is_not_that_part_is_unavailable(self, answer: bytes) -> None:
        with serving(refusing(answer)) as server, pytest.raises(BackendUnavailable):
            backend_of(server.url).open(DIGEST, NAME, start=1, length=4)

    def test_a_body_that_is_cut_is_unavailable_while_it_is_read(self) -> None:
        answer = response(206, b"yt", Content_Range="bytes 1-4/19", Content_Length="4")
        with (
            serving(refusing(answer)) as server,
            backend_of(server.url).open(DIGEST, NAME, start=1, length=4) as file,
            pytest.raises(BackendUnavailable),
        ):
            file.read()

    def test_a_body_that_drips_is_unavailable(self) -> None:
        begin = response(200, Content_Length=str(10**6))
        with serving(forever(b"x", begin)) as server:
            options = RegistryOptions({"url": server.url, "timeout": 60, "retries": 0})
            backend = RegistryBackend(Client(options, clock=Clock()))
            with backend.open(DIGEST, NAME) as file, pytest.raises(BackendUnavailable):
                file.read()

    def test_a_part_behind_the_end_is_empty(self) -> None:
        answer = response(416, Content_Range="bytes */19")
        with (
            serving(refusing(answer)) as server,
            backend_of(server.url).open(DIGEST, NAME, start=19) as file,
        ):
            assert file.read() == b""
