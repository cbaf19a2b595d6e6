"""An invalid query is refused, and nothing is written."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.core.handlers.wsgi import WSGIRequest
from drf_spectacular.generators import SchemaGenerator
from redis import Redis
from rest_framework.test import APIClient

from tests.api.conftest import DIGEST, As
from tests.api.test_bodies import refused
from tests.api.test_permissions import TABLE, Row, address, expected, offers

BLOBS = ["state", "media_type", "size_min", "size_max"]

CHANGES = [
    *("since", "until", "actor", "repository", "digest", "action", "source", "operation", "parts"),
    *("cursor", "page_size"),
]

NAMES = {
    "changes": CHANGES,
    "jobs": ["cursor", "page_size"],
    "blobs": ["prefix", *BLOBS, "cursor", "page_size"],
    "blobs-stat": ["cached"],
    "blob": ["cached"],
    "repository-blobs-stat": ["cached"],
    "repository-blob": ["cached"],
    "blob-raw": ["repository"],
    "blob-repositories": ["cursor", "page_size", "fresh"],
    "registries": ["cursor", "page_size"],
    "blob-purge": ["dry_run"],
    "blobs-purge": ["dry_run"],
    "repositories": ["prefix", "ordering", "search", "cursor", "page_size", "fresh"],
    "repository-summary": ["cursor"],
    "repository-compare": ["cursor", "page_size", "with"],
    "repository-blobs": ["prefix", *BLOBS, "ordering", "cursor", "page_size", "fresh"],
}

# What a job needs is in its body, so its parameters come first: tests/api/test_jobs.py has these.
ROWS = [row for row in TABLE if not row.route.startswith("job")]

EVERY_ROW = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.route}-{row.method}")


def ask(client: APIClient, row: Row, query: str, method: str = "", **headers: Any) -> Any:
    return client.generic(
        method or row.method,
        f"{address(row.route)}?{query}",
        "" if row.body is None else json.dumps(row.body),
        content_type="application/json",
        **headers,
    )


def content(redis: Redis) -> dict[bytes, bytes | None]:
    return {key: redis.dump(key) for key in redis.scan_iter()}


def allowed(route: str, method: str = "OPTIONS") -> list[str]:
    """The parameters of a request; OPTIONS takes those of all methods. Writes take none of them."""
    return [*([] if method in {"PUT", "DELETE"} else NAMES.get(route, [])), "format"]


@EVERY_ROW
def test_an_unknown_parameter_is_refused_and_nothing_is_written(
    row: Row, superuser: APIClient, filled: Redis
) -> None:
    before = content(filled)
    for query in ("dry=1", "Cursor=", "cursor%20=", "=", "a;b", "dryrun", "_=1"):
        response = ask(superuser, row, query)
        refused(response, 400, "PARAMETER_INVALID")
        (error,) = response.json()["errors"]
        assert error["detail"]["allowed"] == allowed(row.route, row.method), query
        assert all(name in error["message"] for name in allowed(row.route, row.method)), query
        assert content(filled) == before, query
    assert not LogEntry.objects.exists()


@EVERY_ROW
def test_a_repeated_parameter_is_refused_and_nothing_is_written(
    row: Row, superuser: APIClient, filled: Redis
) -> None:
    before = content(filled)
    for name in allowed(row.route, row.method)[:-1]:
        response = ask(superuser, row, f"{name}=1&{name}=1")
        refused(response, 400, "PARAMETER_INVALID")
        assert response.json()["errors"][0]["detail"]["parameter"] == name
    refused(ask(superuser, row, "format=json&format=json"), 400, "PARAMETER_INVALID")
    assert content(filled) == before


@EVERY_ROW
def test_a_parameter_of_another_route_is_unknown(
    row: Row, superuser: APIClient, filled: Redis
) -> None:
    for name in {"cursor", "page_size", "prefix", "dry_run"} - set(allowed(row.route, row.method)):
        refused(ask(superuser, row, f"{name}=1"), 400, "PARAMETER_INVALID")


@EVERY_ROW
def test_parameters_of_the_framework_are_allowed(
    row: Row, superuser: APIClient, filled: Redis
) -> None:
    assert ask(superuser, row, "format=json").status_code == row.status


@EVERY_ROW
def test_the_address_without_its_slash_also_refuses_it(
    row: Row, superuser: APIClient, filled: Redis
) -> None:
    path = address(row.route).rstrip("/")
    response = superuser.generic(row.method, f"{path}?x=1", "{}", content_type="application/json")
    refused(response, 400, "PARAMETER_INVALID")


@pytest.mark.parametrize("route", offers())
def test_options_accepts_the_parameters_of_the_methods(
    route: str, superuser: APIClient, filled: Redis
) -> None:
    # The button of a page in a browser sends the page's own query along.
    query = "&".join(f"{name}=1" for name in allowed(route) if name != "format")
    assert superuser.options(f"{address(route)}?{query}").status_code == 200
    refused(superuser.options(f"{address(route)}?x=1"), 400, "PARAMETER_INVALID")


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.method == "GET"], ids=lambda row: row.route
)
def test_head_accepts_the_parameters_of_get(row: Row, superuser: APIClient, filled: Redis) -> None:
    assert ask(superuser, row, "x=1", "HEAD").status_code == 400
    assert ask(superuser, row, "format=json", "HEAD").status_code == row.status


@EVERY_ROW
def test_a_refusal_without_permission_does_not_name_the_allowed_parameters(
    row: Row, as_: As, filled: Redis
) -> None:
    for persona in ("anonymous", "nobody"):
        status = expected(row, persona)
        if status >= 400:
            assert ask(as_(persona), row, "x=1").status_code == status


class Unread:
    def read(self, *_: object) -> NoReturn:
        raise AssertionError("The body was read.")

    readline = read


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.body is not None], ids=lambda row: row.route
)
def test_the_query_is_checked_before_the_body_is_read(
    row: Row, superuser: APIClient, filled: Redis
) -> None:
    extra: dict[str, Any] = {"wsgi.input": Unread()}
    response = ask(superuser, row, "x=1", **extra)
    refused(response, 400, "PARAMETER_INVALID")


def test_a_stat_without_a_query_does_not_parse_it(
    superuser: APIClient, filled: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> NoReturn:
        raise AssertionError("The query was parsed.")

    monkeypatch.setattr(WSGIRequest, "GET", property(fail))
    assert superuser.get(f"/api/blobs/{DIGEST}/").status_code == 200


@pytest.mark.parametrize("name", ["x" * 60_000, "%F0%9F%92%A9" * 5000, "%1B" * 5000])
def test_the_wrong_name_is_quoted_and_cut(name: str, superuser: APIClient, filled: Redis) -> None:
    response = superuser.get(f"/api/blobs/{DIGEST}/?{name}=1")
    refused(response, 400, "PARAMETER_INVALID")
    assert len(response.content) < 8000
    assert b"\x1b" not in response.content


@EVERY_ROW
@pytest.mark.parametrize("debug", [False, True])
def test_more_parameters_than_django_reads_are_refused(
    row: Row, debug: bool, superuser: APIClient, filled: Redis, settings: LazySettings
) -> None:
    settings.DEBUG = debug
    before = content(filled)
    query = "&".join(f"x{number}=1" for number in range(1001))
    for accept in ("*/*", "application/json", "text/html", "application/xml"):
        response = ask(superuser, row, query, HTTP_ACCEPT=accept)
        refused(response, 400, "PARAMETER_INVALID")
        assert content(filled) == before, accept


@EVERY_ROW
def test_more_parameters_than_django_reads_need_a_permission_first(
    row: Row, as_: As, filled: Redis
) -> None:
    query = "&".join(f"x{number}=1" for number in range(1001))
    assert ask(as_("anonymous"), row, query).status_code == 401


def test_an_unknown_address_is_unknown_with_any_query(superuser: APIClient, filled: Redis) -> None:
    query = "&".join(f"x{number}=1" for number in range(1001))
    for accept in ("*/*", "text/html"):
        response = superuser.get(f"/api/blobs/a/b/c/?{query}", HTTP_ACCEPT=accept)
        refused(response, 404, "PATH_UNKNOWN")


def test_the_schema_has_the_parameters_that_the_check_allows() -> None:
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    by_operation = {
        operation["operationId"]: operation
        for path in schema["paths"].values()
        for operation in path.values()
    }
    found = {
        name: [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
        for name, operation in by_operation.items()
    }
    taken = {name: set(names) - {"format"} for name, names in found.items() if names}
    assert taken.pop("list_registries") == {"cursor", "page_size"}
    below = {name for name in taken if name.startswith("registry_")}
    assert {name.removeprefix("registry_"): taken.pop(name) for name in below} == taken
    assert taken == {
        "list_blobs": {*BLOBS, "prefix", "cursor", "page_size"},
        "get_raw_keys": {"repository"},
        "check_cache": set(),
        "list_jobs": {"cursor", "page_size"},
        "list_changes": set(CHANGES),
        "list_blob_repositories": {"cursor", "page_size", "fresh"},
        "purge_blob": {"dry_run"},
        "purge_blobs": {"dry_run"},
        "list_repositories": {"cursor", "page_size", "fresh", "prefix", "ordering", "search"},
        "summarize_repository": {"cursor"},
        "compare_repository": {"with", "cursor", "page_size"},
        "list_repository_blobs": {
            *BLOBS,
            *("prefix", "ordering", "cursor", "page_size", "fresh"),
        },
        "stat_blob": {"cached"},
        "stat_blobs": {"cached"},
        "stat_repository_blob": {"cached"},
        "stat_repository_blobs": {"cached"},
    }
    assert all("400" in operation["responses"] for operation in by_operation.values())
