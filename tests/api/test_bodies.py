"""Invalid bodies are refused with a clear error in the envelope."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis
from rest_framework.test import APIClient

from tests.api.conftest import APP, DIGEST

BLOB, BATCH, PURGE = f"/api/blobs/{DIGEST}/", "/api/blobs/stat/", f"/api/blobs/{DIGEST}/purge/"


def put(**body: Any) -> str:
    return json.dumps(body)


NOT_JSON = [
    "",
    " ",
    "{",
    "null",
    "[]",
    '"text"',
    "7",
    "true",
    "\ufeff{}",
    "{'size': 1}",
    '{"size": 1,}',
    '{"size": 1} trailing',
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"size": ' + "9" * 5000 + "}",
    '{"size": 1, "size": 2, "mediaType": "a/b"}',
    '{"size": NaN, "mediaType": "a/b"}',
    '{"size": Infinity, "mediaType": "a/b"}',
    '{"size": -Infinity, "mediaType": "a/b"}',
    b"\xff\xfe{\x00}\x00",
    b'{"mediaType": "\xe9"}',
]

DESCRIPTORS = [
    (put(), "BODY_INVALID"),
    (put(size=1), "BODY_INVALID"),
    (put(mediaType=APP), "BODY_INVALID"),
    (put(size=1, mediaType=APP, annotations={}), "BODY_INVALID"),
    (put(size=1, mediaType=APP, **{"\ud800": 1}), "BODY_INVALID"),
    (put(size=1, media_type=APP), "BODY_INVALID"),
    (put(size="1", mediaType=APP), "SIZE_INVALID"),
    (put(size=1.0, mediaType=APP), "SIZE_INVALID"),
    (put(size=True, mediaType=APP), "SIZE_INVALID"),
    (put(size=None, mediaType=APP), "BODY_INVALID"),
    (put(size=[1], mediaType=APP), "SIZE_INVALID"),
    (put(size={}, mediaType=APP), "SIZE_INVALID"),
    (put(size=-1, mediaType=APP), "SIZE_INVALID"),
    (put(size=2**63, mediaType=APP), "SIZE_INVALID"),
    (put(size=10**4000, mediaType=APP), "SIZE_INVALID"),
    ('{"size": 1e400, "mediaType": "a/b"}', "SIZE_INVALID"),
    (put(size=1, mediaType=None), "BODY_INVALID"),
    (put(size=1, mediaType=1), "BODY_INVALID"),
    (put(size=1, mediaType=[]), "BODY_INVALID"),
    (put(size=1, mediaType=""), "DESCRIPTOR_INVALID"),
    (put(size=1, mediaType="a\nb"), "DESCRIPTOR_INVALID"),
    (put(size=1, mediaType="a\x00"), "DESCRIPTOR_INVALID"),
    (put(size=1, mediaType="\ud800"), "DESCRIPTOR_INVALID"),
    (put(size=1, mediaType=APP, digest=7), "BODY_INVALID"),
    (put(size=1, mediaType=APP, digest=None), "BODY_INVALID"),
    (put(size=1, mediaType=APP, digest=""), "DIGEST_INVALID"),
    (put(size=1, mediaType=APP, digest="\ud800:\ud800"), "DIGEST_INVALID"),
    (put(size=1, mediaType=APP, digest=DIGEST + "\n"), "DIGEST_INVALID"),
]

BATCHES = [
    {},
    {"digests": None},
    {"digests": DIGEST},
    {"digests": {DIGEST: 1}},
    {"digests": [DIGEST, 7]},
    {"digests": [None]},
    {"digests": [[DIGEST]]},
    {"digests": [], "more": 1},
]

PURGES = [{"cursor": 7}, {"cursor": ["x"]}, {"more": 1}]


def refused(response: Any, status: int, code: str) -> None:
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/json"
    body = json.loads(response.content.decode("ascii"))
    assert list(body) == ["errors"]
    for error in body["errors"]:
        assert list(error) == ["code", "message", "detail"]
        assert error["code"] == code
        assert error["message"]
        assert isinstance(error["detail"], dict)


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:20]))
@pytest.mark.parametrize(("method", "path"), [("PUT", BLOB), ("POST", BATCH)])
def test_a_body_that_is_not_a_json_object_is_refused(
    method: str, path: str, body: str | bytes, superuser: APIClient, default_cache: Redis
) -> None:
    raw: Any = body
    response = superuser.generic(method, path, raw, content_type="application/json")
    refused(response, 400, "BODY_INVALID")
    assert not default_cache.keys()


@pytest.mark.parametrize(("body", "code"), DESCRIPTORS, ids=lambda value: repr(value)[:60])
@pytest.mark.parametrize("path", [BLOB, f"/api/repositories/a/blobs/{DIGEST}/"])
def test_an_invalid_descriptor_is_refused(
    path: str, body: str, code: str, superuser: APIClient, default_cache: Redis
) -> None:
    response = superuser.generic("PUT", path, body, content_type="application/json")
    refused(response, 400, code)
    assert not default_cache.keys()


@pytest.mark.parametrize("body", BATCHES, ids=repr)
def test_an_invalid_batch_is_refused(body: dict[str, Any], superuser: APIClient) -> None:
    refused(superuser.post(BATCH, body, format="json"), 400, "BODY_INVALID")


@pytest.mark.parametrize("body", PURGES, ids=repr)
def test_an_invalid_step_of_a_purge_is_refused(
    body: dict[str, Any], superuser: APIClient, default_cache: Redis
) -> None:
    refused(superuser.post(PURGE, body, format="json"), 400, "BODY_INVALID")
    assert not default_cache.keys()


def test_an_unknown_field_is_named(superuser: APIClient) -> None:
    response = superuser.put(BLOB, {"size": 1, "mediatype": APP}, format="json")
    (error,) = response.json()["errors"]
    assert error["detail"] == {"field": "mediatype"}
    assert "digest, size, mediaType" in error["message"]


def test_every_missing_field_is_named(superuser: APIClient) -> None:
    errors = superuser.put(BLOB, {}, format="json").json()["errors"]
    assert [error["detail"]["field"] for error in errors] == ["size", "mediaType"]


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "nonsense",
        "",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("PUT", BLOB), ("POST", BATCH), ("POST", PURGE)])
def test_a_body_of_another_media_type_is_refused(
    method: str, path: str, media_type: str, superuser: APIClient, default_cache: Redis
) -> None:
    response = superuser.generic(method, path, "--x", content_type=media_type)
    refused(response, 415, "UNSUPPORTED")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_every_json_media_type_is_accepted(
    media_type: str, superuser: APIClient, default_cache: Redis
) -> None:
    response = superuser.generic("PUT", BLOB, put(size=1, mediaType=APP), content_type=media_type)
    assert response.status_code == 201


@pytest.mark.parametrize("setting", ["ours", "Django's"])
def test_a_body_that_is_too_long_is_refused(
    setting: str, superuser: APIClient, settings: LazySettings
) -> None:
    if setting == "ours":
        settings.BLOBCACHE = {"default": {"API_MAX_BODY": 100}}
    else:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    response = superuser.post(BATCH, {"digests": [DIGEST] * 2}, format="json")
    refused(response, 413, "BODY_INVALID")


def test_a_body_may_have_the_maximum_length(
    superuser: APIClient, settings: LazySettings, default_cache: Redis
) -> None:
    body = put(digests=[DIGEST])
    for maximum, status in ((len(body), 200), (len(body) - 1, 413)):
        settings.BLOBCACHE = {"default": {"API_MAX_BODY": maximum}}
        response = superuser.generic("POST", BATCH, body, content_type="application/json")
        assert response.status_code == status


@pytest.mark.parametrize("length", ["-1", "x", "9" * 5000])
def test_an_invalid_content_length_is_refused(length: str, superuser: APIClient) -> None:
    response = superuser.generic(
        "PUT", BLOB, "{}", content_type="application/json", CONTENT_LENGTH=length
    )
    assert response.status_code in {400, 413}
    assert response.json()["errors"][0]["code"] == "BODY_INVALID"
