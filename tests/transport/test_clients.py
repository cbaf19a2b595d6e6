"""Why Redis is not available, according to the error of redis-py."""

from __future__ import annotations

import pytest
from django.test import override_settings
from redis import exceptions

from blobcache.exceptions import CacheUnavailable, Reason
from blobcache.transport.clients import cache_unavailable, handle_for
from tests.stores import CLUSTER


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (exceptions.AuthenticationError("WRONGPASS"), Reason.DENIED),
        (exceptions.NoPermissionError("NOPERM"), Reason.DENIED),
        (exceptions.BusyLoadingError("LOADING"), Reason.LOADING),
        (exceptions.TimeoutError(), Reason.TIMEOUT),
        (exceptions.ReadOnlyError("READONLY"), Reason.REPLICA),
        (exceptions.OutOfMemoryError("OOM"), Reason.FULL),
        (exceptions.ConnectionError("refused"), Reason.DOWN),
        (ConnectionResetError(), Reason.DOWN),
        (exceptions.ResponseError("ERR"), Reason.OTHER),
        (exceptions.RedisClusterException(), Reason.OTHER),
    ],
    ids=repr,
)
def test_the_reason_follows_from_the_error(error: Exception, reason: Reason) -> None:
    assert cache_unavailable(error).reason is reason


def test_the_error_repeats_nothing_of_redis_py_s() -> None:
    assert "secret" not in str(cache_unavailable(exceptions.ConnectionError("secret:6379")))


def test_a_client_that_cannot_be_made_is_unavailable() -> None:
    """A cluster's client asks a node for the others when it is created."""
    cache = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://127.0.0.1:1",
        "OPTIONS": {**CLUSTER, "SOCKET_CONNECT_TIMEOUT": 1},
    }
    with override_settings(CACHES={"default": cache}), pytest.raises(CacheUnavailable):
        handle_for("default", write=True, keep=False)
