"""The API as OpenAPI tells it; and the API without anybody to tell it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator

OPERATIONS = {
    "get_blobcache_status",
    "list_blobs",
    "stat_blobs",
    "stat_blob",
    "set_blob",
    "clear_blob",
    "list_blob_repositories",
    "purge_blob",
    "list_repositories",
    "summarize_repository",
    "list_repository_blobs",
    "stat_repository_blobs",
    "stat_repository_blob",
    "set_repository_blob",
    "clear_repository_blob",
}


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_is_valid_without_a_warning(
    version: str, split: bool, settings: LazySettings, tmp_path: Path
) -> None:
    settings.SPECTACULAR_SETTINGS = {"OAS_VERSION": version, "COMPONENT_SPLIT_REQUEST": split}
    call_command(
        "spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml")
    )


@pytest.fixture
def schema() -> Any:
    return SchemaGenerator().get_schema(request=None, public=True)


def test_names_every_operation(schema: Any) -> None:
    found = [
        operation["operationId"] for path in schema["paths"].values() for operation in path.values()
    ]
    assert sorted(found) == sorted(OPERATIONS)


def test_lists_each_address_once_with_its_slash(schema: Any) -> None:
    assert len(schema["paths"]) == 11
    assert all(path.endswith("/") for path in schema["paths"])


def test_prefixes_every_component(schema: Any) -> None:
    assert all(name.startswith("BlobCache") for name in schema["components"]["schemas"])


def test_says_what_can_go_wrong(schema: Any) -> None:
    for path in schema["paths"].values():
        for operation in path.values():
            for code, response in operation["responses"].items():
                if code >= "400":
                    (body,) = response["content"].values()
                    assert body["schema"] == {"$ref": "#/components/schemas/BlobCacheErrors"}
            assert {"401", "403", "503"} <= operation["responses"].keys()


def test_the_api_works_without_it() -> None:
    script = """
import sys
sys.modules["drf_spectacular"] = None
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework",
                    "blobcache"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://x"}},
    ROOT_URLCONF="tests.api.urls",
    ALLOWED_HOSTS=["*"],
)
django.setup()
from django.test import Client
response = Client().get("/api/blobs/")
assert response.status_code in (401, 403), response.status_code
assert response.json()["errors"][0]["code"] == "UNAUTHORIZED"
assert "django.contrib.admin.models" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
