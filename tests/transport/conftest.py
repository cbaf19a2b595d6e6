from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from project import embedded


@pytest.fixture
def observer(valkey: embedded.Server) -> Iterator[Redis]:
    """A client of the same server with separate connections."""
    with valkey.client() as client:
        yield client
