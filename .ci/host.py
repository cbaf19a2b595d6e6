#!/usr/bin/env python
"""Install blobcache into a project that is not ours, as its users do.

Run in an empty directory, by a Python that has nothing but the wheel and its dependencies. The
project is the one that `startproject` writes, plus what it takes to add the app. Where there is a
redis-server, the command and the admin of the project are used too. There must be one with
`BLOBCACHE_REQUIRE_SERVERS=1` in the environment. With the path of a mypy as an argument, also check
the types of a module that uses the app.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

SETTINGS = """
from pathlib import Path
INSTALLED_APPS += ["blobcache"]
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"unix://{Path(__file__).parent.parent}/socket?db=0",
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
absent = ("project", "tests", "rest_framework", "drf_spectacular", "prometheus_client", "hiredis")
for package in absent:
    assert importlib.util.find_spec(package) is None, f"{package} is installed"
assert "rest_framework" not in sys.modules
assert "django.contrib.admin" not in sys.modules
"""

USE = """
from django.contrib.auth.models import User
from django.test import Client
from blobcache.descriptor import Descriptor
from blobcache.services import get_provider

digest = "sha256:" + "a" * 64
service = get_provider().repository_scoped("team/app")
service.set_descriptor(digest, Descriptor(digest, 5, "application/octet-stream"))
assert service.stat(digest).size == 5
assert len(service.stat_many([digest])) == 1

boss = User.objects.create_superuser("boss")
browser = Client(SERVER_NAME="localhost")
browser.force_login(boss)
for path in (
    "",
    "blobcache/repository/",
    "blobcache/repository/team_2Fapp/change/",
    "blobcache/repository/consistency/",
    "blobcache/blob/",
    f"blobcache/blob/{digest.replace(':', '_3A')}/change/",
):
    response = browser.get("/admin/" + path)
    assert response.status_code == 200, (path, response.status_code)
assert service.clear(digest).size == 5
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


def use(server: str) -> None:
    """Use the app with a server: its command line, its service and its admin."""
    # Both paths end with a socket in this directory; no port can be taken.
    command = [server, "--port", "0", "--unixsocket", "socket", "--save", "", "--logfile", "log"]
    with subprocess.Popen(command) as running:
        try:
            wait_for(Path("socket"), running)
            python("manage.py", "blobcache", "reindex")
            python("manage.py", "blobcache", "check")
            python("manage.py", "shell", "--no-imports", "-c", USE)
            python("manage.py", "blobcache", "check", "--fix", "--yes")
        finally:
            running.terminate()


def wait_for(socket: Path, running: subprocess.Popen[bytes]) -> None:
    """Return when the server has made its socket."""
    while not socket.exists():
        with suppress(subprocess.TimeoutExpired):
            running.wait(0.05)
            raise SystemExit(f"The server ended: {Path('log').read_text()}")


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
    server = shutil.which("redis-server")
    if server:
        use(server)
    elif os.environ.get("BLOBCACHE_REQUIRE_SERVERS") == "1":
        raise SystemExit("redis-server is not installed")


if __name__ == "__main__":
    main()
