"""Users of the admin's tests, and a cache with many blobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django
import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import F

from blobcache.access import Access
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.jobs import advance, start
from blobcache.models import Job
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin.conftest import (
    CONFIG,
    GRANTED,
    HIDDEN,
    LAYER,
    Login,
    admin,
    filled,
    login,
    provider,
    text,
    viewer,
)

__all__ = [
    "CONFIG",
    "GRANTED",
    "HIDDEN",
    "LAYER",
    "Login",
    "account",
    "admin",
    "begin",
    "elapse",
    "filled",
    "finish",
    "login",
    "many",
    "provider",
    "text",
    "viewer",
]

APP = "application/octet-stream"

collect_ignore = ["test_tasks.py" if django.VERSION < (6, 0) else "test_without_tasks.py"]
"""Each version of Django has tests of its own: tasks came with 6.0."""


def account(name: str = "boss", *permissions: str) -> User:
    """Return a user with these permissions; without any, a superuser."""
    user = User.objects.create(username=name, is_staff=True, is_superuser=not permissions)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=permissions, content_type__app_label="blobcache")
    )
    return user


def begin(user: User, kind: str, size: int = 1, **parameters: Any) -> Job:
    """Start a job as the user."""
    return start(Access(user), kind, parameters, size, source="test")


def finish(job: Job, most: int = 1000) -> int:
    """Advance the job until it has ended; return how many steps that took."""
    for steps in range(most):
        job.refresh_from_db()
        if not job.is_open:
            return steps
        assert advance(job.pk)
    raise AssertionError("The job does not end.")


def elapse(job: Job, seconds: float) -> None:
    """Let the job's times be so long ago."""
    ago = timedelta(seconds=seconds)
    Job.objects.filter(pk=job.pk).update(
        lease_until=F("lease_until") - ago,
        not_before=F("not_before") - ago,
        changed_at=F("changed_at") - ago,
    )


@pytest.fixture
def many(provider: RedisBlobDescriptorCacheProvider) -> list[Digest]:
    """250 blobs in the repository `many/blobs`."""
    digests = [Digest(f"sha256:{number:064x}") for number in range(250)]
    service = provider.repository_scoped("many/blobs")
    for digest in digests:
        service.set_descriptor(digest, Descriptor(digest, 1, APP))
    provider.catalog.reindex()
    return digests
