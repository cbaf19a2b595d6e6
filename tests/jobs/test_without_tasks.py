"""`JOB_TASKS` with Django 5.2, which has no tasks."""

from __future__ import annotations

import pytest
from django.conf import LazySettings
from django.test import override_settings
from redis import Redis

from blobcache.checks import check_portal
from tests.jobs.conftest import account, begin, finish

PORTAL = {"JOB_TASKS": "default"}


def test_a_check_says_which_version_has_tasks() -> None:
    with override_settings(BLOBCACHE_PORTAL=PORTAL):
        (message,) = check_portal()
    assert message.id == "blobcache.E220"
    assert "but Django 5.2" in message.msg
    assert "Django 6.0 or newer" in str(message.hint)


@pytest.mark.django_db(transaction=True)
def test_a_job_starts_and_ends_without_them(
    default_cache: Redis, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.BLOBCACHE_PORTAL = PORTAL
    job = begin(account(), "sizes")
    assert f"The job {job.pk} could not be handed over to a task." in caplog.text
    assert finish(job) == 1
