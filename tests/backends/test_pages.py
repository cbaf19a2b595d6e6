"""What the documentation says about backends, run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from blobcache.backends.storage import StorageBackend
from blobcache.checks import check_settings
from blobcache.conf import RegistrySettings
from blobcache.exceptions import DigestInvalid
from blobcache.services import get_backend
from blobcache.services.truth import Absent, Doubt, Present, Unknown
from tests.backends.cases import digest_of
from tests.test_docs import ROOT as PROJECT
from tests.test_docs import blocks, rows, section

TRUTH, EXTENDING = PROJECT / "docs" / "truth.md", PROJECT / "docs" / "extending.md"
INSTALLING = PROJECT / "docs" / "installing.md"

DIGEST = digest_of(b"the bytes of own-digest")


def settings_of_the_page() -> dict[str, Any]:
    found: dict[str, Any] = {}
    (block,) = [each for each in blocks(TRUTH, "python") if each.startswith("STORAGES")]
    exec(block, found)  # noqa: S102  # our own
    return {name: found[name] for name in ("STORAGES", "BLOBCACHE")}


def test_the_settings_pass_the_checks() -> None:
    of_installing: dict[str, Any] = {"INSTALLED_APPS": []}
    exec(blocks(INSTALLING, "python")[0], of_installing)  # noqa: S102  # our own
    with override_settings(CACHES=of_installing["CACHES"], **settings_of_the_page()):
        assert list(check_settings()) == []
        assert isinstance(get_backend(), StorageBackend)


def test_the_lines_for_a_shell_run(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [each for each in blocks(TRUTH, "python") if "backend.root()" in each]
    settings = settings_of_the_page()
    settings["STORAGES"]["registry"]["OPTIONS"]["location"] = str(tree)
    with override_settings(**settings):
        exec(block, {"digest": DIGEST})  # noqa: S102  # our own
    assert f"cases/own-digest layer {DIGEST} \n" in capsys.readouterr().out


def test_every_doubt_is_explained() -> None:
    assert [name for name, *_ in rows(section(TRUTH, "What unknown means"))] == list(Doubt)


@dataclass
class Row:
    """A row of a registry's database."""

    digest: str = DIGEST
    size: int = 23
    pk: int = 7


def test_the_example_of_a_backend_answers() -> None:
    (block,) = [each for each in blocks(EXTENDING, "python") if "class DatabaseBackend" in each]
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102  # our own
    backend = names["DatabaseBackend"]

    def failing(*_: object) -> None:
        raise OSError

    answer = backend(lambda digest, name: Row(digest)).stat(DIGEST, "team/app")
    assert isinstance(answer, Present)
    assert answer.descriptor.size == 23
    assert isinstance(backend(lambda *_: None).stat(DIGEST), Absent)
    assert isinstance(backend(failing).stat(DIGEST), Unknown)
    with pytest.raises(DigestInvalid):
        backend(failing).stat("sha256:1")
    options = {"BACKEND": "portal.truth.DatabaseBackend", "OPTIONS": {"url": "secret"}}
    with override_settings(BLOBCACHE={"default": {"TRUTH": options}}):
        (message,) = backend.check(RegistrySettings())
        assert message.id == "portal.E001"
