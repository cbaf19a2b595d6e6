"""Three questions of an operator, each answered by one command."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from redis import Redis

from blobcache.history import recorded
from blobcache.services import get_provider
from tests.backends.cases import data
from tests.backends.truth import storage_as_truth
from tests.doctor.test_truth import World
from tests.management.running import HELLO, run, write_sample


def test_what_a_collection_has_left_wrong(tmp_path: Path, default_cache: Redis) -> None:
    world = World(tmp_path, default_cache)
    gone = world.push("team/app", b"collected")
    world.remove(data(gone))
    with storage_as_truth(tmp_path):
        done = run("check")
    assert done.code == 1
    assert gone in done.out
    assert "missing-data" in done.out


def test_who_holds_a_blob(default_cache: Redis) -> None:
    write_sample(default_cache)
    assert [row[0] for row in run("holders", HELLO).rows] == ["team/app", "team/web"]


def test_what_a_repository_alone_holds(default_cache: Redis) -> None:
    write_sample(default_cache)
    names = [row[0] for row in run("summary", "team/app").rows]
    assert {"Blobs that nobody else holds", "Bytes that nobody else holds"} <= {*names}


@pytest.mark.django_db
def test_what_changed_last_night_and_who_did_it(default_cache: Redis) -> None:
    write_sample(default_cache)
    with recorded(User(username="ann"), source="night"):
        get_provider().repository_scoped("team/app").clear(HELLO)
    done = run("log", "--since", "12h")
    assert HELLO in done.out
    assert "night" in done.out
    assert "ann" in done.out
