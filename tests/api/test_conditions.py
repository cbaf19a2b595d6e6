"""Conditional requests: the tag of a descriptor, If-None-Match and If-Match."""

from __future__ import annotations

import re
from typing import Any

import pytest
from redis import Redis
from rest_framework.test import APIClient

from blobcache.api.conditions import etag
from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from tests.api.conftest import ALIAS, APP, DIGEST, OTHER, As
from tests.api.test_blobs import in_both_scopes
from tests.api.test_bodies import refused
from tests.servers import commands

TAG = f'"{DIGEST};10;application/octet-stream"'


def put(client: APIClient, url: str, size: int = 10, media_type: str = APP, **headers: str) -> Any:
    body = {"size": size, "mediaType": media_type}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.put(url, body, format="json", headers=named)


@in_both_scopes
class TestTag:
    def test_is_that_of_the_descriptor(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        url = f"{scope}/{DIGEST}/"
        assert superuser.get(url).headers["ETag"] == TAG
        assert superuser.head(url).headers["ETag"] == TAG
        filled.hset(f"blobs::{DIGEST}", "size", 11)
        assert superuser.get(url).headers["ETag"] == TAG.replace(";10;", ";11;")

    def test_costs_no_round_trip(self, scope: str, superuser: APIClient, filled: Redis) -> None:
        superuser.get(f"{scope}/{DIGEST}/")
        with commands(filled) as traffic:
            superuser.get(f"{scope}/{DIGEST}/", headers={"If-None-Match": TAG})
        assert traffic.round_trips == 1

    @pytest.mark.parametrize(
        "header", [TAG, f"W/{TAG}", "*", f'"x", {TAG}', f'W/"a,b" ,  W/{TAG} , "c"']
    )
    def test_that_the_client_has_needs_no_body(
        self, scope: str, header: str, superuser: APIClient, filled: Redis
    ) -> None:
        url = f"{scope}/{DIGEST}/"
        for ask in (superuser.get, superuser.head):
            # The second query takes the framework's way, the first one the short one.
            for query in ("", "?format=json"):
                response = ask(url + query, headers={"If-None-Match": header})
                assert (response.status_code, response.content) == (304, b"")
                assert response.headers["ETag"] == TAG
                assert response.headers["Cache-Control"] == "private, no-cache"
                assert response.headers["Vary"].startswith("Accept, Authorization, Cookie")
                assert "Content-Type" not in response.headers

    @pytest.mark.parametrize("header", ['"x"', DIGEST, "", ",", '"', TAG[:-1], "W/", "x" * 5000])
    def test_another_one_gets_the_body(
        self, scope: str, header: str, superuser: APIClient, filled: Redis
    ) -> None:
        response = superuser.get(f"{scope}/{DIGEST}/", headers={"If-None-Match": header})
        assert response.status_code == 200
        assert response.json()["size"] == 10

    def test_is_the_same_on_both_ways(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        url = f"{scope}/{DIGEST}/"
        assert superuser.get(f"{url}?format=json").headers["ETag"] == TAG

    def test_is_not_on_a_page_for_browsers(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        response = superuser.get(
            f"{scope}/{DIGEST}/", headers={"Accept": "text/html", "If-None-Match": "*"}
        )
        assert response.status_code == 200
        assert "ETag" not in response.headers

    def test_does_not_answer_who_may_not_ask(self, scope: str, as_: As, filled: Redis) -> None:
        for persona, status in (("anonymous", 401), ("nobody", 403)):
            response = as_(persona).get(f"{scope}/{DIGEST}/", headers={"If-None-Match": "*"})
            assert response.status_code == status
            assert "ETag" not in response.headers

    def test_of_an_unknown_blob_is_none(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        response = superuser.get(f"{scope}/{OTHER}/", headers={"If-None-Match": "*"})
        refused(response, 404, "BLOB_UNKNOWN")
        assert "ETag" not in response.headers


@pytest.mark.parametrize("media_type", [None, "a/b; c=d", 'a"b', "a,b", "Ünïcode", "*", "a/b+c"])
def test_a_tag_is_printable_ascii_without_spaces_quotes_or_commas(media_type: str | None) -> None:
    tag = etag(Descriptor(DIGEST, 2**63 - 1, media_type))
    assert re.fullmatch(r'"[!#-+\--~]+"', tag)


def test_tags_of_different_descriptors_differ() -> None:
    types = [None, "a", "%61", "a;b", "a%3Bb", "A", "a ", "a+"]
    digests = [DIGEST, ALIAS]
    found = [Descriptor(d, s, t) for d in digests for s in (0, 1, 10) for t in types]
    assert len({etag(each) for each in found}) == len(found)


@in_both_scopes
class TestSet:
    def test_with_the_present_tag_changes_it(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        url = f"{scope}/{DIGEST}/"
        response = put(superuser, url, 12, If_Match=f'"other", {TAG}')
        assert response.status_code == 200
        assert response.headers["ETag"] == TAG.replace(";10;", ";12;")
        assert superuser.get(url).json()["size"] == 12

    @pytest.mark.parametrize("header", ['"x"', "", f"W/{TAG}", TAG.replace("10", "11"), DIGEST])
    def test_with_another_tag_is_refused_and_nothing_is_written(
        self, scope: str, header: str, superuser: APIClient, filled: Redis
    ) -> None:
        before = {key: filled.dump(key) for key in filled.scan_iter()}
        response = put(superuser, f"{scope}/{DIGEST}/", 12, If_Match=header)
        refused(response, 412, "PRECONDITION_FAILED")
        assert response.json()["errors"][0]["detail"] == {"etag": TAG}
        assert {key: filled.dump(key) for key in filled.scan_iter()} == before

    def test_if_match_needs_a_blob(self, scope: str, superuser: APIClient, filled: Redis) -> None:
        for header in ("*", TAG):
            response = put(superuser, f"{scope}/{OTHER}/", If_Match=header)
            refused(response, 412, "PRECONDITION_FAILED")
            assert response.json()["errors"][0]["detail"] == {"etag": None}
            assert superuser.get(f"{scope}/{OTHER}/").status_code == 404
        assert put(superuser, f"{scope}/{DIGEST}/", 12, If_Match="*").status_code == 200

    def test_if_none_match_needs_that_there_is_none(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        url = f"{scope}/{OTHER}/"
        assert put(superuser, url, If_None_Match="*").status_code == 201
        refused(put(superuser, url, If_None_Match="*"), 412, "PRECONDITION_FAILED")
        refused(put(superuser, url, 12, If_None_Match="*"), 412, "PRECONDITION_FAILED")
        assert superuser.get(url).json()["size"] == 10

    def test_what_is_damaged_counts_as_unknown(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        filled.hset(f"blobs::{DIGEST}", "size", "many")
        refused(put(superuser, f"{scope}/{DIGEST}/", If_Match="*"), 412, "PRECONDITION_FAILED")
        assert put(superuser, f"{scope}/{DIGEST}/", If_None_Match="*").status_code == 201

    def test_both_conditions_must_hold(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        response = put(superuser, f"{scope}/{DIGEST}/", 12, If_Match=TAG, If_None_Match=TAG)
        refused(response, 412, "PRECONDITION_FAILED")
        response = put(superuser, f"{scope}/{DIGEST}/", 12, If_Match=TAG, If_None_Match='"x"')
        assert response.status_code == 200

    def test_the_body_is_checked_first(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        response = put(superuser, f"{scope}/{DIGEST}/", -1, If_Match='"x"')
        refused(response, 400, "SIZE_INVALID")

    def test_without_a_condition_is_as_before(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        assert put(superuser, f"{scope}/{DIGEST}/", 12).status_code == 200

    def test_permissions_come_first(self, scope: str, as_: As, filled: Redis) -> None:
        response = put(as_("viewer"), f"{scope}/{DIGEST}/", 12, If_Match='"x"')
        refused(response, 403, "DENIED")


class TestSizes:
    """The size counts for every repository, also where the blob is unknown."""

    URL = f"/api/repositories/third/app/blobs/{DIGEST}/"

    def test_of_other_repositories_is_not_overwritten_where_the_blob_is_new(
        self, superuser: APIClient, filled: Redis
    ) -> None:
        refused(put(superuser, self.URL, 12, If_None_Match="*"), 412, "PRECONDITION_FAILED")
        assert get_provider().stat(DIGEST).size == 10
        assert get_provider().repository_scoped("third/app").stat_many([DIGEST]) == {}
        assert put(superuser, self.URL, 10, If_None_Match="*").status_code == 201

    def test_can_be_changed_as_the_error_says(self, superuser: APIClient, filled: Redis) -> None:
        response = put(superuser, self.URL, 12, If_None_Match="*")
        assert (
            "first set the global descriptor, with its ETag"
            in response.json()["errors"][0]["message"]
        )
        url = f"/api/blobs/{DIGEST}/"
        tag = superuser.get(url).headers["ETag"]
        assert put(superuser, url, 12, If_Match=tag).status_code == 200
        assert put(superuser, self.URL, 12, If_None_Match="*").status_code == 201

    def test_without_conditions_is_overwritten(self, superuser: APIClient, filled: Redis) -> None:
        assert put(superuser, self.URL, 12).status_code == 201
        assert get_provider().stat(DIGEST).size == 12

    def test_of_the_canonical_digest_is_not_overwritten_by_an_alias(
        self, superuser: APIClient, filled: Redis
    ) -> None:
        url = f"/api/repositories/third/app/blobs/{ALIAS}/"
        body = {"digest": DIGEST, "size": 12, "mediaType": APP}
        response = superuser.put(url, body, format="json", headers={"If-None-Match": "*"})
        refused(response, 412, "PRECONDITION_FAILED")
        assert get_provider().stat(DIGEST).size == 10


@in_both_scopes
class TestClear:
    def test_with_the_present_tag_clears_it(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        url = f"{scope}/{DIGEST}/"
        assert superuser.delete(url, headers={"If-Match": TAG}).status_code == 204
        assert superuser.get(url).status_code == 404

    @pytest.mark.parametrize(
        ("name", "value"),
        [("If-Match", '"another tag"'), ("If-None-Match", TAG), ("If-None-Match", "*")],
    )
    def test_with_a_condition_that_fails_clears_nothing(
        self, scope: str, name: str, value: str, superuser: APIClient, filled: Redis
    ) -> None:
        url = f"{scope}/{DIGEST}/"
        response = superuser.delete(url, headers={name: value})
        refused(response, 412, "PRECONDITION_FAILED")
        assert response.json()["errors"][0]["detail"]["etag"] == TAG
        assert superuser.get(url).status_code == 200

    def test_of_an_unknown_blob_is_not_found_whatever_the_condition(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        for headers in ({"If-Match": TAG}, {"If-Match": "*"}, {"If-None-Match": "*"}):
            response = superuser.delete(f"{scope}/{OTHER}/", headers=headers)
            refused(response, 404, "BLOB_UNKNOWN")

    def test_of_a_damaged_blob_needs_that_no_descriptor_is_named(
        self, scope: str, superuser: APIClient, filled: Redis
    ) -> None:
        filled.hset(f"blobs::{DIGEST}", "size", "many")
        url = f"{scope}/{DIGEST}/"
        refused(superuser.delete(url, headers={"If-Match": TAG}), 412, "PRECONDITION_FAILED")
        assert superuser.delete(url, headers={"If-None-Match": "*"}).status_code == 204

    def test_permissions_come_first(self, scope: str, as_: As, filled: Redis) -> None:
        response = as_("viewer").delete(f"{scope}/{DIGEST}/", headers={"If-Match": '"x"'})
        assert response.status_code == 403


def test_a_media_type_that_is_kept_has_no_tag_in_the_response(
    superuser: APIClient, filled: Redis
) -> None:
    response = put(superuser, f"/api/blobs/{DIGEST}/", 10, "text/plain", If_Match=TAG)
    assert response.json()["mediaType"] == APP
    assert "ETag" not in response.headers


def test_two_who_set_a_new_blob_at_once_do_not_both_succeed(
    superuser: APIClient, filled: Redis
) -> None:
    url = f"/api/blobs/{OTHER}/"
    statuses = [put(superuser, url, size, If_None_Match="*").status_code for size in (1, 2)]
    assert statuses == [201, 412]
