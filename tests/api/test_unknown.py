"""Unknown paths below the API: its own format, where the host project asks for it."""

from __future__ import annotations

import pytest
from django.conf import LazySettings
from django.urls import include, path
from redis import Redis
from rest_framework.test import APIClient

from blobcache.api.views import StatusView
from tests.api.conftest import As
from tests.api.test_bodies import refused

urlpatterns = [
    path("api/", include("blobcache.api.urls")),
    path("api/own/", StatusView.as_view()),
    path("api/", include("blobcache.api.unknown")),
]


@pytest.fixture(autouse=True)
def mounted(settings: LazySettings, portal: None) -> None:
    settings.ROOT_URLCONF = "tests.api.test_unknown"


@pytest.mark.parametrize(
    "name", ["nosuch/", "nosuch", "", "a/b/c", "blob/x", "own/x", "live/x", "%00", "x" * 5000]
)
@pytest.mark.parametrize("persona", ["anonymous", "superuser"])
def test_every_other_path_gets_the_apis_own_error(
    name: str, persona: str, as_: As, default_cache: Redis
) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        response = as_(persona).generic(method, f"/api/{name}", HTTP_ACCEPT="application/json")
        refused(response, 404, "PATH_UNKNOWN")
        assert len(response.content) < 2000


def test_the_paths_of_others_are_left_alone(superuser: APIClient, default_cache: Redis) -> None:
    assert superuser.get("/api/own/").json()["reachable"] is True
    assert superuser.get("/api/blobs/").status_code == 200
    response = superuser.get("/api/own?x=1")
    assert (response.status_code, response.headers["Location"]) == (301, "/api/own/?x=1")
    refused(superuser.post("/api/own"), 404, "PATH_UNKNOWN")
