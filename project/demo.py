"""The demo: runs the whole portal on this machine with one command.

    python -m project.demo [--port 8000] [--data var]

It starts an embedded Valkey, creates the database and a superuser, writes the storage of a registry
with sample data, fills the cache from it, and serves on the loopback interface, with granian. Its
files are in the data directory; without that directory it starts with new data. Ctrl-C and SIGTERM
stop everything. `project.registry` serves the same storage with the same Valkey as a registry. The
file `env` in the data directory lets `manage.py` use the same portal, as long as the demo runs.

It uses the variables of `project.settings`. If `BLOBCACHE_REDIS_URL` is not set, the demo uses its
embedded Valkey, whose second database is a second registry: see `project.staging`. If it is set,
the demo writes no storage, and to that server no sample data, and nothing at all unless
`BLOBCACHE_READ_ONLY=0` is set too: the index is then in the embedded Valkey.
`DJANGO_SUPERUSER_PASSWORD` is the password of `admin`; without it the demo generates one, stores it
and prints it.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shlex
import signal
import socket
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import django
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.utils import get_random_secret_key
from django.utils.crypto import get_random_string
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from blobcache.conf import registries
from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable
from blobcache.findings import Kind
from blobcache.management.progress import Progress
from blobcache.reference import RepositoryName
from blobcache.services import get_browsable
from blobcache.services.base import BrowsableProvider
from project import embedded, history, registry, sample, staging
from project.files import (
    OWNER_ONLY,
    PARENT,
    PORTS,
    VAR,
    port_number,
    read_or_create,
    say,
    write_secret,
)

__all__ = ["main"]

HOST = "127.0.0.1"
USER = "admin"

VALKEY = (
    *("--appendonly", "yes", "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"),
    *("--hash-max-listpack-value", "160"),
)
"""Options of the embedded Valkey: keep the data on disk, and be configured as a cache should be."""

HELLO = Digest("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
"""The digest of the five bytes ``hello``."""

OWN_VARIABLES = ("BLOBCACHE_", "DJANGO_")
"""How the names of the variables begin that the settings read."""

THREADS = 8
"""How many requests are answered at the same time."""

POLL_SECONDS = 0.05
"""How long to wait between two looks whether the portal answers."""

_OTHERS = 0o077
"""The mode bits of group and others."""


class DemoError(RuntimeError):
    """The demo cannot run; the message says why and what to do."""


def main() -> None:
    """Run the demo until it is stopped."""
    parser = ArgumentParser(prog="python -m project.demo", description="Run the demo portal.")
    parser.add_argument("--port", type=port_number, default=8000, help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=VAR, help="directory; default: %(default)s")
    options = parser.parse_args()
    # Only the owner may read the files that the demo writes, such as the database with sessions.
    os.umask(_OTHERS)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)
    try:
        run(options.port, options.data.resolve())
    except KeyboardInterrupt:
        say("\nThe demo has stopped.")
    except (DemoError, ImproperlyConfigured, embedded.ServerError) as error:
        sys.exit(str(error))


def run(port: int, data: Path) -> None:
    """Prepare everything, and serve until an exception stops it."""
    is_ours = not os.environ.get("BLOBCACHE_REDIS_URL")
    with ExitStack() as stack:
        # First: if the port is in use, this fails before anything else starts.
        port = stack.enter_context(reserved(port))
        stack.enter_context(locked(data))
        set_environment(data, lambda: stack.enter_context(valkey_in(data)).url)
        django.setup()
        call_command("migrate", verbosity=0)
        provider = get_browsable()
        try:
            if is_ours:
                prepare(provider, registry.storage_in(data))
                prepare_staging(provider, get_browsable(staging.REGISTRY))
                history.write()
                redis_url = os.environ["BLOBCACHE_REDIS_URL"]
                stack.enter_context(registry.configured(data, redis_url))
            else:
                say("Indexing the repositories ...")
                for name in registries():
                    get_browsable(name).catalog.reindex()
            example = find_example(provider)
        except CacheUnavailable as error:
            say(f"{error} ({error.__cause__})")
            example = None
        url = f"http://{HOST}:{port}"
        may_write = not provider.rules.read_only
        examples = requests(f"{url}/api", example, may_write=may_write)
        redis = address_of(os.environ["BLOBCACHE_REDIS_URL"]) + ("" if may_write else ", read only")
        account = create_superuser(data, has_staging=staging.REGISTRY in registries())
        environment = stack.enter_context(environment_in(data))
        serve(port, lambda: welcome(url, redis, account, examples, environment))


@contextmanager
def reserved(port: int) -> Iterator[int]:
    """Keep others from the port within the block; 0 stands for a free one.

    Nobody listens there yet: granian binds another socket to it, which only the same user may.
    """
    try:
        with socket.create_server((HOST, port)) as free:
            port = free.getsockname()[1]
        reservation = socket.socket()
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((HOST, port))
    except OSError as error:
        raise DemoError(
            f"The demo cannot listen on {HOST}:{port}: {os.strerror(error.errno or 0)}. "
            f"Choose another port: make demo PORT={port % PORTS[-1] + 1}"
        ) from error
    with reservation:
        yield port


def serve(port: int, greet: Callable[[], None]) -> None:
    """Serve until a signal stops it, and greet when the first request would be answered."""
    os.environ[PARENT] = str(os.getpid())
    # A fork would take over open connections and locks of other threads.
    multiprocessing.set_start_method("spawn", force=True)
    server = Granian(
        "project.worker:application",
        address=HOST,
        port=port,
        interface=Interfaces.WSGI,
        blocking_threads=THREADS,
        log_level=LogLevels.error,
        workers_kill_timeout=5,
    )

    @server.on_startup
    def stop_on_hangup() -> None:
        # For granian, it means to replace the worker.
        signal.signal(signal.SIGHUP, server.signal_handler_interrupt)

    threading.Thread(target=_greet_when_ready, args=(server, port, greet), daemon=True).start()
    server.serve()
    raise KeyboardInterrupt


def _greet_when_ready(server: Any, port: int, greet: Callable[[], None]) -> None:
    """Wait until something listens on the port, which the worker does when it is ready."""
    while not server.main_loop_interrupt.wait(POLL_SECONDS):
        with socket.socket() as client:
            if client.connect_ex((HOST, port)) == 0:
                greet()
                return


@contextmanager
def environment_in(data: Path) -> Iterator[Path]:
    """Have a file within the block that sets the variables of this portal in a shell."""
    path = data / "env"
    names = [each for each in sorted(os.environ) if each.startswith(OWN_VARIABLES)]
    lines = [f"export {name}={shlex.quote(os.environ[name])}\n" for name in names]
    write_secret(path, "".join(lines))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the lock of the data directory within the block, so that no other demo uses it."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoError(f"Another demo is running with the data in {data}.") from error
        # An earlier version of the demo made these files readable for others.
        for database in data.glob("portal.sqlite3*"):
            database.chmod(OWNER_ONLY)
        yield


@contextmanager
def valkey_in(data: Path) -> Iterator[embedded.Server]:
    """Run an embedded Valkey within the block, with its data in the directory.

    It listens on a port, since a registry cannot use unix sockets, and so it needs a password.
    """
    password = read_or_create(data / "redis-password", lambda: get_random_string(32))
    with embedded.start("--dir", str(data), *VALKEY, password=password) as server:
        yield server


def set_environment(data: Path, start_valkey: Callable[[], str]) -> None:
    """Set the environment variables that the settings read.

    `start_valkey` starts a Valkey and returns its address. It is called only if one is needed.
    """
    hosts = os.environ.get("DJANGO_ALLOWED_HOSTS", "")
    # Overwrite what the shell may have exported for another portal: the demo must not create its
    # superuser in that portal's database.
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        # No debug pages: any web site could make the user's browser request one.
        "DJANGO_DEBUG": "0",
        "DJANGO_STATIC_FINDERS": "1",
        "DJANGO_HTTPS": "0",
        "DJANGO_BEHIND_PROXY": "0",
        "DJANGO_BASIC_AUTH": "1",
        "DJANGO_ALLOWED_HOSTS": f"{HOST},localhost,{hosts}",
        "DJANGO_DATABASE_PATH": str(data / "portal.sqlite3"),
        "DJANGO_SECRET_KEY": read_or_create(data / "secret-key", get_random_secret_key),
    }
    if not os.environ.get("BLOBCACHE_REDIS_URL"):
        url = start_valkey()
        os.environ |= {
            "BLOBCACHE_REDIS_URL": url,
            "BLOBCACHE_STAGING_REDIS_URL": urlsplit(url)._replace(path="/1").geturl(),
            "BLOBCACHE_READ_ONLY": "0",
            "BLOBCACHE_STORAGE": str(registry.storage_in(data)),
        }
    elif os.environ.get("BLOBCACHE_READ_ONLY") != "0" and "BLOBCACHE_CATALOG_URL" not in os.environ:
        os.environ["BLOBCACHE_CATALOG_URL"] = start_valkey()


def prepare(provider: BrowsableProvider, storage: Path) -> None:
    """Write the sample data: the storage of a registry, and the demo's own Redis as its cache."""
    if storage.exists() and provider.catalog.status().is_built:
        return
    if not storage.exists():
        # An earlier version of the demo filled the cache without a storage.
        sample.empty()
    say("Writing the storage of a registry ...")
    sample.write(storage)
    say("Filling the cache from it ...")
    stream = sys.stderr if sys.stderr.isatty() else None
    sample.fill(provider, Progress(stream, "Filling"))


def prepare_staging(production: BrowsableProvider, provider: BrowsableProvider) -> None:
    """Fill the second registry's cache, once."""
    if not provider.catalog.status().is_built:
        staging.fill(production, provider)


class Account(NamedTuple):
    """The superuser's credentials."""

    password: str
    """The text to show: the password, or where it comes from."""

    token: str
    has_staging: bool


def create_superuser(data: Path, *, has_staging: bool) -> Account:
    """Create the superuser, or set the password again if it has been changed.

    With a second registry there is also a user who may view that one alone.
    """
    given = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
    password = given or read_or_create(data / "password", lambda: get_random_string(16))
    user, is_new = get_user_model().objects.update_or_create(
        username=USER, defaults={"is_active": True, "is_staff": True, "is_superuser": True}
    )
    # A check takes a fifth of a second, even of a user who has no password yet.
    if is_new or not user.check_password(password):
        user.set_password(password)
        user.save()
    token, _ = apps.get_model("authtoken", "Token").objects.get_or_create(user=user)
    if has_staging:
        staging.create_viewer(password)
    return Account(
        "that of DJANGO_SUPERUSER_PASSWORD" if given else password, str(token), has_staging
    )


def address_of(redis_url: str) -> str:
    """Return the host and port, or the path of the socket, without credentials."""
    parts = urlsplit(redis_url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path


def welcome(
    url: str, redis: str, account: Account, examples: Iterable[str], environment: Path
) -> None:
    """Print the addresses, the credentials and the example requests."""
    viewer = f"\n  Viewer      {staging.VIEWER}, of staging alone" if account.has_staging else ""
    say(
        f"""
  Admin       {url}/admin/
  User        {USER}{viewer}
  Password    {account.password}

  API         {url}/api/repositories/
  Swagger UI  {url}/api/docs/
  Redis       {redis}
  Storage     {os.environ.get("BLOBCACHE_STORAGE") or "unknown"}

From a shell:
"""
    )
    for arguments in examples:
        say(f"  curl -H 'Authorization: Token {account.token}' {arguments}")
    say("\nmanage.py in another shell, for the same portal:\n")
    say(f"  . {shlex.quote(str(environment))}")
    say(f"  {shlex.quote(sys.executable)} manage.py blobcache check")
    if account.has_staging:
        say(f"  {shlex.quote(sys.executable)} manage.py blobcache status --all-registries")
    say("\nCtrl-C stops the demo.\n")


def find_example(
    provider: BrowsableProvider,
) -> tuple[RepositoryName, Digest] | None:
    """Return a repository and one of its blobs that a stat finds, from the first page of each."""
    for name, blobs in provider.catalog.repositories().repositories:
        if isinstance(name, RepositoryName) and name.is_oci and blobs:
            members = provider.catalog.members(name, limit=10).members
            for record in provider.repository_scoped(name).records(members):
                if record.kind is Kind.OK and isinstance(record.digest, Digest):
                    return name, record.digest
    return None


def requests(
    api: str, example: tuple[RepositoryName, Digest] | None, *, may_write: bool
) -> Iterator[str]:
    """Yield example requests to the API, as arguments of curl."""
    yield f"{api}/status/"
    yield f"'{api}/repositories/?page_size=5'"
    if example:
        name, digest = example
        yield f"{api}/repositories/{name}/blobs/{digest}/"
        yield f"-I {api}/repositories/{name}/blobs/{digest}/"
        yield f"{api}/blobs/{digest}/repositories/"
    if may_write:
        blob = f"{api}/repositories/demo/hello/blobs/{HELLO}/"
        body = f'{{"digest": "{HELLO}", "size": 5, "mediaType": "text/plain"}}'
        yield f"-X PUT -H 'Content-Type: application/json' -d '{body}' {blob}"
        yield f"-X DELETE {blob}"


if __name__ == "__main__":
    main()
