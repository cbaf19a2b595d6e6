from __future__ import annotations

from collections.abc import Iterator

import pytest

from project import embedded
from tests.registries.worlds import Two, two_registries


@pytest.fixture
def two(valkey: embedded.Server) -> Iterator[Two]:
    """Two registries in two databases of one server."""
    with two_registries(valkey.url) as clients:
        yield clients
