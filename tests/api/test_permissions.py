"""Who may do what: every route, every method, every kind of user."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import Permission
from django.urls import URLPattern, URLResolver, reverse
from redis import Redis
from rest_framework.test import APIClient

from blobcache.api.urls import urlpatterns
from tests.api import grants
from tests.api.conftest import APP, DIGEST, PERSONAS, As, user
from tests.servers import commands


class Row(NamedTuple):
    route: str
    method: str
    allowed: set[str]
    status: int = 200
    body: dict[str, Any] | None = None


VIEW = {"superuser", "viewer", "editor", "cleaner"}
CHANGE = {"superuser", "editor"}
DELETE = {"superuser", "cleaner"}
GRANTED = {"granted"}
KNOWN = set(PERSONAS) - {"anonymous"}
NO_JOB = "00000000-0000-4000-8000-000000000000"
DESCRIPTOR = {"size": 10, "mediaType": APP}

TABLE = [
    Row("status", "GET", VIEW),
    Row("doctor", "GET", VIEW),
    Row("doctor-check", "POST", VIEW, body={}),
    Row("doctor-repair", "POST", DELETE, body={"findings": [f"husk/blob//{DIGEST}"]}),
    Row("changes", "GET", KNOWN),
    Row("registries", "GET", KNOWN),
    Row("registry", "GET", KNOWN),
    Row("jobs", "GET", KNOWN),
    Row("jobs", "POST", VIEW, 201, body={"kind": "sizes"}),
    Row("job", "GET", KNOWN, 404),
    Row("job-step", "POST", KNOWN, 404),
    Row("job-cancel", "POST", KNOWN, 404),
    Row("blobs", "GET", VIEW),
    Row("blobs-stat", "POST", VIEW, body={"digests": [DIGEST]}),
    Row("blob", "GET", VIEW),
    Row("blob", "PUT", CHANGE, body=DESCRIPTOR),
    Row("blob", "DELETE", DELETE, 204),
    Row("blob-repositories", "GET", VIEW),
    Row("blob-registries", "GET", VIEW),
    Row("blob-raw", "GET", VIEW),
    Row("blob-purge", "POST", DELETE, body={}),
    Row("blobs-purge", "POST", DELETE, body={"digests": [DIGEST]}),
    Row("repositories", "GET", KNOWN),
    Row("repository-summary", "GET", VIEW | GRANTED),
    Row("repository-compare", "GET", VIEW | GRANTED, 400),  # without the other registry
    Row("repository-blobs", "GET", VIEW | GRANTED),
    Row("repository-blobs-stat", "POST", VIEW | GRANTED, body={"digests": [DIGEST]}),
    Row("repository-blob", "GET", VIEW | GRANTED),
    Row("repository-blob", "PUT", CHANGE, body=DESCRIPTOR),
    Row("repository-blob", "DELETE", DELETE | GRANTED, 204),
]

ALLOWED = [
    pytest.param(row, persona, id=f"{row.route}-{row.method}-{persona}")
    for row in TABLE
    for persona in PERSONAS
    if persona in row.allowed
]


def named() -> list[tuple[str, URLPattern]]:
    """The routes that have names. Those below one registry's address are the same ones again."""
    return [
        (each.name, each)
        for each in urlpatterns
        if not isinstance(each, URLResolver) and each.name is not None
    ]


def offers() -> dict[str, set[str]]:
    """The methods of each named route, apart from HEAD and OPTIONS."""
    return {
        name: {method.upper() for method in actions_of(pattern)} - {"HEAD", "OPTIONS"}
        for name, pattern in named()
    }


def actions_of(pattern: URLPattern) -> dict[str, str]:
    """The action of each method of a route."""
    view: Any = pattern.callback
    if hasattr(view, "actions"):
        return dict(view.actions)
    methods = ("get", "put", "post", "patch", "delete")
    return {method: method for method in methods if hasattr(view.cls, method)}


def address(route: str, name: str = "team/app", digest: str = DIGEST) -> str:
    takes = {"name": name} if route.startswith("repository-") else {}
    if route == "registry":
        takes["registry"] = "default"
    if route == "repository-blob" or route.startswith("blob-") or route == "blob":
        takes["digest"] = digest
    if route == "job" or route.startswith("job-"):
        takes["job"] = NO_JOB
    return reverse(f"blobcache-api:{route}", kwargs=takes)


def ask(client: APIClient, row: Row, method: str = "", name: str = "team/app") -> Any:
    return client.generic(
        method or row.method,
        address(row.route, name),
        "" if row.body is None else json.dumps(row.body),
        content_type="application/json",
    )


def expected(row: Row, persona: str) -> int:
    if persona in row.allowed:
        return row.status
    return 401 if persona == "anonymous" else 403


def test_the_table_has_a_row_for_every_method_of_every_route() -> None:
    assert sorted((row.route, row.method) for row in TABLE) == sorted(
        (route, method) for route, methods in offers().items() for method in methods
    )


def test_every_action_of_every_view_has_its_rule_and_its_scope() -> None:
    for name, pattern in named():
        view: Any = pattern.callback
        actions = set(actions_of(pattern).values())
        assert actions <= set(view.cls.requires), name
        assert actions <= set(view.cls.throttle_scopes), name


@pytest.mark.parametrize(("row", "persona"), ALLOWED)
def test_each_user_may_do_what_the_table_allows(
    row: Row, persona: str, as_: As, filled: Redis
) -> None:
    response = ask(as_(persona), row)
    assert response.status_code == row.status, response.content


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.route}-{row.method}")
def test_each_user_is_refused_what_the_table_does_not_allow(
    row: Row, as_: As, filled: Redis
) -> None:
    for persona in set(PERSONAS) - row.allowed:
        response = ask(as_(persona), row)
        assert response.status_code == expected(row, persona), (persona, response.content)
        assert response.json()["errors"][0]["code"] == (
            "UNAUTHORIZED" if persona == "anonymous" else "DENIED"
        )
        assert response.has_header("WWW-Authenticate") == (persona == "anonymous")


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.method == "GET"], ids=lambda row: row.route
)
def test_head_needs_the_permission_of_get(row: Row, as_: As, filled: Redis) -> None:
    for persona in PERSONAS:
        response = ask(as_(persona), row, "HEAD")
        assert response.status_code == expected(row, persona), persona
        assert response.content == b""


@pytest.mark.parametrize("route", offers())
def test_options_needs_the_permission_for_any_method_of_the_route(
    route: str, as_: As, filled: Redis
) -> None:
    for persona in PERSONAS:
        may = any(row.route == route and persona in row.allowed for row in TABLE)
        response = as_(persona).options(address(route))
        assert response.status_code == (200 if may else 401 if persona == "anonymous" else 403)


@pytest.mark.parametrize(
    ("route", "method"),
    [
        (route, method)
        for route, methods in offers().items()
        for method in ("GET", "PUT", "POST", "DELETE", "PATCH", "TRACE")
        if method not in methods
    ],
)
def test_a_method_that_a_route_does_not_have_is_405_for_every_user(
    route: str, method: str, as_: As, filled: Redis
) -> None:
    for persona in PERSONAS:
        response = as_(persona).generic(method, address(route))
        assert response.status_code == 405
        assert response.json()["errors"][0]["code"] == "UNSUPPORTED"
        allowed = response.headers["Allow"].split(", ")
        assert method not in allowed
        assert ("HEAD" in allowed) == ("GET" in allowed)


def test_setting_needs_a_grant_and_the_permission_to_change_blobs(as_: As, filled: Redis) -> None:
    granted = user("granted")
    granted.user_permissions.add(Permission.objects.get(codename="change_blob"))
    row = Row("repository-blob", "PUT", set(), body=DESCRIPTOR)
    assert ask(as_("granted"), row).status_code == 200
    assert ask(as_("granted"), row, name="other/app").status_code == 403


@pytest.mark.parametrize("persona", ["nobody", "changer", "deleter", "granted", "anonymous"])
@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.route.startswith("repository-")], ids=lambda row: row.route
)
def test_a_refusal_is_the_same_whether_the_repository_exists_or_not(
    row: Row, persona: str, as_: As, filled: Redis
) -> None:
    client, answers = as_(persona), []
    for name in ("other/app", "other/not"):
        with commands(filled) as traffic:
            response = ask(client, row, name=name)
        answers.append((response.status_code, response.headers, response.content))
        assert traffic.calls.total() == 0
    assert answers[0] == answers[1]


def test_an_invalid_name_cannot_be_granted(as_: As, filled: Redis) -> None:
    assert as_("nobody").get("/api/repositories/Not A Name/blobs/").status_code == 403
    assert as_("viewer").get("/api/repositories/Not A Name/blobs/").status_code == 400


def test_a_portal_can_replace_the_permission_classes(as_: As, filled: Redis, settings: Any) -> None:
    settings.BLOBCACHE = {
        "default": {"API_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"]}
    }
    assert as_("anonymous").get(address("blob")).status_code == 200


@pytest.mark.parametrize("persona", ["anonymous", "superuser"])
def test_without_any_permission_class_nobody_is_let_in(
    persona: str, as_: As, filled: Redis, settings: Any
) -> None:
    nothing: list[object] = [[], (), ""]
    for none in nothing:
        settings.BLOBCACHE = {"default": {"API_PERMISSION_CLASSES": none}}
        assert as_(persona).get(address("blob")).status_code == 503
        assert as_(persona).delete(address("repository-blob")).status_code == 503


def test_a_stat_by_a_user_with_the_model_permission_checks_no_object_permission(
    as_: As, filled: Redis
) -> None:
    assert as_("viewer").get(address("repository-blob")).status_code == 200
    assert not grants.asked
    assert as_("granted").get(address("repository-blob")).status_code == 200
    assert grants.asked == ["team/app"]
