"""The options of `StorageBackend`, and the system checks of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage
from django.test import override_settings

from blobcache.backends.listers import FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.conf import RegistrySettings
from blobcache.services import get_backend
from blobcache.services.truth import Reachable, Witness
from tests.backends.cases import ROOT, write_tree

FILES = "django.core.files.storage.FileSystemStorage"
MEMORY = "django.core.files.storage.InMemoryStorage"


def with_options(options: dict[Any, Any], **storages: object) -> override_settings:
    truth = {"BACKEND": "blobcache.backends.storage.StorageBackend", "OPTIONS": options}
    return override_settings(BLOBCACHE={"default": {"TRUTH": truth}}, STORAGES=storages)


def found(options: dict[Any, Any], **storages: object) -> list[CheckMessage]:
    with with_options(options, **storages):
        return list(StorageBackend.check(RegistrySettings()))


@pytest.mark.parametrize("storage", [FILES, f"{__name__}.OwnStorage"])
def test_no_message_if_all_is_well(storage: str) -> None:
    assert found({"storage": "registry"}, registry={"BACKEND": storage}) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "'storage' is not the name"),
        ({"storage": ""}, "'storage' is not the name"),
        ({"storage": ["registry"]}, "'storage' is not the name"),
        ({"storage": "registry", "password": "secret"}, "'password' is unknown"),
        ({"storage": "registry", 7: "seven"}, "7 is unknown"),
        ({"storage": "registry", "root": None}, "'root' is not a path"),
        ({"storage": "registry", "root": "/srv"}, "'root' is not a path"),
        ({"storage": "registry", "root": "a/../b"}, "'root' is not a path"),
        ({"storage": "registry", "root": "a//b"}, "'root' is not a path"),
        ({"storage": "registry", "root": "a\0"}, "'root' is not a path"),
        ({"storage": "registry", "lister": object}, "'lister' is not a dotted path"),
    ],
)
def test_e021_an_option_is_wrong(options: dict[Any, Any], words: str) -> None:
    (message,) = found(options, registry={"BACKEND": FILES})
    assert message.id == "blobcache.E021"
    assert words in message.msg
    assert "secret" not in message.msg
    with (
        with_options(options, registry={"BACKEND": FILES}),
        pytest.raises(ImproperlyConfigured, match=words),
    ):
        get_backend()


@pytest.mark.parametrize(
    ("storages", "words"),
    [
        ({}, "not an entry of STORAGES"),
        ({"registry": None}, "not an entry of STORAGES"),
        ({"registry": {}}, "not an entry of STORAGES"),
        ({"registry": {"BACKEND": "nowhere.Storage"}}, "No module named 'nowhere'"),
        ({"registry": {"BACKEND": "pathlib.Path"}}, "which is not a Storage."),
    ],
)
def test_e022_the_storage_is_none(storages: dict[str, object], words: str) -> None:
    (message,) = found({"storage": "registry"}, **storages)
    assert message.id == "blobcache.E022"
    assert words in message.msg


def test_e022_the_storage_misses_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "storages.backends.s3", raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)
    s3 = {"BACKEND": "storages.backends.s3.S3Storage"}
    (message,) = found({"storage": "registry"}, registry=s3)
    assert message.id == "blobcache.E022"
    assert "boto3" in message.msg.lower()


@pytest.mark.parametrize("lister", ["nowhere.Lister", "blobcache.backends.layout.ROOT"])
def test_e023_the_lister_is_none(lister: str) -> None:
    (message,) = found({"storage": "registry", "lister": lister}, registry={"BACKEND": FILES})
    assert message.id == "blobcache.E023"


def test_w020_the_storage_is_slow_to_list() -> None:
    (message,) = found({"storage": "registry"}, registry={"BACKEND": MEMORY})
    assert message.id == "blobcache.W020"
    lister = {"storage": "registry", "lister": f"{__name__}.OwnLister"}
    assert found(lister, registry={"BACKEND": MEMORY}) == []


@pytest.mark.parametrize("root", ["docker/registry/v2", "docker/registry/v2/"])
def test_the_settings_make_a_backend(tmp_path: Path, root: str) -> None:
    write_tree(tmp_path)
    registry = {"BACKEND": FILES, "OPTIONS": {"location": str(tmp_path)}}
    with with_options({"storage": "registry", "root": root}, registry=registry):
        backend = get_backend()
        assert backend is not None
        assert backend.root() == Reachable(f"{tmp_path}/{ROOT}")
        assert backend.is_complete


def test_the_root_may_be_the_location_itself(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    registry = {"BACKEND": FILES, "OPTIONS": {"location": str(root)}}
    with with_options({"storage": "registry", "root": ""}, registry=registry):
        backend = get_backend()
        assert backend is not None
        assert backend.root() == Reachable(str(root))
        assert "cases/alias" in list(backend.repositories())


def test_a_storage_is_an_independent_witness() -> None:
    with with_options({"storage": "registry"}, registry={"BACKEND": FILES}):
        witness: Any = StorageBackend.from_settings(RegistrySettings()).witness
        assert isinstance(witness(None), Witness)
        assert witness(None).is_independent


class OwnStorage(FileSystemStorage):
    """A Storage of a host project that is one on the file system."""


class OwnLister(FileSystemLister):
    """A lister of a host project."""
