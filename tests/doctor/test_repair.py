from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from blobcache import signals
from blobcache.conf import Role
from blobcache.doctor.repair import repair, repair_many
from blobcache.exceptions import CacheUnavailable, OperationUnsupported
from blobcache.findings import FINDING_KINDS, Finding, Kind, Outcome, Place, Subject
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.audit import attributed
from blobcache.services.rules import Rules
from project import embedded
from project.damage import damage
from tests.conformance import A, make_descriptor
from tests.doctor.damage import (
    HASHES,
    OVERRIDES,
    InterruptedProvider,
    contents,
    digest,
    findings,
    write_blob,
    write_member,
    write_override,
)
from tests.servers import cache_at, commands
from tests.stores import KINDS, store


def repair_all(provider: RedisBlobDescriptorCacheProvider, kinds: set[Kind]) -> list[Outcome]:
    """Repair findings until there is none left that can be repaired."""
    outcomes: list[Outcome] = []
    for _ in range(3):
        found = [f for f in findings(provider, kinds=kinds).values() if f.is_repairable]
        if not found:
            return outcomes
        outcomes += [each.outcome for each in repair_many(provider, found, budget=60)]
    raise AssertionError(f"{found} is still there")


class TestSample:
    def test_after_a_complete_repair_nothing_is_found_and_the_rest_is_unchanged(
        self, default_cache: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        damage(default_cache)
        before = contents(default_cache)
        found = findings(provider)
        assert {each.outcome for each in repair_many(provider, found.values(), 60)} <= {
            Outcome.REPAIRED,
            Outcome.HEALED,
        }
        # Where only the global hash was damaged, the repositories miss it until it is filled.
        left = findings(provider).values()
        assert {(each.kind, each.facts["missing"]) for each in left} == {
            (Kind.DANGLING_MEMBER, "descriptor")
        }
        after = contents(default_cache)
        damaged = {each.digest for each in found.values()}
        lost = {key for key in before if key not in after}
        assert all(
            any(str(each) in key.decode("utf-8", "replace") for each in damaged)
            or key in {b"repository::old/not-a-set::blobs", b"repository::Not a Name!::blobs"}
            for key in lost
        )
        changed = {key for key in after if after[key] != before[key]}
        assert changed == {b"repository::old/2019-import::blobs"}


Blob = dict[str, Any]

worlds = st.fixed_dictionaries(
    {
        "hashes": st.lists(st.sampled_from(list(HASHES)), min_size=5, max_size=5),
        "repositories": st.lists(
            st.lists(
                st.tuples(st.booleans(), st.sampled_from(list(OVERRIDES))), min_size=5, max_size=5
            ),
            min_size=2,
            max_size=2,
        ),
        "junk": st.sets(st.sampled_from(["member", "blob", "override", "name", "set"])),
    }
)
NAMES = ("one", "two/parts")
GOOD_HASHES = {"whole", "as a registry writes it", "without a media type"}
GOOD_OVERRIDES = {"set", "empty"}


def build(client: Redis, world: Any) -> None:
    for number, state in enumerate(world["hashes"]):
        write_blob(client, digest(number), state)
    for name, blobs in zip(NAMES, world["repositories"], strict=True):
        for number, (is_member, override) in enumerate(blobs):
            write_override(client, name, digest(number), override)
            if is_member:
                client.sadd(f"repository::{name}::blobs", digest(number))
    junk = world["junk"]
    if "member" in junk:
        client.sadd("repository::one::blobs", b"\xff junk")
    if "blob" in junk:
        client.set("blobs::junk", "x")
    if "override" in junk:
        client.hset("repository::one::blobs::junk", "x", "y")
    if "name" in junk:
        client.sadd("repository::no name::blobs", digest(0))
    if "set" in junk:
        client.set("repository::three::blobs", "x")


def intact(world: Any, role: Role) -> dict[bytes, bool]:
    """Return what a repair must not touch: keys, and members together with their set."""
    kept: dict[bytes, bool] = {}
    for number, state in enumerate(world["hashes"]):
        may_be_right = state in GOOD_HASHES or (role == "primary" and state == "two sizes")
        if may_be_right:
            kept[f"blobs::{digest(number)}".encode()] = True
        for name, blobs in zip(NAMES, world["repositories"], strict=True):
            is_member, override = blobs[number]
            is_whole = state in GOOD_HASHES and override in GOOD_OVERRIDES
            if is_member and (is_whole or (role == "primary" and may_be_right)):
                kept[f"repository::{name}::blobs {digest(number)}".encode()] = True
                if override != "absent":
                    kept[f"repository::{name}::blobs::{digest(number)}".encode()] = True
    return kept


@pytest.mark.parametrize("role", ["cache", "primary"])
@pytest.mark.parametrize("kind", ["valkey", "cluster"])
def test_only_damage_is_repaired_in_random_data(
    kind: str, role: Role, request: pytest.FixtureRequest
) -> None:
    with store(request, kind) as client:
        provider = RedisBlobDescriptorCacheProvider(Rules(role=role))

        @settings(
            max_examples=30 if kind == "valkey" else 12,
            suppress_health_check=list(HealthCheck),
        )
        @given(world=worlds)
        def check(world: Any) -> None:
            client.flushall()
            build(client, world)
            before, kept = contents(client), intact(world, role)
            # Unreferenced ones are removed last, and only if they can be refilled.
            repair_all(provider, set(FINDING_KINDS) - {Kind.UNREFERENCED})
            after = contents(client)
            left = {key: after[key] for key in after if not key.endswith(b"::blobs")}
            assert left == {key: before[key] for key in kept if b" " not in key}
            members = {
                b"%b %b" % (key, member.encode() if isinstance(member, str) else member)
                for key, value in after.items()
                if key.endswith(b"::blobs")
                for member in value  # type: ignore[attr-defined]
            }
            assert members == {key for key in kept if b" " in key}
            left_over = findings(provider, kinds=set(FINDING_KINDS) - {Kind.UNREFERENCED})
            assert role == "primary" or not left_over
            assert not any(finding.is_repairable for finding in left_over.values())

        check()


def without_result(_: object) -> None:
    """Let a lambda return nothing."""


HEALERS: dict[str, tuple[Callable[[Redis], None], Subject]] = {
    "a member": (
        lambda client: write_member(client, "a", digest(1), "two sizes"),
        Subject(Place.MEMBER, b"a", digest(1).encode()),
    ),
    "a member without an override": (
        lambda client: write_member(client, "a", digest(1), override="absent"),
        Subject(Place.MEMBER, b"a", digest(1).encode()),
    ),
    "a member with a string": (
        lambda client: write_member(client, "a", digest(1), "string", "string"),
        Subject(Place.MEMBER, b"a", digest(1).encode()),
    ),
    "a blob": (
        lambda client: write_blob(client, digest(1), "no number"),
        Subject(Place.BLOB, None, digest(1).encode()),
    ),
    "an override": (
        lambda client: write_override(client, "a", digest(1), "set"),
        Subject(Place.OVERRIDE, b"a", digest(1).encode()),
    ),
    "a set": (
        lambda client: without_result(client.set("repository::a::blobs", "x")),
        Subject(Place.REPOSITORY, b"a", None),
    ),
    "what no repository has": (
        lambda client: write_blob(client, digest(1), "whole"),
        Subject(Place.BLOB, None, digest(1).encode()),
    ),
}


def refill(provider: RedisBlobDescriptorCacheProvider) -> None:
    """Do what a push does."""
    provider.repository_scoped("a").set_descriptor(digest(1), make_descriptor(digest(1), size=77))


class TestRaces:
    @pytest.mark.parametrize("what", HEALERS)
    def test_findings_resolved_before_are_skipped(
        self, what: str, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        damage, subject = HEALERS[what]
        damage(any_store)
        refill(provider)
        before = contents(any_store)
        kind = Kind.UNREFERENCED if what == "what no repository has" else Kind.CORRUPT
        assert repair(provider, Finding(kind, subject)) is Outcome.HEALED
        assert contents(any_store) == before

    @pytest.mark.parametrize("what", sorted(HEALERS.keys() - {"an override", "a set"}))
    def test_findings_resolved_between_the_read_and_the_removal_are_skipped(
        self, what: str, default_cache: Redis
    ) -> None:
        provider = InterruptedProvider(lambda: refill(provider))
        damage, subject = HEALERS[what]
        damage(default_cache)
        kind = Kind.UNREFERENCED if what == "what no repository has" else Kind.CORRUPT
        assert repair(provider, Finding(kind, subject)) is Outcome.HEALED
        assert provider.repository_scoped("a").stat(digest(1)).size == 77

    def test_on_a_cluster_a_blob_filled_in_between_never_gets_wrong(
        self, cluster: embedded.Cluster, request: pytest.FixtureRequest
    ) -> None:
        """The membership may be lost: a miss. The repaired descriptor is kept."""
        with store(request, "cluster") as client:
            provider = InterruptedProvider(lambda: refill(provider))
            write_member(client, "a", digest(1), "two sizes")
            subject = HEALERS["a member"][1]
            repair(provider, Finding(Kind.SIZE_MISMATCH, subject))
            assert provider.stat(digest(1)).size == 77

    @pytest.mark.parametrize("what", HEALERS)
    def test_findings_about_missing_keys_are_skipped(
        self, what: str, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        _, subject = HEALERS[what]
        assert repair(provider, Finding(Kind.CORRUPT, subject)) is Outcome.HEALED
        assert contents(any_store) == {}

    def test_data_that_is_now_damaged_in_another_way_is_also_removed(
        self, default_cache: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        write_member(default_cache, "a", digest(1), "two sizes")
        found = findings(provider)
        assert [each.outcome for each in repair_many(provider, found.values())] in (
            [Outcome.REPAIRED, Outcome.HEALED],
            [Outcome.REPAIRED, Outcome.REPAIRED],
        )
        # Only the hash was damaged: the repository still holds the blob.
        assert contents(default_cache).keys() == {
            b"repository::a::blobs",
            f"repository::a::blobs::{digest(1)}".encode(),
        }


class TestPrimary:
    @pytest.mark.parametrize(
        ("state", "override"),
        [("whole", "absent"), ("whole", "unprintable"), ("two sizes", "set")],
    )
    def test_data_that_nothing_can_refill_is_kept(
        self, state: str, override: str, default_cache: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider(Rules(role="primary"))
        write_member(default_cache, "a", digest(1), state, override)
        write_blob(default_cache, digest(2), "whole")
        before = contents(default_cache)
        found = findings(provider, kinds=set(FINDING_KINDS))
        assert found
        assert not any(finding.is_repairable for finding in found.values())
        outcomes = {each.outcome for each in repair_many(provider, found.values())}
        assert outcomes == {Outcome.KEPT}
        assert contents(default_cache) == before

    def test_unusable_data_is_removed(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(Rules(role="primary"))
        states = [state for state in HASHES if state not in GOOD_HASHES | {"two sizes"}]
        for number, state in enumerate(states):
            write_member(default_cache, "a", digest(number), state)
        repair_all(provider, set(FINDING_KINDS))
        assert contents(default_cache) == {}


class TestRepairMany:
    def test_stops_when_its_time_is_over(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        for number in range(5):
            write_blob(default_cache, digest(number), "leftover")
        found = list(findings(provider).values())
        done = repair_many(provider, found, budget=0)
        assert [each.finding for each in done] == found[:1]
        assert len(findings(provider)) == 4
        assert repair_many(provider, []) == []

    def test_one_takes_two_round_trips(self, valkey: embedded.Server) -> None:
        with cache_at(valkey.url) as client, valkey.client() as observer:
            client.flushall()
            provider = RedisBlobDescriptorCacheProvider()
            for number in range(2):
                write_member(client, "a", digest(number), "two sizes")
            first, second = (
                Finding(Kind.SIZE_MISMATCH, Subject(Place.MEMBER, b"a", digest(n).encode()))
                for n in range(2)
            )
            repair(provider, first)
            with commands(observer) as traffic:
                assert repair(provider, second) is Outcome.REPAIRED
            assert traffic.round_trips == 2


class TestRefusals:
    @pytest.mark.parametrize("what", HEALERS)
    def test_a_read_only_registry_is_not_repaired(self, what: str, default_cache: Redis) -> None:
        damage, subject = HEALERS[what]
        damage(default_cache)
        before = contents(default_cache)
        provider = RedisBlobDescriptorCacheProvider(Rules(read_only=True))
        with pytest.raises(OperationUnsupported):
            repair(provider, Finding(Kind.UNREFERENCED, subject))
        assert contents(default_cache) == before

    def test_what_a_primary_store_keeps_is_refused_too_if_it_is_read_only(
        self, default_cache: Redis
    ) -> None:
        damage, subject = HEALERS["a member without an override"]
        damage(default_cache)
        finding = Finding(Kind.DANGLING_MEMBER, subject)
        assert repair(RedisBlobDescriptorCacheProvider(Rules(role="primary")), finding) is (
            Outcome.KEPT
        )
        with pytest.raises(OperationUnsupported):
            repair(RedisBlobDescriptorCacheProvider(Rules(role="primary", read_only=True)), finding)

    @pytest.mark.parametrize("what", ["blob", "member", "override", "name"])
    def test_invalid_members_of_a_read_only_registry_are_not_removed(
        self, what: str, default_cache: Redis
    ) -> None:
        subject = {
            "blob": Subject(Place.BLOB, None, b"junk"),
            "member": Subject(Place.MEMBER, b"one", b"\xff junk"),
            "override": Subject(Place.OVERRIDE, b"one", b"junk"),
            "name": Subject(Place.REPOSITORY, b"no name", None),
        }[what]
        build(default_cache, {"hashes": [], "repositories": [[], []], "junk": {what}})
        finding = Finding(Kind.CORRUPT, subject)
        assert finding.id in findings(RedisBlobDescriptorCacheProvider())
        with pytest.raises(OperationUnsupported):
            repair(RedisBlobDescriptorCacheProvider(Rules(read_only=True)), finding)
        assert repair(RedisBlobDescriptorCacheProvider(), finding) is Outcome.REPAIRED
        assert contents(default_cache) == {}

    def test_a_redis_that_is_down_is_an_error(self) -> None:
        with cache_at("redis://127.0.0.1:1"), pytest.raises(CacheUnavailable):
            repair(
                RedisBlobDescriptorCacheProvider(),
                Finding(Kind.HUSK, Subject(Place.BLOB, None, A.encode())),
            )


class TestAudit:
    def test_each_repair_is_announced(
        self, default_cache: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        sent: list[tuple[object, ...]] = []

        def receive(signal: object, **facts: Any) -> None:
            names = {signals.descriptor_cleared: "cleared", signals.damage_removed: "removed"}
            sent.append((names[signal], *(facts[x] for x in ("repository", "digest", "source"))))  # type: ignore[index]

        provider = RedisBlobDescriptorCacheProvider()
        world = {
            "hashes": ["two sizes", "leftover"],
            "repositories": [[(True, "set"), (False, "absent")], [(False, "set")]],
            "junk": {"member", "blob", "override", "name", "set"},
        }
        build(default_cache, world)
        for signal in (signals.descriptor_cleared, signals.damage_removed):
            signal.connect(receive, weak=False)
        logger = logging.getLogger("blobcache.audit")
        logger.addHandler(caplog.handler)
        try:
            with caplog.at_level("INFO", "blobcache.audit"), attributed(actor="me", source="test"):
                repair_all(provider, set(FINDING_KINDS) - {Kind.UNREFERENCED})
        finally:
            logger.removeHandler(caplog.handler)
            for signal in (signals.descriptor_cleared, signals.damage_removed):
                signal.disconnect(receive)
        expected = {
            ("cleared", "one", digest(0), "test"),
            ("cleared", "two/parts", digest(0), "test"),
            ("cleared", None, digest(1), "test"),
            ("removed", "one", "\\xff junk", "test"),
            ("removed", None, "junk", "test"),
            ("removed", "one", "junk", "test"),
            ("removed", "no name", None, "test"),
            ("removed", "three", None, "test"),
        }
        assert set(sent) - {("cleared", None, digest(0), "test")} == expected
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == len(sent)
        assert any("repository=one digest='\\\\xff junk'" in line for line in lines)
        assert any("repository='no name' digest=-" in line for line in lines)


@pytest.mark.usefixtures("registry_3")
def test_every_state_is_either_kept_or_removed(any_store: Redis) -> None:
    """A repair in the role `cache` keeps only members that are undamaged."""
    provider = RedisBlobDescriptorCacheProvider()
    for number, (state, override) in enumerate(product(HASHES, OVERRIDES)):
        write_member(any_store, "a", digest(number), state, override)
    repair_all(provider, set(FINDING_KINDS))
    left = [key for key in contents(any_store) if key.startswith(b"blobs::")]
    assert len(left) == len(GOOD_HASHES) * len(GOOD_OVERRIDES)
    assert len(KINDS) > 1
