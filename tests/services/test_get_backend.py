"""The services of a registry, as its settings describe them."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from blobcache.conf import RegistrySettings
from blobcache.services import get_backend


class Storage:
    """A backend of a host project, as far as it is made here."""

    def __init__(self, registry: str) -> None:
        self.registry = registry

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Storage:
        return cls(settings.registry)


TRUTH = {"BACKEND": f"{__name__}.Storage"}


def test_there_is_no_backend_by_default() -> None:
    assert get_backend() is None


def test_each_registry_has_one_backend() -> None:
    with override_settings(BLOBCACHE={"default": {"TRUTH": TRUTH}, "other": {"TRUTH": TRUTH}}):
        backend: object = get_backend()
        again: object = get_backend()
        assert again is backend
        assert isinstance(backend, Storage)
        assert backend.registry == "default"
        other: object = get_backend("other")
        assert isinstance(other, Storage)
        assert other.registry == "other"
    assert get_backend() is None


def test_a_backend_needs_a_registry() -> None:
    with pytest.raises(ImproperlyConfigured, match="no registry 'other'"):
        get_backend("other")


def test_a_backend_that_is_missing_is_an_error_each_time() -> None:
    with override_settings(BLOBCACHE={"default": {"TRUTH": {"BACKEND": "nowhere.Backend"}}}):
        for _ in range(2):
            with pytest.raises(ImportError):
                get_backend()
