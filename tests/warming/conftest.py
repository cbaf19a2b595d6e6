from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from tests.warming.worlds import World


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def world(request: pytest.FixtureRequest, tmp_path: Path, default_cache: Redis) -> World:
    return World(tmp_path, request.param)
