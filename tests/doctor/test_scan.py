from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from redis import Redis

from blobcache.doctor import candidates
from blobcache.doctor.candidates import Candidates
from blobcache.doctor.repair import repair
from blobcache.doctor.scan import Diagnosis, Limits
from blobcache.exceptions import CacheUnavailable, CursorInvalid, RepositoryNameInvalid
from blobcache.findings import DEFAULT_KINDS, FINDING_KINDS, TRUTH_KINDS, Kind, Outcome
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.walk import RedisKeyWalk
from blobcache.services.catalog import Budgets
from blobcache.services.rules import Rules
from project import embedded
from project.damage import damage
from project.pushes import DAMAGED
from tests.conformance import A, make_descriptor
from tests.doctor.damage import (
    HASHES,
    OVERRIDES,
    contents,
    digest,
    findings,
    outline,
    write_blob,
    write_member,
    write_override,
)
from tests.servers import cache_at, commands, monitor

SAMPLE = {
    "blob": {"corrupt": 2, "digest-mismatch": 1, "size-mismatch": 2, "husk": 2},
    "member": {"corrupt": 4, "digest-mismatch": 1, "size-mismatch": 2, "dangling-member": 3},
    "override": {"orphan-override": 1},
    "repository": {"corrupt": 2},
}
"""The damage in the demo's cache, according to `project.damage`."""


def counts(found: set[tuple[str, str, str | None, str | None]]) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    for kind, place, *_ in found:
        of_place = sums.setdefault(place, {})
        of_place[kind] = of_place.get(kind, 0) + 1
    return sums


class TestEverything:
    def test_finds_each_kind_of_damage(
        self, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        write_blob(any_store, digest(1), "two sizes")
        write_blob(any_store, digest(2), "leftover")
        write_blob(any_store, "rubbish", "whole")
        write_member(any_store, "a", digest(3), "another digest")
        write_member(any_store, "a", digest(4), "absent")
        write_member(any_store, "MyTeam/a", digest(5), override="unprintable")
        write_member(any_store, "a", digest(6))
        write_override(any_store, "a", digest(7), "set")
        write_override(any_store, "a", "rubbish", "set")
        any_store.sadd("repository::a::blobs", "rubbish")
        any_store.sadd("repository::Not a Name::blobs", digest(6))
        any_store.set("repository::b::blobs", "text")
        any_store.set("session::1", "foreign")
        any_store.set("repository::strange", "foreign")
        before = contents(any_store)
        assert outline(findings(provider)) == {
            ("size-mismatch", "blob", None, digest(1)),
            ("husk", "blob", None, digest(2)),
            ("corrupt", "blob", None, "rubbish"),
            ("digest-mismatch", "blob", None, digest(3)),
            ("digest-mismatch", "member", "a", digest(3)),
            ("dangling-member", "member", "a", digest(4)),
            ("corrupt", "member", "MyTeam/a", digest(5)),
            ("orphan-override", "override", "a", digest(7)),
            ("corrupt", "override", "a", "rubbish"),
            ("corrupt", "member", "a", "rubbish"),
            ("corrupt", "repository", "Not a Name", None),
            ("corrupt", "repository", "b", None),
        }
        assert contents(any_store) == before, "and changes nothing"

    def test_finds_what_the_sample_damages_whatever_the_steps(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        damage(default_cache)
        whole = findings(provider)
        assert counts(outline(whole)) == SAMPLE
        assert findings(provider, budget=0) == whole
        of_one = findings(provider, [DAMAGED], budget=0)
        assert counts(outline(of_one)) == {"member": SAMPLE["member"]}

    def test_findings_have_their_facts(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        states = {
            "two sizes": {"size": 5, "length": 6},
            "size 0": {"size": 0, "length": 0},
            "no number": {"part": "size", "stored": "5MB"},
            "another digest": {"names": digest(10**6)},
            "no digest": {"part": "digest", "stored": "sha256:x"},
            "leftover": {"left": "length"},
            "foreign fields": {"left": ""},
            "string": {"part": "key"},
        }
        for number, state in enumerate(states):
            write_blob(default_cache, digest(number), state)
        found = {finding.digest: finding.facts for finding in findings(provider).values()}
        assert found == {digest(number): facts for number, facts in enumerate(states.values())}

    def test_long_and_unprintable_values_are_cut_and_escaped(self, default_cache: Redis) -> None:
        default_cache.hset(f"blobs::{A}", mapping={"digest": A, "size": b"\xff\n" + b"9" * 9999})
        (finding,) = findings(RedisBlobDescriptorCacheProvider()).values()
        stored = finding.facts["stored"]
        assert isinstance(stored, str)
        assert stored.startswith("\\xff\\n999")
        assert len(stored) < 300
        assert stored.isprintable()

    def test_a_size_of_thousands_of_digits_does_not_stop_it(self, default_cache: Redis) -> None:
        """`int` refuses such a text; with the role ``primary`` the two sizes are looked at."""
        provider = RedisBlobDescriptorCacheProvider(Rules(role="primary"))
        default_cache.hset(f"blobs::{A}", mapping={"digest": A, "size": "0", "length": "9" * 5000})
        (finding,) = findings(provider).values()
        assert finding.kind is Kind.SIZE_MISMATCH
        assert finding.is_repairable


class TestSomeRepositories:
    def test_only_findings_of_these_repositories_are_returned(
        self, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        for name in ("a", "b", "c"):
            write_member(any_store, name, digest(1), "absent")
            write_override(any_store, name, digest(2), "set")
        any_store.delete("repository::b::blobs")
        any_store.set("repository::b::blobs", "text")
        write_blob(any_store, digest(3), "leftover")
        found = {
            ("dangling-member", "member", "a", digest(1)),
            ("corrupt", "repository", "b", None),
        }
        assert outline(findings(provider, ["b", "a", "unknown"])) == found
        found.add(("orphan-override", "override", "a", digest(2)))
        assert outline(findings(provider, ["b", "a"], set(FINDING_KINDS))) == found
        asked = Diagnosis(provider, ["a"], set(FINDING_KINDS))
        assert asked.kinds == set(FINDING_KINDS) - TRUTH_KINDS - {Kind.UNREFERENCED, Kind.HUSK}

    def test_a_member_that_is_cleared_after_the_scan_is_no_finding(
        self, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_member(default_cache, "a", digest(1), "no number")
        scan = RedisKeyWalk.scan_members

        def cleared(*args: object) -> object:
            found = scan(*args)  # type: ignore[arg-type]
            default_cache.srem("repository::a::blobs", digest(1))
            return found

        assert findings(RedisBlobDescriptorCacheProvider(), ["a"])
        monkeypatch.setattr(RedisKeyWalk, "scan_members", cleared)
        assert not findings(RedisBlobDescriptorCacheProvider(), ["a"])

    def test_an_invalid_name_is_refused(self) -> None:
        with pytest.raises(RepositoryNameInvalid):
            Diagnosis(RedisBlobDescriptorCacheProvider(), ["Not a Name"])


class TestKinds:
    def test_only_the_requested_kinds_are_found(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        damage(default_cache)
        for kind in DEFAULT_KINDS - TRUTH_KINDS:
            found = findings(provider, kinds=[kind])
            assert {finding.kind for finding in found.values()} == {kind}

    def test_without_requested_kinds_nothing_is_found(self, default_cache: Redis) -> None:
        write_blob(default_cache, digest(1), "leftover")
        assert not findings(RedisBlobDescriptorCacheProvider(), kinds=[])


@pytest.mark.usefixtures("registry_3")
class TestUnreferenced:
    @pytest.mark.parametrize("budget", [0, 10])
    def test_is_a_blob_that_no_repository_has(
        self, budget: float, provider: RedisBlobDescriptorCacheProvider, any_store: Redis
    ) -> None:
        for number in range(30):
            write_member(any_store, f"r{number}", digest(number))
        for number in range(30, 100):
            write_blob(any_store, digest(number), "whole")
        write_blob(any_store, digest(100), "leftover")
        any_store.set("repository::odd::blobs", "text")
        found = findings(provider, kinds=[Kind.UNREFERENCED], budget=budget)
        assert outline(found) == {
            ("unreferenced", "blob", None, digest(number)) for number in range(30, 100)
        }
        (finding, *_) = found.values()
        assert finding.facts == {"size": 5, "mediaType": "application/octet-stream"}

    def test_includes_a_repository_that_a_registry_created_since_the_last_index(
        self, default_cache: Redis
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.catalog.reindex()
        write_member(default_cache, "late", digest(1))
        assert not findings(provider, kinds=[Kind.UNREFERENCED])

    def test_no_repository_is_asked_about_a_blob_that_the_walk_found_in_one(
        self, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        for number in range(50):
            write_member(default_cache, f"r{number}", digest(number))
        provider = RedisBlobDescriptorCacheProvider()
        with valkey.client() as observer, commands(observer) as traffic:
            assert not findings(provider, kinds=[Kind.UNREFERENCED])
        assert traffic.calls["smismember"] == 0
        write_blob(default_cache, digest(50), "whole")
        with valkey.client() as observer, commands(observer) as traffic:
            assert len(findings(provider, kinds=[Kind.UNREFERENCED])) == 1
        assert traffic.calls["smismember"] == 50

    @pytest.mark.parametrize("has_file", [True, False])
    def test_is_not_a_blob_that_was_cached_after_the_walk(
        self, has_file: bool, default_cache: Redis, directory: Path
    ) -> None:
        if not has_file:
            (directory / f"blobcache-{os.geteuid()}").touch()
        write_member(default_cache, "r", digest(0))
        for number in range(1, 5):
            write_blob(default_cache, digest(number), "whole")
        diagnosis = Diagnosis(RedisBlobDescriptorCacheProvider(), kinds=[Kind.UNREFERENCED])
        step = diagnosis.step(budget=0)
        while '"phase":"candidates"' not in (step.next or ""):
            step = diagnosis.step(step.next or "", budget=0)
        default_cache.sadd("repository::r::blobs", digest(1))
        found = [*step.findings]
        while step.next is not None:
            step = diagnosis.step(step.next, budget=0)
            found += step.findings
        assert sorted(str(each.digest) for each in found) == [digest(2), digest(3), digest(4)]

    def test_is_not_what_a_repository_reads_by_an_alias(self, default_cache: Redis) -> None:
        alias = "sha512:" + "a" * 128
        write_blob(default_cache, digest(1), "whole")
        write_member(default_cache, "r", alias)
        default_cache.hset(f"blobs::{alias}", "digest", digest(1))
        assert not findings(RedisBlobDescriptorCacheProvider(), kinds=[Kind.UNREFERENCED])

    def test_without_the_file_also_finds_what_is_read_only_by_an_alias(
        self, default_cache: Redis, directory: Path
    ) -> None:
        (directory / f"blobcache-{os.geteuid()}").touch()
        provider = RedisBlobDescriptorCacheProvider()
        alias = "sha512:" + "a" * 128
        write_blob(default_cache, digest(1), "whole")
        provider.repository_scoped("r").set_descriptor(alias, make_descriptor(digest(1)))
        default_cache.srem("repository::r::blobs", digest(1))
        (found,) = findings(provider, kinds=[Kind.UNREFERENCED]).values()
        assert repair(provider, found) is Outcome.REPAIRED
        assert provider.repository_scoped("r").stat(alias).digest == digest(1)

    @pytest.mark.parametrize("name", ["Not a Name", ""])
    @pytest.mark.parametrize("has_file", [True, False])
    def test_is_not_a_member_of_a_repository_whose_name_is_invalid(
        self, has_file: bool, name: str, default_cache: Redis, directory: Path
    ) -> None:
        if not has_file:
            (directory / f"blobcache-{os.geteuid()}").touch()
        write_blob(default_cache, digest(1), "whole")
        provider = RedisBlobDescriptorCacheProvider()
        (found,) = findings(provider, kinds=[Kind.UNREFERENCED]).values()
        default_cache.sadd(f"repository::{name}::blobs", digest(1), "rubbish")
        assert not findings(provider, kinds=[Kind.UNREFERENCED])
        provider.catalog.reindex()
        assert repair(provider, found) is not Outcome.REPAIRED
        assert default_cache.exists(f"blobs::{digest(1)}")

    @pytest.mark.parametrize("kinds", [[Kind.UNREFERENCED], [*FINDING_KINDS]])
    def test_without_the_file_the_same_is_found(
        self, kinds: list[Kind], default_cache: Redis, directory: Path
    ) -> None:
        """Whatever step loses it: each check loses it one step later than the last."""
        provider = RedisBlobDescriptorCacheProvider()
        for number in range(4):
            write_member(default_cache, f"r{number}", digest(number))
            write_blob(default_cache, digest(100 + number), "whole")
        write_blob(default_cache, digest(200), "leftover")
        expected = findings(provider, kinds=kinds)
        limits = Limits(candidates=1)
        diagnosis = Diagnosis(provider, kinds=kinds, limits=limits)
        lost_at, steps = 0, [diagnosis.step(budget=0)]
        while lost_at <= len(steps):
            lost_at += 1
            steps = [diagnosis.step(budget=0)]
            while (cursor := steps[-1].next) is not None:
                if len(steps) == lost_at:
                    shutil.rmtree(directory / f"blobcache-{os.geteuid()}")
                steps.append(diagnosis.step(cursor, budget=0))
            assert {each.id for step in steps for each in step.findings} == set(expected)
        assert lost_at > 5

    def test_a_file_that_gets_full_changes_nothing(
        self,
        default_cache: Redis,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write_member(default_cache, "r", digest(0))
        for number in range(1, 400):
            write_blob(default_cache, digest(number), "whole")
        monkeypatch.setattr(candidates, "_MAX_PAGES", 4)
        provider = RedisBlobDescriptorCacheProvider()
        found = findings(provider, kinds=[Kind.UNREFERENCED])
        assert len(found) == 399
        assert "without its file of candidates" in caplog.text
        # The disk may be full because of the file.
        list(Diagnosis(provider, kinds=[Kind.UNREFERENCED]).run())
        assert not list((directory / f"blobcache-{os.geteuid()}").iterdir())

    def test_the_file_is_deleted_when_no_step_can_be_repeated(
        self, default_cache: Redis, directory: Path
    ) -> None:
        write_blob(default_cache, digest(1), "whole")
        write_blob(default_cache, digest(2), "whole")
        provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(check=0))
        diagnosis = Diagnosis(provider, kinds=[Kind.UNREFERENCED])
        own = directory / f"blobcache-{os.geteuid()}"
        assert len(list(diagnosis.run())) > 2
        assert not list(own.iterdir())
        assert diagnosis.step(budget=10).next is None
        assert not list(own.iterdir())
        cursor = diagnosis.step(budget=0).next or ""
        for _ in range(2):
            assert len(diagnosis.step(cursor, budget=10).findings) == 2
        assert len(list(own.iterdir())) == 1

    @pytest.mark.parametrize("is_run", [True, False])
    def test_the_file_is_closed_at_the_end_of_each_step(
        self,
        is_run: bool,
        default_cache: Redis,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Also if something, such as a traceback, still refers to it."""
        kept: list[Candidates] = []
        opened = Candidates.open

        def keep(name: str) -> Candidates:
            kept.append(opened(name))
            return kept[-1]

        monkeypatch.setattr(Candidates, "open", keep)
        write_blob(default_cache, digest(1), "whole")
        diagnosis = Diagnosis(RedisBlobDescriptorCacheProvider(), kinds=[Kind.UNREFERENCED])
        cursor = diagnosis.step(budget=0).next or ""
        diagnosis.step(cursor, budget=0)
        if is_run:
            list(diagnosis.run())
        assert len(kept) == 2 + is_run
        assert not [
            path
            for path in map(os.path.realpath, Path("/proc/self/fd").iterdir())
            if path.startswith(str(directory))
        ]

    def test_a_walk_whose_file_is_lost_at_its_end_is_not_repeated(
        self, default_cache: Redis, directory: Path
    ) -> None:
        write_blob(default_cache, digest(1), "whole")
        write_blob(default_cache, digest(2), "leftover")
        diagnosis = Diagnosis(RedisBlobDescriptorCacheProvider(), kinds=set(FINDING_KINDS))
        cursor = diagnosis.step(budget=0).next
        assert cursor is not None
        assert '"phase":"keys"' in cursor
        (file,) = (directory / f"blobcache-{os.geteuid()}").iterdir()
        file.write_bytes(b"x" * 8192)
        found = []
        while cursor is not None:
            step = diagnosis.step(cursor, budget=0)
            found += [each.kind for each in step.findings]
            cursor = step.next
        assert found == [Kind.HUSK, Kind.UNREFERENCED]

    def test_a_first_step_that_fails_leaves_no_file(self, directory: Path) -> None:
        """Otherwise failing steps would replace the files of other checks."""
        with cache_at("redis://127.0.0.1:1/0"):
            diagnosis = Diagnosis(RedisBlobDescriptorCacheProvider(), kinds=[Kind.UNREFERENCED])
            with pytest.raises(CacheUnavailable):
                diagnosis.step()
        assert not list((directory / f"blobcache-{os.geteuid()}").iterdir())

    def test_cannot_be_found_without_an_index(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(Rules(read_only=True))
        write_blob(default_cache, digest(1), "whole")
        write_blob(default_cache, digest(2), "leftover")
        diagnosis = Diagnosis(provider, kinds=set(FINDING_KINDS))
        assert diagnosis.kinds == DEFAULT_KINDS - TRUTH_KINDS
        assert len(findings(provider, kinds=set(FINDING_KINDS))) == 1
        assert not list(default_cache.scan_iter("blobcache::*"))


class TestSteps:
    @pytest.fixture
    def large(self, default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
        with default_cache.pipeline(transaction=False) as pipe:
            for number in range(5000):
                write_member(pipe, "large", digest(number))
            pipe.execute()
        for number in range(300):
            write_member(default_cache, f"r{number}", digest(number))
        return RedisBlobDescriptorCacheProvider()

    def test_progress_grows_to_one(self, large: RedisBlobDescriptorCacheProvider) -> None:
        for names in ([], ["large"], ["large", "r1"]):
            shares: list[float] = []
            looked_at = []
            cursor: str | None = ""
            while cursor is not None:
                step = Diagnosis(large, names).step(cursor, 0)
                assert step.progress.share is not None
                shares.append(step.progress.share)
                looked_at.append(step.progress.looked_at)
                cursor = step.next
                assert len(cursor or "") < 300
            assert shares == sorted(shares)
            assert shares[-1] == 1
            assert looked_at == sorted(looked_at)
            assert looked_at[-1] >= 5000
            assert len(shares) > 3

    def test_a_step_without_time_reads_once(
        self, large: RedisBlobDescriptorCacheProvider, default_cache: Redis, valkey: embedded.Server
    ) -> None:
        with valkey.client() as observer, commands(observer) as traffic:
            Diagnosis(large, ["large"]).step(budget=0)
        assert traffic.calls["sscan"] == 1
        assert traffic.calls["hmget"] < 1300

    def test_a_step_ends_when_it_has_found_enough(self, default_cache: Redis) -> None:
        for number in range(300):
            write_member(default_cache, f"r{number}", digest(number), "absent")
        diagnosis = Diagnosis(RedisBlobDescriptorCacheProvider())
        found: list[int] = []
        cursor: str | None = ""
        while cursor is not None:
            step = diagnosis.step(cursor, budget=60, limit=10)
            found.append(len(step.findings))
            cursor = step.next
        assert sum(found) == 300
        assert max(found) == 10

    def test_the_smallest_limits_find_the_same(self, default_cache: Redis) -> None:
        for number in range(10):
            write_member(default_cache, f"r{number}", digest(number), "no number")
            write_blob(default_cache, digest(100 + number), "whole")
        provider = RedisBlobDescriptorCacheProvider()
        limits = Limits(findings=1, records=1, unreferenced_batch=1, unreferenced_scan=1)
        one_by_one = Diagnosis(provider, kinds=FINDING_KINDS, limits=limits)
        steps = list(one_by_one.run())
        assert {each.id for step in steps for each in step.findings} == set(
            findings(provider, kinds=FINDING_KINDS)
        )
        assert len(steps) > 10

    @pytest.mark.parametrize("kind", ["members", "keys"])
    def test_a_read_that_finds_more_than_the_limit_is_repeated_with_fewer_keys(
        self, kind: str, default_cache: Redis
    ) -> None:
        for number in range(700):
            if kind == "members":
                write_member(default_cache, "a", digest(number), "absent")
            else:
                write_blob(default_cache, digest(number), "no number")
        diagnosis = Diagnosis(RedisBlobDescriptorCacheProvider(), kinds=[*DEFAULT_KINDS])
        whole = {each.id for step in diagnosis.run() for each in step.findings}
        seen: set[str] = set()
        cursor: str | None = ""
        while cursor is not None:
            step = diagnosis.step(cursor, budget=60, limit=50)
            assert len(step.findings) < 2 * 50 + 10
            seen |= {each.id for each in step.findings}
            cursor = step.next
        assert seen == whole
        assert len(seen) >= 700

    def test_no_command_reads_more_than_a_thousand_keys(
        self, large: RedisBlobDescriptorCacheProvider, valkey: embedded.Server
    ) -> None:
        with valkey.client() as observer, monitor(observer) as seen:
            findings(large, kinds=set(FINDING_KINDS))
        assert not {words[0].upper() for words in seen} & {"KEYS", "SMEMBERS", "HGETALL", "SORT"}
        counts = [int(w[w.index("COUNT") + 1]) for w in seen if "COUNT" in w]
        assert counts
        assert max(counts) <= 1000
        assert max(map(len, seen)) <= 1002

    @pytest.mark.parametrize(
        "cursor",
        [
            "x",
            "[]",
            "{}x",
            '{"phase":"nothing"}',
            '{"phase":"members"}',
            '{"unknown":1}',
            '{"phase":"keys","at":"x"}',
            '{"phase":"keys","after":"?"}',
            '{"phase":"candidates","candidates":["x"]}',
            '{"phase":"candidates","candidates":7}',
            '{"phase":"keys","at":7}',
            '{"phase":"keys","inside":"x"}',
            '{"phase":"keys","looked_at":-1}',
            '{"phase":"keys","number":"1"}',
            '{"phase":"blobs"}',
            '{"phase":"keys","file":"../x"}',
            '{"phase":"keys","file":7}',
            '{"phase":"candidates","reported":"x"}',
            '{"phase":"candidates","until":7}',
        ],
    )
    def test_an_invalid_cursor_is_refused(self, cursor: str, default_cache: Redis) -> None:
        with pytest.raises(CursorInvalid):
            Diagnosis(RedisBlobDescriptorCacheProvider()).step(cursor)


MEMBER_OF = {
    "set": {
        "whole": None,
        "as a registry writes it": None,
        "without a media type": None,
        "two sizes": "size-mismatch",
        "size 0": "size-mismatch",
        "no number": "corrupt",
        "another digest": "digest-mismatch",
        "no digest": "corrupt",
        "leftover": "dangling-member",
        "foreign fields": "dangling-member",
        "string": "corrupt",
        "absent": "dangling-member",
    }
}
MEMBER_OF["empty"] = MEMBER_OF["set"]
MEMBER_OF["absent"] = {
    state: kind if kind in {"corrupt", "digest-mismatch"} else "dangling-member"
    for state, kind in MEMBER_OF["set"].items()
}
MEMBER_OF["unprintable"] = MEMBER_OF["string"] = {
    state: kind if kind in {"digest-mismatch", "dangling-member"} else "corrupt"
    for state, kind in MEMBER_OF["set"].items()
}


@pytest.mark.parametrize("override", OVERRIDES)
@pytest.mark.parametrize("state", HASHES)
def test_every_state_of_a_member_has_its_kind(
    state: str, override: str, default_cache: Redis
) -> None:
    write_member(default_cache, "a", digest(1), state, override)
    found = findings(RedisBlobDescriptorCacheProvider(), ["a"])
    kind = MEMBER_OF[override][state]
    assert outline(found) == ({(kind, "member", "a", digest(1))} if kind else set())
