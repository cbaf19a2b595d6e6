"""Blobs in no repository, beside a registry of version 2: it lists no manifest by repository."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from redis import Redis

from blobcache.backends.storage import StorageBackend
from blobcache.doctor.repair import repair
from blobcache.doctor.scan import Diagnosis, Step
from blobcache.finding_texts import EXPLANATIONS, describe, describe_outcome
from blobcache.findings import DEFAULT_KINDS, Finding, Kind, Outcome
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_browsable
from blobcache.services.truth import Answer
from tests.backends.cases import data, digest_of, manifest_link
from tests.backends.truth import storage_as_truth
from tests.doctor.damage import contents, digest, findings, write_blob
from tests.doctor.test_truth import World
from tests.management.running import run

UNREFERENCED = [Kind.UNREFERENCED]


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> World:
    return World(tmp_path, default_cache)


def push_manifest(world: World, content: bytes) -> str:
    """Store a manifest, and cache what a registry of version 2 does: no membership."""
    found = digest_of(content)
    world.write(data(found), content)
    world.write(manifest_link("keep", found), found.encode())
    world.cache_blob(found, len(content))
    return found


def last_of(diagnosis: Diagnosis) -> tuple[list[Finding], Step]:
    steps = [*diagnosis.run()]
    return [each for step in steps for each in step.findings], steps[-1]


class TestWithoutBackend:
    def test_it_is_information_that_says_why_and_is_never_repaired(
        self, default_cache: Redis
    ) -> None:
        write_blob(default_cache, digest(1), "whole")
        before = contents(default_cache)
        provider = RedisBlobDescriptorCacheProvider()
        (found,) = findings(provider, kinds=UNREFERENCED).values()
        assert found.severity == "info"
        assert not found.is_repairable
        assert "registry 2.x does not list manifests by repository" in describe(found)
        assert "registry 2.x does not list manifests" in str(EXPLANATIONS[found.kind].meaning)
        assert repair(provider, found) is Outcome.KEPT
        assert contents(default_cache).items() >= before.items()
        text = describe_outcome(found.kind, Outcome.KEPT)
        assert text == "Skipped, because the registry may use it"

    @pytest.mark.usefixtures("registry_3")
    def test_with_version_3_it_is_repaired(self, default_cache: Redis) -> None:
        write_blob(default_cache, digest(1), "whole")
        provider = RedisBlobDescriptorCacheProvider()
        (found,) = findings(provider, kinds=UNREFERENCED).values()
        assert describe(found) == ""
        assert repair(provider, found) is Outcome.REPAIRED
        assert not default_cache.exists(f"blobs::{digest(1)}")

    def test_the_command_keeps_it_and_says_so(self, default_cache: Redis) -> None:
        write_blob(default_cache, digest(1), "whole")
        done = run("check", "--kind", "unreferenced", "--fix", "--yes", "--json")
        assert [each["outcome"] for each in done.findings] == ["kept"]
        done = run("check", "--kind", "unreferenced", "--fix", "--yes")
        assert "Skipped, because the registry may use it: 1." in done.out + done.err
        assert default_cache.exists(f"blobs::{digest(1)}")


class TestWithBackend:
    @pytest.mark.parametrize("kinds", [UNREFERENCED, DEFAULT_KINDS | {Kind.UNREFERENCED}])
    @pytest.mark.parametrize("has_file", [True, False])
    def test_what_the_storage_has_is_normal_and_what_it_lacks_loses_the_next_push(
        self, kinds: list[Kind], has_file: bool, world: World, directory: Path
    ) -> None:
        push_manifest(world, b'{"kept": 1}')
        gone = push_manifest(world, b'{"gone": 1}')
        world.remove(data(gone))
        world.remove(manifest_link("keep", gone))
        if not has_file:
            (directory / f"blobcache-{os.geteuid()}").touch()
        get_browsable().catalog.reindex()
        found, _ = last_of(Diagnosis(get_browsable(), kinds=kinds, backend=world.backend))
        assert [(each.kind, each.digest) for each in found] == [(Kind.STALE_MANIFEST, gone)]

    def test_what_nobody_knows_is_not_judged_and_not_repaired(
        self, world: World, tmp_path: Path
    ) -> None:
        manifest = push_manifest(world, b"{}")
        shutil.rmtree(world.root)
        diagnosis = Diagnosis(get_browsable(), kinds=UNREFERENCED, backend=world.backend)
        found, last = last_of(diagnosis)
        assert found == []
        assert last.progress.doubtful == 1
        with storage_as_truth(tmp_path, SETTLE=1):
            done = run("check", "--kind", "unreferenced", "--fix", "--yes")
        assert done.code == 2
        assert "could not be judged" in done.err
        assert world.cache.exists(f"blobs::{manifest}")

    def test_the_storage_is_asked_about_no_other_blob(self, world: World) -> None:
        asked: list[str] = []

        class Counting(StorageBackend):
            def stat(self, digest: str, repository: str | None = None) -> Answer:
                asked.append(digest)
                return world.backend.stat(digest, repository)

        for number in range(30):
            world.push("a", b"%d" % number)
        manifest = push_manifest(world, b"{}")
        backend = Counting(world.backend._lister, 2)
        diagnosis = Diagnosis(get_browsable(), kinds=UNREFERENCED, backend=backend)
        assert diagnosis.is_compared
        assert last_of(diagnosis)[0] == []
        assert asked == [manifest]

    def test_the_command_cures_what_is_gone_and_keeps_the_rest(
        self, world: World, tmp_path: Path
    ) -> None:
        kept, gone = push_manifest(world, b'{"kept": 1}'), push_manifest(world, b'{"gone": 1}')
        world.remove(data(gone))
        with storage_as_truth(tmp_path, SETTLE=1):
            done = run("check", "--kind", "unreferenced", "--fix", "--yes", "--json")
            assert [(each["kind"], each["outcome"]) for each in done.findings] == [
                ("stale-manifest", "repaired")
            ]
            assert run("check", "--kind", "unreferenced").code == 0
        assert world.cache.exists(f"blobs::{kept}")
        assert not world.cache.exists(f"blobs::{gone}")


class TestTarsum:
    """Links and data have no such digests, so there is nothing to compare."""

    TARSUM = "tarsum.v1+sha256:" + "a" * 64

    def test_it_is_counted_and_makes_no_failure(self, world: World, tmp_path: Path) -> None:
        world.cache_member("keep", self.TARSUM, 5)
        before = contents(world.cache)
        found, last = last_of(Diagnosis(get_browsable(), backend=world.backend))
        assert found == []
        assert (last.progress.doubtful, last.progress.incomparable) == (0, 2)
        with storage_as_truth(tmp_path, SETTLE=1, ALLOW_TARSUM=True):
            done = run("check", "--fix", "--yes")
        assert done.code == 0
        assert "2 entries were not compared, because no storage can have their" in done.out
        assert contents(world.cache).items() >= before.items()

    def test_its_descriptor_is_compared_if_that_names_a_digest_that_a_storage_can_have(
        self, world: World
    ) -> None:
        gone = world.push("keep", b"gone")
        world.cache.hset(
            f"blobs::{self.TARSUM}", mapping={"digest": gone, "size": 4, "mediatype": "a/b"}
        )
        world.remove(data(gone))
        found, _ = last_of(Diagnosis(get_browsable(), backend=world.backend))
        assert (Kind.MISSING_DATA, gone) in {(each.kind, each.digest) for each in found}
        assert self.TARSUM in {each.digest for each in found}
