"""The services of a registry, as its settings describe them."""

from __future__ import annotations

from traceback import walk_tb

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from blobcache.conf import RegistrySettings
from blobcache.services import get_backend


class Broken:
    """A backend whose options are wrong."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Broken:
        raise ImproperlyConfigured(f"{settings} is wrong.")


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


@pytest.mark.parametrize("path", ["nowhere.Backend", f"{__name__}.Broken"])
def test_an_error_report_of_a_backend_that_cannot_be_made_shows_no_password(path: str) -> None:
    """Such reports show the variables of each frame, and Django hides only names that it knows."""
    truth = {"BACKEND": path, "OPTIONS": {"password": "hush-hush"}}
    with (
        override_settings(BLOBCACHE={"default": {"TRUTH": truth}}),
        pytest.raises((ImportError, ImproperlyConfigured)) as failure,
    ):
        get_backend()
    frames = [frame for frame, _ in walk_tb(failure.tb) if "blobcache" in frame.f_code.co_filename]
    own = [frame for frame in frames if frame.f_code.co_filename != __file__]
    assert own
    assert not [each for each in own if "hush-hush" in repr(each.f_locals)]
