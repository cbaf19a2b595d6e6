"""The driver: one step at a time, by one driver at a time, with the permissions of today."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError, connection
from django.utils.timezone import now
from redis import Redis

from blobcache.access import Access
from blobcache.digest import Digest
from blobcache.jobs import (
    KINDS,
    LEASE,
    MAX_OPEN,
    JobRefused,
    advance,
    cancel,
    driver,
    due,
    prune,
    start,
    texts,
)
from blobcache.jobs.kinds import Run, SizesJob, Step
from blobcache.models import Job
from project import embedded
from tests.budgets import limit
from tests.jobs.conftest import account, begin, elapse, finish
from tests.servers import cache_at

pytestmark = pytest.mark.django_db

State = Job.State


@pytest.fixture
def slow(many: list[Digest], monkeypatch: pytest.MonkeyPatch) -> list[Digest]:
    """The blobs; each step of clearing takes a hundred."""
    limit(monkeypatch, clear=0)
    return many


def clearing(user: User, digests: list[Digest]) -> Job:
    return begin(user, "clear-blobs", len(digests), repository="many/blobs", digests=digests)


def again(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def test_nothing_is_done_before_somebody_advances_it(slow: list[Digest], provider: Any) -> None:
    job = clearing(account(), slow)
    assert (job.state, job.registry, job.actor) == (State.WAITING, "default", "boss")
    assert provider.catalog.members("many/blobs").count == 250


def test_each_step_does_a_part_and_the_last_one_ends_it(slow: list[Digest], provider: Any) -> None:
    job = clearing(account(), slow)
    assert advance(job.pk)
    first = again(job)
    assert (first.state, first.progress) == (State.RUNNING, {"done": 100, "cleared": 100})
    assert provider.catalog.members("many/blobs").count == 150
    assert finish(job) == 2
    last = again(job)
    assert (last.state, last.progress) == (State.DONE, {"done": 250, "cleared": 250})
    assert last.ended_at is not None
    assert (last.lease, last.lease_until) == ("", None)
    assert not advance(job.pk)


def test_of_two_drivers_only_one_takes_a_step(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), slow)
    tried = []

    def step(self: Any, run: Run) -> Step:
        tried.append(advance(job.pk))  # a second driver, in the middle of the first one's step
        return Step("1", {})

    monkeypatch.setattr(type(KINDS["clear-blobs"]), "step", step)
    assert advance(job.pk)
    assert tried == [False]
    assert again(job).cursor == "1"


@pytest.mark.django_db(transaction=True)
def test_drivers_in_several_threads_take_each_step_once(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite" and "mode=memory" in str(connection.settings_dict["NAME"]):
        threads = 1  # one connection, which threads share
    else:
        threads = 4
    job = begin(account(), "sizes")
    steps: list[str] = []

    def step(self: Any, run: Run) -> Step:
        steps.append(run.cursor)
        return Step(str(len(steps)), {})

    monkeypatch.setattr(SizesJob, "step", step)
    barrier = Barrier(threads)

    def drive() -> None:
        barrier.wait()
        for _ in range(5):
            advance(job.pk)
        connection.close()

    if threads == 1:
        drive()
    else:
        running = [Thread(target=drive) for _ in range(threads)]
        for each in running:
            each.start()
        for each in running:
            each.join()
    assert len(steps) == len(set(steps))


def test_the_lease_of_a_killed_driver_expires_and_the_next_one_goes_on(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), slow)

    class Killed(BaseException):
        pass

    def step(self: Any, run: Run) -> Step:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(type(KINDS["clear-blobs"]), "step", step)
        with pytest.raises(Killed):
            advance(job.pk)
    assert not advance(job.pk)
    assert not due().exists()
    elapse(job, LEASE + 1)
    assert due().count() == 1
    finish(job)
    assert again(job).progress["cleared"] == 250


def test_a_driver_whose_lease_has_expired_stores_nothing(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), slow)
    steps = iter(["late", "in time"])

    def step(self: Any, run: Run) -> Step:
        text = next(steps)
        if text == "late":
            elapse(job, LEASE + 1)
            assert advance(job.pk)
        return Step(text, {"by": text})

    monkeypatch.setattr(type(KINDS["clear-blobs"]), "step", step)
    assert advance(job.pk)
    assert (again(job).cursor, again(job).progress) == ("in time", {"by": "in time"})


def test_of_two_drivers_at_one_step_the_first_that_ends_it_counts(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a job whose steps take longer than a lease would never get any further."""
    job = clearing(account(), slow)

    def step(self: Any, run: Run) -> Step:
        Job.objects.filter(pk=job.pk).update(lease="of another driver")
        return Step("slow", {"by": "slow"})

    claimed = again(job)
    with monkeypatch.context() as patched:
        patched.setattr(type(KINDS["clear-blobs"]), "step", step)
        assert advance(job.pk)
    found = again(job)
    assert (found.cursor, found.progress, found.lease) == ("slow", {"by": "slow"}, "")
    driver._store(claimed, "of another driver", {"cursor": "late", "progress": {"by": "late"}})
    found = again(job)
    assert (found.cursor, found.progress) == ("slow", {"by": "slow"})


def test_a_job_that_is_cancelled_during_a_step_stays_cancelled_and_keeps_what_was_done(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), slow)
    original = type(KINDS["clear-blobs"]).step

    def step(self: Any, run: Run) -> Step:
        assert cancel(job.pk)
        return original(self, run)

    monkeypatch.setattr(type(KINDS["clear-blobs"]), "step", step)
    assert advance(job.pk)
    found = again(job)
    assert (found.state, found.progress["cleared"], found.lease) == (State.CANCELLED, 100, "")
    assert not cancel(job.pk)
    assert not advance(job.pk)


# Who may do it is asked again in each step


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda user: user.delete(), "user"),
        (lambda user: User.objects.filter(pk=user.pk).update(is_active=False), "user"),
        (lambda user: User.objects.filter(pk=user.pk).update(username="other"), "user"),
        (lambda user: user.user_permissions.clear(), "permission"),
    ],
)
def test_a_job_stops_when_its_user_may_not_do_it_any_more(
    change: Callable[[User], object], reason: str, slow: list[Digest], provider: Any
) -> None:
    user = account("cleaner", "view_repository", "delete_repository")
    job = clearing(user, slow)
    assert advance(job.pk)
    change(user)
    assert advance(job.pk)
    assert (again(job).state, again(job).reason) == (State.FAILED, reason)
    assert provider.catalog.members("many/blobs").count == 150
    assert not advance(job.pk)


def team(user: object) -> list[str]:
    return ["team/"]


def test_a_job_stops_when_its_user_may_not_see_the_repository_any_more(
    slow: list[Digest], settings: LazySettings
) -> None:
    job = clearing(account(), slow)
    settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.team"}}
    assert advance(job.pk)
    assert (again(job).state, again(job).reason) == (State.FAILED, "permission")


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_starts_what_they_may_not_do(kind: str, many: list[Digest]) -> None:
    parameters: dict[str, Any] = {
        "repository": "many/blobs",
        "repositories": ["many/blobs"],
        "digests": [],
        "finding": "corrupt",
    }
    with pytest.raises(JobRefused, match="permission"):
        begin(account("nobody", "view_blob"), kind, 1, **parameters)
    with pytest.raises(JobRefused, match="Only a user"):
        start(Access(AnonymousUser()), kind, parameters, 1, source="test")
    assert not Job.objects.exists()


def test_a_user_has_only_so_many_unfinished_jobs(default_cache: Redis) -> None:
    user = account()
    for _ in range(MAX_OPEN):
        last = begin(user, "sizes")
    with pytest.raises(JobRefused, match=f"{MAX_OPEN} unfinished jobs"):
        begin(user, "sizes")
    cancel(last.pk)
    begin(user, "sizes")


def test_changes_are_attributed_to_the_user_who_started_it(
    slow: list[Digest], caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("blobcache.audit").addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "blobcache.audit")
    finish(clearing(account(), slow[:2]))
    logging.getLogger("blobcache.audit").removeHandler(caplog.handler)
    assert caplog.text.count("actor='boss' source='job'") == 2
    assert [entry.user.get_username() for entry in LogEntry.objects.all()] == ["boss"] * 2


# Trouble


def test_a_step_that_redis_fails_is_tried_again_later_and_later(
    slow: list[Digest], valkey: embedded.Server
) -> None:
    job = clearing(account(), slow)
    with cache_at("unix:///nowhere/at/all"):
        waits = []
        for _ in range(12):
            before = now()
            assert advance(job.pk)
            found = again(job)
            assert (found.state, found.reason, found.lease) == (State.RUNNING, "redis", "")
            assert found.not_before is not None
            waits.append(round((found.not_before - before).total_seconds()))
            assert not advance(job.pk)
            assert not due().exists()
            elapse(job, waits[-1] + 1)
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]


def test_a_step_that_succeeds_ends_the_trouble(slow: list[Digest], valkey: embedded.Server) -> None:
    job = clearing(account(), slow)
    with cache_at("unix:///nowhere/at/all"):
        assert advance(job.pk)
    elapse(job, 10)
    with cache_at(valkey.url):
        assert advance(job.pk)
    found = again(job)
    assert (found.failures, found.reason, found.not_before) == (0, "", None)


def test_a_read_only_registry_ends_it(
    slow: list[Digest], valkey: embedded.Server, settings: LazySettings
) -> None:
    job = clearing(account(), slow)
    settings.BLOBCACHE = {"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}}
    with cache_at(valkey.url, "index"):
        assert advance(job.pk)
    assert (again(job).state, again(job).reason) == (State.FAILED, "read-only")


def test_an_error_of_the_code_ends_it_and_is_logged(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = clearing(account(), slow)

    def step(self: Any, run: Run) -> Step:
        raise ZeroDivisionError

    monkeypatch.setattr(type(KINDS["clear-blobs"]), "step", step)
    assert advance(job.pk)
    assert (again(job).state, again(job).reason) == (State.FAILED, "error")
    assert "ZeroDivisionError" in caplog.text


def test_a_kind_that_is_not_known_any_more_ends_it(default_cache: Redis) -> None:
    job = begin(account(), "sizes")
    Job.objects.filter(pk=job.pk).update(kind="of-old")
    assert advance(job.pk)
    assert (again(job).state, again(job).reason) == (State.FAILED, "kind")


def test_a_job_that_is_not_there_is_not_advanced(db: None) -> None:
    assert not advance(uuid4())
    assert not cancel(uuid4())


def test_those_that_waited_longest_come_first(default_cache: Redis) -> None:
    first, second = begin(account(), "sizes"), begin(account("two"), "sizes")
    assert [job.pk for job in due()] == [first.pk, second.pk]
    elapse(second, 100)
    assert [job.pk for job in due()] == [second.pk, first.pk]
    assert not due("other").exists()


def test_a_new_job_deletes_the_old_ones(default_cache: Redis, settings: LazySettings) -> None:
    settings.BLOBCACHE_PORTAL = {"JOB_DAYS": 2}
    user = account()
    old, young = begin(user, "sizes"), begin(user, "sizes")
    elapse(old, 2 * 86_400 + 10)
    elapse(young, 86_400)
    new = begin(user, "sizes")
    assert set(Job.objects.all()) == {young, new}


def test_old_jobs_are_pruned_but_not_while_a_driver_is_at_one(default_cache: Redis) -> None:
    old, busy, _ = (begin(account(name), "sizes") for name in ("a", "b", "c"))
    elapse(old, 10_000)
    elapse(busy, 10_000)
    Job.objects.filter(pk=busy.pk).update(lease="x", lease_until=now() + timedelta(seconds=60))
    assert prune(now() - timedelta(seconds=5000)) == 1
    assert not Job.objects.filter(pk=old.pk).exists()
    assert Job.objects.count() == 2


# Other trouble


def test_a_step_that_the_database_fails_is_taken_again_later(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch, provider: Any
) -> None:
    job = clearing(account(), slow)

    def get_user(*_: object, **__: object) -> None:
        raise OperationalError("database is locked")

    with monkeypatch.context() as broken:
        broken.setattr(User._default_manager, "get", get_user)
        with pytest.raises(OperationalError):
            advance(job.pk)
    assert again(job).state == State.RUNNING
    elapse(job, LEASE + 1)
    assert finish(job) == 3
    assert again(job).state == State.DONE


def test_no_step_is_taken_of_a_job_that_is_cancelled_before_it_begins(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch, provider: Any
) -> None:
    job = clearing(account(), slow)
    get = Job.objects.get

    def cancelled_first(*args: Any, **options: Any) -> Job:
        cancel(job.pk)
        return get(*args, **options)

    monkeypatch.setattr(Job.objects, "get", cancelled_first)
    assert not advance(job.pk)
    monkeypatch.undo()
    assert (again(job).state, again(job).lease) == (State.CANCELLED, "")
    assert provider.catalog.members("many/blobs").count == 250


def test_a_backend_that_cannot_be_made_stops_only_what_needs_it(
    slow: list[Digest], settings: LazySettings
) -> None:
    boss = account()
    settings.BLOBCACHE = {"default": {"TRUTH": {"BACKEND": "nowhere.Backend", "OPTIONS": {}}}}
    clearing_job = clearing(boss, slow)
    finish(clearing_job)
    assert again(clearing_job).state == State.DONE
    check = begin(boss, "check", repositories=[])
    assert advance(check.pk)
    assert (again(check).state, again(check).reason) == (State.RUNNING, "backend")


def test_a_step_that_kills_its_process_is_not_begun_forever(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), slow)
    begun = []

    def step(self: Any, run: Run) -> Step:
        begun.append(run.cursor)
        raise SystemExit  # as if the process had been killed: nothing is stored

    monkeypatch.setattr(type(KINDS["clear-blobs"]), "step", step)
    for _ in range(driver.MAX_ATTEMPTS):
        with pytest.raises(SystemExit):
            advance(job.pk)
        assert again(job).state == State.RUNNING
        elapse(job, LEASE + 1)
    assert advance(job.pk)
    failed = again(job)
    assert (failed.state, failed.reason) == (State.FAILED, "killed")
    assert failed.ended_at is not None
    assert len(begun) == driver.MAX_ATTEMPTS
    assert "attempts" in texts.reason(failed)


def test_attempts_are_counted_for_each_step_alone(
    slow: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), slow)
    whole = type(KINDS["clear-blobs"]).step
    killed = [True, True, False] * 10

    def step(self: Any, run: Run) -> Step:
        if killed.pop(0):
            raise SystemExit
        return whole(self, run)

    monkeypatch.setattr(type(KINDS["clear-blobs"]), "step", step)
    for _ in range(9):
        try:
            advance(job.pk)
        except SystemExit:
            elapse(job, LEASE + 1)
    assert again(job).state == State.DONE
