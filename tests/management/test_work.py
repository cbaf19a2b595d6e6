"""``work``: a worker takes the steps of jobs."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from django.db import DatabaseError
from redis import Redis

from blobcache.jobs.kinds import Run, SizesJob, Step
from blobcache.models import Job
from tests.jobs.conftest import account, begin, elapse
from tests.management.running import GONE, run
from tests.servers import cache_at

pytestmark = pytest.mark.django_db


def test_works_on_all_jobs_and_writes_how_they_ended(default_cache: Redis) -> None:
    jobs = [begin(account(name), "sizes") for name in ("one", "two")]
    done = run("work", "--once")
    assert (done.code, done.err) == (0, "")
    assert sorted(row[0] for row in done.rows[:2]) == sorted(str(job.pk) for job in jobs)
    assert done.rows[0][1:] == ["sizes", "Done"]
    assert done.rows[2] == ["No job is left."]
    assert set(Job.objects.values_list("state", flat=True)) == {"done"}


def test_takes_turns(default_cache: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def step(self: Any, run: Run) -> Step:
        taken.append(str(run.access.user.get_username()))
        return Step(None if taken.count(taken[-1]) == 3 else "x", {})

    monkeypatch.setattr(SizesJob, "step", step)
    for name in ("one", "two"):
        begin(account(name), "sizes")
    run("work", "--once")
    assert taken == ["one", "two"] * 3


def test_says_what_it_could_not_advance(default_cache: Redis) -> None:
    begin(account(), "sizes")
    with cache_at(GONE):
        done = run("work", "--once")
    assert (done.code, done.out) == (0, "1 job is left. It cannot continue now.\n")


def test_writes_json(default_cache: Redis) -> None:
    job = begin(account(), "sizes")
    (found,) = run("work", "--once", "--json").objects
    assert found == {
        "job": str(job.pk),
        "kind": "sizes",
        "state": "done",
        "reason": "",
        "progress": {"done": 0},
    }


def test_works_only_on_its_registry(default_cache: Redis, settings: Any) -> None:
    settings.BLOBCACHE = {"default": {}, "other": {}}
    begin(account(), "sizes")
    assert run("work", "--once", "--registry", "other").out == "No job is left.\n"
    assert Job.objects.get().state == "waiting"


def test_prune_deletes_old_jobs(default_cache: Redis) -> None:
    old = begin(account("a"), "sizes")
    elapse(old, 31 * 86_400)
    Job.objects.create(registry="default", kind="sizes", owner="1", actor="b", source="test")
    assert run("prune").out.endswith("Deleted 1 old job.\n")
    assert Job.objects.get().actor == "b"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_step(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def step(self: Any, run: Run) -> Step:
        os.kill(os.getpid(), number)
        return Step("next", {"done": 1})

    before = signal.getsignal(number)
    monkeypatch.setattr(SizesJob, "step", step)
    begin(account(), "sizes")
    assert run("work").code == 0
    job = Job.objects.get()
    assert (job.cursor, job.progress, job.lease) == ("next", {"done": 1}, "")
    assert signal.getsignal(number) is before


def test_a_database_that_fails_is_a_failure_for_cron(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr("blobcache.management.work.due", fail)
    done = run("work", "--once")
    assert done.code == 2
    assert "The database failed: gone" in done.err
