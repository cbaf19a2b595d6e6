#!/usr/bin/env python
"""Install blobcache into a project that is not ours, as its users do.

Run in an empty directory, by a Python that has nothing but the wheel and its dependencies. The
project is the one that `startproject` writes, plus what it takes to add the app.
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
    python("manage.py", "shell", "--no-imports", "-c", "import blobcache.services")


if __name__ == "__main__":
    main()
