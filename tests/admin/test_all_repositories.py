"""Checking and clearing all repositories that a search of the list shows, as a job."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib import admin as django_admin
from django.test import Client
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.models import Job, Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.admin import addresses
from tests.admin.conftest import LAYER, LAYER_TYPE, Login
from tests.admin.forms import hidden
from tests.budgets import limit
from tests.jobs.conftest import finish
from tests.servers import commands

Text = Callable[[Any], str]
Provider = RedisBlobDescriptorCacheProvider

LIST, CHECK = addresses.repositories(), addresses.repositories("consistency")
EMPTY = addresses.repositories("empty")

TEAM = [f"team/{letter}" for letter in "abcdefgh"]
OTHERS = ["other/app", "secret/vault"]


@pytest.fixture
def seeded(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """Ten repositories with one blob each, three on a page."""
    for name in (*TEAM, *OTHERS):
        provider.repository_scoped(name).set_descriptor(LAYER, Descriptor(LAYER, 1, LAYER_TYPE))
    provider.catalog.reindex()
    monkeypatch.setattr(django_admin.site.get_model_admin(Repository), "list_per_page", 3)
    return provider


def job() -> Job:
    return Job.objects.get()


def counts(provider: Provider) -> dict[str, int | None]:
    return {each.name: each.blobs for each in provider.catalog.repositories().repositories}


class TestTheList:
    def test_offers_it_with_the_number_and_the_limit(
        self, seeded: Provider, admin: Client, text: Text
    ) -> None:
        page = text(admin.get(LIST, {"q": "team/"}))
        assert "Check all 8 on all pages" in page
        assert "Clear all 8 on all pages…" in page
        assert "all repositories that a search finds, up to 1,000." in page

    def test_offers_it_without_the_number_if_nobody_has_counted(
        self, seeded: Provider, admin: Client, text: Text
    ) -> None:
        page = text(admin.get(LIST, {"q": "a", "m": "in"}))
        assert "Clear all on all pages…" in page
        assert "Check all on all pages" in page

    def test_does_not_offer_it_if_all_are_on_the_page(
        self, seeded: Provider, admin: Client, text: Text
    ) -> None:
        assert "on all pages" not in text(admin.get(LIST, {"q": "other/"}))

    def test_does_not_offer_it_for_more_than_a_job_takes_but_says_so(
        self, seeded: Provider, admin: Client, text: Text, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blobcache.admin.repositories.MAX_REPOSITORIES", 5)
        page = text(admin.get(LIST, {"q": "team/"}))
        assert "on all pages" not in page
        assert "all repositories that a search finds, up to 5." in page

    def test_offers_it_on_a_page_that_has_none_to_clear(
        self, seeded: Provider, admin: Client, text: Text, default_cache: Redis
    ) -> None:
        for name in ("A//1", "A//2", "A//3"):
            default_cache.sadd(f"repository::{name}::blobs", LAYER)
        seeded.catalog.reindex()
        page = text(admin.get(LIST))
        assert "Clear all 13 on all pages…" in page
        assert "Clear selected repositories" not in page

    def test_does_not_offer_to_clear_to_those_who_may_not(
        self, seeded: Provider, viewer: Client, text: Text
    ) -> None:
        page = text(viewer.get(LIST, {"q": "team/"}))
        assert "Check all 8 on all pages" in page
        assert "Clear all" not in page


class TestClear:
    def test_a_confirmation_shows_what_would_go(
        self, seeded: Provider, admin: Client, text: Text
    ) -> None:
        page = text(admin.post(EMPTY, {"all": "yes", "kept": "q=team/"}))
        assert "all blobs of these 8 repositories" in page
        assert "Clear 8 blobs" in page
        assert "This starts a job" in page
        assert "The sizes of 8 repositories are not known." in page
        assert "secret/vault" not in page
        assert not Job.objects.exists()

    def test_the_sizes_that_are_known_are_added_up(
        self, seeded: Provider, admin: Client, text: Text
    ) -> None:
        seeded.figures.count_step("team/a")
        page = text(admin.post(EMPTY, {"all": "yes", "kept": "q=team/"}))
        assert "Total size: 1 byte, as last calculated." in page
        assert "The sizes of 7 repositories are not known." in page

    @pytest.mark.parametrize(
        "kept", ["q=team/", "q=eam/&m=in&o=-bytes", "q=team/&cursor=x&o=-blobs"]
    )
    def test_the_job_clears_exactly_these(self, seeded: Provider, admin: Client, kept: str) -> None:
        page = admin.post(EMPTY, {"all": "yes", "kept": kept})
        seeded.repository_scoped("team/z").set_descriptor(LAYER, Descriptor(LAYER, 1, LAYER_TYPE))
        response = admin.post(EMPTY, {**hidden(page), "confirmed": "yes"})
        assert response.status_code == HTTPStatus.FOUND
        assert (job().kind, job().size) == ("clear-repositories", 8)
        assert sorted(job().parameters["repositories"]) == TEAM
        finish(job())
        seeded.catalog.reindex()
        assert counts(seeded) == {"other/app": 1, "secret/vault": 1, "team/z": 1}

    def test_only_some_are_shown_and_all_are_cleared(
        self, seeded: Provider, admin: Client, text: Text, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blobcache.admin.clear_repositories._ROWS", 2)
        page = admin.post(EMPTY, {"all": "yes", "kept": "q=team/"})
        assert "6 more are not shown." in text(page)
        admin.post(EMPTY, {**hidden(page), "confirmed": "yes"})
        assert job().size == 8

    def test_it_asks_again_if_the_number_of_blobs_has_grown(
        self, seeded: Provider, admin: Client, text: Text, default_cache: Redis
    ) -> None:
        page = admin.post(EMPTY, {"all": "yes", "kept": "q=team/"})
        default_cache.sadd("repository::team/a::blobs", *(f"sha256:{n:064x}" for n in range(9)))
        page = admin.post(EMPTY, {**hidden(page), "confirmed": "yes"})
        assert "has grown from 8 to 17" in text(page)
        assert not Job.objects.exists()
        admin.post(EMPTY, {**hidden(page), "confirmed": "yes"})
        assert job().size == 8

    def test_without_the_confirmed_number_nothing_starts(
        self, seeded: Provider, admin: Client, text: Text
    ) -> None:
        page = text(admin.post(EMPTY, {"text": "team/a", "confirmed": "yes"}))
        assert "Clear 1 blob" in page
        page = text(
            admin.post(EMPTY, {"all": "yes", "kept": "", "confirmed": "yes", "shown": "99"})
        )
        assert "Clear 10 blobs" in page
        assert not Job.objects.exists()

    def test_a_search_that_shows_nothing_is_refused(
        self, seeded: Provider, admin: Client, text: Text
    ) -> None:
        page = text(admin.post(EMPTY, {"all": "yes", "kept": "q=nothing/"}, follow=True))
        assert "Select at least one repository that you may clear." in page

    def test_too_many_are_refused(
        self, seeded: Provider, admin: Client, text: Text, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blobcache.admin.all_repositories.MAX_REPOSITORIES", 7)
        page = text(admin.post(EMPTY, {"all": "yes", "kept": "q=team/"}, follow=True))
        assert "at most 7 can be part of one job" in page
        monkeypatch.setattr("blobcache.admin.all_repositories.MAX_REPOSITORIES", 8)
        page = text(admin.post(EMPTY, {"all": "yes", "kept": "q=team/"}))
        assert "these 8 repositories" in page

    @pytest.mark.parametrize("form", [{"job": "yes"}, {"shown": "0", "confirmed": "yes"}, {}])
    def test_more_names_than_a_job_takes_are_refused_before_redis_is_asked(
        self,
        seeded: Provider,
        admin: Client,
        text: Text,
        valkey: embedded.Server,
        form: dict[str, str],
    ) -> None:
        """A form has room for hundreds of thousands of them."""
        names = " ".join(f"a/{number}" for number in range(1001))
        with valkey.client() as observer, commands(observer) as traffic:
            response = admin.post(EMPTY, {**form, "text": names})
        assert (response.status_code, response["Location"]) == (HTTPStatus.FOUND, LIST)
        assert sum(traffic.calls.values()) < 100
        assert "A job clears at most 1000 repositories." in text(admin.get(LIST))
        assert not Job.objects.exists()

    @pytest.mark.parametrize("address", [EMPTY, CHECK])
    def test_an_index_that_is_not_built_yet_is_no_list_of_all(
        self,
        seeded: Provider,
        admin: Client,
        text: Text,
        monkeypatch: pytest.MonkeyPatch,
        default_cache: Redis,
        address: str,
    ) -> None:
        default_cache.delete(*default_cache.scan_iter("blobcache::*"))
        default_cache.sadd("repository::zz::blobs", *(f"sha256:{n:064x}" for n in range(9)))
        default_cache.mset({f"another:{number}": "" for number in range(20_000)})
        limit(monkeypatch, page=0, step=1)
        assert not seeded.catalog.repositories().status.is_built
        page = text(admin.post(address, {"all": "yes", "kept": "q=team/"}, follow=True))
        assert "The index of the repositories is not complete yet" in page
        assert not Job.objects.exists()

    def test_a_list_that_takes_too_long_is_refused(
        self, seeded: Provider, admin: Client, text: Text, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, page=0, preview=0, step=2)
        page = text(admin.post(EMPTY, {"all": "yes", "kept": "q=a&m=in"}, follow=True))
        assert "took longer than a page may take" in page

    def test_names_that_are_not_valid_are_left_out_and_counted(
        self, seeded: Provider, admin: Client, text: Text, default_cache: Redis
    ) -> None:
        default_cache.sadd("repository::team/b//ad::blobs", LAYER)
        seeded.catalog.reindex()
        page = text(admin.post(EMPTY, {"all": "yes", "kept": "q=team/"}))
        assert "these 8 repositories" in page
        assert "1 repository of the list is left out" in page

    def test_only_what_the_user_may_see_and_clear_is_part_of_it(
        self, seeded: Provider, login: Login, text: Text, settings: LazySettings
    ) -> None:
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.only_some"}}
        client = login("cleaner", "view_repository", "delete_repository")
        page = client.post(EMPTY, {"all": "yes", "kept": ""})
        assert "these 2 repositories" in text(page)
        assert "secret" not in text(page)
        form = {**hidden(page), "text": "team/a team/b team/c secret/vault", "confirmed": "yes"}
        client.post(EMPTY, form)
        assert job().parameters == {"repositories": ["team/a", "team/b"]}

    def test_who_may_only_view_clears_nothing(self, seeded: Provider, viewer: Client) -> None:
        viewer.post(EMPTY, {"all": "yes", "kept": "q=team/"})
        viewer.post(EMPTY, {"text": "team/a", "shown": "1", "confirmed": "yes"})
        assert not Job.objects.exists()

    def test_if_redis_fails_it_says_so(
        self, seeded: Provider, admin: Client, text: Text, settings: LazySettings
    ) -> None:
        settings.CACHES = {
            "default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
        }
        for address in (EMPTY, CHECK):
            page = text(admin.post(address, {"all": "yes", "kept": "q=team/"}, follow=True))
            assert "Redis failed, so the repositories could not be listed." in page


class TestCheck:
    def test_starts_a_job_for_all_that_the_search_shows(
        self, seeded: Provider, viewer: Client
    ) -> None:
        response = viewer.post(CHECK, {"all": "yes", "kept": "q=team/&o=-bytes"})
        assert f"/jobs/{job().pk}/" in response["Location"]
        assert (job().kind, sorted(job().parameters["repositories"])) == ("check", TEAM)
        finish(job())
        assert job().state == Job.State.DONE

    @pytest.mark.parametrize("kept", ["q=nothing/", "q=team/"])
    def test_of_nothing_or_too_many_is_refused(
        self, seeded: Provider, admin: Client, monkeypatch: pytest.MonkeyPatch, kept: str
    ) -> None:
        monkeypatch.setattr("blobcache.admin.all_repositories.MAX_REPOSITORIES", 7)
        response = admin.post(CHECK, {"all": "yes", "kept": kept}, follow=True)
        assert response.redirect_chain == [(f"{LIST}?{kept.replace('/', '%2F')}", 302)]
        assert not Job.objects.exists()

    def test_only_what_the_user_may_see_is_part_of_it(
        self, seeded: Provider, login: Login, settings: LazySettings
    ) -> None:
        settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.only_some"}}
        client = login("viewer", "view_repository")
        client.post(CHECK, {"all": "yes", "kept": "", "repository": "secret/vault"})
        assert job().parameters == {"repositories": ["team/a", "team/b"]}

    def test_a_get_starts_nothing(self, seeded: Provider, login: Login) -> None:
        assert login("viewer", "view_repository").get(CHECK, {"all": "yes"}).status_code
        assert not Job.objects.exists()


def only_some(_user: object) -> list[str]:
    return ["team/a", "team/b"]
