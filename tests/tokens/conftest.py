"""A portal whose API accepts the tokens of a signer, before its own credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.test import APIClient

from blobcache.api.tokens import RegistryTokenAuthentication
from blobcache.api.views import RegistryView
from tests.tokens.signing import Signer, options

__all__ = ["Ask"]

CLASSES = [RegistryTokenAuthentication, TokenAuthentication, SessionAuthentication]


class Ask:
    """Sends requests with tokens of a signer."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    def client(self, *access: dict[str, Any], **claims: Any) -> APIClient:
        """Return a client with a token for these scopes."""
        return self.bearing(self.signer.token(*access, **claims))

    @staticmethod
    def bearing(token: str, scheme: str = "Bearer") -> APIClient:
        """Return a client with this token."""
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"{scheme} {token}")
        return client


@pytest.fixture
def ask() -> Ask:
    return Ask(Signer())


@pytest.fixture
def portal(ask: Ask, default_cache: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """The API at /api/, for callers with the signer's tokens. No test may ask the database.

    It sets nothing through the fixture `settings`, which may be older than that of the cache: then
    it would bring the cache's settings back when they have ended.
    """
    monkeypatch.setattr(RegistryView, "authentication_classes", CLASSES)
    with override_settings(
        ROOT_URLCONF="tests.api.urls",
        BLOBCACHE={"default": {"TOKENS": options(JWKS=ask.signer.jwks)}},
    ):
        yield ask


@pytest.fixture
def storage(portal: Ask, tmp_path: Path, settings: Any) -> Path:
    """The folder of the registry's storage, which is the backend."""
    entry = settings.BLOBCACHE["default"]
    truth = {
        "BACKEND": "blobcache.backends.storage.StorageBackend",
        "OPTIONS": {"storage": "registry"},
    }
    settings.STORAGES = {
        **settings.STORAGES,
        "registry": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": tmp_path},
        },
    }
    settings.BLOBCACHE = {"default": {**entry, "TRUTH": truth}}
    return tmp_path
