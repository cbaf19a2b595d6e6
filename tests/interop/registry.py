"""CNCF distribution 2.x, as Debian's `docker-registry`, its descriptor cache in a Redis or none.

The registry picks its own port and logs it, so that two never use the same one.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from project import embedded
from tests.interop.client import RegistryClient
from tests.interop.processes import Server, run
from tests.servers import installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Registry", "running_registry"]

LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


class Registry:
    """A registry with deletes enabled, its storage and log in a directory of its own.

    `stop` and `start` again is a restart: storage and cache stay, the address changes.
    """

    def __init__(
        self,
        directory: Path,
        redis: embedded.Server | None,
        *,
        pool_max_idle: int = 16,
        storage: Path | None = None,
        s3: Mapping[str, object] | None = None,
        auth: Mapping[str, object] | None = None,
        events: Mapping[str, object] | None = None,
    ) -> None:
        self._program = str(installed("docker-registry"))
        self._directory = directory
        self._config = directory / "config.json"
        self._server: Server | None = None
        self.storage = storage or directory / "storage"
        """The root of the registry's file system layout (`docker/registry/v2/…`)."""
        driver = {"filesystem": {"rootdirectory": str(self.storage)}} if s3 is None else {"s3": s3}
        settings = self._settings(driver, redis, pool_max_idle)
        if auth is not None:
            settings["auth"] = auth
        if events is not None:
            settings["notifications"] = {"endpoints": [events]}
        self._config.write_text(json.dumps(settings))
        self.client = RegistryClient("")
        """Requests to this registry; a new one with each start."""

    @property
    def address(self) -> str:
        """`host:port` of the running registry."""
        return self.client.address

    @property
    def log(self) -> str:
        """What the registry has logged since its start."""
        return self._server.log if self._server else ""

    def start(self) -> None:
        """Start, and return once `/v2/` answers."""
        server = Server(
            [self._program, "serve", str(self._config)],
            self._directory / "registry.log",
            _environment(),
        )
        self._server = server
        server.wait_until(lambda: LISTENING.search(server.log) is not None)
        match = LISTENING.search(server.log)
        assert match is not None
        self.client = RegistryClient(match[1])
        server.wait_until(self.client.is_up)

    def stop(self) -> None:
        """Stop, if it runs."""
        if self._server is not None:
            self._server.stop()

    def garbage_collect(
        self, *, delete_untagged: bool = False, dry_run: bool = False, must_fail: bool = False
    ) -> str:
        """Remove unreferenced blobs from the storage, beside the running registry.

        Returns what the command says. It fails on a storage that has no repository yet.
        """
        flags = ["--delete-untagged"] * delete_untagged + ["--dry-run"] * dry_run
        command = [self._program, "garbage-collect", *flags, str(self._config)]
        return run(command, _environment(), must_fail=must_fail)

    def _settings(
        self, driver: Mapping[str, object], redis: embedded.Server | None, pool_max_idle: int
    ) -> dict[str, object]:
        storage: dict[str, object] = {
            **driver,
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        }
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": storage,
            "http": {"addr": "127.0.0.1:0", "secret": "interop"},
        }
        if redis is not None:
            storage["cache"] = {"blobdescriptor": "redis"}
            settings["redis"] = {
                "addr": f"127.0.0.1:{redis.port}",
                "db": 0,
                "pool": {"maxidle": pool_max_idle},
            }
        return settings


@contextmanager
def running_registry(
    directory: Path,
    redis: embedded.Server | None = None,
    *,
    pool_max_idle: int = 16,
    storage: Path | None = None,
    s3: Mapping[str, object] | None = None,
    auth: Mapping[str, object] | None = None,
    events: Mapping[str, object] | None = None,
) -> Iterator[Registry]:
    """Run a registry in `directory` for as long as the context lasts.

    `storage` is another directory for its storage, `s3` the section of a storage on S3 instead,
    `auth` that of logins, and `events` that of an endpoint that it sends its notifications to.
    """
    registry = Registry(
        directory,
        redis,
        pool_max_idle=pool_max_idle,
        storage=storage,
        s3=s3,
        auth=auth,
        events=events,
    )
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


def _environment() -> dict[str, str]:
    """Ours without what would override the file (`REGISTRY_*`) or panic the S3 driver."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("REGISTRY_") and name != "AWS_CA_BUNDLE"
    }
