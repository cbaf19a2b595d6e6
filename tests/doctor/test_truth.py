"""The cache beside what is really stored: findings, and their repair after two looks."""

from __future__ import annotations

import json
import shutil
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage
from django.test import override_settings
from redis import Redis

from blobcache.backends.listers import FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.doctor.repair import Repair
from blobcache.doctor.scan import Diagnosis
from blobcache.doctor.settled import RepairRefused, Safety, SettledRepair, needs_settling
from blobcache.exceptions import OperationUnsupported
from blobcache.findings import Finding, Kind, Outcome, Place, Subject
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from tests.backends.cases import ROOT, data, digest_of, layer_link, manifest_link
from tests.doctor.damage import OCTETS, contents, outline

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class World:
    """A registry's storage and its cache; both begin healthy."""

    def __init__(self, directory: Path, cache: Redis, version: int = 2) -> None:
        self.root = directory / ROOT
        self.cache = cache
        self.backend = StorageBackend(FileSystemLister(FileSystemStorage(directory), ROOT), version)
        self.push("keep", b"something that stays")

    def write(self, path: str, content: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def push(self, repository: str, content: bytes) -> str:
        """Store a layer, with its link and all that a registry caches."""
        digest = digest_of(content)
        self.write(data(digest), content)
        self.write(layer_link(repository, digest), digest.encode())
        self.cache_member(repository, digest, len(content))
        return digest

    def cache_blob(self, digest: str, size: int, media_type: str = OCTETS) -> None:
        self.cache.hset(
            f"blobs::{digest}", mapping={"digest": digest, "size": size, "mediatype": media_type}
        )

    def cache_member(
        self, repository: str, digest: str, size: int, media_type: str = OCTETS
    ) -> None:
        self.cache_blob(digest, size)
        self.cache.sadd(f"repository::{repository}::blobs", digest)
        self.cache.hset(f"repository::{repository}::blobs::{digest}", "mediatype", media_type)


def diagnosis(world: World, repositories: Iterable[str] = (), **rules: object) -> Diagnosis:
    provider = RedisBlobDescriptorCacheProvider(Rules(**rules))  # type: ignore[arg-type]
    return Diagnosis(provider, repositories, backend=world.backend)


def find(world: World, repositories: Iterable[str] = ()) -> dict[str, Finding]:
    return {
        finding.id: finding
        for step in diagnosis(world, repositories).run()
        for finding in step.findings
    }


def repair(
    world: World,
    *,
    meanwhile: Callable[[], object] = lambda: None,
    role: str = "cache",
    read_only: bool = False,
    **safety: object,
) -> list[Repair]:
    """Find, look again when `meanwhile` has happened, and repair."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        meanwhile()

    asked = diagnosis(world, role=role, read_only=read_only)
    settled = SettledRepair(
        asked.provider,
        world.backend,
        Safety(**safety),  # type: ignore[arg-type]
        now=lambda: 100.0,
        wait=wait,
    )
    compared = 0
    for step in asked.run():
        compared = step.progress.judged
        for finding in step.findings:
            assert needs_settling(finding)
            settled.add(finding)
    settled.require_allowed(compared)
    done = list(settled.run())
    assert waits in ([], [10])
    return done


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> World:
    return World(tmp_path, default_cache)


def test_nothing_is_wrong_with_a_healthy_cache(world: World) -> None:
    world.push("a", b"one")
    world.push("a/b", b"one")
    world.cache.sadd("repository::a::blobs", digest_of(b"something that stays"))
    world.write(layer_link("a", digest_of(b"something that stays")), b"")
    world.write(
        layer_link("a", digest_of(b"something that stays")),
        digest_of(b"something that stays").encode(),
    )
    assert {each.kind for each in find(world).values()} == {Kind.DANGLING_MEMBER}


def unlinked(world: World) -> tuple[str, str, str | None, str | None]:
    digest = world.push("a", b"deleted here")
    world.push("b", b"deleted here")
    world.remove(layer_link("a", digest))
    return ("unlinked-member", "member", "a", digest)


def unlinked_without_descriptor(world: World) -> tuple[str, str, str | None, str | None]:
    world.push("a", b"other")
    digest = digest_of(b"never linked")
    world.write(data(digest), b"never linked")
    world.cache.sadd("repository::a::blobs", digest)
    return ("unlinked-member", "member", "a", digest)


def stale(world: World) -> tuple[str, str, str | None, str | None]:
    digest = world.push("a", b"a manifest")
    world.cache.delete("repository::a::blobs", f"repository::a::blobs::{digest}")
    world.remove(data(digest))
    world.remove(layer_link("a", digest))
    return ("stale-manifest", "blob", None, digest)


def unsafe(world: World) -> tuple[str, str, str | None, str | None]:
    digest = world.push("a", b"<script>")
    world.cache_member("a", digest, 8, "text/html")
    return ("unsafe-media-type", "member", "a", digest)


def wrong_size(world: World) -> tuple[str, str, str | None, str | None]:
    digest = world.push("a", b"ten bytes!")
    world.cache_member("a", digest, 9)
    return ("size-mismatch", "blob", None, digest)


@pytest.mark.parametrize("lie", [unlinked, unlinked_without_descriptor, stale, unsafe, wrong_size])
def test_a_lie_is_found_and_cured_and_nothing_else_is_touched(
    lie: Callable[[World], tuple[str, str, str | None, str | None]], world: World
) -> None:
    expected = lie(world)
    found = outline(find(world))
    assert expected in found
    assert found - {expected} <= {("dangling-member", *expected[1:])}
    kept = {
        key: value
        for key, value in contents(world.cache).items()
        if str(expected[3]) not in str(key) and b"repository::a::" not in key
    }
    assert {each.outcome for each in repair_truth(world)} == {Outcome.REPAIRED}
    assert {each.kind for each in find(world).values()} <= {Kind.DANGLING_MEMBER}, "a miss at most"
    after = contents(world.cache)
    assert {key: after.get(key) for key in kept} == kept


def test_an_unsafe_type_of_one_repository_takes_no_safe_one_from_the_others(world: World) -> None:
    digest = world.push("a", b"<script>")
    world.push("b", b"<script>")
    world.cache.hset(f"repository::a::blobs::{digest}", "mediatype", "text/html")
    assert outline(find(world)) == {("unsafe-media-type", "member", "a", digest)}
    assert {each.outcome for each in repair_truth(world)} == {Outcome.REPAIRED}
    assert world.cache.hget(f"blobs::{digest}", "mediatype") == OCTETS.encode()
    assert world.cache.exists(f"repository::a::blobs::{digest}") == 0
    assert world.cache.sismember("repository::b::blobs", digest)


def repair_truth(world: World) -> list[Repair]:
    """Repair what the storage contradicts, and leave the rest."""
    asked = diagnosis(world)
    settled = SettledRepair(
        asked.provider, world.backend, Safety(), now=lambda: 0.0, wait=lambda _: None
    )
    for step in asked.run():
        for finding in filter(needs_settling, step.findings):
            settled.add(finding)
    settled.require_allowed(0)
    return list(settled.run())


def test_data_that_is_gone_is_cleared_in_each_repository(world: World) -> None:
    """Each repair clears the global descriptor too, and the next one looks again."""
    for name in ("a", "b", "c"):
        digest = world.push(name, b"collected")
    world.remove(data(digest))
    expected = {("missing-data", "blob", None, digest)} | {
        ("missing-data", "member", name, digest) for name in ("a", "b", "c")
    }
    assert outline(find(world)) == expected
    outcomes = {each.finding.repository: each.outcome for each in repair(world)}
    assert {outcomes[name] for name in ("a", "b", "c")} == {Outcome.REPAIRED}
    assert outcomes[None] in {Outcome.REPAIRED, Outcome.HEALED}
    assert find(world) == {}
    assert not any(digest.encode() in key for key in contents(world.cache))


def test_an_alias_is_judged_by_its_canonical_digest(world: World) -> None:
    digest = world.push("a", b"content")
    alias = digest_of(b"content", "sha512")
    world.write(layer_link("a", alias), digest.encode())
    world.cache.hset(f"blobs::{alias}", mapping={"digest": digest, "size": 7, "mediatype": OCTETS})
    world.cache.sadd("repository::a::blobs", alias)
    world.cache.hset(f"repository::a::blobs::{alias}", "mediatype", OCTETS)
    assert find(world) == {}
    world.remove(data(digest))
    found = {(each.kind, each.repository, each.digest) for each in find(world).values()}
    assert found == {
        (Kind.MISSING_DATA, name, each) for name in (None, "a") for each in (digest, alias)
    }
    repair(world)
    assert find(world) == {}


@pytest.mark.parametrize("version", [2, 3])
def test_the_link_of_a_manifest_lets_a_repository_read_it(
    version: int, tmp_path: Path, default_cache: Redis
) -> None:
    """On version 2 not as a blob, but only a warm of version 3 wrote such a member."""
    world = World(tmp_path, default_cache, version)
    digest = digest_of(b"{}")
    world.write(data(digest), b"{}")
    world.write(manifest_link("a", digest), digest.encode())
    world.cache_member("a", digest, 2)
    assert find(world) == {}
    world.remove(manifest_link("a", digest))
    assert outline(find(world)) == {("unlinked-member", "member", "a", digest)}


def test_damage_in_the_storage_is_reported_and_kept(world: World) -> None:
    link, empty = world.push("a", b"link"), world.push("a", b"empty")
    world.write(layer_link("a", link), b"rubbish")
    world.write(data(empty), b"")
    before = contents(world.cache)
    expected = {
        ("corrupt-link", "member", "a", link),
        ("storage-damage", "blob", None, empty),
    }
    assert outline(find(world)) == expected
    assert not any(each.is_repairable for each in find(world).values())
    assert {each.outcome for each in repair(world)} == {Outcome.KEPT}
    assert contents(world.cache) == before


def test_a_push_in_flight_is_left_alone(world: World) -> None:
    """Version 3 writes the cache first and the link second."""
    digest = world.push("a", b"being pushed")
    world.remove(layer_link("a", digest))
    before = contents(world.cache)
    (done,) = repair(world, meanwhile=lambda: world.write(layer_link("a", digest), digest.encode()))
    assert done.outcome is Outcome.HEALED
    assert contents(world.cache) == before


def test_what_a_registry_clears_itself_is_left_alone(world: World) -> None:
    digest = world.push("a", b"being deleted")
    world.remove(layer_link("a", digest))
    (done,) = repair(world, meanwhile=lambda: world.cache.srem("repository::a::blobs", digest))
    assert done.outcome is Outcome.HEALED


def test_nothing_is_cleared_when_the_storage_is_gone_between_the_looks(world: World) -> None:
    digest = world.push("a", b"content")
    world.remove(layer_link("a", digest))
    before = contents(world.cache)
    with pytest.raises(RepairRefused, match="Nothing more was cleared"):
        repair(world, meanwhile=lambda: shutil.rmtree(world.root))
    assert contents(world.cache) == before


@pytest.mark.parametrize(("name", "doubtful"), [("blobs", 5), ("repositories", 3)])
def test_a_storage_that_is_not_there_proves_nothing(name: str, doubtful: int, world: World) -> None:
    world.push("a", b"content")
    shutil.rmtree(world.root / name)
    assert find(world) == {}
    *_, last = diagnosis(world).run()
    assert last.progress.doubtful == len(last.doubtful) == doubtful


def test_not_too_much_is_cleared_at_once(world: World) -> None:
    digests = [world.push("a", b"%d" % number) for number in range(30)]
    for digest in digests[:21]:
        world.remove(layer_link("a", digest))
    before = contents(world.cache)
    with pytest.raises(RepairRefused, match=r"21 of \d+ of the entries, which is more than 10 %"):
        repair(world)
    assert contents(world.cache) == before
    assert len(repair(world, force=True)) == 21
    assert find(world) == {}


def test_few_entries_are_always_allowed(world: World) -> None:
    for number in range(20):
        world.remove(layer_link("a", world.push("a", b"%d" % number)))
    assert {each.outcome for each in repair(world, max_share=0)} == {Outcome.REPAIRED}


def test_the_share_counts_for_each_repository(world: World) -> None:
    for number in range(400):
        world.push("large", b"large %d" % number)
    for number in range(25):
        world.remove(layer_link("small", world.push("small", b"small %d" % number)))
    with pytest.raises(RepairRefused, match="25 of 25 of the members of small"):
        repair(world)


def test_the_share_is_of_what_was_compared(world: World) -> None:
    """Keys, overrides and links are looked at too, which are no entries of their own."""
    for number in range(300):
        world.push(f"team/{number // 10}", b"%d" % number)
        if number % 3 == 0:
            world.remove(layer_link(f"team/{number // 10}", digest_of(b"%d" % number)))
    with pytest.raises(RepairRefused, match=r"100 of 60\d of the entries"):
        repair(world)


def test_a_finding_that_is_found_twice_counts_once(world: World) -> None:
    digest = world.push("a", b"content")
    world.remove(layer_link("a", digest))
    settled = SettledRepair(
        diagnosis(world).provider, world.backend, Safety(settle=0), wait=lambda _: None
    )
    for finding in 2 * [*find(world).values()]:
        settled.add(finding)
    assert len(settled) == 1
    assert [each.facts["evidence"] for each in settled.pending] == [
        each.facts["evidence"] for each in find(world).values()
    ]
    assert [each.outcome for each in settled.run()] == [Outcome.REPAIRED]


def test_the_second_look_is_so_long_after_the_last_finding(world: World) -> None:
    """A long diagnosis has found the first ones minutes before."""
    times = iter([100.0, 500.0, 900.0, 903.0])
    waits: list[float] = []
    settled = SettledRepair(
        diagnosis(world).provider,
        world.backend,
        Safety(settle=10),
        now=lambda: next(times),
        wait=waits.append,
    )
    for name in (b"a", b"b"):
        subject = Subject(Place.MEMBER, name, digest_of(name).encode())
        settled.add(Finding(Kind.UNLINKED_MEMBER, subject))
    assert [each.outcome for each in settled.run()] == [Outcome.HEALED] * 2
    assert waits == [7]


def test_many_blobs_of_no_repository_may_be_few_of_all(world: World) -> None:
    settled = SettledRepair(diagnosis(world).provider, world.backend, Safety())
    for number in range(21):
        subject = Subject.of_blob(None, digest_of(b"%d" % number))
        settled.add(Finding(Kind.MISSING_DATA, subject))
    settled.require_allowed(210)
    with pytest.raises(RepairRefused, match="21 of 209 of the entries"):
        settled.require_allowed(209)


def test_a_million_findings_do_not_stay_in_memory(world: World) -> None:
    """A quick form: what ten thousand of them take is a few bytes for each."""
    settled = SettledRepair(diagnosis(world).provider, world.backend, Safety())
    evidence = {"evidence": "x" * 150}
    tracemalloc.start()
    for number in range(10_000):
        subject = Subject(Place.MEMBER, b"a", digest_of(b"%d" % number).encode())
        settled.add(Finding(Kind.UNLINKED_MEMBER, subject, evidence))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(settled) == 10_000
    assert taken < 200_000


def test_findings_that_cannot_be_kept_are_not_repaired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.remove(layer_link("a", world.push("a", b"content")))
    before = contents(world.cache)
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with pytest.raises(RepairRefused, match="cannot be kept for a second look"):
        repair(world)
    assert contents(world.cache) == before


def test_a_primary_store_is_repaired_only_by_force(world: World) -> None:
    digest = world.push("a", b"content")
    world.remove(layer_link("a", digest))
    with pytest.raises(RepairRefused, match="--force-primary"):
        repair(world, role="primary")
    (done,) = repair(world, role="primary", force_primary=True)
    assert done.outcome is Outcome.REPAIRED


def test_a_read_only_registry_is_not_repaired(world: World) -> None:
    world.remove(layer_link("a", world.push("a", b"content")))
    with pytest.raises(OperationUnsupported):
        repair(world, read_only=True)


def test_in_a_pull_through_registry_only_missing_data_counts(world: World) -> None:
    world.remove(layer_link("a", world.push("a", b"expired")))
    gone = world.push("a", b"gone")
    world.remove(data(gone))
    with override_settings(BLOBCACHE={"default": {"PROXY": True}}):
        assert {each.kind for each in find(world).values()} == {Kind.MISSING_DATA}


def test_one_repository_can_be_checked(world: World) -> None:
    world.remove(layer_link("a", world.push("a", b"a")))
    world.remove(layer_link("b", world.push("b", b"b")))
    size = world.push("a", b"size")
    world.cache_blob(size, 5)
    found = outline(find(world, ["a"]))
    assert found == {
        ("unlinked-member", "member", "a", digest_of(b"a")),
        ("size-mismatch", "member", "a", size),
    }


def test_fifty_lies_among_many_entries_are_fifty_findings(world: World) -> None:
    for number in range(1000):
        world.push(f"team/{number % 10}", b"%d" % number)
    for number in range(50):
        world.remove(layer_link(f"team/{number % 10}", digest_of(b"%d" % number)))
    assert len(find(world)) == 50


class TestContents:
    """What the stored manifests name."""

    def image(self, world: World, layers: list[bytes], media_type: str = OCI_LAYER) -> str:
        """Store a manifest that names these layers; return its digest."""
        config = b"{}"
        world.push("a", config)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest_of(config),
                    "size": len(config),
                },
                "layers": [
                    {"mediaType": media_type, "digest": digest_of(each), "size": len(each)}
                    for each in layers
                ],
            }
        ).encode()
        digest = digest_of(manifest)
        world.write(data(digest), manifest)
        world.write(manifest_link("a", digest), digest.encode())
        return digest

    def test_a_whole_image_is_no_finding(self, world: World) -> None:
        world.push("a", b"layer")
        self.image(world, [b"layer"])
        assert find(world) == {}

    def test_an_image_without_one_of_its_layers_is_reported(self, world: World) -> None:
        """Version 2.8.3 collects parts of images that are still tagged."""
        manifest = self.image(world, [b"never pushed"])
        (finding,) = find(world).values()
        assert (finding.kind, finding.digest) == (Kind.MISSING_CONTENT, manifest)
        assert finding.facts["names"] == digest_of(b"never pushed")
        (done,) = repair(world)
        assert done.outcome is Outcome.KEPT
        assert find(world) == {finding.id: finding}

    def test_a_size_that_a_manifest_contradicts_is_damage_in_the_storage(
        self, world: World
    ) -> None:
        layer = world.push("a", b"layer")
        self.image(world, [b"layer"])
        world.write(data(layer), b"cut")
        world.cache_blob(layer, 3)
        found = find(world)
        assert outline(found) == {("storage-damage", "member", "a", layer)}

    @pytest.mark.parametrize(
        ("cached", "is_drift"),
        [
            (OCTETS, False),
            (OCI_LAYER, False),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", False),
            ("application/vnd.oci.image.config.v1+json", True),
        ],
    )
    def test_a_type_that_contradicts_the_manifest_is_cleared(
        self, cached: str, is_drift: bool, world: World
    ) -> None:
        layer = world.push("a", b"layer")
        self.image(world, [b"layer"])
        world.cache_member("a", layer, 5, cached)
        found = find(world)
        assert {each.kind for each in found.values()} == (
            {Kind.MEDIA_TYPE_DRIFT} if is_drift else set()
        )
        repair(world)
        assert world.cache.sismember("repository::a::blobs", layer) is not is_drift

    def test_what_is_not_cached_is_only_counted(self, world: World) -> None:
        for number in range(3):
            digest = world.push("a", b"%d" % number)
            world.cache.delete(f"blobs::{digest}")
        world.cache.delete("repository::a::blobs")
        for digest in (digest_of(b"%d" % number) for number in range(3)):
            world.cache.delete(f"repository::a::blobs::{digest}")
        *_, last = diagnosis(world).run()
        assert last.progress.uncached == 3
        assert find(world) == {}

    def test_a_manifest_is_cached_if_the_global_scope_has_it(self, world: World) -> None:
        manifest = self.image(world, [])
        *_, last = diagnosis(world).run()
        assert last.progress.uncached == 1
        world.cache_blob(manifest, 5)
        *_, last = diagnosis(world).run()
        assert last.progress.uncached == 0

    def test_the_same_is_found_in_steps_of_any_length(self, world: World) -> None:
        self.image(world, [b"one", b"two"])
        world.remove(layer_link("keep", digest_of(b"something that stays")))
        whole = find(world)
        found: dict[str, Finding] = {}
        cursor: str | None = ""
        while cursor is not None:
            step = diagnosis(world).step(cursor, budget=0)
            found |= {each.id: each for each in step.findings}
            cursor = step.next
        assert found.keys() == whole.keys()
        assert len(found) == 2


def test_deep_reads_the_data(world: World) -> None:
    digest = world.push("a", b"content")
    world.write(data(digest), b"CONTENT")
    assert find(world) == {}
    asked = Diagnosis(RedisBlobDescriptorCacheProvider(), backend=world.backend, deep=100)
    (finding,) = [each for step in asked.run() for each in step.findings]
    assert (finding.kind, finding.digest) == (Kind.STORAGE_DAMAGE, digest)


def test_quick_judges_the_global_descriptors_alone(world: World) -> None:
    world.remove(layer_link("a", world.push("a", b"unlinked")))
    gone = world.push("a", b"gone")
    world.remove(data(gone))
    asked = Diagnosis(RedisBlobDescriptorCacheProvider(), backend=world.backend, is_quick=True)
    found = {each.id: each for step in asked.run() for each in step.findings}
    assert outline(found) == {("missing-data", "blob", None, gone)}


def test_many_links_of_a_repository_are_walked_in_steps(world: World) -> None:
    for number in range(600):
        digest = digest_of(b"%d" % number)
        world.write(data(digest), b"%d" % number)
        world.write(layer_link("a", digest), digest.encode())
    cursor: str | None = ""
    while cursor is not None:
        step = diagnosis(world).step(cursor, budget=0)
        cursor = step.next
    assert step.progress.uncached == 600


class TestWhatChangesBetweenTheLooks:
    """What was absent in both looks is cleared, also if it is absent in another way by then."""

    def test_the_data_goes_after_the_link(self, world: World) -> None:
        digest = world.push("a", b"deleted, then collected")
        world.remove(layer_link("a", digest))
        done = repair(world, meanwhile=lambda: world.remove(data(digest)))
        assert [each.outcome for each in done] == [Outcome.REPAIRED]
        assert not world.cache.sismember("repository::a::blobs", digest)
        (left,) = find(world).values()
        assert left.place is Place.BLOB, "only one look has shown that the data is gone"

    def test_the_data_comes_back_for_another_repository(self, world: World) -> None:
        digest = world.push("a", b"collected")
        world.remove(layer_link("a", digest))
        world.remove(data(digest))
        done = repair(world, meanwhile=lambda: world.push("b", b"collected"))
        outcomes = {each.finding.repository: each.outcome for each in done}
        assert outcomes == {None: Outcome.HEALED, "a": Outcome.REPAIRED}
        assert not world.cache.sismember("repository::a::blobs", digest)
        assert world.cache.sismember("repository::b::blobs", digest)
        assert world.cache.exists(f"blobs::{digest}"), "the others keep it"
        assert find(world) == {}

    def test_nobody_can_tell_any_more_who_has_a_manifest(self, world: World) -> None:
        stale(world)
        done = repair(world, meanwhile=lambda: world.cache.delete(*index_keys(world.cache)))
        assert [each.outcome for each in done] == [Outcome.REPAIRED]
        assert find(world) == {}

    def test_two_repairs_at_once_do_no_harm(self, world: World) -> None:
        for name in ("a", "b"):
            digest = world.push(name, b"collected")
        world.remove(data(digest))
        done = repair(world, meanwhile=lambda: repair(world))
        assert {each.outcome for each in done} == {Outcome.HEALED}
        assert find(world) == {}


def index_keys(cache: Redis) -> list[bytes]:
    return [key for key in cache.scan_iter() if not key.startswith((b"blobs::", b"repository::"))]
