"""What jobs do, one kind after another, and what they report."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.doctor.last_run import LastRun
from blobcache.findings import Kind
from blobcache.jobs import advance, texts
from blobcache.models import Job
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.budgets import limit
from tests.jobs.conftest import APP, CONFIG, GRANTED, HIDDEN, LAYER, account, begin, elapse, finish

pytestmark = pytest.mark.django_db

State = Job.State
Provider = RedisBlobDescriptorCacheProvider


def done(job: Job) -> Job:
    """Finish the job; return it as it is then."""
    finish(job)
    found = Job.objects.get(pk=job.pk)
    assert (found.state, found.reason) == (State.DONE, "")
    assert texts.title(found) != found.kind
    assert texts.share(found) == 100
    return found


class TestPurge:
    def test_clears_everywhere_step_by_step(
        self, filled: Provider, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, purge=0)
        job = begin(account(), "purge", digests=[LAYER, CONFIG])
        assert finish(job) > 3
        found = Job.objects.get(pk=job.pk)
        assert (found.progress["cleared"], found.progress["certain"]) == (3, "everywhere")
        assert not list(default_cache.scan_iter("*blobs::sha256*"))

    def test_clears_links_in_their_repository_alone(
        self, filled: Provider, default_cache: Redis
    ) -> None:
        found = done(begin(account(), "purge", digests=[CONFIG], links=[[GRANTED, LAYER]]))
        assert found.progress["cleared"] == 2
        assert not default_cache.exists(f"repository::{GRANTED}::blobs")
        assert default_cache.sismember(f"repository::{HIDDEN}::blobs", LAYER)

    def test_finds_the_aliases_of_what_a_collection_deleted(
        self, filled: Provider, default_cache: Redis
    ) -> None:
        alias = "sha512:" + "e" * 128
        filled.repository_scoped(GRANTED).set_descriptor(alias, Descriptor(LAYER, 1, APP))
        done(begin(account(), "purge", digests=[LAYER], with_aliases=True))
        assert not default_cache.exists(f"blobs::{alias}")
        assert not default_cache.sismember(f"repository::{GRANTED}::blobs", alias)

    def test_of_too_many_aliases_is_refused(
        self, filled: Provider, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blobcache.jobs.kinds.MAX_DIGESTS", 1)
        for digit in "ef":
            alias = f"sha512:{digit * 128}"
            filled.repository_scoped(GRANTED).set_descriptor(alias, Descriptor(LAYER, 1, APP))
        job = begin(account(), "purge", digests=[LAYER], with_aliases=True)
        finish(job)
        assert "aliases name these blobs" in texts.reason(Job.objects.get(pk=job.pk))
        assert default_cache.exists(f"blobs::{LAYER}")

    def test_does_nothing_if_the_backend_that_it_should_ask_is_gone(
        self, filled: Provider, default_cache: Redis
    ) -> None:
        job = begin(account(), "purge", digests=[LAYER], spares_stored=True)
        assert advance(job.pk)
        found = Job.objects.get(pk=job.pk)
        assert found.state == State.FAILED
        assert texts.reason(found) == "There is no backend to ask what is still stored."
        assert default_cache.exists(f"blobs::{LAYER}")

    def test_of_nothing_ends_at_once(self, filled: Provider) -> None:
        done(begin(account(), "purge", digests=[]))

    def test_counts_only_repositories_that_the_user_may_view(
        self, filled: Provider, settings: LazySettings
    ) -> None:
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.library"}}
        assert done(begin(account(), "purge", digests=[LAYER])).progress["cleared"] == 1


def library(user: object) -> list[str]:
    return ["library/"]


class TestClearRepositories:
    def test_clears_one_after_another(
        self,
        many: list[Digest],
        filled: Provider,
        default_cache: Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        limit(monkeypatch, clear=0)
        default_cache.set("repository::bad/app::blobs", "no set")
        default_cache.sadd("repository::many/blobs::blobs", "no digest")
        job = begin(
            account(), "clear-repositories", 3, repositories=["bad/app", "many/blobs", GRANTED]
        )
        assert advance(job.pk)
        assert advance(job.pk)
        found = Job.objects.get(pk=job.pk)
        assert texts.share(found) == 33
        found = done(job)
        assert found.progress == {"done": 3, "cleared": 252, "damaged": 1}
        assert default_cache.smembers("repository::many/blobs::blobs") == {b"no digest"}
        assert default_cache.sismember(f"repository::{HIDDEN}::blobs", LAYER)
        assert "1 repository is damaged. Run a check to repair it." in texts.progress_lines(found)


class TestCheck:
    def test_counts_findings_and_notes_the_check_of_everything(
        self, filled: Provider, default_cache: Redis
    ) -> None:
        default_cache.delete(f"blobs::{CONFIG}")
        found = done(begin(account(), "check", repositories=[]))
        assert found.progress["counts"] == {"dangling-member": 1}
        assert any(line.endswith(": 1") for line in texts.progress_lines(found))
        last = LastRun.read(filled)
        assert last is not None
        assert last.counts == {Kind.DANGLING_MEMBER: 1}

    def test_that_begins_again_counts_each_finding_once(
        self, filled: Provider, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        default_cache.delete(f"blobs::{CONFIG}")
        job = begin(account(), "check", repositories=[])
        Job.objects.filter(pk=job.pk).update(
            cursor="of a server that has been replaced",
            progress={"counts": {"dangling-member": 1}, "looked_at": 4},
        )
        assert advance(job.pk)
        found = Job.objects.get(pk=job.pk)
        assert (found.state, found.reason, found.cursor) == (State.RUNNING, "cursor", "")
        elapse(job, 10)
        found = done(job)
        assert found.progress["counts"] == {"dangling-member": 1}
        last = LastRun.read(filled)
        assert last is not None
        assert last.counts == {Kind.DANGLING_MEMBER: 1}

    def test_notes_problems_and_their_places_as_other_checks_do(
        self, filled: Provider, default_cache: Redis
    ) -> None:
        """The hash of a blob that two repositories hold is one problem in three places."""
        default_cache.hset(f"blobs::{LAYER}", "size", "none")
        done(begin(account(), "check", repositories=[]))
        last = LastRun.read(filled)
        assert last is not None
        assert (last.counts, last.places) == ({Kind.CORRUPT: 1}, {Kind.CORRUPT: 3})

    def test_is_no_comparison_unless_the_backend_is_known_to_be_independent(
        self, filled: Provider, settings: LazySettings
    ) -> None:
        truth = {
            "BACKEND": "blobcache.backends.registry.RegistryBackend",
            "OPTIONS": {"url": "http://127.0.0.1:1"},
        }
        settings.BLOBCACHE = {"default": {"TRUTH": truth}}
        done(begin(account(), "check", repositories=[]))
        last = LastRun.read(filled)
        assert last is not None
        assert not last.is_compared

    def test_of_one_repository_is_not_noted(self, filled: Provider) -> None:
        found = done(begin(account(), "check", repositories=[GRANTED]))
        assert "No problems found." in texts.progress_lines(found)
        assert LastRun.read(filled) is None

    def test_counts_only_what_the_user_may_view(
        self, filled: Provider, default_cache: Redis
    ) -> None:
        default_cache.hset(f"blobs::{LAYER}", "size", "many")
        user = account("viewer", "view_repository")
        found = done(begin(user, "check", repositories=[GRANTED]))
        assert found.progress["counts"] == {"corrupt": 1}


class TestRepair:
    def test_repairs_what_is_still_wrong(self, filled: Provider, default_cache: Redis) -> None:
        default_cache.delete(f"blobs::{CONFIG}")
        found = done(begin(account(), "repair", finding="dangling-member", repositories=[]))
        assert found.progress["repaired"] == 1
        assert "1 finding was repaired." in texts.progress_lines(found)
        assert not default_cache.sismember(f"repository::{GRANTED}::blobs", CONFIG)

    def test_of_kinds_that_are_only_reported_is_refused(self, filled: Provider) -> None:
        with pytest.raises(ValueError, match="permission"):
            begin(account(), "repair", finding="storage-damage", repositories=[])


@pytest.mark.parametrize("kind", ["reindex", "sizes"])
def test_work_on_the_index_ends(kind: str, filled: Provider, default_cache: Redis) -> None:
    before = filled.catalog.status().indexed
    default_cache.sadd("repository::new/app::blobs", LAYER)
    done(begin(account(), kind))
    status = filled.catalog.status()
    assert (status.indexed > before) == (kind == "reindex")
    if kind == "reindex":
        assert b"new/app" in filled.catalog.names()[0]
    else:
        assert filled.figures.get(GRANTED).figures is not None


def test_every_reason_has_a_text(filled: Any) -> None:
    codes = ["user", "permission", "read-only", "catalog", "kind", "error"]
    codes += ["redis", "backend", "cursor", "settle", "refused:why"]
    assert all(texts.reason(Job(reason=code)) for code in codes)
    assert texts.reason(Job(reason="")) == ""


def test_a_reason_shows_no_place_of_the_storage_to_everybody() -> None:
    job = Job(reason="refused:There is no /srv/registry.")
    assert texts.reason(job) == "There is no /srv/registry."
    assert "/srv" not in texts.reason(job, shows_place=False)
    job.reason = "refused:Too many."
    assert texts.reason(job, shows_place=False) == "Too many."
