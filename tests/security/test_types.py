"""A blob's media type is text about it, and never decides what a browser does with an answer."""

from __future__ import annotations

import pytest
from django.test import Client
from redis import Redis
from rest_framework.test import APIClient

from blobcache.services import get_provider
from tests.api.conftest import DIGEST, user
from tests.conformance import make_descriptor

HOSTILE = "text/html; <script>alert(1)</script>"


@pytest.fixture(autouse=True)
def pushed(db: None, default_cache: Redis) -> None:
    """A blob of that type, global and in a repository."""
    provider = get_provider()
    provider.repository_scoped("a").set_descriptor(
        DIGEST, make_descriptor(DIGEST, media_type=HOSTILE)
    )
    provider.catalog.reindex()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "path",
    [
        f"blobs/{DIGEST}/",
        "blobs/",
        f"blobs/{DIGEST}/repositories/",
        f"repositories/a/blobs/{DIGEST}/",
        "repositories/a/blobs/",
        "repositories/a/summary/",
    ],
)
def test_the_api_returns_a_media_type_but_not_as_its_content_type(path: str) -> None:
    client = APIClient()
    client.force_authenticate(user("superuser"))
    response = client.get(f"/api/{path}")
    assert HOSTILE in response.content.decode()
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    page = client.get(f"/api/{path}", HTTP_ACCEPT="text/html")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "alert(1)" in page.content.decode()
    assert "<script>alert" not in page.content.decode()


@pytest.mark.parametrize("path", ["repository/a/", f"blob/{DIGEST}/"])
def test_the_admin_escapes_a_media_type(path: str) -> None:
    admin = user("superuser")
    admin.is_staff = True
    admin.save()
    client = Client()
    client.force_login(admin, "django.contrib.auth.backends.ModelBackend")
    response = client.get(f"/admin/blobcache/{path.replace(':', '_3A')}change/")
    assert response.status_code == 200
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "alert(1)" in response.content.decode()
    assert "<script>alert" not in response.content.decode()
