"""What a caller with a registry token may do: every route, every kind of scope."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import cache
from django.urls import include, path
from django.views.debug import ExceptionReporter
from redis import Redis
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from blobcache.access import access_of
from blobcache.api.permissions import BlobCachePermission
from blobcache.api.tokens import RegistryTokenAuthentication
from blobcache.api.views import RegistryView
from blobcache.descriptor import Descriptor
from blobcache.models import Blob, JournalEntry, Repository
from blobcache.services import get_provider
from blobcache.tokens.callers import TokenUser
from blobcache.tokens.scopes import Scopes
from blobcache.tokens.verifier import Grant
from tests.api.conftest import APP, DIGEST, fill
from tests.api.test_permissions import TABLE, Row, address, offers
from tests.backends.cases import data, digest_of, layer_link
from tests.services.test_read_through import write
from tests.tokens.conftest import CLASSES, Ask
from tests.tokens.signing import REALM, SERVICE, Signer, options, scope

PULL, PUSH, DELETE, ANY = (scope("team/app", each) for each in ("pull", "push", "delete", "*"))
BOTH = scope("team/app", "pull", "push")
CATALOG = scope("catalog", "*", kind="registry")

TOKENS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "pull": [PULL],
    "push": [PUSH],
    "pull,push": [BOTH],
    "delete": [DELETE],
    "pull,delete": [PULL, DELETE],
    "*": [ANY],
    "of another repository": [scope("other/app", "*")],
    "of no repository": [scope("team/none", "*")],
    "of a longer name": [scope("team/app/more", "*"), scope("team", "*")],
    "catalog": [CATALOG],
    "pull, and catalog": [PULL, CATALOG],
    "pull of the catalog": [scope("catalog", "pull", kind="registry")],
    "a repository called catalog": [scope("catalog", "*")],
}

VIEWERS = {"pull", "pull,push", "pull,delete", "*", "pull, and catalog"}
LISTERS = {"catalog", "pull, and catalog"}
ALLOWED: dict[tuple[str, str], set[str]] = {
    ("repositories", "GET"): LISTERS,
    ("repository-summary", "GET"): VIEWERS,
    ("repository-blobs", "GET"): VIEWERS,
    ("repository-blobs-stat", "POST"): VIEWERS,
    ("repository-blob", "GET"): VIEWERS,
    ("repository-blob", "PUT"): {"pull,push", "*"},
    ("repository-blob", "DELETE"): {"delete", "pull,delete", "*"},
    ("blob-repositories", "GET"): set(TOKENS)
    - {
        "none",
        "push",
        "delete",
        "catalog",
        "pull of the catalog",
    },
}
"""The tokens that may: all other routes are closed to them."""

NEEDS = {
    ("repositories", "GET"): "registry:catalog:*",
    ("repository-summary", "GET"): "repository:team/app:pull",
    ("repository-blobs", "GET"): "repository:team/app:pull",
    ("repository-blobs-stat", "POST"): "repository:team/app:pull",
    ("repository-blob", "GET"): "repository:team/app:pull",
    ("repository-blob", "PUT"): "repository:team/app:pull,push",
    ("repository-blob", "DELETE"): "repository:team/app:delete",
}
"""The scope that a challenge names."""

ROWS = [pytest.param(row, id=f"{row.route}-{row.method}") for row in TABLE]


def challenge(*, scope: str = "", error: str = "") -> str:
    """Return what `docker-registry` writes."""
    found = f'Bearer realm="{REALM}",service="{SERVICE}"'
    found += f',scope="{scope}"' if scope else ""
    return found + (f',error="{error}"' if error else "")


def send(client: APIClient, row: Row) -> Any:
    body = "" if row.body is None else json.dumps(row.body)
    return client.generic(row.method, address(row.route), body, content_type="application/json")


def user_of(*access: dict[str, Any], registry: str = "default", subject: str = "bob") -> TokenUser:
    scopes = Scopes.from_claim([*access])
    return TokenUser(Grant(registry, "tokens.example.com", subject, scopes, 0.0))


def test_the_table_names_routes_that_there_are() -> None:
    there = {(route, method) for route, methods in offers().items() for method in methods}
    assert ALLOWED.keys() | NEEDS.keys() <= there


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("kind", TOKENS)
def test_each_token_may_do_what_the_table_allows_and_nothing_else(
    portal: Ask, row: Row, kind: str
) -> None:
    fill()
    response = send(portal.client(*TOKENS[kind]), row)
    what = row.route, row.method
    if kind not in ALLOWED.get(what, set()):
        assert response.status_code == 401, response.content
        assert response.json()["errors"][0]["code"] == "UNAUTHORIZED"
        wanted = challenge(scope=NEEDS.get(what, ""), error="insufficient_scope")
        assert response.headers["WWW-Authenticate"] == wanted
    elif row.method == "PUT":
        assert response.status_code == 403  # without a backend
    else:
        assert response.status_code == row.status, response.content


@pytest.mark.parametrize("row", ROWS)
def test_a_caller_without_credentials_gets_a_challenge(portal: Ask, row: Row) -> None:
    response = send(APIClient(), row)
    assert response.status_code == 401
    wanted = challenge(scope=NEEDS.get((row.route, row.method), ""))
    assert response.headers["WWW-Authenticate"] == wanted


@pytest.mark.parametrize("row", ROWS)
def test_a_token_that_is_refused_is_refused_on_every_route(
    portal: Ask, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "blobcache.tokens")
    response = send(Ask(Signer()).client(ANY), row)
    assert response.status_code == 401
    assert response.json()["errors"][0]["code"] == "UNAUTHORIZED"
    wanted = challenge(scope=NEEDS.get((row.route, row.method), ""), error="invalid_token")
    assert response.headers["WWW-Authenticate"] == wanted
    ours = [each for each in caplog.records if each.name == "blobcache.tokens"]
    assert [record.getMessage() for record in ours] == [
        "A token for 'default' was refused: its signature is wrong."
    ]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("kind", ["none", "*"])
def test_options_need_a_scope_for_one_of_the_methods(portal: Ask, row: Row, kind: str) -> None:
    response = portal.client(*TOKENS[kind]).options(address(row.route))
    actions = {key for key in ALLOWED if key[0] == row.route}
    may = any(kind in ALLOWED[each] for each in actions)
    assert response.status_code == (200 if may else 401)


# The page quotes the challenge, and Django makes a link of the service's name.
@pytest.mark.filterwarnings("ignore:The default protocol will be changed")
@pytest.mark.parametrize("method", ["get", "head"])
def test_a_stat_by_the_short_way_and_by_the_long_one(portal: Ask, method: str) -> None:
    fill()
    place = f"/api/repositories/team/app/blobs/{DIGEST}/"
    for accept in ("application/json", "text/html"):
        client = portal.client(PULL)
        response = getattr(client, method)(place, headers={"accept": accept})
        assert response.status_code == 200
        assert response.headers["Docker-Content-Digest"] == DIGEST
        refused = getattr(portal.client(PUSH), method)(place, headers={"accept": accept})
        assert refused.status_code == 401
        wanted = challenge(scope="repository:team/app:pull", error="insufficient_scope")
        assert refused.headers["WWW-Authenticate"] == wanted


def test_conditions_are_those_of_every_caller(portal: Ask) -> None:
    fill()
    place = f"/api/repositories/team/app/blobs/{DIGEST}/"
    client = portal.client(PULL)
    tag = client.get(place).headers["ETag"]
    assert client.get(place, headers={"if-none-match": tag}).status_code == 304
    assert portal.client().get(place, headers={"if-none-match": tag}).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_in_any_case(portal: Ask, scheme: str) -> None:
    fill()
    client = portal.bearing(portal.signer.token(PULL), scheme)
    assert client.get("/api/repositories/team/app/summary/").status_code == 200


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer  x", "Bearer a b", "Bearer a,b"])
def test_a_header_without_one_token_is_refused(portal: Ask, header: str) -> None:
    response = APIClient().get("/api/repositories/", headers={"authorization": header})
    assert response.status_code == 401


def test_a_name_that_is_not_valid_is_in_no_challenge(portal: Ask) -> None:
    response = portal.client(ANY).get('/api/repositories/a"%0Ab/summary/')
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == challenge(error="insufficient_scope")


@pytest.mark.parametrize("exists", [True, False])
def test_the_answer_is_the_same_whether_a_repository_exists_or_not(
    portal: Ask, exists: bool, default_cache: Redis
) -> None:
    if exists:
        get_provider().repository_scoped("secret/app").set_descriptor(
            DIGEST, Descriptor(DIGEST, 10, APP)
        )
    response = portal.client(ANY).get("/api/repositories/secret/app/blobs/")
    assert response.status_code == 401
    assert "secret/app" not in response.json()["errors"][0]["message"]


class TestLists:
    def test_holders_are_those_that_the_token_may_pull_from(self, portal: Ask) -> None:
        fill()
        place = f"/api/blobs/{DIGEST}/repositories/"
        for access, names in (
            ([PULL], ["team/app"]),
            ([PULL, scope("other/app", "push")], ["team/app"]),
            ([scope("other/app", "pull"), PULL], ["other/app", "team/app"]),
            ([scope("none/app", "pull"), CATALOG], []),
        ):
            body = portal.client(*access).get(place).json()
            assert [each["name"] for each in body["results"]] == names
            assert body["progress"] is None

    def test_the_catalog_has_all_names_and_only_its_own_counts(self, portal: Ask) -> None:
        fill()
        client = portal.client(PULL, CATALOG)
        assert client.get("/api/repositories/").json()["results"] == [
            {"name": "other/app", "blobs": None},
            {"name": "team/app", "blobs": 1},
        ]
        (row,) = client.get("/api/repositories/?ordering=-bytes").json()["results"]
        assert row["name"] == "team/app"

    def test_only_who_sees_all_may_build_the_index_anew(self, portal: Ask) -> None:
        assert portal.client(CATALOG).get("/api/repositories/?fresh=1").status_code == 401

    def test_an_export_is_a_list(self, portal: Ask) -> None:
        fill()
        accept = {"accept": "text/csv"}
        response: Any = portal.client(PULL, CATALOG).get("/api/repositories/", headers=accept)
        assert b"".join(response).decode().splitlines()[1:] == ["other/app,", "team/app,1"]
        assert portal.client(PULL).get("/api/repositories/", headers=accept).status_code == 401


class TestNarrowing:
    def test_visible_repositories_narrows_what_scopes_grant(
        self, portal: Ask, settings: Any
    ) -> None:
        fill()
        entry = settings.BLOBCACHE["default"]
        settings.BLOBCACHE = {
            "default": {**entry, "VISIBLE_REPOSITORIES": "tests.api.grants.team_only"}
        }
        other = scope("other/app", "*")
        client = portal.client(other, PULL, CATALOG)
        rows = client.get("/api/repositories/").json()["results"]
        assert [each["name"] for each in rows] == ["team/app"]
        rows = client.get(f"/api/blobs/{DIGEST}/repositories/").json()["results"]
        assert [each["name"] for each in rows] == ["team/app"]
        for method in ("get", "put", "delete"):
            place = f"/api/repositories/other/app/blobs/{DIGEST}/"
            assert getattr(client, method)(place, {}, format="json").status_code == 401

    @pytest.mark.parametrize("method", ["put", "delete"])
    def test_a_read_only_registry_refuses_every_write(
        self, portal: Ask, settings: Any, method: str
    ) -> None:
        fill()
        entry = settings.BLOBCACHE["default"]
        settings.BLOBCACHE = {"default": {**entry, "READ_ONLY": True}}
        place = f"/api/repositories/team/app/blobs/{DIGEST}/"
        body = {"size": 10, "mediaType": APP}
        response = getattr(portal.client(ANY), method)(place, body, format="json")
        assert response.status_code == 405

    def test_scopes_count_whatever_the_permission_classes_are(
        self, portal: Ask, settings: Any
    ) -> None:
        fill()
        entry = settings.BLOBCACHE["default"]
        allow = ("rest_framework.permissions.IsAuthenticated",)
        settings.BLOBCACHE = {"default": {**entry, "API_PERMISSION_CLASSES": allow}}
        client = portal.client(PULL)
        assert client.post(f"/api/blobs/{DIGEST}/purge/", {}, format="json").status_code == 401
        assert client.get("/api/repositories/team/app/summary/").status_code == 200

    @pytest.mark.parametrize("is_first", [False, True])
    def test_scopes_are_asked_once_if_their_class_is_the_first(
        self, portal: Ask, settings: Any, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
    ) -> None:
        asked: list[object] = []
        plain = BlobCachePermission.has_permission

        def has_permission(self: Any, request: Request, view: APIView) -> bool:
            asked.append(self)
            return plain(self, request, view)

        monkeypatch.setattr(BlobCachePermission, "has_permission", has_permission)
        fill()
        classes = ["blobcache.api.permissions.BlobCachePermission"]
        others = ["rest_framework.permissions.IsAuthenticated"]
        entry = settings.BLOBCACHE["default"]
        chosen = [*classes, *others] if is_first else [*others, *classes]
        settings.BLOBCACHE = {"default": {**entry, "API_PERMISSION_CLASSES": chosen}}
        place = f"/api/repositories/team/app/blobs/{DIGEST}/"
        assert portal.client(PULL).get(place).status_code == 200
        assert len(asked) == (1 if is_first else 2)

    def test_another_permission_class_can_deny(self, portal: Ask, settings: Any) -> None:
        entry = settings.BLOBCACHE["default"]
        deny = ("rest_framework.permissions.IsAdminUser",)
        settings.BLOBCACHE = {"default": {**entry, "API_PERMISSION_CLASSES": deny}}
        assert portal.client(ANY).get("/api/repositories/team/app/summary/").status_code == 401


BLOB = b"a layer"
STORED = digest_of(BLOB)
PLACE = f"/api/repositories/team/app/blobs/{STORED}/"
SENT = {"size": len(BLOB), "mediaType": APP}


def store(storage: Path, repository: str = "team/app") -> None:
    write(storage, data(STORED), BLOB)
    write(storage, layer_link(repository, STORED), STORED.encode())


class TestPush:
    def put(self, portal: Ask, **changes: Any) -> Any:
        return portal.client(BOTH).put(PLACE, {**SENT, **changes}, format="json")

    def test_without_a_backend_nothing_is_set(self, portal: Ask, default_cache: Redis) -> None:
        response = self.put(portal)
        assert response.status_code == 403
        (error,) = response.json()["errors"]
        assert error["code"] == "DENIED"
        assert "TRUTH" in error["message"]
        assert not default_cache.keys()

    def test_what_the_backend_has_is_set(self, portal: Ask, storage: Path) -> None:
        store(storage)
        assert self.put(portal).status_code == 201
        assert self.put(portal).status_code == 200
        assert portal.client(PULL).get(PLACE).json()["size"] == len(BLOB)

    def test_what_the_repository_does_not_have_is_not_set(
        self, portal: Ask, storage: Path, default_cache: Redis
    ) -> None:
        store(storage, "other/app")
        response = self.put(portal)
        assert (response.status_code, response.json()["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")
        assert not default_cache.keys()

    @pytest.mark.parametrize("size", [0, len(BLOB) - 1, len(BLOB) + 1, 2**62])
    def test_another_size_is_not_set(
        self, portal: Ask, storage: Path, default_cache: Redis, size: int
    ) -> None:
        store(storage)
        response = self.put(portal, size=size)
        assert (response.status_code, response.json()["errors"][0]["code"]) == (400, "SIZE_INVALID")
        assert not default_cache.keys()

    def test_another_digest_is_not_set(
        self, portal: Ask, storage: Path, default_cache: Redis
    ) -> None:
        store(storage)
        response = self.put(portal, digest="sha512:" + "a" * 128)
        assert response.status_code == 400
        assert not default_cache.keys()

    @pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/vnd.a+xml"])
    def test_a_type_that_browsers_render_is_not_set(
        self, portal: Ask, storage: Path, default_cache: Redis, kind: str
    ) -> None:
        store(storage)
        response = self.put(portal, mediaType=kind)
        assert response.status_code == 400
        assert not default_cache.keys()

    def test_a_remembered_answer_is_not_enough(self, portal: Ask, storage: Path) -> None:
        store(storage, "other/app")
        assert self.put(portal).status_code == 404
        link = layer_link("team/app", STORED)
        write(storage, link, STORED.encode())
        assert self.put(portal).status_code == 201
        (storage / "docker/registry/v2" / link).unlink()
        assert self.put(portal).status_code == 404

    def test_a_backend_that_cannot_say_sets_nothing(
        self, portal: Ask, storage: Path, default_cache: Redis
    ) -> None:
        response = self.put(portal)  # an empty folder: nothing is mounted there
        assert (response.status_code, response.json()["errors"][0]["code"]) == (503, "UNAVAILABLE")
        assert not default_cache.keys()

    def test_push_without_pull_sets_nothing(self, portal: Ask, storage: Path) -> None:
        store(storage)
        response = portal.client(PUSH).put(PLACE, SENT, format="json")
        assert response.status_code == 401

    def test_a_user_of_the_portal_needs_no_backend(self, portal: Ask, db: None) -> None:
        token = Token.objects.create(user=User.objects.create_superuser("boss"))
        client = portal.bearing(str(token), "Token")
        assert client.put(PLACE, SENT, format="json").status_code == 201


@pytest.mark.django_db
class TestWhoItWas:
    def test_the_journal_has_the_subject_marked_as_a_tokens(
        self, portal: Ask, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill()
        caplog.set_level(logging.INFO)
        client = portal.client(DELETE, sub="alice")
        place = f"/api/repositories/team/app/blobs/{DIGEST}/"
        assert client.delete(place).status_code == 204
        (entry,) = JournalEntry.objects.filter(action="clear")
        assert (entry.actor, entry.source) == ("token:alice", "api")
        assert "actor='token:alice'" in caplog.text
        token = portal.signer.token(DELETE)
        assert token.partition(".")[0] not in caplog.text

    @pytest.mark.parametrize(
        "subject", ["x" * 1000, "a\nactor='root'", "\ud800", "\x00", "\u202eabc", ""]
    )
    def test_any_subject_can_be_written_down(
        self, portal: Ask, subject: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill()
        caplog.set_level(logging.INFO, "blobcache.audit")
        place = f"/api/repositories/team/app/blobs/{DIGEST}/"
        assert portal.client(DELETE, sub=subject).delete(place).status_code == 204
        (entry,) = JournalEntry.objects.filter(action="clear")
        assert entry.actor.startswith("token:")
        assert entry.actor.isprintable()
        assert len(entry.actor) <= 255
        assert all("\n" not in record.getMessage() for record in caplog.records)


class OncePerDay(UserRateThrottle):
    rate = "1/day"


class TestThrottles:
    def test_a_caller_is_counted_over_all_its_tokens(
        self, portal: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.clear()
        fill()
        monkeypatch.setattr(RegistryView, "throttle_classes", [OncePerDay])
        place = "/api/repositories/team/app/summary/"
        assert portal.client(PULL, sub="a", jti="1").get(place).status_code == 200
        assert portal.client(ANY, sub="a", jti="2").get(place).status_code == 429
        assert portal.client(PULL, sub="b", jti="1").get(place).status_code == 200

    def test_its_key_is_stable_and_no_key_of_a_user(self) -> None:
        assert user_of().pk == user_of(ANY).pk == user_of().id
        others = [
            user_of(subject="other"),
            user_of(registry="other"),
            user_of(subject="b", registry="defaulto"),
        ]
        assert len({user_of().pk, *(each.pk for each in others)}) == 4
        assert not any(each.pk.isdigit() for each in others)


class Elsewhere(APIView):
    """A view of another app, for everybody who is logged in."""

    authentication_classes = CLASSES
    permission_classes = (IsAuthenticated,)

    def get(self, request: Request) -> Response:
        return Response()


urlpatterns = [path("elsewhere/", Elsewhere.as_view()), path("api/", include("blobcache.api.urls"))]


def test_a_token_means_nothing_on_views_of_other_apps(portal: Ask, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    response = portal.client(ANY, CATALOG).get("/elsewhere/")
    assert response.status_code == 403
    assert not response.has_header("WWW-Authenticate")


def test_a_registry_without_tokens_leaves_it_to_the_next_class(
    portal: Ask, settings: Any, db: None
) -> None:
    settings.BLOBCACHE = {"default": {}}
    response = portal.client(ANY).get("/api/repositories/")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == TokenAuthentication().authenticate_header(
        None  # type: ignore[arg-type]
    )


def test_keys_that_cannot_be_read_are_the_servers_fault(
    portal: Ask, settings: Any, tmp_path: Path
) -> None:
    settings.BLOBCACHE = {"default": {"TOKENS": options(JWKS=str(tmp_path / "none"))}}
    response = portal.client(ANY).get("/api/repositories/")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert str(tmp_path) not in response.content.decode()


def test_no_request_with_a_token_asks_the_database(portal: Ask) -> None:
    """Without the fixture `db`, a query is an error."""
    fill()
    assert RegistryTokenAuthentication.queries_database is False
    client = portal.client(PULL)
    for place in ("summary/", "blobs/", f"blobs/{DIGEST}/"):
        assert client.get(f"/api/repositories/team/app/{place}").status_code == 200


def test_no_report_of_an_error_shows_a_token(
    portal: Ask, monkeypatch: pytest.MonkeyPatch, rf: Any
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an error that nobody expects")

    monkeypatch.setattr("blobcache.tokens.verifier.parse_token", fail)
    token = portal.signer.token(PULL)
    with pytest.raises(RuntimeError) as caught:
        portal.bearing(token).get("/api/repositories/")
    request = rf.get("/api/repositories/", headers={"authorization": f"Bearer {token}"})
    trace = caught.value.__traceback__
    while trace is not None and "blobcache" not in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    while trace is not None and trace.tb_frame.f_code.co_name != "authenticate":
        trace = trace.tb_next
    assert trace is not None
    reporter = ExceptionReporter(request, RuntimeError, caught.value, trace)
    for text in (reporter.get_traceback_text(), reporter.get_traceback_html()):
        assert "an error that nobody expects" in text
        assert token.rpartition(".")[2] not in text
        assert token.partition(".")[0] not in text


class TestTheUser:
    def test_it_is_somebody_and_nobody_of_the_portal(self) -> None:
        user = user_of(ANY)
        assert user.is_authenticated is True
        assert user.is_active is True
        assert not user.is_anonymous
        assert not user.is_staff
        assert not user.is_superuser
        assert str(user) == user.get_username() == "token:bob"
        assert list(user.groups.all()) == []
        assert not user.has_module_perms("blobcache")
        assert "bob" not in repr(user)

    def test_it_is_the_same_in_each_of_its_tokens(self) -> None:
        assert user_of() == user_of(ANY)
        assert hash(user_of()) == hash(user_of(ANY))
        assert user_of() != user_of(subject="alice")
        assert user_of() != AnonymousUser()
        assert user_of() != User(pk=1)
        assert user_of() != "token:bob"

    def test_it_answers_by_registry(self) -> None:
        mine, other = (
            Repository(name="team/app", registry=each)  # type: ignore[misc] # not a field
            for each in ("default", "other")
        )
        user = user_of(PULL)
        assert user.has_perm("blobcache.view_repository", mine)
        assert not user.has_perm("blobcache.view_repository", other)
        assert not user.has_perm("blobcache.view_repository")
        assert not user.has_perm("blobcache.change_repository", mine)
        assert not user.has_perm("blobcache.view_blob", Blob(digest=DIGEST))
        assert not user.has_perm("auth.view_user", mine)
        assert user.has_perm("blobcache.view_repository", Repository(name=""))
        assert user.get_all_permissions(mine) == {"blobcache.view_repository"}
        assert not user.has_perms(["blobcache.view_repository", "x.y"], mine)

    @pytest.mark.parametrize("visible", [None, "tests.api.grants.team_only"])
    def test_nothing_in_the_global_scope(self, visible: str | None, settings: Any) -> None:
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": visible}}
        access = access_of(user_of(ANY, CATALOG))
        assert access.may_set("team/app")
        assert access.may_clear("team/app")
        assert not access.may_view(None)
        assert not access.may_set(None)
        assert not access.may_clear(None)

    @pytest.mark.parametrize("registry", ["default", "other"])
    def test_nothing_in_another_registry(self, registry: str, settings: Any) -> None:
        settings.BLOBCACHE = {"default": {}, "other": {}}
        user = user_of(ANY, CATALOG, registry=registry)
        for name in ("default", "other"):
            access = access_of(user, name)
            mine = name == registry
            assert access.may_view("team/app") is mine
            assert access.may_set("team/app") is mine
            assert access.may_clear("team/app") is mine
            assert access.may_list_repositories() is mine
            assert access.may_list_holders() is mine
            assert access.visible.in_ranges("team/app") is mine
            assert access.listable.in_ranges("other/app") is mine
            assert not access.may_view_changes()
            assert not access.may_view_status()
            assert not access.may_purge()
            assert not access.sees_all
            assert not access.may_globally("view")
        assert access_of(user, "other").may_view_registry() is (registry == "other")


@pytest.mark.parametrize("wrong", [{"ISSUER": "secret"}, 5, "secret", options(ALGORITHMS=["none"])])
@pytest.mark.parametrize("registry", ["default", "other"])
def test_wrong_tokens_of_a_registry_are_no_unexpected_error(
    registry: str, wrong: object, portal: Ask, settings: Any
) -> None:
    settings.BLOBCACHE = {"default": {}, registry: {"TOKENS": wrong}}
    bearing = portal.client(scope("team/app", "pull"))
    for prefix in ["/api/"] * (registry == "default") + [f"/api/registries/{registry}/"]:
        path = f"{prefix}repositories/team/app/blobs/{DIGEST}/"
        unknown = APIClient().get(f"/api/registries/none/blobs/{DIGEST}/")
        answer = APIClient().get(path)
        assert answer.status_code == unknown.status_code == 401
        assert answer["WWW-Authenticate"] == unknown["WWW-Authenticate"]
        assert answer.content == unknown.content
        refused = bearing.get(path)
        assert refused.status_code == 503
        assert b"secret" not in refused.content
