from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from tests.warming.worlds import World


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> World:
    return World(tmp_path)
