"""Other servers: the portal under granian, and a registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.data import REPOSITORY
from project import embedded

__all__ = ["LOOP", "portal", "registry", "serving", "workers"]

HOST = "127.0.0.1"
START_SECONDS = 20.0
LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")
ROOT = Path(__file__).parent.parent

LOOP = "uvloop" if find_spec("uvloop") else "asyncio"
"""The event loop in which granian runs asynchronous applications."""


def workers(bench: Bench) -> int:
    """Return the number of a portal's worker processes. A short run starts many portals."""
    return bench.scaled(2, 1)


@contextmanager
def portal(
    bench: Bench,
    environment: Mapping[str, str],
    *,
    application: str = "django",
    threads: int = 2,
) -> Iterator[str]:
    """Serve the portal with granian within the block, as `project.wsgi` says; yield `host:port`.

    `application` is one of `benchmarks.applications`. An asynchronous one runs in the event loop
    `LOOP`.
    """
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    is_async = application.startswith("async_")
    threading = [] if is_async else ["--blocking-threads", str(threads)]
    command = [
        *(str(Path(sys.executable).with_name("granian")), "--no-ws", "--http", "1"),
        *("--interface", "asgi" if is_async else "wsgi"),
        *("--host", HOST, "--port", str(port), "--workers", str(workers(bench))),
        *("--loop", LOOP if is_async else "asyncio"),
        *threading,
        *("--respawn-failed-workers", f"benchmarks.applications:{application}"),
    ]
    with _running(command, bench.directory / f"portal-{port}.log", environment) as wait:
        wait(lambda _: _listens(port))
        yield f"{HOST}:{port}"


@contextmanager
def registry(redis: embedded.Server, directory: Path, blob: bytes, digest: str) -> Iterator[str]:
    """Run a registry on that Redis within the block, with the blob; yield `host:port`."""
    storage = directory / "storage"
    root = storage / "docker/registry/v2"
    algorithm, _, hexes = digest.partition(":")
    data = root / f"blobs/{algorithm}/{hexes[:2]}/{hexes}/data"
    link = root / f"repositories/{REPOSITORY}/_layers/{algorithm}/{hexes}/link"
    for path, content in ((data, blob), (link, digest.encode())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with serving(storage, directory, redis) as address:
        yield address


@contextmanager
def serving(storage: Path, directory: Path, redis: embedded.Server | None = None) -> Iterator[str]:
    """Run a registry on that storage within the block; yield `host:port`.

    Its descriptor cache is in that Redis; without one it has none.
    """
    stored: dict[str, object] = {
        "filesystem": {"rootdirectory": str(storage)},
        "maintenance": {"uploadpurging": {"enabled": False}},
    }
    settings: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": stored,
        "http": {"addr": f"{HOST}:0", "secret": "benchmarks"},
    }
    if redis is not None:
        stored["cache"] = {"blobdescriptor": "redis"}
        settings["redis"] = {"addr": f"{HOST}:{redis.port}", "db": 0, "pool": {"maxidle": 16}}
    config = directory / "registry.json"
    config.write_text(json.dumps(settings))
    # What would override the file, or trouble a storage driver that is not used.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("REGISTRY_") and name != "AWS_CA_BUNDLE"
    }
    command = [shutil.which("docker-registry") or "docker-registry", "serve", str(config)]
    with _running(command, directory / "registry.log", environment) as wait:
        wait(lambda log: LISTENING.search(log) is not None)
        match = LISTENING.search((directory / "registry.log").read_text())
        if match is None:
            raise RuntimeError("The registry does not say where it listens.")
        yield match[1]


@contextmanager
def _running(
    command: list[str], log: Path, environment: Mapping[str, str]
) -> Iterator[Callable[[Callable[[str], bool]], None]]:
    """Run the command within the block; yield a function that waits for a condition."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(condition: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition(log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]}:\n{log.read_text(errors='replace')}")
            time.sleep(0.02)

    try:
        yield wait
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Workers that have not stopped with it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True
