"""The demo: the whole portal on this machine, from nothing, by one command.

    python -m project.demo [--port 8000] [--data var]

It starts an embedded Valkey, makes the database, a superuser and sample data, and serves on the
loopback interface. What it keeps lies in the data directory; without that it begins anew. Ending it
with Ctrl-C, or SIGTERM, leaves nothing running.

Of the variables of `project.settings` those of Redis count here. `BLOBCACHE_REDIS_URL` is the
embedded Valkey, unless it names another server: then nothing is seeded there; and unless
`BLOBCACHE_READ_ONLY=0` stands beside it nothing is ever written there, for the embedded Valkey then
keeps the catalog's index. `DJANGO_SUPERUSER_PASSWORD` is the password of `admin`; without it one is
made up, kept and printed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import NamedTuple
from urllib.parse import urlsplit

import django
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.utils import get_random_secret_key
from django.core.servers.basehttp import (
    ThreadedWSGIServer,
    WSGIRequestHandler,
    get_internal_wsgi_application,
)
from django.utils.crypto import get_random_string

from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable
from blobcache.redis.inspection import State
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services import get_provider
from project import embedded, sample

__all__ = ["main"]

HOST = "127.0.0.1"
PORTS = range(65_536)
USER = "admin"
VAR = Path(__file__).parent.parent / "var"

VALKEY = (
    *("--appendonly", "yes", "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"),
    *("--hash-max-listpack-value", "160"),
)
"""What the embedded Valkey is told: keep the data on disk, and be what a cache should be."""

HELLO = Digest("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
"""The digest of the five bytes ``hello``."""

_OWNER_ONLY, _OTHERS = 0o600, 0o077
"""The mode of the files that the demo writes, and the mode bits of group and others."""


class DemoError(RuntimeError):
    """The demo cannot run; the message says why and what to do."""


def main() -> None:
    """Run the demo until it is told to end."""
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
        say("\nThe demo has ended.")
    except (DemoError, ImproperlyConfigured, embedded.ServerError) as error:
        sys.exit(str(error))


def port_number(text: str) -> int:
    """The port that the text names."""
    if text.isdecimal() and int(text) in PORTS:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a port, which is a number up to {PORTS[-1]}.")


def run(port: int, data: Path) -> None:
    """Prepare everything and serve, until an exception ends it."""
    is_ours = not os.environ.get("BLOBCACHE_REDIS_URL")
    with ExitStack() as stack:
        # Listening comes first: whoever has the port already is noticed before anything starts.
        server = stack.enter_context(listening(port))
        stack.enter_context(alone_in(data))
        set_environment(data, lambda: stack.enter_context(valkey_in(data)).url)
        django.setup()
        call_command("migrate", verbosity=0)
        provider = get_provider()
        if not isinstance(provider, RedisBlobDescriptorCacheProvider):
            raise TypeError("The portal is made for a registry in Redis.")
        try:
            prepare(provider, is_ours=is_ours)
            example = find_example(provider)
        except CacheUnavailable as error:
            say(f"{error} ({error.__cause__})")
            example = None
        url = f"http://{HOST}:{server.server_port}"
        may_write = not provider.rules.read_only
        examples = requests(f"{url}/api", example, may_write=may_write)
        redis = place_of(os.environ["BLOBCACHE_REDIS_URL"]) + ("" if may_write else ", only read")
        # Before the welcome text: an interrupt can get lost while this imports so many modules.
        server.set_app(get_internal_wsgi_application())
        welcome(url, redis, sign_up(data), examples)
        server.serve_forever()


def say(text: str) -> None:
    """Tell the user, now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def listening(port: int) -> Iterator[ThreadedWSGIServer]:
    """Within the block connections to the port are taken, to be answered as soon as we serve."""
    try:
        server = ThreadedWSGIServer((HOST, port), WSGIRequestHandler)
    except OSError as error:
        raise DemoError(
            f"The demo cannot listen on {HOST}:{port}: {error.strerror}. "
            f"Choose another port: make demo PORT={port % PORTS[-1] + 1}"
        ) from error
    with server:
        yield server


@contextmanager
def alone_in(data: Path) -> Iterator[None]:
    """Within the block no other demo uses the directory."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoError(f"Another demo is running with the data in {data}.") from error
        # An earlier version of the demo made these files readable for others.
        for database in data.glob("portal.sqlite3*"):
            database.chmod(_OWNER_ONLY)
        yield


@contextmanager
def valkey_in(data: Path) -> Iterator[embedded.Server]:
    """Within the block an embedded Valkey runs, whose data stays in the directory."""
    with embedded.start("--dir", str(data), *VALKEY, unix=True) as server:
        yield server


def set_environment(data: Path, start_valkey: Callable[[], str]) -> None:
    """Set the variables that the settings are about to read.

    `start_valkey` returns the address of a Valkey, which it starts; not every demo needs one.
    """
    hosts = os.environ.get("DJANGO_ALLOWED_HOSTS", "")
    # Whatever a shell may have exported for another portal: no superuser for that one's database.
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        # Never a debug page: any web site can make the user's browser request one.
        "DJANGO_DEBUG": "0",
        "DJANGO_STATIC_FINDERS": "1",
        "DJANGO_HTTPS": "0",
        "DJANGO_BEHIND_PROXY": "0",
        "DJANGO_BASIC_AUTH": "1",
        "DJANGO_ALLOWED_HOSTS": f"{HOST},localhost,{hosts}",
        "DJANGO_DATABASE_PATH": str(data / "portal.sqlite3"),
        "DJANGO_SECRET_KEY": kept(data / "secret-key", get_random_secret_key),
    }
    if not os.environ.get("BLOBCACHE_REDIS_URL"):
        os.environ |= {"BLOBCACHE_REDIS_URL": start_valkey(), "BLOBCACHE_READ_ONLY": "0"}
    elif os.environ.get("BLOBCACHE_READ_ONLY") != "0" and "BLOBCACHE_CATALOG_URL" not in os.environ:
        os.environ["BLOBCACHE_CATALOG_URL"] = start_valkey()


def kept(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in the file; if there is none, create it and write it there.

    Only the owner may read the file. It is never half written.
    """
    try:
        path.chmod(_OWNER_ONLY)
        text = path.read_text()
    except FileNotFoundError:
        text = ""
    return text.strip() or keep(path, make())


def keep(path: Path, secret: str) -> str:
    """Write the secret to the file in one step, and return it."""
    # mkstemp uses mode 0600, whatever the umask is.
    descriptor, name = mkstemp(dir=path.parent, prefix=f".{path.name}-")
    draft = Path(name)
    try:
        with open(descriptor, "w") as file:  # noqa: PTH123 - an open file
            file.write(secret)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return secret


def prepare(provider: RedisBlobDescriptorCacheProvider, *, is_ours: bool) -> None:
    """Write the sample data into a Redis of ours; another one is only indexed."""
    if not is_ours:
        say("Indexing the repositories ...")
        provider.catalog.reindex()
    elif not provider.catalog.status().complete:
        say("Writing sample data ...")
        sample.fill(provider)


class Account(NamedTuple):
    """How to get in."""

    password: str
    """As it is to be shown."""

    token: str


def sign_up(data: Path) -> Account:
    """Make the superuser, or see to it that the known password is still valid."""
    given = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
    password = given or kept(data / "password", lambda: get_random_string(16))
    user, _ = get_user_model().objects.update_or_create(
        username=USER, defaults={"is_active": True, "is_staff": True, "is_superuser": True}
    )
    if not user.check_password(password):
        user.set_password(password)
        user.save()
    token, _ = apps.get_model("authtoken", "Token").objects.get_or_create(user=user)
    return Account("that of DJANGO_SUPERUSER_PASSWORD" if given else password, str(token))


def place_of(redis_url: str) -> str:
    """Where that Redis is, without what it takes to get in."""
    parts = urlsplit(redis_url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path


def welcome(url: str, redis: str, account: Account, examples: Iterable[str]) -> None:
    """Tell how to get in, in the browser and from a shell."""
    say(
        f"""
  Admin       {url}/admin/
  User        {USER}
  Password    {account.password}

  API         {url}/api/repositories/
  Swagger UI  {url}/api/docs/
  Redis       {redis}

From a shell:
"""
    )
    for arguments in examples:
        say(f"  curl -H 'Authorization: Token {account.token}' {arguments}")
    say("\nCtrl-C ends the demo.\n")


def find_example(
    provider: RedisBlobDescriptorCacheProvider,
) -> tuple[RepositoryName, Digest] | None:
    """A repository and a blob in it that a stat finds, if there is one near at hand."""
    for name, blobs in provider.catalog.repositories().repositories:
        if isinstance(name, RepositoryName) and name.is_oci and blobs:
            members = provider.catalog.members(name, limit=10).members
            for record in provider.repository_scoped(name).inspect(members):
                if record.state is State.OK and isinstance(record.digest, Digest):
                    return name, record.digest
    return None


def requests(
    api: str, example: tuple[RepositoryName, Digest] | None, *, may_write: bool
) -> Iterator[str]:
    """Requests to try the API with, as the arguments of curl."""
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
