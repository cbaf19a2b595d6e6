"""One blob's descriptor, globally and in a repository: stat, set, clear; and many at a time."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from redis import Redis
from rest_framework.test import APIClient

from tests.api.conftest import ALIAS, APP, DIGEST, OTHER, UNKNOWN, As
from tests.servers import commands

SCOPES = ["/api/blobs", "/api/repositories/team/app/blobs"]
in_both_scopes = pytest.mark.parametrize("scope", SCOPES)


@in_both_scopes
class TestStat:
    def test_is_an_oci_descriptor(self, scope: str, superuser: APIClient, filled: Redis) -> None:
        response = superuser.get(f"{scope}/{DIGEST}/")
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Docker-Content-Digest"] == DIGEST
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.json() == {"digest": DIGEST, "size": 10, "mediaType": APP}

    def test_head_has_the_headers_of_get(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        get, head = (ask(f"{scope}/{DIGEST}/") for ask in (superuser.get, superuser.head))
        assert head.headers == get.headers
        assert head.headers["Content-Length"] == str(len(get.content))
        assert head.content == b""

    def test_is_one_round_trip(self, scope: str, superuser: APIClient, filled: Redis) -> None:
        superuser.get(f"{scope}/{DIGEST}/")
        for ask in (superuser.get, superuser.head):
            with commands(filled) as traffic:
                assert ask(f"{scope}/{DIGEST}/").status_code == 200
            assert traffic.round_trips == 1

    def test_a_slash_at_the_end_makes_no_difference(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        assert superuser.get(f"{scope}/{DIGEST}").json()["size"] == 10

    def test_the_error_names_the_unknown_blob(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        response = superuser.get(f"{scope}/{UNKNOWN}/")
        assert response.status_code == 404
        (error,) = response.json()["errors"]
        assert error["code"] == "BLOB_UNKNOWN"
        assert error["detail"]["digest"] == UNKNOWN

    def test_a_corrupt_blob_is_unknown(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        filled.hset(f"blobs::{DIGEST}", "size", "many")
        response = superuser.get(f"{scope}/{DIGEST}/")
        assert response.status_code == 404
        assert response.json()["errors"][0]["code"] == "BLOB_UNKNOWN"

    def test_a_missing_media_type_is_null(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        filled.hdel(f"blobs::{DIGEST}", "mediatype")
        filled.hset(f"repository::team/app::blobs::{DIGEST}", "mediatype", "")
        assert superuser.get(f"{scope}/{DIGEST}/").json()["mediaType"] is None

    @pytest.mark.parametrize(
        ("digest", "message"),
        [
            ("x", "not have the form"),
            ("sha256:ab", "64"),
            ("md5:" + "a" * 32, "supported are sha256"),
        ],
    )
    def test_the_error_for_an_invalid_digest_explains_the_mistake(
        self, scope: str, digest: str, message: str, superuser: APIClient
    ) -> None:
        response = superuser.get(f"{scope}/{digest}/")
        assert response.status_code == 400
        (error,) = response.json()["errors"]
        assert error["code"] == "DIGEST_INVALID"
        assert message in error["message"]


@in_both_scopes
class TestSet:
    def test_creates_then_replaces(
        self, scope: str, superuser: APIClient, default_cache: Redis
    ) -> None:
        body = {"size": 7, "mediaType": APP}
        first = superuser.put(f"{scope}/{DIGEST}/", body, format="json")
        again = superuser.put(f"{scope}/{DIGEST}/", body, format="json")
        assert (first.status_code, again.status_code) == (201, 200)
        for response in (first, again):
            assert response.json() == {"digest": DIGEST, "size": 7, "mediaType": APP}
            assert response.headers["Docker-Content-Digest"] == DIGEST
        assert superuser.get(f"{scope}/{DIGEST}/").json() == first.json()

    def test_accepts_the_body_of_a_get(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        body = superuser.get(f"{scope}/{DIGEST}/").json()
        assert superuser.put(f"{scope}/{DIGEST}/", body, format="json").status_code == 200

    def test_the_body_s_digest_must_agree(
        self, scope: str, superuser: APIClient, default_cache: Redis
    ) -> None:
        body = {"digest": OTHER, "size": 7, "mediaType": APP}
        response = superuser.put(f"{scope}/{DIGEST}/", body, format="json")
        assert response.status_code == 400
        assert response.json()["errors"][0]["code"] == "DIGEST_INVALID"
        assert not default_cache.keys("*blobs::sha256*")

    def test_for_an_alias_the_response_has_the_canonical_digest(
        self, scope: str, superuser: APIClient, default_cache: Redis
    ) -> None:
        body = {"digest": DIGEST, "size": 7, "mediaType": APP}
        response = superuser.put(f"{scope}/{ALIAS}/", body, format="json")
        assert response.status_code == 201
        assert response.json()["digest"] == DIGEST
        assert response.headers["Docker-Content-Digest"] == DIGEST

    def test_is_attributed_and_recorded(
        self, scope: str, as_: As, default_cache: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        logging.getLogger("blobcache.audit").addHandler(caplog.handler)
        as_("editor").put(f"{scope}/{DIGEST}/", {"size": 7, "mediaType": APP}, format="json")
        logging.getLogger("blobcache.audit").removeHandler(caplog.handler)
        assert "actor='editor' source='api'" in caplog.text
        entry = LogEntry.objects.get()
        assert entry.user.get_username() == "editor"
        assert entry.object_id == (DIGEST if scope == "/api/blobs" else "team/app")


def test_a_global_set_keeps_the_media_type_and_reports_it(
    superuser: APIClient, filled: Redis
) -> None:
    body = {"size": 10, "mediaType": "application/other"}
    response = superuser.put(f"/api/blobs/{DIGEST}/", body, format="json")
    assert response.json()["mediaType"] == APP


@in_both_scopes
class TestClear:
    def test_a_second_clear_is_a_404(self, scope: str, superuser: APIClient, filled: Redis) -> None:
        assert superuser.delete(f"{scope}/{DIGEST}/").status_code == 204
        assert superuser.get(f"{scope}/{DIGEST}/").status_code == 404
        assert superuser.delete(f"{scope}/{DIGEST}/").status_code == 404

    def test_is_recorded(self, scope: str, superuser: APIClient, filled: Redis) -> None:
        superuser.delete(f"{scope}/{DIGEST}/")
        assert LogEntry.objects.count() == 1


@in_both_scopes
class TestBatch:
    def test_answers_each_digest_once(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        asked = [DIGEST, UNKNOWN, "x", DIGEST, "x", "\ud800:\x00"]
        raw = json.dumps({"digests": asked})  # the client's own renderer refuses half a pair
        response = superuser.post(f"{scope}/stat/", raw, content_type="application/json")
        assert response.status_code == 200
        body = response.json()
        assert body["descriptors"] == {DIGEST: {"digest": DIGEST, "size": 10, "mediaType": APP}}
        assert body["unknown"] == [UNKNOWN]
        assert [(each["digest"], each["code"]) for each in body["invalid"]] == [
            ("x", "DIGEST_INVALID"),
            ("\ud800:\x00", "DIGEST_INVALID"),
        ]

    def test_accepts_a_thousand_digests(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        asked = [f"sha256:{number:064x}" for number in range(1000)]
        superuser.post(f"{scope}/stat/", {"digests": []}, format="json")
        with commands(filled) as traffic:
            response = superuser.post(f"{scope}/stat/", {"digests": asked}, format="json")
        assert response.json()["unknown"] == asked
        assert traffic.round_trips < 100  # reads of 16 kB each, of three thousand commands

    def test_refuses_more_digests_than_the_setting_allows(
        self, scope: str, superuser: APIClient, settings: LazySettings
    ) -> None:
        settings.BLOBCACHE = {"default": {"API_MAX_BATCH": 2}}
        response = superuser.post(f"{scope}/stat/", {"digests": ["x"] * 3}, format="json")
        assert response.status_code == 400
        (error,) = response.json()["errors"]
        assert (error["code"], error["detail"]) == ("BODY_INVALID", {"maximum": 2})

    def test_an_empty_batch_does_not_ask_redis(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        response = superuser.post(f"{scope}/stat/", {"digests": []}, format="json")
        assert response.json() == {"descriptors": {}, "unknown": [], "invalid": []}


def test_tarsum_digests_are_accepted_only_if_a_setting_allows_them(
    superuser: APIClient, default_cache: Redis, settings: LazySettings
) -> None:
    digest = "tarsum.v1+sha256:" + "d" * 64
    body: dict[str, Any] = {"size": 1, "mediaType": APP}
    assert superuser.put(f"/api/blobs/{digest}/", body, format="json").status_code == 400
    settings.BLOBCACHE = {"default": {"ALLOW_TARSUM": True}}
    assert superuser.put(f"/api/blobs/{digest}/", body, format="json").status_code == 201
    body["digest"] = digest
    assert superuser.put(f"/api/blobs/{digest}/", body, format="json").status_code == 200
    found = superuser.post("/api/blobs/stat/", {"digests": [digest]}, format="json").json()
    assert digest in found["descriptors"]
