"""The demo's registry: serves the demo's storage, with the demo's Redis as its cache.

    python -m project.registry [--port 5000] [--data var]

It needs the program `docker-registry`, which is distribution 2.8, and a running demo, which writes
the registry's configuration into the data directory. Anybody on this machine may push, pull and
delete. Ctrl-C stops the registry.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from project.files import VAR, port_number, say, write_secret

__all__ = ["configured", "main", "storage_in"]

PROGRAM = "docker-registry"
HOST = "127.0.0.1"


def storage_in(data: Path) -> Path:
    """Return the registry's ``rootdirectory`` in a data directory."""
    return data / "registry"


@contextmanager
def configured(data: Path, redis_url: str) -> Iterator[None]:
    """Have a configuration in the data directory within the block. Only its owner can read it."""
    redis = urlsplit(redis_url)
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(storage_in(data))},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "redis"},
            # Else it looks for old uploads at each start.
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "redis": {
            "addr": f"{redis.hostname}:{redis.port}",
            "password": unquote(redis.password or ""),
            "db": 0,
        },
        "http": {"addr": f"{HOST}:5000", "secret": os.urandom(16).hex()},
    }
    # JSON is YAML too.
    write_secret(_configuration(data), json.dumps(settings, indent=2))
    try:
        yield
    finally:
        _configuration(data).unlink(missing_ok=True)


def main() -> None:
    """Become the registry. Exits with a sentence if it cannot run."""
    parser = ArgumentParser(prog="python -m project.registry", description="Run the registry.")
    parser.add_argument("--port", type=port_number, default=5000, help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=VAR, help="directory; default: %(default)s")
    options = parser.parse_args()
    data = options.data.resolve()
    program = shutil.which(PROGRAM)
    if program is None:
        sys.exit(
            f"{PROGRAM} is not installed. Install distribution 2.8, on Debian and Ubuntu with: "
            f"apt install {PROGRAM}"
        )
    if not _configuration(data).exists():
        sys.exit(
            f"No demo is running with the data in {data}, or it uses another Redis. Start it in "
            "another shell: make demo"
        )
    try:
        with socket.create_server((HOST, options.port)):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        sys.exit(
            f"The registry cannot listen on {HOST}:{options.port}: {reason}. "
            "Choose another port: make registry REGISTRY_PORT=5001"
        )
    address = f"{HOST}:{options.port}"
    say(
        f"""
  Registry    {address}
  Storage     {storage_in(data)}

From a shell:

  skopeo copy --src-tls-verify=false docker://{address}/shop/cart:1 oci:cart:1
  skopeo copy --dest-tls-verify=false oci:cart:1 docker://{address}/demo/cart:1

Ctrl-C stops the registry.
"""
    )
    # Variables of this kind override the configuration.
    env = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    os.umask(0o077)
    command = [program, "serve", str(_configuration(data))]
    env["REGISTRY_HTTP_ADDR"] = address
    # No shell is involved, and `which` has found the program.
    os.execve(program, command, env)  # noqa: S606 # nosec B606


def _configuration(data: Path) -> Path:
    return data / "registry.json"


if __name__ == "__main__":
    main()
