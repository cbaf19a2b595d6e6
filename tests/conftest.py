"""The servers that tests run against, one of each a session, and how tests get a clean one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils.translation import get_language
from redis import Redis

from project import embedded
from tests.servers import Encrypted, cache_at, encrypted, installed
from tests.stores import KINDS, store


@pytest.fixture(scope="session")
def valkey() -> Iterator[embedded.Server]:
    """The embedded Valkey. It is everybody's: use `default_cache` for a clean one."""
    with embedded.start() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[embedded.Server]:
    """The system's redis-server, where there is one. It is everybody's too."""
    with embedded.start(binary=installed("redis-server")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """Another one of it, that speaks TLS."""
    with encrypted(tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[embedded.Cluster]:
    """Three embedded primaries that share the slots. They are everybody's too."""
    with embedded.cluster() as nodes:
        yield nodes


@pytest.fixture(scope="session")
def sentinels() -> Iterator[embedded.Sentinels]:
    """An embedded primary and its replica under three Sentinels. They are everybody's too."""
    with embedded.sentinels() as watched:
        yield watched


@pytest.fixture(autouse=True)
def _language_is_restored() -> Iterator[None]:
    """A test that leaves another language active fails, and not the next one."""
    before = get_language()
    yield
    assert (get_language() or "")[:2] == (before or "")[:2]


@pytest.fixture
def default_cache(valkey: embedded.Server) -> Iterator[Redis]:
    """The raw client of CACHES["default"], which is the embedded Valkey, emptied."""
    with cache_at(valkey.url) as client:
        client.flushall()
        yield client


@pytest.fixture(params=KINDS)
def any_store(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """The raw client of CACHES["default"], a store of each kind in turn, emptied."""
    with store(request, request.param) as client:
        yield client
