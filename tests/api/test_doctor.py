"""The doctor over HTTP: checks in steps, repairs with two looks, and the last check."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from redis import Redis
from rest_framework.test import APIClient

from blobcache.doctor import steps
from blobcache.findings import FINDING_KINDS
from blobcache.services import get_browsable
from blobcache.services.catalog import Budgets
from tests.api import grants
from tests.api.conftest import As
from tests.api.test_bodies import refused
from tests.backends.cases import layer_link
from tests.backends.truth import storage_as_truth
from tests.budgets import limit
from tests.doctor import damage
from tests.doctor.test_truth import World
from tests.management.running import run

CHECK, REPAIR = "/api/doctor/check/", "/api/doctor/repair/"


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> Iterator[World]:
    world = World(tmp_path, default_cache)
    with storage_as_truth(tmp_path):
        yield world


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test changes."""
    times = [1000.0]

    class Clock:
        def time(self) -> float:
            return times[0]

    monkeypatch.setattr(steps, "time", Clock())
    return times


def unlinked(world: World, count: int = 1) -> list[str]:
    digests = [world.push("team/app", b"%d" % number) for number in range(count)]
    for digest in digests:
        world.remove(layer_link("team/app", digest))
    return [f"unlinked-member/member/team%2Fapp/{digest}" for digest in digests]


def check(client: APIClient, **body: Any) -> dict[str, Any]:
    response = client.post(CHECK, body, format="json")
    assert response.status_code == 200, response.content
    found: dict[str, Any] = response.json()
    return found


def repair(client: APIClient, findings: list[str]) -> dict[str, Any]:
    response = client.post(REPAIR, {"findings": findings}, format="json")
    assert response.status_code == 200, response.content
    found: dict[str, Any] = response.json()
    return found


def test_a_check_shows_what_the_storage_contradicts(world: World, superuser: APIClient) -> None:
    (identity,) = unlinked(world)
    body = check(superuser)
    (finding,) = body.pop("findings")
    assert body == {
        "found": True,
        "next": None,
        "compared": True,
        "looked_at": body["looked_at"],
        "share": 1.0,
        "doubtful": 0,
        "uncached": 0,
        "incomparable": 0,
        "witness": {
            "independent": True,
            "reason": "The storage is read itself, not through a registry.",
        },
    }
    assert "link is missing" in finding.pop("details")
    assert finding.pop("facts").keys() == {"evidence"}
    assert finding == {
        "id": identity,
        "kind": "unlinked-member",
        "severity": "error",
        "place": "member",
        "repository": "team/app",
        "digest": identity.rpartition("/")[2],
        "repairable": True,
        "problem": identity,
    }


def test_without_a_backend_nothing_is_compared(default_cache: Redis, superuser: APIClient) -> None:
    assert check(superuser)["compared"] is False


def test_a_check_goes_on_with_its_cursor(
    world: World, superuser: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = unlinked(world, 3)
    limit(monkeypatch, check=0)
    found: set[str] = set()
    cursor: str | None = None
    count = 0
    while count == 0 or cursor is not None:
        body = check(superuser, cursor=cursor)
        found |= {each["id"] for each in body["findings"]}
        cursor = body["next"]
        count += 1
    assert count > 1
    assert found == set(identities)


def test_a_cursor_belongs_to_its_check(
    world: World, superuser: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, check=0)
    cursor = check(superuser)["next"]
    for body in (
        {"repositories": ["team/app"], "cursor": cursor},
        {"kinds": ["corrupt"], "cursor": cursor},
        {"cursor": "x"},
    ):
        refused(superuser.post(CHECK, body, format="json"), 400, "CURSOR_INVALID")


def test_a_check_says_if_a_named_repository_is_not_there(
    world: World, superuser: APIClient
) -> None:
    world.push("team/app", b"content")
    assert check(superuser, repositories=["team/app"])["found"] is True
    assert check(superuser, repositories=["team/app", "team/misspelt"])["found"] is False
    # One that only the storage has is there.
    world.push("team/stored", b"stored")
    world.cache.delete("repository::team/stored::blobs")
    assert check(superuser, repositories=["team/stored"])["found"] is True


def test_some_repositories_and_kinds_can_be_checked(world: World, superuser: APIClient) -> None:
    (identity,) = unlinked(world)
    assert check(superuser, repositories=["keep"])["findings"] == []
    found = check(superuser, repositories=["team/app", "keep"])["findings"]
    assert [each["id"] for each in found] == [identity]
    assert check(superuser, kinds=["missing-data"])["findings"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"kinds": ["wrong"]}, "BODY_INVALID"),
        ({"kinds": "corrupt"}, "BODY_INVALID"),
        ({"repositories": ["Not A Name"]}, "NAME_INVALID"),
        ({"repositories": ["a"] * 101}, "BODY_INVALID"),
        ({"fix": True}, "BODY_INVALID"),
    ],
)
def test_a_wrong_body_is_refused(
    body: dict[str, object], code: str, superuser: APIClient, default_cache: Redis
) -> None:
    refused(superuser.post(CHECK, body, format="json"), 400, code)


def test_a_repair_takes_two_requests(world: World, superuser: APIClient, now: list[float]) -> None:
    identities = unlinked(world)
    first = {"done": [], "left": identities, "wait": 10}
    assert repair(superuser, identities) == first
    now[0] += 9
    assert repair(superuser, identities) == {**first, "wait": 1}
    now[0] += 1
    done = [{"id": identities[0], "outcome": "repaired"}]
    assert repair(superuser, identities) == {"done": done, "left": [], "wait": 0}
    assert not world.cache.exists("repository::team/app::blobs")


def test_a_list_from_a_client_is_checked_again(
    world: World, superuser: APIClient, now: list[float]
) -> None:
    """A list names findings, never what is wrong with them."""
    digest = world.push("team/app", b"healthy")
    for kind in ("unlinked-member", "missing-data", "corrupt", "size-mismatch"):
        body = repair(superuser, [f"{kind}/member/team%2Fapp/{digest}"])
        assert [each["outcome"] for each in body["done"]] == ["healed"]
    assert world.cache.sismember("repository::team/app::blobs", digest)


def test_too_many_at_once_are_refused(world: World, superuser: APIClient) -> None:
    response = superuser.post(REPAIR, {"findings": unlinked(world, 21)}, format="json")
    refused(response, 400, "BODY_INVALID")


@pytest.mark.parametrize("identity", ["", "x", "ok/blob//x", "corrupt/blob/a/b"])
def test_what_is_no_finding_is_refused(
    identity: str, superuser: APIClient, default_cache: Redis
) -> None:
    refused(superuser.post(REPAIR, {"findings": [identity]}, format="json"), 400, "BODY_INVALID")


def test_a_repair_that_is_not_safe_is_refused(default_cache: Redis, superuser: APIClient) -> None:
    finding = f"missing-data/blob//sha256:{'0' * 64}"
    response = superuser.post(REPAIR, {"findings": [finding]}, format="json")
    refused(response, 409, "REPAIR_REFUSED")


def test_the_last_check_of_the_whole_cache_is_kept(world: World, superuser: APIClient) -> None:
    overview = superuser.get("/api/doctor/").json()
    assert [each["kind"] for each in overview.pop("kinds")] == [*FINDING_KINDS]
    assert overview == {"compares": True, "last": None}
    unlinked(world)
    run("check")
    last = superuser.get("/api/doctor/").json()["last"]
    assert superuser.get("/api/status/").json()["last_check"] == last
    assert last.pop("at").endswith("Z")
    assert last.pop("looked_at") > 0
    assert last == {
        "compared": True,
        "doubtful": 0,
        "uncached": 0,
        "counts": {"unlinked-member": 1},
        "places": {"unlinked-member": 1},
    }


def test_the_status_shows_the_last_check_only_to_who_sees_all(
    world: World, as_: As, superuser: APIClient
) -> None:
    unlinked(world)
    run("check")
    assert superuser.get("/api/status/").json()["last_check"]["counts"]
    hiding = {**settings.BLOBCACHE["default"], "VISIBLE_REPOSITORIES": grants.visible}
    with override_settings(BLOBCACHE={"default": hiding}):
        assert as_("viewer").get("/api/status/").json()["last_check"] is None


CIRCULAR = "tests.doctor.test_dangers.Circular"


def test_a_registry_that_reads_the_cache_is_no_witness(
    world: World, tmp_path: Path, superuser: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage_as_truth(tmp_path, CIRCULAR):
        limit(monkeypatch, check=0)
        body = check(superuser)
        for _ in range(2):
            assert body["compared"] is False
            assert body["witness"] == {"independent": False, "reason": "It sees a canary."}
            body = check(superuser, cursor=body["next"])


def test_each_kind_is_explained(world: World, superuser: APIClient) -> None:
    kinds = superuser.get("/api/doctor/", headers={"Accept-Language": "de"}).json()["kinds"]
    assert all(all(each.values()) for each in kinds)
    found = {each["kind"]: each for each in kinds}
    assert found["unlinked-member"]["severity"] == "error"
    assert "Link" in found["unlinked-member"]["mount"]
    assert "Repository" in found["unlinked-member"]["mount"]


def test_what_a_registry_of_version_2_does_not_list_is_kept(
    default_cache: Redis, superuser: APIClient
) -> None:
    damage.write_blob(default_cache, damage.digest(1), "whole")
    (found,) = check(superuser, kinds=["unreferenced"])["findings"]
    assert not found["repairable"]
    assert "registry 2.x does not list manifests by repository" in found["details"]
    assert repair(superuser, [found["id"]])["done"] == [{"id": found["id"], "outcome": "kept"}]


CSV, LINES = "text/csv", "application/x-ndjson"


def exported(client: APIClient, accept: str, **body: Any) -> str:
    response = client.post(CHECK, body, format="json", headers={"accept": accept})
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"].startswith(accept)
    assert 'filename="findings.' in response.headers["Content-Disposition"]
    return b"".join(response).decode()


def test_all_findings_are_exported(world: World, superuser: APIClient) -> None:
    ids = unlinked(world, 3)
    lines = [json.loads(line) for line in exported(superuser, LINES).splitlines()]
    shown = check(superuser)["findings"]
    assert {line["id"] for line in lines} == {each["id"] for each in shown} >= set(ids)
    by_id = {each["id"]: each for each in shown}
    assert all(line == by_id[line["id"]] for line in lines)
    rows = list(csv.DictReader(exported(superuser, CSV).splitlines()))
    assert {row["id"] for row in rows} == by_id.keys()
    assert all(row["details"] == by_id[row["id"]]["details"] for row in rows)


def test_an_export_has_the_kinds_and_repositories_of_the_check(
    world: World, superuser: APIClient
) -> None:
    unlinked(world)
    assert exported(superuser, LINES, kinds=["corrupt"]) == ""
    assert exported(superuser, LINES, repositories=["other/app"]) == ""


def test_an_export_goes_through_all_steps(default_cache: Redis, superuser: APIClient) -> None:
    names = [f"sha256:{number:064x}" for number in range(1, 3001)]
    with default_cache.pipeline(transaction=False) as pipe:
        for each in names:
            pipe.hset(f"blobs::{each}", mapping={"digest": each, "size": "many"})
        pipe.execute()
    get_browsable().catalog.budgets = Budgets(check=0)
    lines = exported(superuser, LINES, kinds=["corrupt"]).splitlines()
    assert {json.loads(line)["digest"] for line in lines} == set(names)


def test_an_export_says_that_some_entries_could_not_be_judged(
    world: World, superuser: APIClient
) -> None:
    world.push("team/app", b"1")
    (world.root / "blobs").rename(world.root / "elsewhere")
    last = exported(superuser, LINES).splitlines()[-1]
    assert "could not be judged" in json.loads(last)["errors"][0]["message"]


@pytest.mark.parametrize("persona", ["anonymous", "nobody", "granted", "changer"])
def test_an_export_needs_what_a_check_needs(world: World, as_: As, persona: str) -> None:
    response = as_(persona).post(CHECK, {}, format="json", headers={"accept": CSV})
    assert response.status_code in {401, 403}
