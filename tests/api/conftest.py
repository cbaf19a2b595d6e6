"""A cache with some blobs, and users of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from pytest_django import DjangoDbBlocker
from redis import Redis
from rest_framework.test import APIClient

from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from tests.api import grants
from tests.database import rows

APP, ALIAS = "application/octet-stream", "sha512:" + "e" * 128
DIGEST, OTHER, UNKNOWN = ("sha256:" + char * 64 for char in "abc")

As: TypeAlias = Callable[[str], APIClient]

PERSONAS = (
    "anonymous",
    "nobody",
    "viewer",
    "changer",
    "editor",
    "deleter",
    "cleaner",
    "granted",
    "superuser",
)

_PERMISSIONS = {
    "viewer": "view",
    "changer": "change",
    "editor": "view|change",
    "deleter": "delete",
    "cleaner": "view|delete",
}


@pytest.fixture(autouse=True)
def portal(settings: LazySettings) -> None:
    """The API at /api/, an authentication backend that grants by repository."""
    settings.ROOT_URLCONF = "tests.api.urls"
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        "tests.api.grants.GrantBackend",
    ]
    grants.asked.clear()


@pytest.fixture(scope="module")
def users(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The users of each kind, which are made once for all tests of a module."""
    with rows(django_db_blocker, lambda: [user(each) for each in PERSONAS if each != "anonymous"]):
        yield


@pytest.fixture
def as_(users: None, db: None) -> As:
    """Return a client of the user with this name."""

    def client(persona: str) -> APIClient:
        found = APIClient()
        if persona != "anonymous":
            found.force_authenticate(user(persona))
        return found

    return client


def user(persona: str) -> User:
    """Return the user of that name, with the permissions of this kind of user."""
    found, is_new = User.objects.get_or_create(
        username=persona, defaults={"is_superuser": persona == "superuser"}
    )
    if is_new and persona in _PERMISSIONS:
        found.user_permissions.set(
            Permission.objects.filter(
                content_type__app_label="blobcache",
                codename__regex=f"^({_PERMISSIONS[persona]})_",
            )
        )
    return found


@pytest.fixture
def superuser(as_: As) -> APIClient:
    return as_("superuser")


def fill() -> None:
    """Write one blob in two repositories and globally."""
    provider = get_provider()
    for name in ("team/app", "other/app"):
        provider.repository_scoped(name).set_descriptor(DIGEST, Descriptor(DIGEST, 10, APP))


@pytest.fixture
def filled(default_cache: Redis) -> Redis:
    """A cache with one blob in two repositories and globally."""
    fill()
    return default_cache
