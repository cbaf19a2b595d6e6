"""Jobs over HTTP: started, advanced, followed and cancelled by those who may."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from redis import Redis
from rest_framework.test import APIClient

from blobcache.jobs import MAX_OPEN, kinds
from blobcache.models import Job
from blobcache.services import get_provider
from tests.api import grants
from tests.api.conftest import DIGEST, OTHER, As
from tests.api.test_bodies import refused

JOBS = "/api/jobs/"
NO_JOB = "00000000-0000-4000-8000-000000000000"


def begin(client: APIClient, kind: str, **body: Any) -> dict[str, Any]:
    response = client.post(JOBS, {"kind": kind, **body}, format="json")
    assert response.status_code == 201, response.content
    found: dict[str, Any] = response.json()
    return found


def finish(client: APIClient, job: dict[str, Any]) -> dict[str, Any]:
    for _ in range(100):
        response = client.post(f"{JOBS}{job['id']}/step/")
        assert response.status_code == 200, response.content
        found: dict[str, Any] = response.json()
        if found["ended_at"]:
            return found
    raise AssertionError("The job does not end.")


BODIES: dict[str, dict[str, Any]] = {
    "purge": {"digests": [DIGEST]},
    "clear-blobs": {"repository": "team/app", "digests": [DIGEST]},
    "clear-repositories": {"repositories": ["team/app"]},
    "check": {"repositories": ["team/app"]},
    "repair": {"finding": "corrupt", "most": 5},
    "reindex": {},
    "sizes": {},
}


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_kind_is_started_and_done(kind: str, superuser: APIClient, filled: Redis) -> None:
    job = begin(superuser, kind, **BODIES[kind])
    assert (job["state"], job["kind"], job["origin"]) == ("waiting", kind, "api")
    assert job["controllable"] is True
    done = finish(superuser, job)
    assert (done["state"], done["percent"], done["reason"]) == ("done", 100, "")
    assert superuser.get(f"{JOBS}{job['id']}/").json() == done


def test_a_get_takes_no_step(superuser: APIClient, filled: Redis) -> None:
    job = begin(superuser, "purge", digests=[DIGEST])
    for _ in range(3):
        assert superuser.get(f"{JOBS}{job['id']}/").json()["state"] == "waiting"
    assert get_provider().stat(DIGEST).size == 10


def test_the_result_says_what_was_done(superuser: APIClient, filled: Redis) -> None:
    job = begin(superuser, "clear-blobs", repository="team/app", digests=[DIGEST, OTHER])
    done = finish(superuser, job)
    assert done["size"] == 2
    assert done["progress"] == {"done": 2, "cleared": 1}
    assert done["result"] == ["2 of 2 blobs are done.", "Cleared 1 blob."]


def test_a_job_that_is_cancelled_does_nothing_more(superuser: APIClient, filled: Redis) -> None:
    job = begin(superuser, "purge", digests=[DIGEST])
    assert superuser.post(f"{JOBS}{job['id']}/cancel/").json()["state"] == "cancelled"
    assert superuser.post(f"{JOBS}{job['id']}/step/").json()["state"] == "cancelled"
    assert get_provider().stat(DIGEST).size == 10


@pytest.mark.parametrize(
    ("persona", "kind"),
    [
        *(("viewer", each) for each in ("purge", "clear-blobs", "clear-repositories", "repair")),
        *(("granted", each) for each in ("purge", "repair", "reindex", "sizes")),
        *(("nobody", each) for each in kinds.KINDS),
    ],
)
def test_each_kind_needs_its_own_permission(
    persona: str, kind: str, as_: As, filled: Redis
) -> None:
    response = as_(persona).post(JOBS, {"kind": kind, **BODIES[kind]}, format="json")
    refused(response, 403, "DENIED")
    assert not Job.objects.exists()


def test_the_permission_is_checked_again_in_each_step(as_: As, filled: Redis) -> None:
    cleaner = as_("cleaner")
    job = begin(cleaner, "clear-blobs", repository="team/app", digests=[DIGEST])
    User.objects.get(username="cleaner").user_permissions.clear()
    failed = as_("superuser").post(f"{JOBS}{job['id']}/step/").json()
    assert failed["state"] == "failed"
    assert "no longer has the permission" in failed["reason"]
    assert get_provider().repository_scoped("team/app").stat(DIGEST).size == 10


def test_others_jobs_are_hidden_and_not_to_be_advanced(as_: As, filled: Redis) -> None:
    job = begin(as_("superuser"), "sizes")
    for path in ("", "step/", "cancel/"):
        method = as_("granted").post if path else as_("granted").get
        refused(method(f"{JOBS}{job['id']}/{path}"), 404, "PATH_UNKNOWN")
    assert as_("granted").get(JOBS).json()["results"] == []
    viewer = as_("viewer")
    assert viewer.get(f"{JOBS}{job['id']}/").json()["controllable"] is False
    for path in ("step/", "cancel/"):
        refused(viewer.post(f"{JOBS}{job['id']}/{path}"), 403, "DENIED")
    assert Job.objects.get().state == "waiting"


def test_the_list_has_every_job_once(superuser: APIClient, filled: Redis) -> None:
    ids = [begin(superuser, "sizes")["id"] for _ in range(7)]
    found: list[str] = []
    url: str | None = f"{JOBS}?page_size=3"
    while url:
        page = superuser.get(url).json()
        found += [row["id"] for row in page["results"]]
        url = page["next"]
    assert found == ids[::-1]


@pytest.mark.parametrize("key", ["x", "0", NO_JOB, "0" * 300, "%00", "é"])
def test_what_is_no_job_is_not_found(key: str, superuser: APIClient, filled: Redis) -> None:
    refused(superuser.get(f"{JOBS}{key}/"), 404, "PATH_UNKNOWN")
    refused(superuser.post(f"{JOBS}{key}/step/"), 404, "PATH_UNKNOWN")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "nothing"},
        {"kind": "purge"},
        {"kind": "purge", "digests": []},
        {"kind": "purge", "digests": [DIGEST], "repository": "team/app"},
        {"kind": "clear-blobs", "digests": [DIGEST]},
        {"kind": "sizes", "digests": [DIGEST]},
        {"kind": "check", "repositories": "team/app"},
        {"kind": "repair"},
        {"kind": "repair", "finding": "nothing"},
        {"kind": "repair", "finding": "corrupt", "most": -1},
        {"kind": "repair", "finding": "corrupt", "most": 10**30},
        {"kind": "clear-repositories", "repositories": ["x"] * 1001},
    ],
)
def test_a_wrong_body_is_refused(body: dict[str, Any], superuser: APIClient, filled: Redis) -> None:
    refused(superuser.post(JOBS, body, format="json"), 400, "BODY_INVALID")
    assert not Job.objects.exists()


def test_names_and_digests_are_checked(superuser: APIClient, filled: Redis) -> None:
    body: dict[str, Any] = {"kind": "purge", "digests": ["sha256:x"]}
    refused(superuser.post(JOBS, body, format="json"), 400, "DIGEST_INVALID")
    body = {"kind": "check", "repositories": ["a//b"]}
    refused(superuser.post(JOBS, body, format="json"), 400, "NAME_INVALID")


def test_a_read_only_registry_refuses_what_changes_it(
    superuser: APIClient, filled: Redis, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"READ_ONLY": True}}
    response = superuser.post(JOBS, {"kind": "purge", "digests": [DIGEST]}, format="json")
    refused(response, 405, "UNSUPPORTED")
    assert begin(superuser, "check", repositories=["team/app"])


def test_too_many_jobs_are_refused(superuser: APIClient, filled: Redis) -> None:
    for _ in range(MAX_OPEN):
        begin(superuser, "sizes")
    response = superuser.post(JOBS, {"kind": "sizes"}, format="json")
    refused(response, 403, "DENIED")
    assert "50 unfinished jobs" in response.json()["errors"][0]["message"]


def test_a_grant_for_one_repository_clears_it_by_a_job(as_: As, filled: Redis) -> None:
    granted = as_("granted")
    job = begin(granted, "clear-repositories", repositories=[*grants.GRANTED])
    assert finish(granted, job)["state"] == "done"


def test_unknown_parameters_are_refused(superuser: APIClient, filled: Redis) -> None:
    job = begin(superuser, "sizes")["id"]
    for method, path in (("get", ""), ("post", ""), ("get", f"{job}/"), ("post", f"{job}/step/")):
        response = getattr(superuser, method)(f"{JOBS}{path}?x=1")
        refused(response, 400, "PARAMETER_INVALID")
    assert Job.objects.get().state == "waiting"
