"""The same API for each registry: below its address, and mounted alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.conf import LazySettings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from project import embedded
from tests.api.conftest import APP, DIGEST, OTHER, PERSONAS, As, user
from tests.api.registries import STAGING, LocalBackend, Two, in_staging, two_registries
from tests.api.test_bodies import refused
from tests.api.test_permissions import GRANTED, TABLE, Row, address, offers
from tests.prometheus import samples
from tests.servers import cache_at, commands

ABOUT_ALL = {"registries", "registry", "blob-registries"}
"""The routes that are not below the address of one registry."""

ROWS = [row for row in TABLE if row.route not in ABOUT_ALL]
ROUTES = [route for route in offers() if route not in ABOUT_ALL]
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE")
_AGES = re.compile(rb'"(age|used_memory|keyspace_hits|keyspace_misses)":[0-9.e-]+')
SEES = {"superuser", "viewer", "editor", "cleaner"}
"""Who may view every registry, by the model's own permissions."""


@pytest.fixture
def two(valkey: embedded.Server, settings: LazySettings) -> Iterator[Two]:
    settings.ROOT_URLCONF = "tests.api.two_urls"
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS,
        "tests.api.registries.LocalBackend",
    ]
    with two_registries(valkey) as found:
        yield found


def below(path: str, registry: str = "staging") -> str:
    """The same address below that of a registry."""
    return path.replace("/api/", f"/api/registries/{registry}/", 1)


def send(client: Any, method: str, path: str, body: Any = None, **headers: str) -> Any:
    data = "" if body is None else json.dumps(body)
    return client.generic(method, path, data, content_type="application/json", **headers)


def expected(row: Row, persona: str) -> int:
    if persona == "local":
        lists = row.route in {"repositories", "changes"}
        return row.status if lists or row.allowed & GRANTED else 403
    if persona not in SEES:
        return 401 if persona == "anonymous" else 404
    return row.status if persona in row.allowed else 403


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.route}-{row.method}")
def test_each_user_may_do_in_a_registry_what_the_table_allows(row: Row, as_: As, two: Two) -> None:
    for persona in (*PERSONAS, "local"):
        in_staging()
        response = send(as_(persona), row.method, below(address(row.route)), row.body)
        assert response.status_code == expected(row, persona), (persona, response.content)
        if response.status_code == 404 and persona not in {*SEES, "local"}:
            refused(response, 404, "REGISTRY_UNKNOWN")
    assert not two.default.keys()


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("accept", ["*/*", "text/html", "text/csv", "image/png"])
@pytest.mark.parametrize("persona", ["anonymous", "nobody", "granted", "deleter"])
@pytest.mark.parametrize("route", [*ROUTES, "registry", "nowhere"])
def test_a_registry_that_the_user_may_not_view_is_like_one_that_there_is_not(
    route: str, persona: str, accept: str, as_: As, two: Two
) -> None:
    in_staging()
    path = f"/api/{route}/" if route == "nowhere" else address(route)
    hidden = STAGING if route == "registry" else below(path)
    client = as_(persona)
    with commands(two.default) as traffic:
        for method in METHODS:
            answers = []
            for place in (hidden, hidden.replace("/staging/", "/stuging/")):
                response = send(client, method, place, {}, HTTP_ACCEPT=accept)
                body = response.content.replace(b"stuging", b"staging")
                answers.append((response.status_code, response.headers, body))
            assert answers[0] == answers[1], method
            assert answers[0][0] == (401 if persona == "anonymous" else 404)
            if persona != "anonymous" and method != "HEAD":
                refused(response, 404, "REGISTRY_UNKNOWN")
    assert traffic.calls.total() == 0


@pytest.mark.parametrize("path", ["blobs/", f"repositories/team/app/blobs/{DIGEST}/"])
def test_an_unknown_registry_costs_as_many_queries_as_a_hidden_one(
    path: str, as_: As, two: Two
) -> None:
    user("nobody")
    counts = []
    for name in ("staging", "stuging"):
        with CaptureQueriesContext(connection) as queries:
            as_("nobody").get(f"/api/registries/{name}/{path}")
        counts.append(len(queries))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("read_only", [False, True])
def test_the_headers_of_a_hidden_registry_do_not_show_its_settings(
    read_only: bool, as_: As, valkey: embedded.Server
) -> None:
    with two_registries(valkey, READ_ONLY=read_only, API_MAX_BODY=1):
        answers = [
            send(as_(persona), method, f"/api/registries/{name}/blobs/{DIGEST}/", {"size": 1})
            for persona in ("anonymous", "nobody")
            for method in METHODS
            for name in ("staging", "stuging")
        ]
    for hidden, unknown in zip(answers[::2], answers[1::2], strict=True):
        assert hidden.headers == unknown.headers
        assert hidden.content == unknown.content


@pytest.mark.parametrize(
    "name", ["Staging", "st aging", "a" * 65, "..", "default%00", "é", "staging."]
)
def test_what_is_no_name_of_a_registry_is_an_unknown_one(name: str, as_: As, two: Two) -> None:
    refused(as_("superuser").get(f"/api/registries/{name}/blobs/"), 404, "REGISTRY_UNKNOWN")


def test_below_a_registry_an_unknown_path_is_unknown(as_: As, two: Two) -> None:
    for path in ("nowhere/", "nowhere/x", "live/", "ready/", "registries/", "blobs/a/b/c/"):
        refused(as_("viewer").get(f"{STAGING}{path}"), 404, "PATH_UNKNOWN")
    refused(as_("viewer").get("/api/registries//blobs/"), 404, "PATH_UNKNOWN")
    refused(as_("viewer").get(f"{STAGING}blobs/{'x' * 1024}/"), 414, "URI_TOO_LONG")


def test_the_default_registry_is_the_same_below_its_name(as_: As, two: Two) -> None:
    for name in ("team/app", "other/app"):
        scope = get_provider().repository_scoped(name)
        scope.set_descriptor(DIGEST, Descriptor(DIGEST, 10, APP))
    get_provider().catalog.reindex()  # type: ignore[attr-defined]
    for row in ROWS:
        if row.method == "GET":
            for persona in ("anonymous", "nobody", "viewer"):
                for method in ("GET", "HEAD", "OPTIONS", "PATCH"):
                    path = address(row.route)
                    answers = []
                    for place in (path, below(path, "default")):
                        response = send(as_(persona), method, place)
                        headers = {**response.headers}
                        headers.pop("Content-Length", None)  # of the ages, too
                        body = _AGES.sub(b"AGE", response.content)
                        answers.append((response.status_code, headers, body))
                    assert answers[0] == answers[1]


def test_what_is_written_to_one_registry_is_in_no_other(as_: As, two: Two) -> None:
    client, body = as_("superuser"), {"size": 5, "mediaType": APP}
    place = f"repositories/team/app/blobs/{DIGEST}/"
    assert send(client, "PUT", f"{STAGING}{place}", body).status_code == 201
    assert not two.default.keys()
    refused(client.get(f"/api/{place}"), 404, "BLOB_UNKNOWN")
    assert send(client, "PUT", f"/api/{place}", {**body, "size": 6}).status_code == 201
    assert client.get(f"{STAGING}{place}").json()["size"] == 5
    assert send(client, "DELETE", f"{STAGING}{place}").status_code == 204
    assert client.get(f"/api/{place}").json()["size"] == 6


MOUNTS = {
    "today's": ("/api/", "blobcache-api", {}),
    "below its name": (STAGING, "blobcache-api:registry", {"registry": "staging"}),
    "alone": ("/prod/", "prod-api", {}),
}


@pytest.mark.parametrize("script", ["", "/portal"])
@pytest.mark.parametrize("mount", MOUNTS)
def test_links_and_addresses_stay_below_the_address_of_the_request(
    mount: str, script: str, as_: As, two: Two
) -> None:
    root, namespace, variables = MOUNTS[mount]
    client = as_("superuser")
    extra: Any = {"SCRIPT_NAME": script}
    for number in range(3):
        for name in ("default", "staging"):
            scope = get_provider(name).repository_scoped(f"team/{number}")
            scope.set_descriptor(DIGEST, Descriptor(DIGEST, 10, APP))
    for name in ("default", "staging"):
        get_provider(name).catalog.reindex()  # type: ignore[attr-defined]
    for path in ("repositories/", f"blobs/{DIGEST}/repositories/", "changes/"):
        if path == "changes/":
            for digest in (DIGEST, OTHER):
                send(client, "DELETE", f"{root}repositories/team/0/blobs/{digest}/")
                send(client, "PUT", f"{root}blobs/{digest}/", {"size": 10, "mediaType": APP})
        response = client.get(f"{root}{path}?page_size=1", **extra)
        following = response.json()["next"]
        assert following.startswith(f"http://testserver{script}{root}{path}?"), response.content
        assert response.headers["Link"] == f'<{following}>; rel="next"'
    assert reverse(f"{namespace}:blob", kwargs={**variables, "digest": DIGEST}) == (
        f"{root}blobs/{DIGEST}/"
    )


@pytest.mark.parametrize("path", ["repositories/", f"blobs/{DIGEST}/", "doctor/"])
def test_the_page_of_a_registry_for_a_browser_links_to_its_own_addresses(
    path: str, as_: As, two: Two
) -> None:
    in_staging()
    for root in (STAGING, "/prod/"):
        page = as_("superuser").get(f"{root}{path}", HTTP_ACCEPT="text/html")
        assert page.status_code == 200
        text = page.content.decode()
        assert f'href="{root}{path}"' in text
        assert 'href="/api/blobs/' not in text


class TestAlone:
    """A registry that is mounted by itself."""

    def test_it_is_that_registry(self, as_: As, two: Two) -> None:
        in_staging()
        assert as_("viewer").get(f"/prod/blobs/{DIGEST}/").json()["size"] == 10
        refused(as_("viewer").get(f"/api/blobs/{DIGEST}/"), 404, "BLOB_UNKNOWN")

    def test_it_has_no_registries(self, as_: As, two: Two) -> None:
        for path in ("registries/", "registries/default/blobs/", "registries/staging/"):
            assert as_("superuser").get(f"/prod/{path}").status_code == 404

    def test_it_is_unknown_to_who_may_not_view_it(self, as_: As, two: Two) -> None:
        refused(as_("nobody").get("/prod/repositories/"), 404, "REGISTRY_UNKNOWN")
        refused(as_("anonymous").get("/prod/repositories/"), 401, "UNAUTHORIZED")
        text = as_("nobody").get("/prod/repositories/").content.decode()
        assert "staging" not in text

    def test_one_that_is_not_configured_is_unknown_to_everybody(self, as_: As, two: Two) -> None:
        refused(as_("superuser").get("/lost/repositories/"), 404, "REGISTRY_UNKNOWN")
        refused(as_("anonymous").get("/lost/repositories/"), 401, "UNAUTHORIZED")

    def test_its_probes_ask_its_own_server(self, two: Two, valkey: embedded.Server) -> None:
        client = Client()
        places = ("/api/", "/health/", "/prod/", "/health/prod/")
        assert [client.get(f"{place}ready/").status_code for place in places] == [200] * 4
        with two_registries(valkey, CACHE_ALIAS="nowhere"):
            found = [client.get(f"{place}ready/").status_code for place in places]
        assert found == [200, 200, 503, 503]
        assert client.get("/prod/live/").status_code == 200

    def test_a_long_path_is_refused(self, two: Two) -> None:
        response = Client().get(f"/prod/blobs/{'x' * 1024}/")
        assert response.status_code == 414


class TestList:
    """The registries that a user may view."""

    def test_shows_those_that_the_user_may_view(self, as_: As, two: Two) -> None:
        for persona, names in {
            "viewer": ["default", "staging"],
            "local": ["staging"],
            "nobody": ["default"],
            "granted": ["default"],
        }.items():
            body = as_(persona).get("/api/registries/").json()
            assert [row["name"] for row in body["results"]] == names, persona
            assert body["count"] == len(names)
        refused(as_("anonymous").get("/api/registries/"), 401, "UNAUTHORIZED")

    def test_says_how_each_is_doing(self, as_: As, valkey: embedded.Server) -> None:
        with two_registries(valkey, ROLE="primary"):
            default, staging = as_("viewer").get("/api/registries/").json()["results"]
            status = as_("viewer").get("/api/registries/staging/status/").json()
        assert staging == {
            "name": "staging",
            "role": "primary",
            "read_only": False,
            "reachable": True,
            "product": status["server"]["product"],
            "version": status["server"]["version"],
            "warnings": status["warnings"],
            "error": None,
        }
        assert staging["warnings"]
        assert (default["role"], default["product"]) == ("cache", staging["product"])

    def test_says_only_as_much_as_the_status_would(self, as_: As, two: Two) -> None:
        for persona in ("local", "nobody"):
            for row in as_(persona).get("/api/registries/").json()["results"]:
                assert row["reachable"] is True
                assert (row["product"], row["version"], row["warnings"]) == (None, None, [])

    def test_one_that_cannot_be_reached_is_only_that(
        self, as_: As, valkey: embedded.Server
    ) -> None:
        with two_registries(valkey), cache_at("redis://127.0.0.1:1/0", "staging"):
            response = as_("viewer").get("/api/registries/")
        default, staging = response.json()["results"]
        assert response.status_code == 200
        assert (default["reachable"], staging["reachable"]) == (True, False)
        assert default["version"]
        assert (staging["version"], staging["warnings"]) == (None, [])
        assert "127.0.0.1" not in response.content.decode()

    def test_one_whose_settings_are_wrong_is_only_not_reachable(
        self, as_: As, valkey: embedded.Server
    ) -> None:
        with two_registries(valkey, PROVIDER="nowhere.Provider"):
            response = as_("viewer").get("/api/registries/")
        assert [row["reachable"] for row in response.json()["results"]] == [True, False]

    def test_one_without_a_server_is_reachable(self, as_: As, valkey: embedded.Server) -> None:
        memory = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
        with two_registries(valkey, PROVIDER=memory):
            row = as_("viewer").get("/api/registries/").json()["results"][1]
        assert (row["reachable"], row["product"]) == (True, None)

    def test_pages_follow_each_other(self, as_: As, two: Two) -> None:
        first = as_("viewer").get("/api/registries/?page_size=1").json()
        second = as_("viewer").get(first["next"]).json()
        assert [each["results"][0]["name"] for each in (first, second)] == ["default", "staging"]
        assert second["next"] is None
        # To a user who may no longer view the registry, the cursor says nothing.
        hidden = as_("nobody").get(first["next"]).json()
        assert [row["name"] for row in hidden["results"]] == ["default"]

    def test_only_a_page_s_registries_are_asked(self, as_: As, two: Two) -> None:
        client = as_("viewer")
        with commands(two.default) as traffic:
            client.get("/api/registries/staging/")
        alone = traffic.calls["info"]
        with commands(two.default) as traffic:
            client.get("/api/registries/?page_size=1")
        assert traffic.calls["info"] == alone

    def test_each_has_an_address_of_its_own(self, as_: As, two: Two) -> None:
        listed = as_("viewer").get("/api/registries/").json()["results"]
        for row in listed:
            assert as_("viewer").get(f"/api/registries/{row['name']}/").json() == row

    def test_can_be_exported(self, as_: As, two: Two) -> None:
        text = as_("viewer").get("/api/registries/", HTTP_ACCEPT="text/csv").getvalue().decode()
        assert (
            text.splitlines()[0] == "name,role,read_only,reachable,product,version,warnings,error"
        )
        assert [line.split(",")[0] for line in text.splitlines()[1:]] == ["default", "staging"]


@pytest.mark.usefixtures("two")
class TestTheDefaultRegistryIsHidden:
    """From a user who may view another one alone; the addresses that do not name it are as ever."""

    @pytest.mark.usefixtures("unlogged")
    @pytest.mark.parametrize("route", [*ROUTES, "registry", "nowhere"])
    def test_it_is_like_one_that_there_is_not(self, route: str, as_: As) -> None:
        path = f"/api/{route}/" if route == "nowhere" else address(route)
        named = "/api/registries/default/" if route == "registry" else below(path, "default")
        if "team/app" in named:
            named = named.replace("team/app", "other/app")
        for method in METHODS:
            answers = []
            for place in (named, named.replace("/default/", "/nothing/")):
                response = send(as_("local"), method, place, {})
                body = response.content.replace(b"nothing", b"default")
                answers.append((response.status_code, response.headers, body))
            assert answers[0] == answers[1], method
            assert answers[0][0] == 404

    def test_it_can_be_compared_with_nothing(self, as_: As) -> None:
        in_staging()
        place = f"{STAGING}repositories/team/app/compare/"
        found = [as_("local").get(place, {"with": name}) for name in ("default", "nothing")]
        refused(found[0], 404, "REGISTRY_UNKNOWN")
        assert found[0].content == found[1].content

    def test_it_costs_as_many_queries_as_an_unknown_one(self, as_: As) -> None:
        user("local")
        counts = []
        for name in ("default", "nothing"):
            with CaptureQueriesContext(connection) as queries:
                as_("local").get(f"/api/registries/{name}/blobs/")
            counts.append(len(queries))
        assert counts[0] == counts[1] > 0

    def test_the_addresses_that_do_not_name_it_are_as_ever(self, as_: As) -> None:
        assert as_("local").get("/api/repositories/").json()["results"] == []
        refused(as_("local").get("/api/blobs/"), 403, "DENIED")

    def test_who_may_view_no_registry_may_know_it(self, as_: As) -> None:
        refused(as_("nobody").get("/api/registries/default/blobs/"), 403, "DENIED")


class Counting(LocalBackend):
    """Notes what it is asked."""

    asked: ClassVar[list[tuple[str, str, str]]] = []

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        if obj is not None:
            self.asked.append((perm, obj.registry, str(obj.pk)))
        return super().has_perm(user_obj, perm, obj)


@pytest.mark.parametrize("root", ["/api/", STAGING, "/api/registries/default/", "/prod/"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"repositories/team/app/blobs/{DIGEST}/"),
        ("GET", "repositories/team/app/blobs/"),
        ("GET", "repositories/other/app/blobs/"),
        ("GET", "blobs/"),
    ],
)
def test_a_request_asks_a_backend_once_for_each_permission(
    method: str, path: str, root: str, as_: As, two: Two, settings: LazySettings
) -> None:
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS[:-1],
        f"{__name__}.Counting",
    ]
    in_staging()
    client = as_("local")
    Counting.asked.clear()
    send(client, method, f"{root}{path}")
    assert len(Counting.asked) == len(set(Counting.asked)), Counting.asked


class TestTraces:
    """What a change and a list leave behind names the registry."""

    def test_the_audit_log_names_it(
        self, as_: As, two: Two, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "blobcache.audit")
        place = f"{STAGING}repositories/team/app/blobs/{DIGEST}/"
        send(as_("superuser"), "PUT", place, {"size": 5, "mediaType": APP})
        send(as_("superuser"), "DELETE", place)
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert all("registry='staging'" in line for line in lines)

    def test_the_metrics_name_it(self, as_: As, two: Two) -> None:
        def count() -> float:
            return sum(
                value
                for labels, value in samples("blobcache_operations_total")
                if (labels["registry"], labels["operation"]) == ("staging", "stat")
            )

        before = count()
        as_("superuser").get(f"{STAGING}blobs/{DIGEST}/")
        as_("superuser").get(f"/api/blobs/{DIGEST}/")
        assert count() == before + 1

    @pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
    @pytest.mark.parametrize(
        "path", ["blobs/", "repositories/", "repositories/team/app/blobs/", "changes/"]
    )
    def test_an_export_has_its_rows_alone(self, path: str, accept: str, as_: As, two: Two) -> None:
        client = as_("superuser")
        for root, digest in ((STAGING, DIGEST), ("/api/", OTHER)):
            place = f"{root}repositories/team/app/blobs/{digest}/"
            assert send(client, "PUT", place, {"size": 5, "mediaType": APP}).status_code == 201
        for name in ("default", "staging"):
            get_provider(name).catalog.reindex()  # type: ignore[attr-defined]
        for root, own, foreign in ((STAGING, DIGEST, OTHER), ("/api/", OTHER, DIGEST)):
            text = client.get(f"{root}{path}", HTTP_ACCEPT=accept).getvalue().decode()
            assert ("team/app" if path == "repositories/" else own) in text
            assert foreign not in text
