from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from project import embedded
from tests.stores import KINDS, store


@pytest.fixture(params=KINDS)
def any_store(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """The raw client of CACHES["default"], a store of each kind in turn, emptied."""
    with store(request, request.param) as client:
        yield client


@pytest.fixture
def observer(valkey: embedded.Server) -> Iterator[Redis]:
    """A client of the same server with connections of its own."""
    with valkey.client() as client:
        yield client
