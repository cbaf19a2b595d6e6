"""`StorageBackend` over S3: moto's server, and what else may answer in its place."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from moto.core.authorization import enable_iam_authentication
from moto.iam.models import iam_backends
from storages.backends.s3 import S3Storage
from werkzeug.wrappers import Request, Response

from blobcache.backends import s3 as module
from blobcache.backends.listers import Unreadable
from blobcache.backends.s3 import S3Lister
from blobcache.backends.storage import StorageBackend
from blobcache.conf import RegistrySettings
from blobcache.exceptions import BackendUnavailable, BlobUnknown
from blobcache.services.truth import Absent, Doubt, Present, Reachable, Unknown
from tests.backends.cases import (
    CASES,
    FOLDERS,
    ROOT,
    WORLD,
    Case,
    data,
    digest_of,
    layer_link,
    manifest_link,
)
from tests.backends.s3 import ACCOUNT, S3, Answer, config, running

CONTENT = b"the bytes of own-digest"
DIGEST = digest_of(CONTENT)
REPOSITORY = "cases/own-digest"
NOWHERE = digest_of(b"nowhere")

KEYS = {f"{ROOT}/{path}": content for path, content in WORLD.items()}
# On S3 a folder is there only while there is something in it.
KEYS |= {f"{ROOT}/{path}/file": b"" for path in FOLDERS}


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def lister(s3: S3) -> S3Lister:
    return s3.lister(s3.bucket(KEYS))


@pytest.fixture(scope="session")
def backend(lister: S3Lister) -> StorageBackend:
    return StorageBackend(lister, 2)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_on_s3(lister: S3Lister, case: Case, version: int) -> None:
    answer = StorageBackend(lister, version).stat(case.digest, case.repository)
    assert case.expected[version].fits(answer), answer


# What it costs


@pytest.mark.parametrize(
    ("digest", "repository", "requests"),
    [
        (DIGEST, None, ["HEAD"]),
        (DIGEST, REPOSITORY, ["GET", "HEAD"]),
        (NOWHERE, None, ["HEAD", "LIST", "LIST", "LIST"]),
        (NOWHERE, REPOSITORY, ["GET", "LIST", "LIST", "LIST"] * 2),  # for each kind of link
    ],
)
def test_a_look_takes_few_requests(
    s3: S3, backend: StorageBackend, digest: str, repository: str | None, requests: list[str]
) -> None:
    with s3.count() as seen:
        backend.stat(digest, repository)
    assert seen == requests


def test_a_list_takes_a_request_for_each_page(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = sorted(digest_of(str(number).encode()) for number in range(21))
    world = {f"{ROOT}/{data(each)}": b"1234" for each in digests[:11]}
    for link in (layer_link, manifest_link):
        world |= {f"{ROOT}/{link('a/b', each)}": each.encode() for each in digests}
    backend = StorageBackend(s3.lister(s3.bucket(world)), 2)
    monkeypatch.setattr(s3, "page_size", 10)
    with s3.count() as seen:
        assert [(each.digest, each.size) for each in backend.blobs()] == [
            (each, 4) for each in digests[:11]
        ]
    assert seen == ["LIST"] * 2
    with s3.count() as seen:
        links = list(backend.members("a/b"))
        assert [each.target for each in links] == digests * 2
    assert seen == ["LIST"] * 6
    with s3.count() as seen:
        assert list(backend.members("a/b", links[22].position)) == links[23:]
        assert [each.digest for each in backend.blobs(digests[9])] == digests[10:11]
    assert seen == ["LIST"] * 3
    with s3.count() as seen:
        assert list(backend.repositories()) == ["a/b"]
    assert seen == ["LIST"] * 3  # of "", "a" and "a/b"


def test_folders_are_listed_by_pages_too(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"a{number:02}" for number in range(25)]
    lister = s3.lister(s3.bucket({f"repositories/{name}/_layers/x": b"" for name in names}), "")
    monkeypatch.setattr(s3, "page_size", 10)
    with s3.count() as seen:
        assert list(lister.folders("repositories")) == names
        assert list(lister.folders("repositories", "a14")) == names[15:]
    assert seen == ["LIST"] * 4


def test_only_links_that_the_list_cannot_vouch_for_are_read(s3: S3, lister: S3Lister) -> None:
    with s3.count() as seen:
        links = list(StorageBackend(lister, 3).members("cases/other-blob"))
    assert sum(each.target is None for each in links) == 1
    assert len(links) == 2
    assert seen == ["LIST", "GET", "LIST", "LIST", "LIST"]


def test_several_questions_are_asked_at_once(backend: StorageBackend) -> None:
    assert backend.concurrency == 8


# Lists


def test_lists_are_those_of_the_file_system(backend: StorageBackend) -> None:
    names = {each.repository for each in CASES if each.repository} - {"cases/nowhere"}
    assert list(backend.repositories()) == sorted(names, key=lambda name: f"{name}/_")
    blobs = {path: content for path, content in WORLD.items() if path.startswith("blobs/")}
    assert {data(each.digest): each.size for each in backend.blobs()} == {
        path: len(content) for path, content in blobs.items() if len(path.split("/")[-2]) == 64
    }


@pytest.mark.parametrize("case", [each for each in CASES if each.repository], ids=str)
def test_members_are_the_links_that_are_there(backend: StorageBackend, case: Case) -> None:
    assert case.repository
    links = {each.evidence.partition(f"{ROOT}/")[2] for each in backend.members(case.repository)}
    assert links == {path for path in case.files if path.endswith("/link")}


def test_each_list_goes_on_from_any_place(s3: S3) -> None:
    names = ["a", "a/b", "a/b/c", "a-b", "localhost:5000/app"]
    names.sort(key=lambda name: f"{name}/_")
    world = {f"{ROOT}/{layer_link(name, DIGEST)}": DIGEST.encode() for name in names}
    world[f"{ROOT}/{data(DIGEST)}"] = CONTENT
    backend = StorageBackend(s3.lister(s3.bucket(world)), 2)
    for number, name in enumerate(names):
        assert list(backend.repositories(name)) == names[number + 1 :]
    assert list(backend.repositories("a/b/b")) == names[names.index("a/b/c") :]
    assert list(backend.repositories("zz")) == []


def test_only_files_so_many_folders_below_are_listed(s3: S3) -> None:
    # Registries up to 2.3 kept signatures below the revisions.
    keys = ["a/b/link", "a/link", "a/b/signatures/c/d/link", "a/b/links", "a/c/link", "link"]
    lister = s3.lister(s3.bucket({f"folder/{key}": b"" for key in keys}), "")
    assert [each.path for each in lister.files("folder", 2, "link")] == ["a/b/link", "a/c/link"]


# Bytes


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, None), (4, None), (4, 5), (0, 5), (0, 0), (4, 1000), (1000, None), (1000, 1)],
)
def test_a_blob_can_be_read_in_parts(
    backend: StorageBackend, start: int, length: int | None
) -> None:
    with backend.open(DIGEST, start=start, length=length) as file:
        assert file.read() == CONTENT[start : None if length is None else start + length]


def test_no_bytes_are_not_asked_for(s3: S3, backend: StorageBackend) -> None:
    with s3.count() as seen:
        assert backend.open(DIGEST, start=4, length=0).read() == b""
    assert seen == ["HEAD"]


def test_an_empty_blob_can_be_read_in_parts(backend: StorageBackend) -> None:
    for length in (None, 0, 5):
        with backend.open(digest_of(b""), "cases/empty-blob", length=length) as file:
            assert file.read() == b""


def test_only_what_is_there_can_be_read(backend: StorageBackend) -> None:
    for length in (None, 0, 1):
        with pytest.raises(BlobUnknown):
            backend.open(NOWHERE, length=length)


@pytest.mark.parametrize("range_", [None, "bytes 0-4/23", "bytes 4-7/23", "bytes 4-8", "4-8/23"])
def test_another_range_than_the_one_asked_for_is_refused(
    s3: S3, backend: StorageBackend, range_: str | None
) -> None:
    headers = {"ETag": '"1"'} | ({"Content-Range": range_} if range_ else {})

    def answer(_: Request) -> Response:
        return Response(b"12345", 206 if range_ else 200, headers)

    with s3.answering(answer), pytest.raises(BackendUnavailable):
        backend.open(DIGEST, start=4, length=5)


def test_a_server_without_ranges_can_give_the_beginning(s3: S3, backend: StorageBackend) -> None:
    with s3.answering(lambda _: Response(CONTENT, 200, {"ETag": '"1"'})):
        assert backend.open(DIGEST, length=5).read() == CONTENT[:5]


def test_bytes_that_break_off_are_an_error(s3: S3, backend: StorageBackend) -> None:
    headers = {"Content-Length": "23", "ETag": '"1"'}
    with s3.answering(lambda _: Response(iter([CONTENT[:10]]), 200, headers)):
        file = backend.open(DIGEST)
        with pytest.raises(BackendUnavailable):
            file.read()


# Nothing is absent where the world is missing


def assert_unknown(backend: StorageBackend, doubt: Doubt) -> None:
    """Assert that nothing is called absent, and that no list looks complete."""
    for answer in (
        backend.root(),
        backend.stat(DIGEST, REPOSITORY),
        backend.stat(NOWHERE, REPOSITORY),
        backend.stat(NOWHERE),
    ):
        assert isinstance(answer, Unknown)
        assert answer.doubt == doubt
    for each in (backend.repositories, backend.blobs):
        with pytest.raises(BackendUnavailable):
            list(each())
    with pytest.raises(BackendUnavailable):
        backend.open(NOWHERE)


def test_a_missing_bucket_is_no_absence(s3: S3) -> None:
    backend = StorageBackend(s3.lister("missing-bucket"), 2)
    assert_unknown(backend, Doubt.NO_ROOT)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {f"{ROOT}/repositories/": b"", f"{ROOT}/blobs/": b""},
        {key: KEYS[key] for key in KEYS if "/repositories/" in key},
        {
            **{key: KEYS[key] for key in KEYS if "/repositories/" in key},
            f"{ROOT}/blobs/": b"",
            f"{ROOT}/blobs/sha256/": b"",
            f"{ROOT}/blobs/sha256/ab/": b"",
        },
        {f"other/{key}": content for key, content in KEYS.items()},
    ],
    ids=["empty", "folders", "no blobs", "folders of no blobs", "other prefix"],
)
def test_an_empty_bucket_is_no_absence(s3: S3, keys: dict[str, bytes]) -> None:
    backend = StorageBackend(s3.lister(s3.bucket(keys)), 2)
    answers = [backend.root(), backend.stat(NOWHERE), backend.stat(NOWHERE, REPOSITORY)]
    for answer in answers:
        assert isinstance(answer, Unknown)
        assert answer.doubt == Doubt.NO_ROOT
    for names in (backend.blobs(), backend.members("cases/nowhere"), backend.repositories("zz")):
        with pytest.raises(BackendUnavailable):
            list(names)


@pytest.mark.parametrize(("location", "root"), [("elsewhere", ROOT), ("", "docker"), ("", "")])
def test_a_wrong_prefix_is_no_absence(s3: S3, location: str, root: str) -> None:
    backend = StorageBackend(s3.lister(s3.bucket(KEYS), root, location), 2)
    assert_unknown(backend, Doubt.NO_ROOT)


@pytest.mark.parametrize(("location", "root"), [("some/where/", ROOT), (f"some/where/{ROOT}", "")])
def test_the_location_of_the_storage_counts(s3: S3, location: str, root: str) -> None:
    bucket = s3.bucket({f"some/where/{key}": content for key, content in KEYS.items()})
    backend = StorageBackend(s3.lister(bucket, root, location), 2)
    assert backend.root() == Reachable(f"s3://{bucket}/some/where/{ROOT}")
    assert isinstance(backend.stat(DIGEST, REPOSITORY), Present)
    assert isinstance(backend.stat(NOWHERE, REPOSITORY), Absent)


# Nothing is absent where something fails


def error(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message></Error>"
    return lambda _: Response(body, status, content_type="application/xml")


def page(status: int) -> Answer:
    return lambda _: Response("<!DOCTYPE html><p>Hi!<br>", status, content_type="text/html")


def document(name: str, content: str = "") -> Answer:
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    body = f"<?xml version='1.0'?><{name} xmlns='{space}'>{content}</{name}>"
    return lambda _: Response(body, 200, content_type="application/xml")


def cut(request: Request) -> Response | None:
    if request.method == "HEAD":
        return None
    return Response(iter([b"<?xml "]), 200, {"Content-Length": "500", "ETag": '"1"'})


def torn(_: Request) -> Response:
    return Response(b"<?xml version='1.0'?><ListBucketResult><Pre", 200)


@pytest.mark.parametrize(
    ("answer", "doubt"),
    [
        (error(403, "AccessDenied"), Doubt.DENIED),
        (error(403, "InvalidAccessKeyId"), Doubt.DENIED),
        (error(401, "Unauthorized"), Doubt.DENIED),
        (error(429, "TooManyRequests"), Doubt.THROTTLED),
        (error(503, "SlowDown"), Doubt.THROTTLED),
        (error(500, "InternalError"), Doubt.FAILED),
        (error(504, "GatewayTimeout"), Doubt.TIMEOUT),
        (error(404, "\x1b[31m<b>"), Doubt.FAILED),
        (error(200, "InternalError"), Doubt.FAILED),
        (page(404), Doubt.FAILED),
        (page(200), Doubt.FAILED),
        (page(502), Doubt.FAILED),
        (document("html"), Doubt.FAILED),
        (document("ListBucketResult"), Doubt.FAILED),
        (
            document("ListBucketResult", "<Prefix>b</Prefix><IsTruncated>false</IsTruncated>"),
            Doubt.FAILED,
        ),
        (torn, Doubt.FAILED),
    ],
)
def test_a_failure_is_no_absence(
    s3: S3, backend: StorageBackend, answer: Answer, doubt: Doubt
) -> None:
    with s3.answering(answer):
        assert_unknown(backend, doubt)


def test_an_answer_that_breaks_off_is_no_absence(s3: S3, backend: StorageBackend) -> None:
    with s3.answering(cut):
        for answer in (backend.root(), backend.stat(DIGEST, REPOSITORY), backend.stat(NOWHERE)):
            assert isinstance(answer, Unknown)
            assert answer.doubt == Doubt.FAILED
        with pytest.raises(BackendUnavailable):
            list(backend.blobs())


def test_no_answer_in_time_is_no_absence(s3: S3) -> None:
    bucket, over = s3.bucket(KEYS), threading.Event()

    def wait(_: Request) -> None:
        over.wait(30)

    backend = StorageBackend(S3Lister(s3.storage(bucket, client_config=config(0.02)), ROOT), 2)
    with s3.answering(wait):
        try:
            assert_unknown(backend, Doubt.TIMEOUT)
        finally:
            over.set()


def test_no_server_is_no_absence(s3: S3) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        storage = s3.storage("bucket", endpoint_url=f"http://127.0.0.1:{free.getsockname()[1]}")
        assert_unknown(StorageBackend(S3Lister(storage, ROOT), 2), Doubt.FAILED)


def test_a_client_that_cannot_be_made_is_no_absence(s3: S3) -> None:
    storage = s3.storage("bucket", endpoint_url="no address")
    answer = StorageBackend(S3Lister(storage, ROOT), 2).stat(DIGEST)
    assert isinstance(answer, Unknown)
    assert answer.doubt == Doubt.FAILED


def test_a_page_begins_after_all_that_was_in_the_one_before(s3: S3, lister: S3Lister) -> None:
    def folder(name: str) -> str:
        return f"<CommonPrefixes><Prefix>{ROOT}/blobs/{name}/</Prefix></CommonPrefixes>"

    def answer(request: Request) -> Response | None:
        if "continuation-token" in request.args:
            return contents(more="<IsTruncated>false</IsTruncated>" + folder("b"))(request)
        return contents("blobs/c", more=AND_MORE + TOKEN + folder("a"))(request)

    with s3.answering(answer):
        folders = lister.folders("blobs")
        assert next(folders) == "a"
        with pytest.raises(Unreadable, match="in order"):
            next(folders)


def test_an_archived_link_is_no_lack_of_permission(s3: S3, backend: StorageBackend) -> None:
    with s3.answering(error(403, "InvalidObjectState")):
        answer = backend.stat(DIGEST, REPOSITORY)
    assert isinstance(answer, Unknown)
    assert answer.doubt == Doubt.FAILED
    assert answer.reason.endswith(": 403 InvalidObjectState")


def test_what_the_list_has_is_not_absent(s3: S3, backend: StorageBackend) -> None:
    def answer(request: Request) -> Response | None:
        return None if "list-type" in request.args else Response(status=404)

    with s3.answering(answer):
        for repository in (None, REPOSITORY):
            found = backend.stat(DIGEST, repository)
            assert isinstance(found, Unknown)
            assert found.doubt == Doubt.FAILED
        assert isinstance(backend.stat(NOWHERE), Absent)


def contents(*keys: str, more: str = "<IsTruncated>false</IsTruncated>") -> Answer:
    prefix = f"<Prefix>{ROOT}/blobs/</Prefix>"
    found = "".join(f"<Contents><Key>{ROOT}/{key}</Key><Size>1</Size></Contents>" for key in keys)
    return document("ListBucketResult", prefix + more + found)


FIRST, SECOND = (data(f"sha256:{digit * 64}") for digit in "12")
AND_MORE = "<IsTruncated>true</IsTruncated>"
TOKEN = "<NextContinuationToken>1</NextContinuationToken>"


def test_a_list_in_order_is_not_refused(s3: S3, backend: StorageBackend) -> None:
    with s3.answering(contents(FIRST, SECOND)):
        assert [each.size for each in backend.blobs()] == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        contents(SECOND, FIRST),
        contents(FIRST, "other/key"),
        contents("a/key", FIRST),
        contents(FIRST, more=""),
        contents(FIRST, more=AND_MORE),
        contents(FIRST, more=AND_MORE + TOKEN),  # the same page again and again
        contents(more=AND_MORE + TOKEN),  # empty pages
    ],
)
def test_a_list_that_is_not_in_order_is_refused(
    s3: S3, backend: StorageBackend, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_EMPTY_PAGES", 3)
    with s3.answering(answer), s3.count() as seen, pytest.raises(BackendUnavailable):
        list(backend.blobs())
    assert len(seen) <= 3


# The rest


DOCS = Path(__file__).parents[2] / "docs" / "truth.md"


def test_the_policy_in_the_docs_is_enough_and_less_is_no_absence(s3: S3) -> None:
    bucket = s3.bucket(KEYS)
    (text,) = re.findall(r"```json\n(.*?s3:GetObject.*?)```", DOCS.read_text(), re.DOTALL)
    policy = json.loads(text.replace("BUCKET", bucket))
    iam = iam_backends[ACCOUNT]["aws"]
    iam.create_user("us-east-1", "reader")
    key = iam.create_access_key("reader")
    storage = s3.storage(bucket, access_key=key.access_key_id, secret_key=key.secret_access_key)
    backend = StorageBackend(S3Lister(storage, ROOT), 2)
    with enable_iam_authentication():
        iam.put_user_policy("reader", "storage", json.dumps(policy))
        assert isinstance(backend.stat(DIGEST, REPOSITORY), Present)
        assert isinstance(backend.stat(NOWHERE, REPOSITORY), Absent)
        assert list(backend.members(REPOSITORY))
        assert backend.open(DIGEST).read() == CONTENT
        for statement in policy["Statement"]:
            half = {**policy, "Statement": [statement]}
            iam.put_user_policy("reader", "storage", json.dumps(half))
            answer = backend.stat(NOWHERE, REPOSITORY)
            assert isinstance(answer, Unknown)
            assert answer.doubt == Doubt.DENIED


def test_a_forked_process_has_a_client_of_its_own(
    lister: S3Lister, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = lister._client()
    assert lister._client() is client
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert lister._client() is not client


def test_the_storage_keeps_its_own_client(s3: S3) -> None:
    given, bucket = Config(s3={"addressing_style": "path"}), s3.bucket(KEYS)
    storage: Any = s3.storage(bucket, client_config=given)
    StorageBackend(S3Lister(storage, ROOT), 2).root()
    assert storage.client_config is given
    listed = storage.connection.meta.client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    assert "LastModified" in listed["Contents"][0]


def test_nobody_else_needs_boto3() -> None:
    code = "import sys, blobcache.backends.storage; print({'boto3', 'storages'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"


# Checks


def messages(options: dict[str, object]) -> list[CheckMessage]:
    registry = {"BACKEND": f"{__name__}.OwnStorage", "OPTIONS": options}
    truth = {
        "BACKEND": "blobcache.backends.storage.StorageBackend",
        "OPTIONS": {"storage": "registry"},
    }
    with override_settings(
        BLOBCACHE={"default": {"TRUTH": truth}}, STORAGES={"registry": registry}
    ):
        return list(StorageBackend.check(RegistrySettings()))


class OwnStorage(S3Storage):
    """A Storage of a host project that is one on S3."""


def test_no_message_if_all_is_well() -> None:
    assert messages({"bucket_name": "registry"}) == []
    assert messages({"bucket_name": "registry", "client_config": config(10)}) == []


def test_e025_the_storage_cannot_be_made() -> None:
    (message,) = messages({"bucket_name": "registry", "bucket": "secret"})
    assert message.id == "blobcache.E025"
    assert "'bucket'" in message.msg
    assert "secret" not in message.msg


def test_e025_the_configuration_of_the_client_is_none(s3: S3) -> None:
    (message,) = messages({"bucket_name": "registry", "client_config": {"read_timeout": 5}})
    assert message.id == "blobcache.E025"
    with pytest.raises(ImproperlyConfigured, match="but a dict"):
        S3Lister(s3.storage("registry", client_config={"read_timeout": 5}), ROOT)


def test_e026_the_storage_has_no_bucket() -> None:
    (message,) = messages({})
    assert message.id == "blobcache.E026"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(read_timeout=30), "96 seconds"),
        (Config(read_timeout=1, connect_timeout=None), "forever"),
        (Config(retries={"max_attempts": 10}), "132 seconds"),
        (Config(retries={"total_max_attempts": 10, "mode": "adaptive"}), "120 seconds"),
    ],
)
def test_w025_a_request_takes_long_to_fail(config: Config, words: str) -> None:
    (message,) = messages({"bucket_name": "registry", "client_config": config})
    assert message.id == "blobcache.W025"
    assert words in message.msg


@pytest.mark.parametrize("given", [None, Config(), Config(retries={"mode": "adaptive"})])
def test_there_are_time_limits_without_any_settings(s3: S3, given: Config | None) -> None:
    storage = s3.storage("bucket", client_config=given)
    used: Any = S3Lister(storage, ROOT)._storage.client_config
    assert (used.connect_timeout, used.read_timeout) == (2, 10)
    assert used.retries["total_max_attempts"] == 3
