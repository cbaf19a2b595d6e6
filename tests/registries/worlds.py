"""Two registries for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.test import override_settings
from redis import Redis

from tests.servers import cache_at

__all__ = ["NOWHERE", "Two", "two_registries"]

NOWHERE = "redis://127.0.0.1:1/0"
"""An address at which nothing listens."""


class Two(NamedTuple):
    """The raw clients of two registries, `default` and `staging`."""

    default: Redis
    staging: Redis


@contextmanager
def two_registries(url: str, **staging: Any) -> Iterator[Two]:
    """Within the block there are two empty registries, in databases 0 and 1 of that server.

    `staging` has other settings of the second one.
    """
    with (
        cache_at(url) as default,
        cache_at(url.removesuffix("0") + "1", "staging") as raw,
        override_settings(
            BLOBCACHE={"default": {}, "staging": {"CACHE_ALIAS": "staging", **staging}}
        ),
    ):
        default.flushall()
        yield Two(default, raw)
