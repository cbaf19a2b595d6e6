"""Every repository can be reached, whatever its name ends in."""

from __future__ import annotations

import pytest
from redis import Redis
from rest_framework.test import APIClient

from tests.api.conftest import APP, DIGEST
from tests.api.test_bodies import refused

NAMES = [
    "a",
    "blobs",
    "stat",
    "summary",
    "repositories",
    "purge",
    "status",
    "foo/blobs",
    "foo/blobs/stat",
    "foo/stat",
    "blobs/blobs",
    "blobs/stat",
    "blobs/stat/blobs",
    "x/summary",
    "x/summary/blobs",
    "summary/blobs/stat/summary",
    "a.b/c__d",
    "a.json",
    "a--b/c.api",
    "foo/blobs/purge",
    "foo/blobs/repositories",
    "a/" * 127 + "b",
]


@pytest.mark.parametrize("slash", ["/", ""])
@pytest.mark.parametrize("name", NAMES)
def test_everything_of_a_repository_can_be_reached(
    name: str, slash: str, superuser: APIClient, default_cache: Redis
) -> None:
    base = f"/api/repositories/{name}"
    body = {"size": 5, "mediaType": APP}
    blob = f"{base}/blobs/{DIGEST}{slash}"
    assert superuser.put(blob, body, format="json").status_code == 201
    assert default_cache.sismember(f"repository::{name}::blobs", DIGEST)
    assert superuser.get(blob).json()["size"] == 5
    assert superuser.get(f"{base}/blobs{slash}").json()["count"] == 1
    assert superuser.get(f"{base}/summary{slash}").json()["bytes"] == 5
    stats = superuser.post(f"{base}/blobs/stat{slash}", {"digests": [DIGEST]}, format="json")
    assert list(stats.json()["descriptors"]) == [DIGEST]
    listed = superuser.get(f"/api/repositories{slash}").json()["results"]
    assert listed == [{"name": name, "blobs": 1}]
    assert superuser.delete(blob).status_code == 204


@pytest.mark.parametrize("name", ["MyTeam/app", "host:5000/app", "[2001:db8:0:0:0:0:0:1]:5000/a/b"])
def test_a_domain_can_be_read_and_cleared_and_not_written_to(
    name: str, superuser: APIClient, filled: Redis
) -> None:
    filled.sadd(f"repository::{name}::blobs", DIGEST)
    filled.hset(f"repository::{name}::blobs::{DIGEST}", "mediatype", APP)
    blob = f"/api/repositories/{name}/blobs/{DIGEST}/"
    assert superuser.get(blob).status_code == 200
    put = superuser.put(blob, {"size": 1, "mediaType": APP}, format="json")
    refused(put, 400, "NAME_INVALID")
    assert superuser.delete(blob).status_code == 204


@pytest.mark.parametrize(
    "name",
    ["A", "a//b", "a/", "-a", "a%20b", "a%0A", "a%00", "%FF", "a::b", "x" * 256, "%F0%9F%92%A9"],
)
def test_the_error_for_an_invalid_name_explains_the_mistake(
    name: str, superuser: APIClient, default_cache: Redis
) -> None:
    for tail in ("blobs/", "summary/", f"blobs/{DIGEST}/", "blobs", f"blobs/{DIGEST}"):
        refused(superuser.get(f"/api/repositories/{name}/{tail}"), 400, "NAME_INVALID")
    response = superuser.post(f"/api/repositories/{name}/blobs/stat/", {"digests": []}, "json")
    assert response.status_code == 400


@pytest.mark.parametrize("digest", ["x", "x/y", "sha256:ab%0A", "%00", DIGEST + "/more", "stat/x"])
def test_the_segment_after_the_last_blobs_is_the_digest(
    digest: str, superuser: APIClient, default_cache: Redis
) -> None:
    refused(superuser.get(f"/api/repositories/a/blobs/{digest}/"), 400, "DIGEST_INVALID")


def test_encoded_slashes_and_colons_are_decoded(superuser: APIClient, filled: Redis) -> None:
    digest = DIGEST.replace(":", "%3A")
    assert superuser.get(f"/api/repositories/team%2Fapp/blobs/{digest}/").status_code == 200
    assert superuser.get(f"/api/blobs/{digest}/").status_code == 200
