"""A client of a superuser, and a repository for tests."""

from __future__ import annotations

from functools import partial

import pytest
from django.conf import LazySettings
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from redis import Redis

from benchmarks.shapes import A
from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from blobcache.services.catalog import Budgets
from tests.security.worlds import RememberingBackend


@pytest.fixture
def no_sidebar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the list beside each page of the admin, which is that of its index."""
    monkeypatch.setattr(admin.site, "enable_nav_sidebar", False)


@pytest.fixture
def timeless_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no page of the journal be shorter on a busy machine."""
    monkeypatch.setattr("blobcache.journal.reading.Budgets", partial(Budgets, clock=lambda: 0.0))


@pytest.fixture
def client(default_cache: Redis, db: None, no_sidebar: None, settings: LazySettings) -> Client:
    """A client of a superuser, who is read once, with a repository in the cache."""
    RememberingBackend.forget()
    settings.AUTHENTICATION_BACKENDS = [
        settings.AUTHENTICATION_BACKENDS[0],
        "tests.security.worlds.RememberingBackend",
    ]
    get_provider().repository_scoped("team/app").set_descriptor(A, Descriptor(A, 10, "a/b"))
    found = Client(raise_request_exception=False)
    found.force_login(
        User.objects.create(username="boss", is_staff=True, is_superuser=True),
        backend=settings.AUTHENTICATION_BACKENDS[-1],
    )
    return found
