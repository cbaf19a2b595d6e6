"""Users of every kind, and a cache with some blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db.models import Model
from django.template import Template
from django.test import Client, override_settings
from django.test.utils import instrumented_test_render  # type: ignore[attr-defined]
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.models import Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider

LAYER, CONFIG, OTHER = (Digest(f"sha256:{digit * 64}") for digit in "abc")
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"

GRANTED = "library/nginx"
"""The repository that `GrantingBackend` grants to the user named granted."""

HIDDEN = "secret/vault"


class GrantingBackend:
    """A portal's backend that grants one repository by name, as the documentation shows."""

    def authenticate(self, request: object, **_: object) -> None:
        """Authenticate no user."""

    def has_perm(
        self, user: AbstractBaseUser | AnonymousUser, perm: str, obj: Model | None = None
    ) -> bool:
        return (
            user.get_username() == "granted"
            and perm.endswith("_repository")
            and isinstance(obj, Repository)
            and obj.name == GRANTED
        )


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each response of the test client have the `context` that its page is made of."""
    monkeypatch.setattr(Template, "_render", instrumented_test_render)


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    """The registry's provider, on an empty Valkey."""
    return cast("RedisBlobDescriptorCacheProvider", get_provider())


@pytest.fixture
def filled(provider: RedisBlobDescriptorCacheProvider) -> RedisBlobDescriptorCacheProvider:
    """Two repositories that share a layer."""
    for name in (GRANTED, HIDDEN):
        service = provider.repository_scoped(name)
        service.set_descriptor(LAYER, Descriptor(LAYER, 30_000_000, LAYER_TYPE))
    service = provider.repository_scoped(GRANTED)
    service.set_descriptor(CONFIG, Descriptor(CONFIG, 1234, CONFIG_TYPE))
    provider.catalog.reindex()
    return provider


def add_foreign_keys(redis: Redis) -> None:
    """Add so many keys of other programs that a build of the index takes several steps."""
    with redis.pipeline(transaction=False) as pipe:
        for number in range(5_000):
            pipe.set(f"filler:{number}", "")
        pipe.execute()


Login = Callable[..., Client]


@pytest.fixture
def login(db: None) -> Iterator[Login]:
    """Log a user in: `login("name", "view_repository", …)`; with `superuser=True` anything."""
    backends = ["django.contrib.auth.backends.ModelBackend", f"{__name__}.GrantingBackend"]

    def log_in(name: str, *permissions: str, superuser: bool = False) -> Client:
        user = User.objects.create(username=name, is_staff=True, is_superuser=superuser)
        user.user_permissions.set(
            Permission.objects.filter(codename__in=permissions, content_type__app_label="blobcache")
        )
        client = Client()
        client.force_login(user, backend=backends[0])
        return client

    with override_settings(AUTHENTICATION_BACKENDS=backends):
        yield log_in


@pytest.fixture
def admin(login: Login) -> Client:
    """The superuser's client."""
    return login("boss", superuser=True)


@pytest.fixture
def viewer(login: Login) -> Client:
    """The client of a user who may view everything and change nothing."""
    return login("viewer", "view_repository", "view_blob")


@pytest.fixture
def text() -> Callable[[Any], str]:
    """Give a response's body as text, with its white space made even."""
    return lambda response: " ".join(response.content.decode().split())
