#!/usr/bin/env python
"""Install blobcache into a project that is not ours, as its users do.

Run in an empty directory, by a Python that has nothing but the wheel and its dependencies. The
project is the one that `startproject` writes, plus what it takes to add the app. With the path of a
mypy as an argument, also check the types of a module that uses the app.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SETTINGS = """
INSTALLED_APPS += ["blobcache"]
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://127.0.0.1:6379/0",
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 1},
    }
}
"""

ASSERTIONS = """
import importlib.util, sys
from importlib.resources import files
import blobcache.services

assert "site-packages" in blobcache.__file__, blobcache.__file__
assert files("blobcache").joinpath("py.typed").is_file()
for package in ("project", "tests", "rest_framework"):
    assert importlib.util.find_spec(package) is None, f"{package} is installed"
assert "rest_framework" not in sys.modules
assert "django.contrib.admin" not in sys.modules
"""


CONSUMER = """
from typing import assert_type

from blobcache import Descriptor, Digest, RepositoryName, get_provider
from blobcache.conf import RegistrySettings
from blobcache.services.base import BlobDescriptorService, SetResult


def save(digest: str, size: int) -> SetResult:
    scope: BlobDescriptorService = get_provider().repository_scoped(RepositoryName("team/app"))
    result = scope.set_descriptor(digest, Descriptor(Digest(digest), size, "text/plain"))
    assert_type(result.created, bool)
    assert_type(scope.stat(digest).media_type, str | None)
    assert_type(scope.stat_many([digest]), dict[Digest, Descriptor])
    return result


assert_type(RegistrySettings().TTL, int | None)
assert_type(RegistrySettings().SIZE_FIELDS, tuple[str, ...])
get_provider().stat(1)  # type: ignore[arg-type]
"""


def python(*arguments: str) -> None:
    """Run Python here, with warnings as errors; its failure is ours."""
    subprocess.run([sys.executable, "-W", "error", *arguments], check=True)


def main() -> None:
    """Make the project and use it."""
    python("-m", "django", "startproject", "host", ".")
    with Path("host/settings.py").open("a") as settings:
        settings.write(SETTINGS)
    python("-c", ASSERTIONS)
    python("manage.py", "check", "--fail-level", "WARNING")
    python("manage.py", "makemigrations", "--check", "--dry-run")
    python("manage.py", "migrate", "--verbosity", "0")
    python("manage.py", "dumpdata", "--output", "dump.json")
    python("manage.py", "shell", "--no-imports", "-c", "from blobcache import get_provider")
    for mypy in sys.argv[1:]:
        Path("consumer.py").write_text(CONSUMER)
        python_of_host = ["--python-executable", sys.executable]
        subprocess.run([mypy, "--strict", *python_of_host, "consumer.py"], check=True)


if __name__ == "__main__":
    main()
