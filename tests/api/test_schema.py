"""The OpenAPI schema of the API; and the API without drf-spectacular."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator

OPERATIONS = {
    "list_jobs",
    "start_job",
    "get_job",
    "step_job",
    "cancel_job",
    "get_raw_keys",
    "get_doctor",
    "check_cache",
    "repair_cache",
    "get_blobcache_status",
    "list_blobs",
    "stat_blobs",
    "stat_blob",
    "set_blob",
    "clear_blob",
    "list_blob_repositories",
    "purge_blob",
    "compare_repository",
    "list_changes",
    "purge_blobs",
    "list_repositories",
    "summarize_repository",
    "list_repository_blobs",
    "stat_repository_blobs",
    "stat_repository_blob",
    "set_repository_blob",
    "clear_repository_blob",
}

ABOUT_ALL = {"list_registries", "get_registry", "find_blob_in_registries"}
"""The operations that are not below the address of one registry."""


@pytest.mark.long(few=1)
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
    named = {f"registry_{each}" for each in OPERATIONS}  # the same below the address of a registry
    assert sorted(found) == sorted(OPERATIONS | named | ABOUT_ALL)


def test_lists_each_address_once_with_its_slash(schema: Any) -> None:
    assert len(schema["paths"]) == 2 * 22 + len(ABOUT_ALL)
    assert all(path.endswith("/") for path in schema["paths"])


def test_prefixes_every_component(schema: Any) -> None:
    assert all(name.startswith("BlobCache") for name in schema["components"]["schemas"])


def test_declares_the_errors(schema: Any) -> None:
    for path in schema["paths"].values():
        for operation in path.values():
            for code, response in operation["responses"].items():
                if code >= "400":
                    (body,) = response["content"].values()
                    assert body["schema"] == {"$ref": "#/components/schemas/BlobCacheErrors"}
            assert {"401", "403", "414", "503"} <= operation["responses"].keys()


SHA256 = "sha256:" + "a" * 64
TARSUM = "tarsum.v1+sha256:" + "a" * 64


@pytest.mark.parametrize("allow_tarsum", [False, True])
def test_declares_the_format_of_a_digest(allow_tarsum: bool, settings: LazySettings) -> None:
    settings.BLOBCACHE = {"default": {"ALLOW_TARSUM": allow_tarsum}}
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    components = schema["components"]["schemas"]
    found = [
        parameter["schema"]
        for path in schema["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "digest" and parameter["in"] == "path"
    ]
    found += [
        components[name]["properties"]["digest"]
        for name in ("BlobCacheDescriptor", "BlobCacheNewDescriptorRequest")
    ]
    assert len(found) == 2 * 9 + 1 + 2
    for each in found:
        assert re.match(each["pattern"], SHA256)
        assert not re.match(each["pattern"], SHA256 + "a")
        assert bool(re.match(each["pattern"], TARSUM)) == allow_tarsum


def test_declares_the_format_of_a_name(schema: Any) -> None:
    found = {
        operation["operationId"]: parameter["schema"]
        for path in schema["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "name"
    }
    assert len(found) == 2 * 7
    assert {each["maxLength"] for each in found.values()} == {255}
    written = ["registry_set_repository_blob", "set_repository_blob"]
    assert sorted(name for name in found if "pattern" in found[name]) == written
    pattern = found["set_repository_blob"]["pattern"]
    assert re.match(pattern, "team/app")
    assert not re.match(pattern, "host:5000/app")


def test_declares_the_format_of_the_name_of_a_registry(schema: Any) -> None:
    found = [
        parameter["schema"]["pattern"]
        for path in schema["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "registry"
    ]
    assert len(found) == len(OPERATIONS) + 1
    (pattern,) = set(found)
    for name in ("default", "eu-1", "a_b", "a" * 64):
        assert re.match(pattern, name)
    for name in ("", "A", "a/b", "a.b", "a" * 65):
        assert not re.match(pattern, name)


_STATS = {"stat_blob", "stat_blobs", "stat_repository_blob", "stat_repository_blobs"}
STATS = _STATS | {f"registry_{each}" for each in _STATS}


def test_declares_where_the_answer_to_a_stat_may_come_from(schema: Any) -> None:
    operations = [each for path in schema["paths"].values() for each in path.values()]
    cached = {
        operation["operationId"]: parameter["schema"]["enum"]
        for operation in operations
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "cached"
    }
    assert cached == {name: ["only"] for name in STATS}
    for operation in operations:
        sources = {
            code: response["headers"]["X-Cache"]["schema"]["enum"]
            for code, response in operation["responses"].items()
            if "X-Cache" in response.get("headers", {})
        }
        codes = {"200", "404", "503"} & operation["responses"].keys()
        is_stat = operation["operationId"] in STATS
        values = ["backend", "hit", "miss"]
        assert {code: sorted(each) for code, each in sources.items()} == (
            dict.fromkeys(codes, values) if is_stat else {}
        )
    batch = schema["components"]["schemas"]["BlobCacheBatchResult"]
    assert {"unchecked", "from_backend"} <= batch["properties"].keys() - set(batch["required"])


def test_declares_the_fields_of_a_body(settings: LazySettings) -> None:
    settings.BLOBCACHE = {"default": {"API_MAX_BATCH": 7}}
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    components = schema["components"]["schemas"]
    names = ("NewDescriptor", "Batch", "Purge", "PurgeMany")
    bodies = [components[f"BlobCache{name}Request"] for name in names]
    assert all(body["additionalProperties"] is False for body in bodies)
    descriptor, batch, _, purge = (body["properties"] for body in bodies)
    assert descriptor["mediaType"] == {"type": "string", "minLength": 1, "maxLength": 255}
    assert batch["digests"]["maxItems"] == purge["digests"]["maxItems"] == 7


def test_the_api_works_without_the_schema() -> None:
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
