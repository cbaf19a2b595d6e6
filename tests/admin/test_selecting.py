"""Work on many rows of a list: all of a filter, as jobs; and what a page says of its limits."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.test import Client
from redis import Redis

from blobcache.digest import Digest
from blobcache.jobs import advance
from blobcache.models import Job, Repository
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, HIDDEN, LAYER, Login
from tests.admin.forms import hidden
from tests.jobs.conftest import finish, many

__all__ = ["many"]

CLEAR = addresses.repository("many/blobs", "clear")
CHECK, REPAIR = addresses.repositories("consistency"), addresses.repositories("repair")
EMPTY = addresses.repositories("empty")


def job() -> Job:
    return Job.objects.get()


class TestAllOfAFilter:
    def test_the_page_offers_it_with_the_number(
        self, many: list[Digest], admin: Client, text: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page = text(admin.get(addresses.repository("many/blobs")))
        assert "Clear all 250 on all pages…" in page
        page = text(admin.get(addresses.repository("many/blobs") + "?state=husk"))
        assert "on all pages" not in page
        site = django_admin.site.get_model_admin(Repository)
        monkeypatch.setattr(site, "list_per_page", 500)
        page = text(admin.get(addresses.repository("many/blobs")))
        assert "on all pages" not in page

    def test_a_confirmation_starts_a_job_for_exactly_these(
        self, many: list[Digest], admin: Client, text: Any, provider: Any, default_cache: Redis
    ) -> None:
        page = admin.post(CLEAR, {"all": "yes", "kept": "q=" + "0" * 62 + "0"})
        assert "Clear 16 blobs" in text(page)
        assert not Job.objects.exists()
        default_cache.sadd("repository::many/blobs::blobs", LAYER)
        admin.post(CLEAR, {**hidden(page), "confirmed": "yes"})
        assert (job().kind, job().size) == ("clear-blobs", 16)
        finish(job())
        left = provider.catalog.members("many/blobs", limit=1000).members
        assert set(left) == {*many[16:], LAYER}

    def test_a_hundred_are_shown_and_the_others_counted(
        self, many: list[Digest], admin: Client, text: Any
    ) -> None:
        page = text(admin.post(CLEAR, {"all": "yes", "kept": ""}))
        assert "Clear 250 blobs" in page
        assert "150 more are not shown." in page

    def test_a_repository_that_is_too_large_is_refused(
        self, many: list[Digest], admin: Client, text: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blobcache.admin.clear_members.MAX_DIGESTS", 100)
        page = text(admin.post(CLEAR, {"all": "yes", "kept": ""}, follow=True))
        assert "at most 100 can be cleared by one job" in page

    def test_of_a_filter_that_shows_nothing_is_refused(
        self, many: list[Digest], admin: Client, text: Any
    ) -> None:
        page = text(admin.post(CLEAR, {"all": "yes", "kept": "state=husk"}, follow=True))
        assert "Select at least one blob to clear." in page
        page = text(admin.post(CLEAR, {"text": "x y", "confirmed": "yes"}, follow=True))
        assert "Select at least one blob to clear." in page
        assert not Job.objects.exists()


def test_selected_blobs_can_be_purged_everywhere(
    filled: Any, admin: Client, login: Login, text: Any
) -> None:
    page = admin.get(addresses.repository(GRANTED)).content.decode()
    assert 'formaction="/admin/blobcache/blob/purge/"' in page
    asked = text(admin.post("/admin/blobcache/blob/purge/", {"digest": [LAYER, CONFIG]}))
    assert "Purge 2 blobs" in asked
    cleaner = login("cleaner", "view_repository", "delete_repository")
    page = cleaner.get(addresses.repository(GRANTED)).content.decode()
    assert "Purge selected everywhere" not in page


def test_a_check_of_nothing_selected_does_not_check_everything(
    filled: Any, admin: Client, text: Any
) -> None:
    response = admin.post(CHECK, {"kept": "o=-bytes"}, follow=True)
    assert response.redirect_chain == [(addresses.repositories(), 302)]
    assert "Select at least one repository to check." in text(response)


def test_a_check_can_be_a_job(filled: Any, admin: Client, viewer: Client) -> None:
    admin.post(CHECK, {"repository": [GRANTED, HIDDEN], "job": "yes"})
    assert job().parameters == {"repositories": [GRANTED, HIDDEN]}
    finish(job())
    job().delete()
    viewer.post(CHECK, {"job": "yes"})
    assert (job().actor, job().parameters) == ("viewer", {"repositories": []})
    assert advance(job().pk)


class TestClearRepositories:
    def test_can_be_a_job(self, filled: Any, admin: Client) -> None:
        page = admin.post(EMPTY, {"repository": [GRANTED, HIDDEN]})
        admin.post(EMPTY, {**hidden(page), "job": "yes"})
        assert job().parameters == {"repositories": [GRANTED, HIDDEN]}
        finish(job())
        assert filled.catalog.members(GRANTED).members == ()

    def test_a_job_needs_the_confirmation_of_the_number_too(
        self, filled: Any, admin: Client, text: Any
    ) -> None:
        page = text(admin.post(EMPTY, {"repository": GRANTED, "job": "yes"}))
        assert "Clear 2 blobs" in page
        page = text(admin.post(EMPTY, {"repository": GRANTED, "job": "yes", "shown": "1"}))
        assert "has grown from 1 to 2" in page
        assert not Job.objects.exists()


class TestRepair:
    @pytest.fixture(autouse=True)
    def damaged(self, filled: Any, default_cache: Redis) -> None:
        default_cache.delete(f"blobs::{CONFIG}")

    def test_the_confirmation_shows_the_number_and_the_first_ones(
        self, admin: Client, text: Any
    ) -> None:
        page = text(admin.post(REPAIR, {"kind": "dangling-member"}))
        assert "There is 1 finding of this kind now." in page
        assert "The first finding" in page
        assert CONFIG in page

    def test_can_be_a_job(self, admin: Client) -> None:
        page = admin.post(REPAIR, {"kind": "dangling-member"})
        admin.post(REPAIR, {**hidden(page), "job": "yes"})
        assert job().parameters["finding"] == "dangling-member"
        finish(job())
        assert job().progress["repaired"] == 1

    def test_a_job_needs_the_confirmation_of_the_number_too(self, admin: Client) -> None:
        admin.post(REPAIR, {"kind": "dangling-member", "job": "yes"})
        assert not Job.objects.exists()
