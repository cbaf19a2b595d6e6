"""Authentication and each permission class are checked before a view runs."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis
from rest_framework.test import APIClient

from tests.api.conftest import DIGEST, user
from tests.api.test_bodies import refused
from tests.api.test_permissions import TABLE, Row, ask

OURS = "blobcache.api.permissions.BlobCachePermission"
STAFF_ONLY = "rest_framework.permissions.IsAdminUser"
EVERYBODY = "rest_framework.permissions.AllowAny"


@pytest.fixture(autouse=True)
def portal(settings: LazySettings, db: None, default_cache: Redis) -> None:
    settings.ROOT_URLCONF = "tests.api.urls"


def permit(settings: Any, *classes: str) -> None:
    settings.BLOBCACHE = {"default": {"API_PERMISSION_CLASSES": list(classes)}}


@pytest.mark.parametrize("classes", [(OURS, STAFF_ONLY), (STAFF_ONLY, OURS)], ids=["last", "first"])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.route}-{row.method}")
def test_each_permission_class_can_deny(
    row: Row, classes: tuple[str, ...], settings: LazySettings, default_cache: Redis
) -> None:
    permit(settings, *classes)
    client, asker = APIClient(), user("superuser")
    client.force_authenticate(asker)
    refused(ask(client, row), 403, "DENIED")
    assert not default_cache.keys()
    asker.is_staff = True
    assert ask(client, row).status_code != 403


@pytest.mark.parametrize("classes", [(EVERYBODY, OURS), (OURS, EVERYBODY)], ids=["before", "after"])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.route}-{row.method}")
def test_no_permission_class_overrides_another(
    row: Row, classes: tuple[str, ...], settings: LazySettings
) -> None:
    permit(settings, *classes)
    client = APIClient()
    client.force_authenticate(user("nobody"))
    if row.method == "GET" and row.route in {"repositories", "changes", "jobs"}:
        assert ask(client, row).json()["results"] == []  # every user gets a list
    elif row.route == "job" or row.route.startswith("job-"):
        refused(ask(client, row), 404, "PATH_UNKNOWN")
    elif row.route in {"registries", "registry"}:  # everybody knows the default registry
        assert ask(client, row).status_code == 200
    else:
        refused(ask(client, row), 403, "DENIED")


@pytest.mark.parametrize("method", ["get", "head", "put", "delete"])
@pytest.mark.parametrize("path", [f"blobs/{DIGEST}", f"repositories/team/app/blobs/{DIGEST}"])
def test_wrong_credentials_are_refused_even_if_anonymous_users_have_access(
    path: str, method: str, settings: LazySettings
) -> None:
    permit(settings, EVERYBODY)
    client = APIClient()
    assert client.get(f"/api/{path}/").status_code == 404
    response = getattr(client, method)(f"/api/{path}/", HTTP_AUTHORIZATION="Token wrong")
    assert response.status_code == 401
    if method != "head":
        refused(response, 401, "UNAUTHORIZED")
