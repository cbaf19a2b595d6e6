from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from django.test import override_settings
from redis import Redis

from project import embedded
from tests.servers import cache_at

__all__ = ["NOWHERE", "Two"]

NOWHERE = "redis://127.0.0.1:1/0"
"""An address at which nothing listens."""


class Two(NamedTuple):
    """The raw clients of two registries, `default` and `staging`, both empty."""

    default: Redis
    staging: Redis


@pytest.fixture
def two(valkey: embedded.Server) -> Iterator[Two]:
    """Two registries in two databases of one server."""
    with (
        cache_at(valkey.url) as default,
        cache_at(valkey.url.removesuffix("0") + "1", "staging") as staging,
        override_settings(
            BLOBCACHE={"default": {}, "staging": {"CACHE_ALIAS": "staging"}},
        ),
    ):
        default.flushall()
        yield Two(default, staging)
