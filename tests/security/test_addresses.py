"""A page does not repeat a long address in every row."""

from __future__ import annotations

import pytest
from django.test import Client
from redis import Redis

from blobcache.services import get_provider
from tests.admin import addresses
from tests.api.conftest import DIGEST, user
from tests.conformance import make_descriptor

REPOSITORIES = 100


@pytest.fixture
def admin(db: None, default_cache: Redis) -> Client:
    """A superuser's browser, and a page full of repositories."""
    provider = get_provider()
    for number in range(REPOSITORIES):
        provider.repository_scoped(f"team/{number}").set_descriptor(DIGEST, make_descriptor(DIGEST))
    provider.catalog.reindex()  # type: ignore[attr-defined]
    superuser = user("superuser")
    superuser.is_staff = True
    superuser.save()
    client = Client()
    client.force_login(superuser, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.parametrize("name", ["x", "o", "type", "_changelist_filters"])
def test_the_list_of_repositories_repeats_its_address_only_a_few_times(
    admin: Client, name: str
) -> None:
    short = admin.get(addresses.repositories()).content
    assert short.count(b"/change/") >= REPOSITORIES
    value = "%" * 2500  # three times as long in an address
    long = admin.get(addresses.repositories(), {name: value}).content
    assert long.count(b"/change/") >= REPOSITORIES
    assert len(long) - len(short) < 30 * 3 * len(value)
    assert len(long) < 1_000_000


def test_a_row_still_leads_back_to_the_list_with_its_parameters(admin: Client) -> None:
    page = admin.get(addresses.repositories(), {"q": "team/", "o": "-blobs"}).content.decode()
    assert page.count("_changelist_filters=q%3Dteam%252F%26o%3D-blobs") >= REPOSITORIES
