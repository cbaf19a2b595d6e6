"""Viewsets of a host project: the example of the documentation, unchanged."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, ClassVar

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.urls import URLResolver, clear_url_caches, include, path, resolve
from redis import Redis
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter, DefaultRouter, SimpleRouter

from blobcache.api import permissions, viewsets
from blobcache.api.routers import RegistryRouter
from blobcache.api.serializers import DescriptorSerializer
from blobcache.api.viewsets import BlobViewSet, RepositoryBlobViewSet, RepositoryViewSet
from blobcache.models import Blob, Repository
from tests.api.conftest import APP, DIGEST, As, user
from tests.api.test_bodies import refused

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def module(name: str, code: str, **names: Any) -> ModuleType:
    found = ModuleType(name)
    vars(found).update(names)
    exec(compile(code, str(PAGE), "exec"), vars(found))  # noqa: S102 - our own
    return found


@pytest.fixture(params=["its own router", "the framework's"])
def example(request: pytest.FixtureRequest, settings: LazySettings) -> Iterator[ModuleType]:
    """A project with the API of the example, once with each of its routers."""
    found = module("portal_api", BLOCKS[0])
    if request.param == "the framework's":
        another = module("another_router", BLOCKS[1], **vars(found))
        found.urlpatterns[0] = path("api/", include(another.router.urls))
    yield from mounted(found, settings)


def mounted(urls: ModuleType, settings: LazySettings) -> Iterator[ModuleType]:
    sys.modules[urls.__name__] = urls
    settings.ROOT_URLCONF = urls.__name__
    clear_url_caches()
    yield urls
    del sys.modules[urls.__name__]
    clear_url_caches()


class TestTheExample:
    def test_has_the_team_in_the_list(self, example: ModuleType, as_: As, filled: Redis) -> None:
        page = as_("superuser").get("/api/repositories/").json()
        assert page["complete"] is True
        assert page["results"] == [
            {"name": "other/app", "blobs": 1, "team": "other"},
            {"name": "team/app", "blobs": 1, "team": "team"},
        ]

    def test_filters_by_team(self, example: ModuleType, as_: As, filled: Redis) -> None:
        page = as_("superuser").get("/api/repositories/?team=team").json()
        assert [row["name"] for row in page["results"]] == ["team/app"]
        first = as_("superuser").get("/api/repositories/?page_size=1").json()
        assert as_("superuser").get(first["next"]).status_code == 200
        elsewhere = f"{first['next']}&team=team"
        refused(as_("superuser").get(elsewhere), 400, "CURSOR_INVALID")

    def test_refuses_parameters_that_no_filter_has(
        self, example: ModuleType, as_: As, filled: Redis
    ) -> None:
        response = as_("superuser").get("/api/repositories/?prefix=team/")
        refused(response, 400, "PARAMETER_INVALID")
        allowed = response.json()["errors"][0]["detail"]["allowed"]
        assert allowed == ["team", "cursor", "page_size", "fresh", "format"]

    def test_has_an_additional_action(self, example: ModuleType, as_: As, filled: Redis) -> None:
        owner = "/api/repositories/team/app/owner/"
        for persona in ("viewer", "granted"):
            response = as_(persona).get(owner)
            assert response.json() == {"team": "team", "mail": "team@example.org"}
            assert response.headers["Cache-Control"] == "private, no-cache"
        refused(as_("nobody").get(owner), 403, "DENIED")
        refused(as_("anonymous").get(owner), 401, "UNAUTHORIZED")
        refused(as_("viewer").get(f"{owner}?x=1"), 400, "PARAMETER_INVALID")

    def test_lets_only_staff_purge(self, example: ModuleType, as_: As, filled: Redis) -> None:
        purge = f"/api/blobs/{DIGEST}/purge/"
        refused(as_("superuser").post(purge), 403, "DENIED")
        assert as_("superuser").get(f"/api/blobs/{DIGEST}/").status_code == 200
        user("superuser").__class__.objects.update(is_staff=True)
        response = as_("superuser").post(purge)
        assert sorted(response.json()["cleared"]) == ["other/app", "team/app"]

    def test_the_rest_works_as_without_the_extension(
        self, example: ModuleType, as_: As, filled: Redis
    ) -> None:
        client = as_("superuser")
        blob = f"/api/repositories/team/blobs/app/blobs/{DIGEST}/"
        body = {"size": 5, "mediaType": APP}
        assert client.put(blob, body, format="json").status_code == 201
        assert client.get(blob).json() == {"digest": DIGEST, "size": 5, "mediaType": APP}
        assert client.get("/api/repositories/team/blobs/app/blobs/").json()["count"] == 1
        stat = client.post("/api/blobs/stat/", {"digests": [DIGEST]}, format="json")
        assert list(stat.json()["descriptors"]) == [DIGEST]
        assert client.get("/api/repositories/team/blobs/app/summary/").json()["count"] == 1
        assert client.get(f"/api/blobs/{DIGEST}/repositories/").json()["complete"] is True
        assert client.get("/api/status/").json()["reachable"] is True
        assert client.delete(blob).status_code == 204
        refused(client.get(blob), 404, "BLOB_UNKNOWN")
        refused(client.get("/api/blobs/x/"), 400, "DIGEST_INVALID")

    def test_has_pages_for_browsers(self, example: ModuleType, as_: As, filled: Redis) -> None:
        for address in (
            "repositories/",
            "repositories/team/app/owner/",
            "repositories/team/app/summary/",
            f"repositories/team/app/blobs/{DIGEST}/",
            f"blobs/{DIGEST}/purge/",
        ):
            response = as_("superuser").get(f"/api/{address}", HTTP_ACCEPT="text/html")
            assert response.status_code in {200, 405}
            assert response.headers["Content-Type"] == "text/html; charset=utf-8"

    def test_has_a_schema_without_a_warning(self, example: ModuleType, tmp_path: Path) -> None:
        file = tmp_path / "schema.yml"
        call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(file))
        schema = file.read_text()
        assert "get_owner" in schema
        assert "TeamRepository" in schema
        assert "name: team" in schema


class PickyPermission(BasePermission):
    """A permission class of a host project that only checks objects."""

    asked: ClassVar[list[object]] = []

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        self.asked.append(obj)
        return bool(obj.pk != "secret/app")


class Wild(RepositoryViewSet):
    @action(detail=True)
    def unruled(self, request: Request, **_: str) -> Response:
        return Response({"open": True})

    @action(detail=True, methods=["post"])
    def also_unruled(self, request: Request, **_: str) -> Response:
        return Response({"open": True})

    @action(detail=True, permission_classes=[AllowAny])
    def public(self, request: Request, **_: str) -> Response:
        return Response({"open": True})

    @action(detail=True, permission_classes=[PickyPermission])
    def picky(self, request: Request, **_: str) -> Response:
        return Response({"open": True})

    @action(detail=False, throttle_scope="blobcache-stat", permission_classes=[AllowAny])
    def scoped(self, request: Request, **_: str) -> Response:
        return Response({"open": True})


class Picky(BlobViewSet):
    permission_classes = (PickyPermission,)


@pytest.fixture
def wild(settings: LazySettings) -> Iterator[ModuleType]:
    router = RegistryRouter()
    router.register("blobs", Picky, "blob")
    router.register("repositories", Wild, "repository")
    urls = ModuleType("wild_urls")
    vars(urls)["urlpatterns"] = [path("api/", include(router.urls))]
    PickyPermission.asked.clear()
    yield from mounted(urls, settings)


class TestPermissions:
    @pytest.mark.parametrize("persona", ["superuser", "viewer", "anonymous"])
    @pytest.mark.parametrize(("method", "name"), [("get", "unruled"), ("post", "also_unruled")])
    def test_an_action_without_a_rule_is_denied_to_everybody(
        self,
        method: str,
        name: str,
        persona: str,
        wild: ModuleType,
        as_: As,
        filled: Redis,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with caplog.at_level(logging.ERROR, "blobcache.api"):
            response = getattr(as_(persona), method)(f"/api/repositories/team/app/{name}/")
        if persona == "anonymous":
            refused(response, 401, "UNAUTHORIZED")
        else:
            refused(response, 403, "DENIED")
            assert f"'{name}' has no permission rule" in response.json()["errors"][0]["message"]
        assert f"Wild.{name} has no permission rule" in caplog.text
        assert "`requires`" in caplog.text

    def test_options_of_an_action_without_a_rule_is_denied(
        self, wild: ModuleType, as_: As, filled: Redis
    ) -> None:
        refused(as_("superuser").options("/api/repositories/a/unruled/"), 403, "DENIED")

    def test_permission_classes_replace_the_rule(
        self, wild: ModuleType, as_: As, filled: Redis
    ) -> None:
        assert as_("anonymous").get("/api/repositories/a/public/").json() == {"open": True}

    def test_an_object_level_class_is_asked_before_redis(
        self, wild: ModuleType, as_: As, filled: Redis
    ) -> None:
        assert as_("nobody").get("/api/repositories/a/picky/").status_code == 200
        refused(as_("nobody").get("/api/repositories/secret/app/picky/"), 403, "DENIED")
        assert as_("nobody").get(f"/api/blobs/{DIGEST}/").status_code == 200
        asked = PickyPermission.asked
        assert [type(each) for each in asked] == [Repository, Repository, Blob]

    def test_a_throttle_scope_of_the_framework_is_used(
        self, wild: ModuleType, as_: As, filled: Redis
    ) -> None:
        assert as_("anonymous").get("/api/repositories/scoped/").status_code == 200


VIEWSETS = [BlobViewSet, RepositoryViewSet, RepositoryBlobViewSet]
STANDARD = ("list", "create", "retrieve", "update", "partial_update", "destroy")


def actions(viewset: Any) -> set[str]:
    extra = {each.__name__ for each in viewset.get_extra_actions()}
    return extra | {name for name in STANDARD if hasattr(viewset, name)}


@pytest.mark.parametrize("viewset", VIEWSETS)
def test_every_action_has_its_rule_its_scope_and_its_parameters(viewset: Any) -> None:
    assert set(viewset.requires) == actions(viewset)
    assert set(viewset.throttle_scopes) == actions(viewset)
    assert set(viewset.query_parameters) <= actions(viewset) - viewset.list_actions
    assert viewset.list_actions <= actions(viewset)
    assert set(viewset.serializer_classes) == actions(viewset) - {"destroy"}
    assert set(viewset.response_serializer_classes) <= actions(viewset)
    for rule in viewset.requires.values():
        assert rule.__name__ in permissions.__all__


def test_no_viewset_is_left_out() -> None:
    ours = {name for name in viewsets.__all__ if name != "RegistryViewSet"}
    assert {each.__name__ for each in VIEWSETS} == ours


class Loud(BlobViewSet):
    def retrieve(self, request: Request, **kwargs: str) -> Response:
        response = super().retrieve(request, **kwargs)
        response.headers["X-Portal"] = "yes"
        return response


class Final(BlobViewSet):
    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(*args, **kwargs)
        response.headers["X-Portal"] = "yes"
        return response


class ShoutingSerializer(DescriptorSerializer):
    def to_representation(self, instance: Any) -> Any:
        return super().to_representation(instance) | {"portal": "yes"}


class Reserialized(BlobViewSet):
    serializer_classes: ClassVar[Any] = {
        **BlobViewSet.serializer_classes,
        "retrieve": ShoutingSerializer,
    }


class Chosen(BlobViewSet):
    def get_serializer_class(self) -> Any:
        if self.action == "retrieve":
            return ShoutingSerializer
        return super().get_serializer_class()


class ShoutingRenderer(JSONRenderer):
    def render(self, *args: Any, **kwargs: Any) -> Any:
        return super().render(*args, **kwargs) + b" "


class Rendered(BlobViewSet):
    renderer_classes = (ShoutingRenderer,)  # type: ignore[assignment]


class Negotiated(BlobViewSet):
    def perform_content_negotiation(self, *args: Any, **kwargs: Any) -> Any:
        return ShoutingRenderer(), "application/json"


@pytest.mark.parametrize("viewset", [Loud, Final, Reserialized, Chosen, Rendered, Negotiated])
def test_a_stat_does_not_use_the_fast_path_if_a_host_overrides_something(
    viewset: Any, as_: As, filled: Redis, settings: LazySettings
) -> None:
    router = SimpleRouter()
    router.register("blobs", viewset, "blob")
    urls = ModuleType("overridden_urls")
    vars(urls)["urlpatterns"] = [path("api/", include(router.urls))]
    for _ in mounted(urls, settings):
        response = as_("superuser").get(f"/api/blobs/{DIGEST}/")
    assert response.json()["size"] == 10
    is_portal_s = (
        "X-Portal" in response.headers
        or "portal" in response.json()
        or response.content.endswith(b" ")
    )
    assert is_portal_s


class WriteOnly(BlobViewSet):
    http_method_names = ["put", "delete", "options"]  # noqa: RUF012 - as the framework declares it


def test_a_method_that_a_host_removes_is_not_allowed(
    as_: As, filled: Redis, settings: LazySettings
) -> None:
    view: Any = BlobViewSet.as_view({"get": "retrieve"}, http_method_names=["options"])
    router = SimpleRouter()
    router.register("blobs", WriteOnly, "blob")
    urls = ModuleType("removed_urls")
    vars(urls)["urlpatterns"] = [path("api/", include(router.urls)), path("view/<digest>/", view)]
    for _ in mounted(urls, settings):
        for address in (f"/api/blobs/{DIGEST}/", f"/view/{DIGEST}/"):
            for accept in ("application/json", "application/json;q=0.9"):
                response = as_("superuser").get(address, HTTP_ACCEPT=accept)
                refused(response, 405, "UNSUPPORTED")


def test_arguments_of_as_view_are_respected(as_: As, filled: Redis, settings: LazySettings) -> None:
    view: Any = BlobViewSet.as_view({"get": "retrieve"}, renderer_classes=[ShoutingRenderer])
    urls = ModuleType("view_urls")
    vars(urls)["urlpatterns"] = [path("api/<digest>/", view)]
    for _ in mounted(urls, settings):
        response = as_("superuser").get(f"/api/{DIGEST}/")
    assert response.content.endswith(b" ")


def test_the_global_scope_is_global_whatever_variables_the_prefix_has(
    as_: As, filled: Redis, settings: LazySettings
) -> None:
    router = SimpleRouter()
    router.register("blobs", BlobViewSet, "blob")
    urls = ModuleType("prefixed_urls")
    vars(urls)["urlpatterns"] = [path("api/<name>/", include(router.urls))]
    filled.delete(f"blobs::{DIGEST}")
    for _ in mounted(urls, settings):
        refused(as_("superuser").get(f"/api/team/blobs/{DIGEST}/"), 404, "BLOB_UNKNOWN")
        body = {"size": 5, "mediaType": APP}
        put = as_("superuser").put(f"/api/team/blobs/{DIGEST}/", body, format="json")
        assert put.status_code == 201
    assert filled.exists(f"blobs::{DIGEST}")
    assert not filled.exists("repository::team::blobs")


def test_the_blobs_of_a_repository_need_its_name_in_the_address(
    as_: As, filled: Redis, settings: LazySettings
) -> None:
    router = SimpleRouter()
    router.register("blobs", RepositoryBlobViewSet, "blob")
    urls = ModuleType("nameless_urls")
    vars(urls)["urlpatterns"] = [path("api/", include(router.urls))]
    for _ in mounted(urls, settings):
        with pytest.raises(ImproperlyConfigured, match="a variable called 'name'"):
            as_("superuser").delete(f"/api/blobs/{DIGEST}/")


HOSTILE = [
    "repositories/" + "a/blobs/" * 8000 + "x",
    "repositories/" + "a/blobs/" * 8000 + "x/",
    "repositories/a/blobs/" + ":" * 64_000 + "//x",
    "repositories/" + "/" * 64_000,
    "repositories/" + "a" * 64_000 + "/summary/x",
    "blobs/" + ":" * 64_000 + "/x/y/",
]


@pytest.mark.parametrize("router", [RegistryRouter(), SimpleRouter(), DefaultRouter()])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda path: path[:24])
def test_every_router_matches_a_hostile_path_quickly(hostile: str, router: BaseRouter) -> None:
    router.registry = []
    variable = "<name>" if isinstance(router, RegistryRouter) else "(?P<name>.+)"
    router.register("blobs", BlobViewSet, "blob")
    router.register("repositories", RepositoryViewSet, "repository")
    router.register(f"repositories/{variable}/blobs", RepositoryBlobViewSet, "repository-blob")
    patterns = router.get_urls()
    start = perf_counter()
    for pattern in patterns:
        assert not isinstance(pattern, URLResolver)
        pattern.resolve(hostile)
    assert perf_counter() - start < 1


def test_the_example_resolves_a_repository_name_that_ends_in_blobs(example: ModuleType) -> None:
    assert resolve("/api/repositories/a/blobs/summary/").kwargs == {"name": "a/blobs"}
