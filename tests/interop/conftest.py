"""A registry and its Redis for each test, new and empty, and two images to push."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from project import embedded
from tests.interop.copying import Oras, Pushed, Skopeo
from tests.interop.oci import Image, build_layer
from tests.interop.registry import Registry, running_registry
from tests.servers import installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def images() -> tuple[Image, Image]:
    """Two images: the first layer is the same blob, all else differs."""
    base = build_layer({"etc/os-release": b"ID=interop\n", "bin/sh": b"#!" * 4096})
    app = build_layer({"srv/app.py": b"print('app')\n"})
    web = build_layer({"srv/web.py": b"print('web')\n", "srv/static/logo": bytes(range(256))})
    return Image((base, app), {"name": "app"}), Image((base, web), {"name": "web"})


@pytest.fixture
def redis_server() -> Iterator[embedded.Server]:
    """A Redis for this test only, on TCP: a registry 2.x cannot use unix sockets."""
    with embedded.start(binary=installed("redis-server")) as server:
        yield server


@pytest.fixture
def redis_client(redis_server: embedded.Server) -> Iterator[redis.Redis]:
    """A plain client of `redis_server` that answers in str."""
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def registry(tmp_path: Path, redis_server: embedded.Server) -> Iterator[Registry]:
    """A registry for this test only, its descriptor cache in `redis_server`."""
    directory = tmp_path / "registry"
    directory.mkdir()
    with running_registry(directory, redis_server) as running:
        yield running


@pytest.fixture
def oras(tmp_path: Path) -> Oras:
    """`oras`, without any credentials."""
    return Oras(tmp_path / "home")


@pytest.fixture
def skopeo(tmp_path: Path) -> Skopeo:
    """`skopeo`, without any credentials."""
    return Skopeo(tmp_path / "home")


@pytest.fixture
def pushed(
    tmp_path: Path,
    images: tuple[Image, Image],
    registry: Registry,
    oras: Oras,
    skopeo: Skopeo,
) -> tuple[Pushed, Pushed]:
    """Both images in the registry: `team/app:v1` by oras, `team/web:v1` by skopeo."""
    app, web = Pushed("team/app", "v1", images[0]), Pushed("team/web", "v1", images[1])
    layout = app.image.write_layout(tmp_path / "app", app.tag)
    oras.push(layout, app.tag, registry.address, app.repository)
    layout = web.image.write_layout(tmp_path / "web", web.tag)
    skopeo.push(layout, web.tag, registry.address, web.repository)
    return app, web
