"""The demo's second registry: how it differs from the first, and who may view it alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import cast

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, User
from django.test import override_settings
from redis import Redis

from blobcache.access import Access, may_view_registry
from blobcache.doctor.scan import Diagnosis
from blobcache.models import Blob, Repository
from blobcache.redis import keys
from blobcache.services import get_browsable
from project import embedded, staging
from project.damage import put
from project.groups import group_of
from project.pushes import IMAGES, pushes_of, release_of
from tests.servers import cache_at

BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "project.permissions.RegistryBackend",
]
ENTRIES = {"default": {}, "staging": {"CACHE_ALIAS": "staging"}}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Redis, Redis]]:
    """The raw clients of production and of staging, filled."""
    with ExitStack() as stack:
        server = stack.enter_context(embedded.start())
        production = stack.enter_context(cache_at(server.url))
        other = stack.enter_context(cache_at(server.url.replace("/0", "/1"), "staging"))
        stack.enter_context(override_settings(BLOBCACHE=ENTRIES))
        with production.pipeline(transaction=False) as pipe:
            for image in IMAGES:
                for push in pushes_of(image.name):
                    put(pipe, push, push.blob.media_type)
            pipe.execute()
        get_browsable().catalog.reindex()
        staging.fill(get_browsable(), get_browsable(staging.REGISTRY))
        yield production, other


def members(client: Redis, name: str) -> set[bytes]:
    return cast("set[bytes]", client.smembers(keys.members(name)))


def test_staging_has_a_release_that_production_has_not(both: tuple[Redis, Redis]) -> None:
    production, other = both
    for name in staging.RELEASED:
        assert members(production, name) < members(other, name)
        released = {push.blob.digest.encode() for push in release_of(name) if push.tags is None}
        assert members(other, name) <= members(production, name) | released


def test_one_blob_has_another_size(both: tuple[Redis, Redis]) -> None:
    production, other = both
    differing = [
        digest
        for name in staging.STAGED
        for digest in members(production, name)
        if production.hgetall(keys.blob(digest)) != other.hgetall(keys.blob(digest))
    ]
    assert len(set(differing)) == 1
    assert differing[0] in members(other, staging.ALTERED)


def test_the_rest_is_the_same_or_missing_in_staging(both: tuple[Redis, Redis]) -> None:
    production, other = both
    for image in IMAGES:
        expected = members(production, image.name) if image.name in staging.STAGED else set()
        if image.name not in staging.RELEASED:
            assert members(other, image.name) == expected


def test_it_is_sound_and_filling_it_again_changes_nothing(both: tuple[Redis, Redis]) -> None:
    _, other = both
    before = other.dbsize()
    provider = get_browsable(staging.REGISTRY)
    staging.fill(get_browsable(), provider)
    assert other.dbsize() == before
    assert not [each for step in Diagnosis(provider).run() for each in step.findings]


@pytest.mark.django_db
class TestTheViewer:
    @pytest.fixture(autouse=True)
    def _backends(self, settings: LazySettings) -> None:
        settings.AUTHENTICATION_BACKENDS = BACKENDS
        settings.BLOBCACHE = ENTRIES

    def test_views_staging_alone(self) -> None:
        staging.create_viewer("a password")
        user = User.objects.get(username=staging.VIEWER)
        assert user.is_staff
        assert may_view_registry(user, "staging")
        assert Access(user, "staging").may_view("shop/cart")
        assert not Access(user).may_view("shop/cart")
        assert not Access(user, "staging").may_in_repository("delete", "shop/cart")

    def test_gets_the_password_again(self) -> None:
        staging.create_viewer("one")
        staging.create_viewer("two")
        assert User.objects.get(username=staging.VIEWER).check_password("two")
        assert Group.objects.get().name == group_of("staging")

    def test_whoever_is_in_no_group_views_nothing(self) -> None:
        user = User.objects.create(username="nobody")
        assert not may_view_registry(user, "staging")
        assert not Access(user, "staging").may_view("shop/cart")

    def test_an_inactive_member_views_nothing(self) -> None:
        staging.create_viewer("one")
        user = User.objects.get(username=staging.VIEWER)
        user.is_active = False
        assert not user.has_perm("blobcache.view_blob", Blob(digest="x", registry="staging"))  # type: ignore[misc]

    def test_only_objects_of_the_registry_are_granted(self) -> None:
        staging.create_viewer("one")
        user = User.objects.get(username=staging.VIEWER)
        view = "blobcache.view_repository"
        assert user.has_perm(view, Repository(name="r", registry="staging"))  # type: ignore[misc]
        assert not user.has_perm(view, Repository(name="r", registry="other"))  # type: ignore[misc]
        assert not user.has_perm(view, Repository(name="r"))
        assert not user.has_perm(view, User())
        assert not user.has_perm(view)
