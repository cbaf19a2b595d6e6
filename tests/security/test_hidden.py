"""What depends on all repositories together is only for users who may view every one."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from redis import Redis

from blobcache.services import get_browsable
from tests.admin import addresses
from tests.admin.forms import press
from tests.security.worlds import LOOSE, SECRET, SHARED, Persona, account, fill, ranges

CHECK, REPAIR = addresses.repositories("consistency"), addresses.repositories("repair")
REFRESH = addresses.repositories("refresh")

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def cache(default_cache: Redis, settings: LazySettings) -> Redis:
    """The world with hidden repositories."""
    provider = get_browsable()
    fill(default_cache, provider, has_hidden=True)
    settings.BLOBCACHE = {
        "default": {
            "VISIBLE_REPOSITORIES": f"{ranges.__module__}.{ranges.__qualname__}",
            "REGISTRY_VERSION": 3,  # with version 2 what is in no repository is never repaired
        }
    }
    return default_cache


def client(role: str) -> Client:
    """A client of a user who may view some repositories."""
    found = Client()
    backend = "django.contrib.auth.backends.ModelBackend"
    found.force_login(account(Persona(role, "ranges")), backend=backend)
    return found


def owner() -> Client:
    """A client of a user who may view every repository, without any restriction."""
    found = Client()
    found.force_login(User.objects.create(username="owner", is_staff=True, is_superuser=True))
    return found


def test_no_page_reveals_how_many_bytes_are_shared_with_hidden_repositories(
    settings: LazySettings,
) -> None:
    page = addresses.repository("team/app")
    assert "<h2>Only here</h2>" not in client("setter").get(page).content.decode()
    settings.BLOBCACHE = {"default": {}}
    assert "<h2>Only here</h2>" in owner().get(page).content.decode()


@pytest.mark.parametrize("query", ["", "?o=-bytes", "?count=on"])
def test_no_list_reveals_how_many_hidden_repositories_have_figures(query: str) -> None:
    listing = addresses.repositories() + query
    page = client("setter").get(listing).content.decode()
    assert "There are figures of" not in page
    assert "Calculate all sizes" not in page
    assert "<h2>Memory</h2>" not in page


def test_only_users_who_may_view_everything_can_check_and_index_everything(
    settings: LazySettings,
) -> None:
    purger = client("purger")
    assert purger.get(CHECK).status_code == HTTPStatus.FORBIDDEN
    assert purger.post(REFRESH).status_code == HTTPStatus.FORBIDDEN
    everything = {"kind": "corrupt", "confirmed": "yes"}
    assert purger.post(REPAIR, everything).status_code == HTTPStatus.FORBIDDEN
    settings.BLOBCACHE = {"default": {}}
    assert owner().get(CHECK).status_code == HTTPStatus.OK


@pytest.mark.parametrize("kind", ["orphan-override", "unreferenced"])
def test_kinds_that_need_a_walk_through_everything_are_refused_for_one_repository_too(
    kind: str,
) -> None:
    purger, asked = client("purger"), {"repository": "team/app", "kind": kind}
    assert purger.get(CHECK, {"repository": "team/app"}).status_code == HTTPStatus.OK
    assert purger.get(CHECK, asked).status_code == HTTPStatus.FORBIDDEN
    assert purger.post(REPAIR, asked).status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("digest", [LOOSE, SECRET])
def test_no_repair_reveals_whether_a_hidden_repository_holds_a_blob(
    digest: str, cache: Redis
) -> None:
    finding = f"unreferenced/blob//{digest}"
    data = {"repository": "team/app", "finding": finding, "confirmed": "yes"}
    page = client("purger").post(REPAIR, data, follow=True).content.decode()
    assert "Select at least one finding that you may repair" in page
    assert cache.exists(f"blobs::{digest}")


def test_a_purge_counts_names_and_records_only_what_its_user_may_view(cache: Redis) -> None:
    purger = client("purger")
    url = addresses.blob(SHARED, "purge")
    asked = purger.get(url)
    assert "Only repositories that you may view are listed below." in asked.content.decode()
    page = press(purger, url, asked).content.decode()
    assert "Purged the blob everywhere. 3 repositories that you may view held it." in page
    assert not cache.sismember("repository::secret/vault::blobs", SHARED)
    names = set(LogEntry.objects.values_list("object_id", flat=True))
    assert names == {"team/app", "team/b", "team/junk", SHARED}
    assert "secret" not in purger.get("/admin/").content.decode()
