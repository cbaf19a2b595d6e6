"""Lists as CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.http.response import StreamingHttpResponse
from redis import Redis
from rest_framework.test import APIClient

from blobcache.descriptor import Descriptor
from blobcache.services import get_browsable, get_provider
from tests.api.conftest import APP, DIGEST, OTHER, As
from tests.api.test_bodies import refused
from tests.api.test_lists import digest, many
from tests.budgets import limit
from tests.servers import cache_at, commands

__all__ = ["many"]

CSV, LINES = "text/csv", "application/x-ndjson"
BROWSER = "text/html,application/xml;q=0.9,*/*;q=0.8"
LISTS = [
    "/api/blobs/",
    "/api/repositories/",
    "/api/repositories/big/blobs/",
    f"/api/blobs/{digest(0)}/repositories/",
]
every_list = pytest.mark.parametrize("url", LISTS)


def body(response: Any) -> bytes:
    assert response.status_code == 200, response.content
    assert isinstance(response, StreamingHttpResponse)
    return b"".join(response.streaming_content)  # type: ignore[arg-type]


def table(client: APIClient, url: str) -> list[dict[str, str]]:
    content = body(client.get(url, HTTP_ACCEPT=CSV)).decode()
    return list(csv.DictReader(io.StringIO(content, newline="")))


def lines(client: APIClient, url: str) -> list[dict[str, Any]]:
    return [json.loads(each) for each in body(client.get(url, HTTP_ACCEPT=LINES)).splitlines()]


@every_list
def test_the_whole_list_is_exported(url: str, superuser: APIClient, many: Redis) -> None:
    count = 41 if url.endswith("repositories/") else 2500
    found = lines(superuser, url)
    key = "name" if "name" in found[0] else "digest"
    assert len({row[key] for row in found}) == count
    page = superuser.get(url).json()["results"]
    assert found[0].keys() == page[0].keys()
    assert {row[key] for row in table(superuser, url)} == {row[key] for row in found}


@every_list
def test_an_export_has_the_headers_of_a_download(
    url: str, superuser: APIClient, many: Redis
) -> None:
    for query, accept in (("", CSV), ("?format=csv", "*/*"), ("?format=csv", BROWSER)):
        response = superuser.get(url + query, HTTP_ACCEPT=accept)
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert "attachment" in response.headers["Content-Disposition"]
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert "Accept" in response.headers["Vary"]
        assert body(response)
    assert superuser.get(f"{url}?format=ndjson").headers["Content-Type"].startswith(LINES)


@every_list
def test_the_pages_are_read_while_the_response_is_sent(
    url: str, superuser: APIClient, many: Redis
) -> None:
    if url.endswith("repositories/"):
        return
    with commands(many) as traffic:
        response = superuser.get(url, HTTP_ACCEPT=LINES)
    begun = traffic.round_trips
    with commands(many) as traffic:
        body(response)
    assert 0 < begun < traffic.round_trips + 5
    assert traffic.round_trips > 1


@every_list
def test_an_export_needs_the_permissions_of_the_list(url: str, as_: As, many: Redis) -> None:
    for persona in ("anonymous", "nobody"):
        plain = as_(persona).get(url)
        response = as_(persona).get(url, HTTP_ACCEPT=CSV)
        assert response.status_code == plain.status_code
        if plain.status_code != 200:
            assert response.headers["Content-Type"] == "application/json"
            assert response.json() == plain.json()


def test_an_export_shows_only_what_the_user_may_view(as_: As, filled: Redis) -> None:
    granted = as_("granted")
    listed = [row["name"] for row in granted.get("/api/repositories/").json()["results"]]
    assert [row["name"] for row in table(granted, "/api/repositories/")] == listed == ["team/app"]


def test_filters_and_order_apply(superuser: APIClient, filled: Redis) -> None:
    provider = get_browsable()
    provider.repository_scoped("z").set_descriptor(OTHER, Descriptor(OTHER, 99, APP))
    provider.catalog.reindex()
    assert [row["digest"] for row in table(superuser, "/api/blobs/?size_min=50")] == [OTHER]
    found = lines(superuser, "/api/repositories/?ordering=-name")
    assert [row["name"] for row in found] == ["z", "team/app", "other/app"]
    assert found[0].keys() == {"name", "blobs", "bytes", "counted_at"}


def test_an_export_whose_first_page_is_empty_has_every_column(
    superuser: APIClient, many: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, page=0, step=1)
    url = "/api/repositories/?search=big&ordering=-name"
    assert superuser.get(url).json()["results"] == []
    (row,) = lines(superuser, url)
    assert row.keys() == {"name", "blobs", "bytes", "counted_at"}


@every_list
def test_an_empty_list_has_only_a_head(
    url: str, superuser: APIClient, default_cache: Redis
) -> None:
    content = body(superuser.get(url, HTTP_ACCEPT=CSV))
    assert content.count(b"\r\n") == 1
    assert b"name" in content or b"digest" in content
    assert body(superuser.get(url, HTTP_ACCEPT=LINES)) == b""


@every_list
def test_errors_are_those_of_the_list_in_json(url: str, superuser: APIClient, many: Redis) -> None:
    codes = {"cursor=x": "CURSOR", "page_size=": "PAGINATION_NUMBER", "nosuch=1": "PARAMETER"}
    for query, code in codes.items():
        refused(superuser.get(f"{url}?{query}", HTTP_ACCEPT=CSV), 400, f"{code}_INVALID")
    refused(superuser.generic("TRACE", f"{url}?format=csv"), 405, "UNSUPPORTED")
    with cache_at("redis://127.0.0.1:1/0"):
        refused(superuser.get(url, HTTP_ACCEPT=LINES), 503, "UNAVAILABLE")


@pytest.mark.parametrize("path", ["blobs/", "repositories/", "changes/"])
def test_the_options_of_a_list_are_no_export(path: str, superuser: APIClient) -> None:
    response = superuser.options(f"/api/{path}?format=csv")
    refused(response, 406, "UNSUPPORTED")
    assert response.headers["Content-Type"] == "application/json"


@every_list
def test_an_export_begins_at_the_cursor(url: str, superuser: APIClient, many: Redis) -> None:
    whole = lines(superuser, url)
    page = superuser.get(f"{url}?page_size=7").json()
    rest = lines(superuser, page["next"])
    key = "name" if "name" in whole[0] else "digest"
    seen = {row[key] for row in [*page["results"], *rest]}
    assert seen == {row[key] for row in whole}
    assert len(rest) < len(whole)


def test_redis_that_fails_in_the_middle_is_in_the_last_line(
    superuser: APIClient, many: Redis
) -> None:
    for accept in (CSV, LINES):
        response = superuser.get("/api/repositories/big/blobs/", HTTP_ACCEPT=accept)
        with cache_at("redis://127.0.0.1:1/0"):
            last = body(response).splitlines()[-1]
        if accept == CSV:
            assert last.startswith(b"ERROR UNAVAILABLE: this list is incomplete.")
        else:
            assert json.loads(last)["errors"][0]["code"] == "UNAVAILABLE"


def test_only_lists_can_be_exported(superuser: APIClient, filled: Redis) -> None:
    for path in (f"blobs/{DIGEST}/", "status/", "repositories/team/app/summary/", "doctor/"):
        refused(superuser.get(f"/api/{path}", HTTP_ACCEPT=CSV), 406, "UNSUPPORTED")
        refused(superuser.get(f"/api/{path}?format=csv"), 406, "UNSUPPORTED")


def test_hostile_media_types_are_no_formulas(superuser: APIClient, filled: Redis) -> None:
    evil = "=HYPERLINK(1)"
    get_provider().repository_scoped("team/app").set_descriptor(OTHER, Descriptor(OTHER, 1, evil))
    found = {row["digest"]: row for row in table(superuser, "/api/repositories/team/app/blobs/")}
    assert found[OTHER]["mediaType"] == f"'{evil}"
