"""What `import blobcache` provides."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import blobcache
from blobcache import descriptor, digest, reference, services


def test_the_root_exports_the_public_names() -> None:
    assert blobcache.Descriptor is descriptor.Descriptor
    assert blobcache.Digest is digest.Digest
    assert blobcache.RepositoryName is reference.RepositoryName
    assert blobcache.get_provider is services.get_provider


def test_all_names_can_be_imported() -> None:
    scope: dict[str, object] = {}
    exec("from blobcache import *", scope)  # noqa: S102 - our own
    assert set(blobcache.__all__) <= scope.keys()


def test_other_names_raise_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'blobcache' has no attribute 'get_provder'"):
        blobcache.get_provder  # type: ignore[attr-defined]  # noqa: B018


def test_it_can_be_imported_before_settings_are_configured() -> None:
    code = """
import sys
import blobcache
assert not any(name.startswith(("django", "redis")) for name in sys.modules)
from blobcache import get_provider
from django.core.exceptions import ImproperlyConfigured
try:
    get_provider()
except ImproperlyConfigured:
    print("not configured")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("not configured\n", "")
