"""The keys of a blob as they are in Redis, over HTTP."""

from __future__ import annotations

import pytest
from redis import Redis
from rest_framework.test import APIClient

from tests.api.conftest import ALIAS, DIGEST, UNKNOWN, As
from tests.api.test_bodies import refused

URL = f"/api/blobs/{DIGEST}/raw/"


def test_the_hash_is_shown(superuser: APIClient, filled: Redis) -> None:
    (key,) = superuser.get(URL).json()["keys"]
    assert (key["key"], key["type"], key["expected"]) == (f"blobs::{DIGEST}", "hash", "hash")
    fields = {each["name"]: each["value"] for each in key["fields"]}
    assert fields["digest"] == DIGEST
    assert key["command"] == f"redis-cli HGETALL blobs::{DIGEST}"


def test_with_a_repository_its_keys_are_shown_too(superuser: APIClient, filled: Redis) -> None:
    _, members, override = superuser.get(f"{URL}?repository=team/app").json()["keys"]
    assert (members["key"], members["member"]) == ("repository::team/app::blobs", True)
    assert override["key"] == f"repository::team/app::blobs::{DIGEST}"


def test_what_is_not_there_or_damaged_is_shown_as_it_is(
    superuser: APIClient, filled: Redis
) -> None:
    filled.set(f"blobs::{UNKNOWN}", b"\xff<i>\x1b[31m")
    (key,) = superuser.get(f"/api/blobs/{UNKNOWN}/raw/").json()["keys"]
    assert key["type"] == "string"
    assert key["fields"][0]["value"] == "\\xff<i>\\x1b[31m"
    (key,) = superuser.get(f"/api/blobs/{ALIAS[:-1]}0/raw/").json()["keys"]
    assert key["type"] == "none"


def test_a_repository_that_the_user_may_not_view_is_refused(as_: As, filled: Redis) -> None:
    refused(as_("granted").get(f"{URL}?repository=team/app"), 403, "DENIED")
    refused(as_("nobody").get(URL), 403, "DENIED")


@pytest.mark.parametrize("name", ["", "a//b", "x" * 300])
def test_an_invalid_name_is_refused(name: str, superuser: APIClient, filled: Redis) -> None:
    refused(superuser.get(f"{URL}?repository={name}"), 400, "NAME_INVALID")
