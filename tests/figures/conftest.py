from __future__ import annotations

from tests.redis.conftest import any_store

__all__ = ["any_store"]
