"""Tasks of Django 6.0 take the steps of jobs: one chain a job, which survives a killed worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import transaction
from django.tasks import task_backends
from django.test import Client, override_settings
from django.urls import reverse
from django.utils.timezone import now
from redis import Redis

from blobcache.checks import check_portal
from blobcache.digest import Digest
from blobcache.jobs import LEASE, advance, cancel, driver, tasks
from blobcache.jobs.background import IDLE
from blobcache.models import Job
from tests.budgets import limit
from tests.jobs.conftest import account, begin, elapse
from tests.jobs.queues import Queue

pytestmark = pytest.mark.django_db(transaction=True)

State = Job.State

PORTAL = {"JOB_TASKS": "slow", "JOB_TASKS_QUEUE": "jobs"}


def backends(name: str) -> dict[str, Any]:
    return {"slow": {"BACKEND": f"tests.jobs.queues.{name}", "QUEUES": ["jobs"]}}


@pytest.fixture
def queue(settings: LazySettings, default_cache: Redis) -> Queue:
    """The queue that jobs are given to. It can defer tasks."""
    settings.TASKS = backends("DeferringQueue")
    settings.BLOBCACHE_PORTAL = PORTAL
    found = task_backends["slow"]
    assert isinstance(found, Queue)
    return found


@pytest.fixture
def plain(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """The queue, which cannot defer tasks now."""
    monkeypatch.setattr(queue, "supports_defer", False, raising=False)
    return queue


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task takes one step, each step of clearing clears a hundred blobs."""
    limit(monkeypatch, clear=0)
    monkeypatch.setattr(tasks, "SECONDS", 0)


def clearing(user: User, digests: list[Digest]) -> Job:
    return begin(user, "clear-blobs", len(digests), repository="many/blobs", digests=digests)


def again(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def killed(_job: Job) -> Any:
    """Instead of a step: nothing more is done, as if the process had been killed."""
    raise SystemExit


def run_all(queue: Queue, most: int = 100) -> int:
    """Run what is ready until nothing is; return how many tasks that were."""
    for count in range(most):
        if not queue.ready:
            return count
        queue.take().run()
    raise AssertionError("The tasks do not end.")


def test_a_job_is_given_to_a_task_when_it_is_started(queue: Queue) -> None:
    job = begin(account(), "sizes")
    (task,) = queue.tasks
    assert (task.path, task.queue_name) == ("blobcache.jobs.tasks.advance_job", "jobs")
    assert (again(job).state, task.wait) == (State.WAITING, 0)


def test_without_the_setting_nothing_is_given_to_a_task(
    queue: Queue, settings: LazySettings
) -> None:
    settings.BLOBCACHE_PORTAL = {}
    begin(account(), "sizes")
    assert queue.tasks == []


def test_a_job_is_not_given_to_a_task_before_the_transaction_ends(queue: Queue) -> None:
    user = account()
    with transaction.atomic():
        begin(user, "sizes")
        assert queue.tasks == []
    assert len(queue.tasks) == 1
    with transaction.atomic():
        begin(user, "sizes")
        transaction.set_rollback(True)
    assert len(queue.tasks) == 1


def test_tasks_follow_one_another_until_the_job_has_ended(
    queue: Queue, many: list[Digest], short: None
) -> None:
    job = clearing(account(), many)
    queue.take().run()
    assert (again(job).state, again(job).progress["done"]) == (State.RUNNING, 100)
    assert len(queue.ready) == 1
    assert run_all(queue) == 2
    assert (again(job).state, again(job).progress["done"]) == (State.DONE, 250)


def test_one_task_takes_all_the_steps_that_it_has_time_for(
    queue: Queue, many: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, clear=0)
    job = clearing(account(), many)
    assert run_all(queue) == 1
    assert again(job).state == State.DONE


def test_the_copy_of_a_task_that_has_ended_does_nothing(
    queue: Queue, many: list[Digest], short: None
) -> None:
    job = clearing(account(), many)
    queue.take().run()
    (copy,) = queue.deferred
    assert copy.wait > LEASE
    before = list(queue.tasks)
    copy.run()
    assert again(job).progress["done"] == 100
    assert queue.tasks == before


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_the_copy_of_the_last_task_puts_no_copy_of_its_own(
    queue: Queue, many: list[Digest], is_cancelled: bool
) -> None:
    """Otherwise one copy would follow another for ever."""
    job = clearing(account(), many)
    if is_cancelled:
        task = queue.take()
        queue.tasks.append(task._replace(run_after=now() + timedelta(minutes=1)))
        cancel(job.pk)
    else:
        run_all(queue)
    assert not again(job).is_open
    (copy,) = queue.deferred
    queue.tasks.clear()
    copy.run()
    assert queue.tasks == []


def test_a_task_without_a_token_takes_no_step_of_a_job_that_was_not_handed_over(
    queue: Queue, many: list[Digest], short: None
) -> None:
    job = clearing(account(), many)
    Job.objects.filter(pk=job.pk).update(task="")
    tasks.advance_job.func(str(job.pk), "")
    assert again(job).state == State.WAITING


def test_the_copy_of_a_task_whose_worker_was_killed_goes_on(
    queue: Queue, many: list[Digest], short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), many)
    with monkeypatch.context() as worker:
        worker.setattr(driver, "_step", killed)
        with pytest.raises(SystemExit):
            queue.take().run()
    (copy,) = queue.deferred
    assert not queue.ready
    elapse(job, LEASE + 1)
    queue.tasks.clear()
    copy.run()
    run_all(queue)
    assert again(job).state == State.DONE


def test_a_step_that_kills_each_worker_ends_the_job(
    queue: Queue, many: list[Digest], short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), many)
    monkeypatch.setattr(driver, "_step", killed)
    task = queue.take()
    for _ in range(driver.MAX_ATTEMPTS):
        with pytest.raises(SystemExit):
            task.run()
        (task,) = queue.deferred
        queue.tasks.clear()
        elapse(job, LEASE + 1)
    task.run()
    assert (again(job).state, again(job).reason) == (State.FAILED, "killed")
    assert not queue.ready


def test_a_task_that_is_delivered_twice_has_one_successor(
    queue: Queue, many: list[Digest], short: None
) -> None:
    job = clearing(account(), many)
    task = queue.take()
    task.run()
    task.run()
    assert again(job).progress["done"] == 100
    assert len(queue.ready) == 1


def test_a_step_that_another_driver_takes_is_not_taken_twice(
    queue: Queue, many: list[Digest], short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clearing(account(), many)
    task, tried = queue.take(), list[str]()
    whole = driver._step

    def step(of: Job) -> Any:
        if not tried:
            tried.append(of.cursor)
            task.run()
        return whole(of)

    monkeypatch.setattr(driver, "_step", step)
    assert advance(job.pk)
    assert again(job).progress["done"] == 100
    (_copy, following) = sorted(queue.deferred, key=lambda each: -each.wait)
    assert 0 < following.wait <= 10


def test_the_permissions_of_today_count_in_a_task(queue: Queue, many: list[Digest]) -> None:
    user = account()
    job = clearing(user, many)
    User.objects.filter(pk=user.pk).update(is_superuser=False)
    run_all(queue)
    assert (again(job).state, again(job).reason) == (State.FAILED, "permission")


def test_a_job_that_was_cancelled_or_deleted_is_left_alone(
    queue: Queue, many: list[Digest], short: None
) -> None:
    user = account()
    cancelled, deleted = clearing(user, many), clearing(user, many)
    cancel(cancelled.pk)
    deleted.delete()
    assert run_all(queue) == 2
    assert again(cancelled).progress == {}


def test_a_task_is_deferred_until_the_next_step_may_be_taken(
    queue: Queue, many: list[Digest], short: None
) -> None:
    job = clearing(account(), many)
    Job.objects.filter(pk=job.pk).update(not_before=now() + timedelta(days=1))
    queue.take().run()
    assert not queue.ready
    assert max(each.wait for each in queue.deferred) > 86_000


class TestQueuesThatCannotDefer:
    def test_tasks_follow_one_another_until_the_job_has_ended(
        self, plain: Queue, many: list[Digest], short: None
    ) -> None:
        job = clearing(account(), many)
        assert run_all(plain) == 3
        assert again(job).state == State.DONE
        assert plain.tasks == []

    def test_a_task_waits_for_a_limited_time(
        self, plain: Queue, many: list[Digest], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = clearing(account(), many)
        Job.objects.filter(pk=job.pk).update(not_before=now() + timedelta(days=1))
        clock = [0.0]
        monkeypatch.setattr(tasks, "monotonic", lambda: clock[0])
        monkeypatch.setattr(
            tasks, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds)
        )
        plain.take().run()
        assert clock == [tasks.SECONDS]
        assert len(plain.tasks) == 1
        assert again(job).state == State.WAITING


class TestBrokenQueues:
    def test_a_job_is_started_without_it(
        self,
        queue: Queue,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(queue, "room", 0)
        job = begin(account(), "sizes")
        assert f"The job {job.pk} could not be handed over to a task." in caplog.text
        assert again(job).state == State.WAITING

    def test_the_copy_goes_on_if_no_task_could_follow(
        self, queue: Queue, many: list[Digest], short: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = clearing(account(), many)
        task = queue.take()
        monkeypatch.setattr(queue, "room", 1)
        with pytest.raises(ConnectionError):
            task.run()
        monkeypatch.setattr(queue, "room", None)
        assert not queue.ready
        (copy,) = queue.deferred
        queue.tasks.clear()
        copy.run()
        run_all(queue)
        assert again(job).state == State.DONE


class TestLostTasks:
    @pytest.fixture
    def lost(self, queue: Queue, many: list[Digest], short: None) -> Job:
        """A job whose task is lost."""
        job = clearing(account(), many)
        queue.tasks.clear()
        return job

    @pytest.mark.parametrize("form", [{"one": "yes"}, {"advance": "yes"}])
    def test_the_page_gives_the_job_to_another_one(
        self, lost: Job, queue: Queue, form: dict[str, str]
    ) -> None:
        client = client_of(User.objects.get())
        url = reverse("admin:blobcache_repository_job", args=[lost.pk])
        client.post(url, {"one": "yes"})
        assert queue.tasks == []  # it was worked on just now
        elapse(lost, IDLE + 1)
        client.get(url)
        assert queue.tasks == []
        client.post(url, form)
        assert len(queue.tasks) == 1
        run_all(queue)
        assert again(lost).state == State.DONE

    def test_a_step_of_the_api_does(self, lost: Job, queue: Queue) -> None:
        elapse(lost, IDLE + 1)
        url = f"/api/jobs/{lost.pk}/step/"
        assert client_of(User.objects.get()).post(url).status_code == 200
        assert len(queue.tasks) == 1

    def test_only_for_those_who_may_continue_it(self, lost: Job, queue: Queue) -> None:
        elapse(lost, IDLE + 1)
        client = client_of(account("viewer", "view_blob", "view_repository"))
        client.post(reverse("admin:blobcache_repository_job", args=[lost.pk]), {"one": "yes"})
        assert queue.tasks == []

    def test_an_old_task_that_was_only_late_does_nothing(
        self, queue: Queue, many: list[Digest], short: None
    ) -> None:
        user = account()
        job = clearing(user, many)
        late = queue.take()
        elapse(job, IDLE + 1)
        client_of(user).post(
            reverse("admin:blobcache_repository_job", args=[job.pk]), {"one": "yes"}
        )
        late.run()
        assert again(job).progress["done"] == 100
        assert len(queue.tasks) == 1


class TestChecks:
    @pytest.fixture(autouse=True)
    def configured(self, settings: LazySettings) -> None:
        settings.TASKS = backends("Queue")

    def test_valid_settings_cause_no_message(self) -> None:
        with override_settings(BLOBCACHE_PORTAL=PORTAL):
            assert check_portal() == []

    def test_e221_there_is_no_such_backend(self) -> None:
        with override_settings(BLOBCACHE_PORTAL={"JOB_TASKS": "fast"}):
            (message,) = check_portal()
        assert message.id == "blobcache.E221"
        assert str(message.hint).endswith("there is 'slow'.")

    @pytest.mark.parametrize("wrong", [{"BACKEND": "nowhere.Backend"}, {}])
    def test_e221_the_backend_cannot_be_made(self, wrong: dict[str, str]) -> None:
        with override_settings(BLOBCACHE_PORTAL=PORTAL, TASKS={"slow": wrong}):
            assert [message.id for message in check_portal()] == ["blobcache.E221"]

    def test_e222_the_backend_has_no_such_queue(self) -> None:
        with override_settings(BLOBCACHE_PORTAL={"JOB_TASKS": "slow"}):
            (message,) = check_portal()
        assert message.id == "blobcache.E222"
        assert message.hint == "It should be one of 'jobs'."

    @pytest.mark.parametrize("name", ["immediate.Immediate", "dummy.Dummy"])
    def test_w220_the_backend_runs_nothing_in_the_background(
        self, name: str, many: list[Digest]
    ) -> None:
        backend = {"BACKEND": f"django.tasks.backends.{name}Backend"}
        with override_settings(
            BLOBCACHE_PORTAL={"JOB_TASKS": "default"}, TASKS={"default": backend}
        ):
            assert [message.id for message in check_portal()] == ["blobcache.W220"]
            assert again(clearing(account(), many)).state == State.WAITING
