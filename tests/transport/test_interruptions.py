"""An exception that a signal handler raises shifts no reply, wherever it comes.

`interruptions.leave_nothing_behind` without `first` and `step` tries every line, which takes some
minutes; here are some lines of each call.
"""

from __future__ import annotations

from typing import Any

import pytest

from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests import interruptions
from tests.conformance import B
from tests.servers import cache_at
from tests.stores import OTHER_CLIENT, PYTHON_PARSER

WAYS: dict[str, dict[str, Any]] = {
    "packed": {},
    "python parser": PYTHON_PARSER,
    "other client": OTHER_CLIENT,
    "RESP2": {"CONNECTION_POOL_KWARGS": {"protocol": 2}},
}


@pytest.mark.filterwarnings(
    "ignore:.*unclosed:",  # it is closed when nobody knows it any more
    "ignore:Exception ignored in:",  # __del__ is interrupted too
)
@pytest.mark.parametrize("is_new", [True, False], ids=["new connection", "used connection"])
@pytest.mark.parametrize("name", interruptions.CALLS)
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_call_leaves_nothing_behind(
    valkey: embedded.Server, way: str, name: str, is_new: bool
) -> None:
    """Neither replies nor a connection to another database, which has another B."""
    number = list(WAYS).index(way) + interruptions.CALLS.index(name)
    with valkey.client() as other:
        other.flushall()
        other.hset(f"blobs::{B}", mapping={"digest": B, "size": 77})
    with cache_at(valkey.url.removesuffix("0") + "1", **WAYS[way]) as client:
        options = RedisOptions(hold_connections=bool(number % 2))
        provider = RedisBlobDescriptorCacheProvider(options=options)
        prepare = client.connection_pool.disconnect if is_new else lambda: None
        step = 97 if is_new else 31
        assert interruptions.leave_nothing_behind(
            provider, name, prepare, first=7 * number % step, step=step
        )
