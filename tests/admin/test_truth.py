"""What a blob's and a repository's page show of the storage, on request."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html import unescape
from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.test import Client, override_settings

from blobcache.backends.storage import StorageBackend
from blobcache.services import get_lookups
from blobcache.services.lookups import Limits
from blobcache.services.truth import Answer
from tests.admin import addresses
from tests.admin.conftest import GRANTED, Login
from tests.admin.test_storage_check import world
from tests.backends.cases import data, digest_of, layer_link
from tests.doctor.test_truth import World

__all__ = ["world"]

Text = Callable[[Any], str]

ASK = {"truth": "on"}


def shown(page: str) -> list[str]:
    """The words about the storage, in the order of the page."""
    return re.findall(r'<span class="bc-badge bc-\w+">(present|absent|unknown)</span>', page)


def use(backend: str, **entry: object) -> override_settings:
    """Use another backend of this module."""
    Counted.asked.clear()
    truth = {"BACKEND": f"{__name__}.{backend}", "OPTIONS": {}}
    return override_settings(BLOBCACHE={"default": {"TRUTH": truth, **entry}})


class Counted(StorageBackend):
    """Counts the questions, and knows nothing."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def __init__(self) -> None:
        """Take no options."""

    @classmethod
    def from_settings(cls, settings: object) -> Counted:
        return cls()

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        self.asked.append((digest, repository))
        raise RuntimeError("broken")


class Partial(Counted):
    """As over HTTP."""

    is_complete = False


class Broken(Counted):
    """Cannot be made."""

    @classmethod
    def from_settings(cls, settings: object) -> Counted:  # type: ignore[override]
        raise ImportError("An extra is missing.")


def test_a_repositorys_page_shows_what_is_stored_only_on_request(
    world: World, admin: Client, text: Text
) -> None:
    good = world.push("team/app", b"good")
    gone = world.push("team/app", b"gone")
    world.remove(layer_link("team/app", gone))
    url = addresses.repository("team/app")
    page = text(admin.get(url))
    assert shown(page) == []
    assert '<a href="?truth=on">Compare with the storage</a>' in page
    page = text(admin.get(url, ASK))
    assert sorted(shown(page)) == ["absent", "present"]
    rows = {each: page[page.index(f'value="{each}"') :].split("</tr>")[0] for each in (good, gone)}
    assert '<span class="bc-badge bc-ok">present</span>' in rows[good]
    assert data(good) in rows[good]
    assert '<span class="bc-badge bc-error">absent</span>' in rows[gone]
    assert "link is missing" in rows[gone]


def test_the_request_is_kept_from_page_to_page(world: World, admin: Client, text: Text) -> None:
    for number in range(3):
        world.push("team/app", b"%d" % number)
    page = unescape(text(admin.get(addresses.repository("team/app"), {**ASK, "q": "sha256"})))
    assert re.search(r'href="\?q=sha256&truth=on&o=-size"|href="\?[^"]*truth=on[^"]*"', page)
    assert '<a href="?q=sha256">Show the cache alone</a>' in page


def test_a_blobs_page_shows_the_data_and_each_repository(
    world: World, admin: Client, text: Text
) -> None:
    digest = world.push("team/app", b"shared")
    world.cache_member("team/other", digest, 5)
    page = text(admin.get(addresses.blob(digest)))
    assert shown(page) == []
    page = text(admin.get(addresses.blob(digest), ASK))
    assert shown(page) == ["present", "present", "absent"]
    assert page.count("This is not the size in the cache.") == 2


def test_a_blob_that_nobody_claims_is_no_error(world: World, admin: Client, text: Text) -> None:
    page = text(admin.get(addresses.blob(digest_of(b"never seen")), ASK))
    assert '<span class="bc-badge bc-info">absent</span>' in page


def test_only_repositories_that_the_user_may_view_are_asked_about(
    world: World, login: Login, text: Text
) -> None:
    digest = world.push("secret/vault", b"shared")
    world.cache_member(GRANTED, digest, 6)
    granted = login("granted")
    page = text(granted.get(addresses.repository(GRANTED), ASK))
    assert shown(page) == ["absent"]
    assert "secret" not in page
    assert granted.get(addresses.blob(digest), ASK).status_code == 403
    page = text(login("blobs", "view_blob").get(addresses.blob(digest), ASK))
    assert shown(page) == ["present"]
    assert "secret" not in page


def test_a_storage_that_is_gone_is_unknown(world: World, admin: Client, text: Text) -> None:
    digest = world.push("team/app", b"0")
    shutil.rmtree(world.root)
    for url in (addresses.repository("team/app"), addresses.blob(digest)):
        page = text(admin.get(url, ASK))
        assert set(shown(page)) == {"unknown"}


@pytest.mark.parametrize(
    ("backend", "entry", "sentence"),
    [
        ("Counted", {}, "The backend raised RuntimeError."),
        ("Broken", {}, "The backend cannot be used: see the system checks."),
        ("Partial", {"PROXY": True}, "A pull-through registry downloads what it is asked for"),
    ],
)
def test_a_backend_that_fails_is_a_sentence_and_no_error_page(
    world: World, admin: Client, text: Text, backend: str, entry: dict[str, object], sentence: str
) -> None:
    digest = world.push("team/app", b"0")
    with use(backend, **entry):
        for url in (addresses.repository("team/app"), addresses.blob(digest)):
            page = text(admin.get(url, ASK))
            assert set(shown(page)) == {"unknown"}
            assert sentence in page
        assert bool(Counted.asked) is (backend == "Counted")


def test_the_page_says_that_the_registry_itself_may_use_this_cache(
    world: World, admin: Client, text: Text
) -> None:
    world.push("team/app", b"0")
    with use("Partial"):
        page = text(admin.get(addresses.repository("team/app"), ASK))
    assert "it may repeat what the cache says" in page


def test_a_backend_that_does_not_answer_in_time_is_unknown(
    world: World, admin: Client, text: Text
) -> None:
    world.push("team/app", b"0")
    lookups = get_lookups()
    assert lookups is not None
    lookups.limits = Limits(patience=0, batch=0)
    page = text(admin.get(addresses.repository("team/app"), ASK))
    assert shown(page) == ["unknown"]
    assert "The backend did not answer in time." in page


def test_only_the_rows_of_the_page_are_asked_about(
    world: World, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        world.push("team/app", b"%d" % number)
    monkeypatch.setattr("blobcache.admin.model_admins._CacheAdmin.list_per_page", 2)
    with use("Counted"):
        admin.get(addresses.repository("team/app"))
        assert Counted.asked == []
        admin.get(addresses.repository("team/app"), ASK)
        assert len(Counted.asked) == 2


def test_without_a_backend_nothing_is_offered(filled: object, admin: Client, text: Text) -> None:
    assert not settings.BLOBCACHE["default"].get("TRUTH")
    page = text(admin.get(addresses.repository(GRANTED), ASK))
    assert "Compare with the storage" not in page
    assert "In the storage" not in page
