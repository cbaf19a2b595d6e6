"""What a registry pushes is in lists at once while ``watch`` runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from blobcache.digest import Digest
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from project import embedded
from tests.interop.copying import Oras
from tests.interop.oci import Image
from tests.interop.processes import Server, wait_until
from tests.interop.registry import Registry
from tests.management.running import ROOT, environment
from tests.servers import cache_at


@pytest.fixture
def watch(
    tmp_path: Path, redis_server: embedded.Server, redis_client: redis.Redis
) -> Iterator[Server]:
    """``manage.py blobcache watch`` on the registry's Redis, which sends events."""
    redis_client.config_set("notify-keyspace-events", "Esg")
    command = [
        sys.executable,
        "-W",
        "error",
        str(ROOT / "manage.py"),
        "blobcache",
        "watch",
        "--json",
    ]
    server = Server(command, tmp_path / "watch.log", environment(redis_server))
    try:
        server.wait_until(lambda: '"state": "watching"' in server.log)
        yield server
    finally:
        server.stop()


def test_a_push_is_in_lists_and_holders_without_a_build(
    tmp_path: Path,
    images: tuple[Image, Image],
    redis_server: embedded.Server,
    registry: Registry,
    oras: Oras,
    watch: Server,
) -> None:
    with cache_at(redis_server.url):
        # No list builds the index in this test.
        catalog = RedisBlobDescriptorCacheProvider(budgets=Budgets(fresh=3600)).catalog

        def listed() -> list[str]:
            return [row.name for row in catalog.repositories().repositories]

        begun = catalog.status().begun
        assert listed() == []
        layout = images[0].write_layout(tmp_path / "app", "v1")
        for number, name in enumerate(("team/app", "team/copy")):
            oras.push(layout, "v1", registry.address, name)
            wait_until(lambda number=number: len(listed()) > number, f"{name} in the list")  # type: ignore[misc]
        assert listed() == ["team/app", "team/copy"]
        layer = images[0].layers[0].digest
        assert [holder.name for holder in catalog.holders(Digest(layer)).holders] == listed()
        wait_until(lambda: catalog.status().is_watched, "a mark")
        assert catalog.status().complete
        assert catalog.status().begun == begun
    watch.stop()
    assert "Traceback" not in watch.log
