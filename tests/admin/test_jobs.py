"""The pages of jobs: the list, one job, and its steps."""

from __future__ import annotations

import re
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from blobcache.access import Access
from blobcache.digest import Digest
from blobcache.jobs import LEASE, start
from blobcache.models import Job
from tests.admin import addresses
from tests.admin.conftest import GRANTED, HIDDEN, Login
from tests.budgets import limit
from tests.jobs.conftest import elapse, many
from tests.servers import cache_at

__all__ = ["many"]

LIST = addresses.repositories("jobs")
State = Job.State


def page_of(job: Job) -> str:
    return reverse("admin:blobcache_repository_job", args=[job.pk])


def clearing(name: str, digests: list[Digest]) -> Job:
    parameters = {"repository": "many/blobs", "digests": digests}
    access = Access(User.objects.get(username=name))
    return start(access, "clear-blobs", parameters, len(digests), source="admin")


def again(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


@pytest.fixture
def job(admin: Client, many: list[Digest], monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job of the superuser with three steps."""
    limit(monkeypatch, clear=0)
    return clearing("boss", many)


def test_a_get_changes_nothing(job: Job, admin: Client, provider: Any) -> None:
    before = Job.objects.values().get()
    page = admin.get(page_of(job)).content.decode()
    assert "Waiting" in page
    assert 'src="/static/blobcache/job.js"' in page
    admin.get(LIST)
    assert Job.objects.values().get() == before
    assert provider.catalog.members("many/blobs").count == 250


def test_with_the_script_each_request_takes_one_step(job: Job, admin: Client) -> None:
    response = admin.post(page_of(job), {"advance": "yes", "one": "yes"}, follow=True)
    page = response.content.decode()
    assert "100 of 250 blobs are done." in page
    assert re.search(r'<progress max="100" value="40"', page)
    assert 'data-state="running" data-pause="0"' in page


def test_without_the_script_a_press_of_the_button_takes_several(
    job: Job, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blobcache.admin.jobs._SECONDS", 600)
    page = admin.post(page_of(job), {"advance": "yes"}, follow=True).content.decode()
    assert "Done" in page
    assert "Cleared 250 blobs." in page
    assert "job.js" not in page
    assert "Cancel the job" not in page


def test_a_cancelled_job_keeps_what_was_done(job: Job, admin: Client, provider: Any) -> None:
    admin.post(page_of(job), {"one": "yes"})
    page = admin.post(page_of(job), {"cancel": "yes"}, follow=True).content.decode()
    assert "The job was cancelled. What it has already done is not undone." in page
    assert (again(job).state, again(job).progress["cleared"]) == (State.CANCELLED, 100)
    admin.post(page_of(job), {"advance": "yes"})
    assert provider.catalog.members("many/blobs").count == 150


def test_a_job_that_nobody_works_on_says_so(job: Job, admin: Client) -> None:
    hint = "Nobody is working on this job: keep this page open, or run"
    assert hint not in admin.get(page_of(job)).content.decode()
    elapse(job, 11)
    page = admin.get(page_of(job)).content.decode()
    assert hint in page
    assert "manage.py blobcache work" in page
    assert "nobody is working on it" in admin.get(LIST).content.decode()


def test_a_page_beside_a_worker_waits_for_it(job: Job, admin: Client) -> None:
    until = now() + timedelta(seconds=LEASE)
    Job.objects.filter(pk=job.pk).update(state="running", lease="worker", lease_until=until)
    page = admin.post(page_of(job), {"one": "yes"}, follow=True).content.decode()
    assert "A step is being taken now." in page
    assert 'data-pause="2"' in page
    assert again(job).lease == "worker"


def test_a_failure_of_redis_is_shown_with_the_time_of_the_next_try(job: Job, admin: Client) -> None:
    with cache_at("unix:///nowhere/at/all"):
        page = admin.post(page_of(job), {"one": "yes"}, follow=True).content.decode()
    assert "Redis did not answer. The step is tried again." in page
    assert "Not before" in page
    assert again(job).state == State.RUNNING


def test_a_failed_job_says_why(job: Job, admin: Client) -> None:
    Job.objects.filter(pk=job.pk).update(owner="0")
    page = admin.post(page_of(job), {"one": "yes"}, follow=True).content.decode()
    assert "The user who started it was deleted, renamed or deactivated." in page


@pytest.mark.parametrize(
    ("names", "query"),
    [
        ([], ""),
        (["a"], "?repository=a"),
        (["a", "b/c"], "?repository=a&amp;repository=b%2Fc"),
        ([f"many/{number}" for number in range(26)], None),
    ],
)
def test_a_check_leads_to_its_findings_if_they_fit_an_address(
    admin: Client, names: list[str], query: str | None
) -> None:
    access = Access(User.objects.get(username="boss"))
    check = start(access, "check", {"repositories": names}, len(names), source="admin")
    found = {"counts": {"size-mismatch": 2}}
    Job.objects.filter(pk=check.pk).update(state=State.DONE, progress=found)
    page = admin.get(page_of(check)).content.decode()
    address = f"{addresses.repositories('consistency')}{query}"
    assert (f'href="{address}">Show findings' in page) is (query is not None)
    assert ("Show findings" in page) is (query is not None)


class TestWhoSeesIt:
    """A job's id is no secret, and nobody else learns from it whether the job exists."""

    @pytest.fixture
    def own(self, job: Job, login: Login) -> Job:
        login("cleaner", "view_repository", "delete_repository")
        return clearing("cleaner", [Digest(f"sha256:{1:064x}")])

    def test_others_get_the_answer_of_a_job_that_does_not_exist(
        self, own: Job, login: Login
    ) -> None:
        other = login("other", "view_repository", "delete_repository")
        unknown = reverse("admin:blobcache_repository_job", args=[uuid4()])
        for ask in (other.get, other.post):
            answers = [ask(url, follow=False) for url in (page_of(own), unknown)]
            assert [answer.status_code for answer in answers] == [HTTPStatus.NOT_FOUND] * 2
        assert str(own.pk) not in other.get(LIST).content.decode()
        assert again(own).state == State.WAITING

    def test_users_see_and_advance_their_own(self, own: Job, job: Job) -> None:
        client = Client()
        client.force_login(
            User.objects.get(username="cleaner"), "django.contrib.auth.backends.ModelBackend"
        )
        listed = client.get(LIST).content.decode()
        assert str(own.pk) in listed
        assert str(job.pk) not in listed
        client.post(page_of(own), {"one": "yes"})
        assert again(own).state == State.DONE

    def test_who_may_view_everything_sees_all_but_advances_none(
        self, own: Job, viewer: Client
    ) -> None:
        assert str(own.pk) in viewer.get(LIST).content.decode()
        page = viewer.get(page_of(own)).content.decode()
        assert "Cancel the job" not in page
        assert "job.js" not in page
        for button in ("one", "advance", "cancel"):
            answer = viewer.post(page_of(own), {button: "yes"}, follow=True).content.decode()
            assert "Only the user who started this job can continue or cancel it." in answer
        assert again(own).state == State.WAITING

    def test_a_superuser_sees_and_controls_all(self, own: Job, admin: Client) -> None:
        admin.post(page_of(own), {"cancel": "yes"})
        assert again(own).state == State.CANCELLED

    def test_somebody_with_the_key_of_a_deleted_user_sees_nothing(
        self, own: Job, login: Login
    ) -> None:
        heir = login("heir", "view_repository", "delete_repository")
        Job.objects.filter(pk=own.pk).update(owner=str(User.objects.get(username="heir").pk))
        assert heir.get(page_of(own)).status_code == HTTPStatus.NOT_FOUND

    def test_names_that_its_user_may_not_view_any_more_are_not_shown(
        self, filled: Any, login: Login, settings: Any
    ) -> None:
        client = login("cleaner", "view_repository", "delete_repository")
        access = Access(User.objects.get(username="cleaner"))
        names = {"repositories": [GRANTED, HIDDEN]}
        job = start(access, "clear-repositories", names, 2, source="admin")
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.library"}}
        page = client.get(page_of(job)).content.decode()
        assert GRANTED in page
        assert HIDDEN not in page

    def test_anonymous_users_are_sent_to_the_login(self, own: Job) -> None:
        for url in (LIST, page_of(own)):
            assert Client().get(url).status_code == HTTPStatus.FOUND
            assert Client().post(url).status_code == HTTPStatus.FOUND

    def test_a_post_needs_the_token(self, own: Job) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(
            User.objects.get(username="cleaner"), "django.contrib.auth.backends.ModelBackend"
        )
        assert client.post(page_of(own), {"one": "yes"}).status_code == HTTPStatus.FORBIDDEN
        assert again(own).state == State.WAITING


def library(user: object) -> list[str]:
    return ["library/"]


def test_an_empty_list_explains_what_jobs_are(admin: Client, provider: Any) -> None:
    assert "There are no jobs that you may see." in admin.get(LIST).content.decode()


@pytest.mark.parametrize("kind", ["reindex", "sizes"])
def test_the_list_starts_what_needs_no_selection(kind: str, admin: Client) -> None:
    page = admin.get(LIST).content.decode()
    assert f'name="kind" value="{kind}"' in page
    assert not Job.objects.exists()
    response = admin.post(LIST, {"kind": kind})
    job = Job.objects.get()
    assert (job.kind, response.headers["Location"]) == (kind, page_of(job))


def test_who_may_not_view_everything_starts_neither(login: Login) -> None:
    granted = login("granted")
    assert 'name="kind"' not in granted.get(LIST).content.decode()
    for kind in ("reindex", "sizes", "purge", ""):
        assert granted.post(LIST, {"kind": kind}).status_code == HTTPStatus.FOUND
    assert not Job.objects.exists()
