"""The page to purge many blobs: a box, a preview, and a job."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.jobs import MAX_DIGESTS
from blobcache.models import Job
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_browsable
from project import embedded
from tests.admin.conftest import CONFIG, HIDDEN, LAYER, OTHER, Login
from tests.admin.forms import hidden
from tests.backends.truth import storage_as_truth, store_blob
from tests.budgets import limit
from tests.servers import cache_at

PURGE = "/admin/blobcache/blob/purge/"
CLEANER = ("view_repository", "view_blob", "delete_repository", "delete_blob")


def confirmed(client: Client, page: Any, **more: str) -> Any:
    return client.post(PURGE, {**hidden(page), "confirmed": "yes", **more}, follow=True)


def run_to_the_end(client: Client, page: Any) -> Any:
    (job,) = Job.objects.all()
    url = f"/admin/blobcache/repository/jobs/{job.pk}/"
    for _ in range(100):
        shown = client.post(url, {"advance": "yes"}, follow=True)
        if not Job.objects.get().is_open:
            return shown
    raise AssertionError("The job does not end.")


def test_shows_what_would_go_and_changes_nothing(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Any
) -> None:
    before = default_cache.dbsize()
    page = text(admin.post(PURGE, {"text": f"{LAYER}, {CONFIG}\n{OTHER} {LAYER}\nnonsense"}))
    assert "You are about to clear 3 blobs globally" in page
    assert "2 blobs have a global descriptor." in page
    assert "28.6" in page  # MB
    assert "3 memberships in total." in page
    assert "1 part of the text could not be read, and is left out." in page
    assert "<code>nonsense</code>" in page
    assert "Not in the cache" in page
    assert "Purge 3 blobs" in page
    assert default_cache.dbsize() == before
    assert not Job.objects.exists()


def test_one_confirmation_starts_a_job_that_clears_all_of_them(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Any
) -> None:
    page = admin.post(PURGE, {"text": f"{LAYER} {CONFIG}"})
    started = confirmed(admin, page)
    assert "Purge blobs everywhere" in text(started)
    assert default_cache.exists(f"blobs::{LAYER}")  # nothing before its first step
    done = text(run_to_the_end(admin, started))
    assert "Cleared 3 times in repositories that you may view." in done
    assert "All blobs are cleared everywhere." in done
    assert not list(default_cache.scan_iter("*blobs::sha256*"))


def test_takes_the_log_of_a_collection(
    provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Any
) -> None:
    log = (Path(__file__).parents[1] / "doctor" / "gc" / "3.1.1.log").read_text()
    blobs = [
        Digest(line.rpartition(" ")[2])
        for line in log.splitlines()
        if line.startswith("blob eligible for deletion: ")
    ]
    assert blobs
    kept = provider.repository_scoped("kept/app")
    for digest in (*blobs, LAYER):
        kept.set_descriptor(digest, Descriptor(digest, 1, "x/y"))
    alias = "sha512:" + "e" * 128
    kept.set_descriptor(alias, Descriptor(blobs[0], 1, "x/y"))
    provider.catalog.reindex()
    page = admin.post(PURGE, {"text": log})
    assert "Aliases that name one of these blobs are cleared too." in text(page)
    assert "could not be read" not in text(page)
    run_to_the_end(admin, confirmed(admin, page))
    assert default_cache.smembers("repository::kept/app::blobs") == {LAYER.encode()}
    assert not default_cache.exists(f"blobs::{alias}")


class TestWithABackend:
    """The storage still has `LAYER`."""

    @pytest.fixture(autouse=True)
    def stored(self, filled: RedisBlobDescriptorCacheProvider, tmp_path: Path) -> Iterator[None]:
        store_blob(tmp_path, LAYER, "library/nginx")
        with storage_as_truth(tmp_path):
            get_browsable().catalog.reindex()
            yield

    def test_says_what_is_still_stored(self, admin: Client, text: Any) -> None:
        page = text(admin.post(PURGE, {"text": f"{LAYER} {CONFIG}"}))
        assert "1 of 2 blobs is still in the registry's storage." in page
        assert 'name="spare" value="yes">' in page

    @pytest.mark.parametrize("is_spared", [True, False])
    def test_leaves_it_out_if_asked_to(
        self, admin: Client, text: Any, default_cache: Redis, *, is_spared: bool
    ) -> None:
        page = admin.post(PURGE, {"text": f"{LAYER} {CONFIG}"})
        more = {"spare": "yes"} if is_spared else {}
        done = text(run_to_the_end(admin, confirmed(admin, page, **more)))
        assert ("1 blob is still stored, and is left out." in done) == is_spared
        assert bool(default_cache.exists(f"blobs::{LAYER}")) == is_spared
        assert not default_cache.exists(f"blobs::{CONFIG}")

    def test_the_log_of_a_collection_leaves_it_out_by_default(
        self, admin: Client, text: Any
    ) -> None:
        log = f"blob eligible for deletion: {LAYER}"
        page = text(admin.post(PURGE, {"text": log}))
        assert 'name="spare" value="yes" checked>' in page


def test_nothing_pasted_is_said(provider: Any, admin: Client, text: Any) -> None:
    assert "Paste at least one digest." in text(admin.post(PURGE, {"text": " \n"}))
    page = text(admin.post(PURGE, {"text": "<b>nonsense</b>"}))
    assert "This text names no digest to purge." in page
    assert "&lt;b&gt;nonsense&lt;/b&gt;" in page


def test_too_many_are_refused_and_the_limit_stands_on_the_page(
    provider: Any, admin: Client, text: Any
) -> None:
    assert f"At most {MAX_DIGESTS:,} digests" in text(admin.get(PURGE))
    many = "\n".join(f"sha256:{number:064x}" for number in range(MAX_DIGESTS + 1))
    page = text(admin.post(PURGE, {"text": many}))
    assert f"names {MAX_DIGESTS + 1} blobs; at most {MAX_DIGESTS} are allowed" in page
    assert "about to clear" not in page


def test_a_preview_that_has_no_time_says_so(
    filled: Any, admin: Client, text: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, preview=0, step=1)
    page = text(admin.post(PURGE, {"text": str(LAYER)}))
    assert "1+" in page
    assert "There are more repositories: this page had no time to look at all of them." in page


@pytest.mark.parametrize("missing", ["view_blob", "delete_repository", "delete_blob"])
def test_needs_the_permission_to_purge(filled: Any, login: Login, missing: str) -> None:
    client = login("half", *(set(CLEANER) - {missing}))
    assert client.get(PURGE).status_code == HTTPStatus.FORBIDDEN
    data = {"text": str(LAYER), "confirmed": "yes"}
    assert client.post(PURGE, data).status_code == HTTPStatus.FORBIDDEN
    assert not Job.objects.exists()


def library(user: object) -> list[str]:
    return ["library/"]


def test_numbers_are_about_repositories_that_the_user_may_view(
    filled: Any, login: Login, text: Any, settings: LazySettings, default_cache: Redis
) -> None:
    settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.library"}}
    client = login("cleaner", *CLEANER)
    page = client.post(PURGE, {"text": str(LAYER)})
    assert "1 membership in total." in text(page)
    assert "The numbers are about repositories that you may view." in text(page)
    assert HIDDEN not in text(page)
    done = text(run_to_the_end(client, confirmed(client, page)))
    assert "Cleared 1 time in repositories that you may view." in done
    assert HIDDEN not in done
    assert not default_cache.sismember(f"repository::{HIDDEN}::blobs", LAYER)


def test_a_read_only_registry_refuses_it(
    provider: Any, admin: Client, settings: LazySettings, valkey: embedded.Server
) -> None:
    settings.BLOBCACHE = {"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}}
    with cache_at(valkey.url, "index"):
        page = admin.get(PURGE, follow=True).content.decode()
    assert "This registry is read-only." in page


def test_without_redis_the_page_still_shows_what_was_pasted(
    provider: Any, admin: Client, text: Any
) -> None:
    with cache_at("unix:///nowhere/at/all"):
        page = text(admin.post(PURGE, {"text": str(LAYER)}))
    assert "Purge 1 blob" in page
    assert 'role="alert"' in page


def test_the_lists_lead_to_it(filled: Any, admin: Client, viewer: Client) -> None:
    for client, is_there in ((admin, True), (viewer, False)):
        listing = client.get("/admin/blobcache/blob/").content.decode()
        assert (f'href="{PURGE}"' in listing) == is_there
    assert (
        'href="/admin/blobcache/repository/jobs/"'
        in admin.get("/admin/blobcache/repository/").content.decode()
    )


def test_a_backend_that_cannot_be_used_is_said(
    filled: Any, admin: Client, text: Any, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"TRUTH": {"BACKEND": "nowhere.Backend", "OPTIONS": {}}}}
    assert "Purge many blobs" in text(admin.get(PURGE))
    page = text(admin.post(PURGE, {"text": LAYER}))
    assert "Purge 1 blob<" in page
    assert 'name="spare"' not in page
    assert "The backend cannot be used" in page


@pytest.mark.usefixtures("filled")
def test_a_registry_that_does_not_answer_is_said(
    admin: Client, text: Any, settings: LazySettings
) -> None:
    backend = "blobcache.backends.registry.RegistryBackend"
    truth = {"BACKEND": backend, "OPTIONS": {"url": "http://127.0.0.1:1"}}
    settings.BLOBCACHE = {"default": {"TRUTH": truth}}
    page = text(admin.post(PURGE, {"text": f"blob eligible for deletion: {LAYER}"}))
    assert "nothing is left out of this purge" in page
    assert 'name="spare"' not in page


@pytest.mark.usefixtures("filled")
def test_a_tarsum_digest_is_shown_beside_a_backend(
    admin: Client, text: Any, tmp_path: Path
) -> None:
    (tmp_path / "docker/registry/v2/repositories/library/nginx").mkdir(parents=True)
    with storage_as_truth(tmp_path):
        page = admin.post(PURGE, {"text": "tarsum.v1+sha256:" + "a" * 64})
    assert page.status_code == HTTPStatus.OK
    assert "1 blob may still be there" in text(page)
