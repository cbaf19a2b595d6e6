"""A registry that sends its notifications to this app."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from redis import Redis

from project import embedded
from tests.backends.truth import storage_as_truth
from tests.interop.copying import Oras
from tests.interop.keyspace import blob_key, members_key
from tests.interop.oci import Image
from tests.interop.registry import Registry, running_registry
from tests.servers import cache_at

SECRET = "s3cret"


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def portal(tmp_path: Path, redis_server: embedded.Server) -> Iterator[WSGIServer]:
    """This app, with a cache and a storage that the registry shares."""
    with (
        cache_at(redis_server.url),
        storage_as_truth(tmp_path / "registry" / "storage", NOTIFICATIONS_TOKEN=SECRET),
        override_settings(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF="tests.notifications.urls"),
    ):
        server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def registry(
    tmp_path: Path, redis_server: embedded.Server, portal: WSGIServer
) -> Iterator[Registry]:
    events = {
        "name": "portal",
        "url": f"http://127.0.0.1:{portal.server_port}/events/",
        "headers": {"Authorization": [f"Bearer {SECRET}"]},
        "timeout": "5s",
        "threshold": 5,
        "backoff": "200ms",
    }
    directory = tmp_path / "registry"
    directory.mkdir()
    with running_registry(directory, redis_server, events=events) as running:
        yield running


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "no notification has arrived"
        time.sleep(0.02)


def test_a_registry_tells_of_its_changes(
    registry: Registry,
    redis_client: Redis,
    images: tuple[Image, Image],
    oras: Oras,
    tmp_path: Path,
) -> None:
    image, client = images[0], registry.client
    layout = image.write_layout(tmp_path / "app", "v1")
    oras.push(layout, "v1", registry.address, "team/app")
    layer = image.layers[0].digest

    # A mount writes nothing to the cache: the notification does.
    assert client.mount_blob("team/copy", layer, "team/app").status == 201
    until(lambda: redis_client.sismember(members_key("team/copy"), layer))

    # Up to 2.8.3 a delete leaves the member; the notification clears it.
    assert client.delete_blob("team/app", layer).status == 202
    until(lambda: not redis_client.sismember(members_key("team/app"), layer))
    assert client.get_blob("team/copy", layer).body == image.layers[0].content
    assert client.get_blob("team/app", layer).status == 404

    # Nor does it clear the descriptor of a deleted manifest, which loses the next push.
    manifest = image.manifest.digest
    client.get_manifest("team/app", "v1")
    assert redis_client.exists(blob_key(manifest))
    assert client.delete_manifest("team/app", manifest).status == 202
    until(lambda: not redis_client.exists(blob_key(manifest)))
