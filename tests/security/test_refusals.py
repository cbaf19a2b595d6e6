"""A change that Redis refuses is never reported as done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from blobcache import signals
from blobcache.exceptions import CacheUnavailable
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from project import embedded
from tests.conformance import A, make_descriptor
from tests.servers import cache_at

NAME = "team/app"

Restrict = Callable[[str], None]


@pytest.fixture
def restrict(valkey: embedded.Server) -> Iterator[Restrict]:
    """Forbid one command to the Redis user of the cache."""
    with valkey.client() as client:

        def take_away(command: str) -> None:
            client.execute_command("ACL", "SETUSER", "restricted", f"-{command}")

        client.execute_command(
            "ACL", "SETUSER", "restricted", "reset", "on", "nopass", "~*", "+@all"
        )
        yield take_away
        client.execute_command("ACL", "DELUSER", "restricted")


@pytest.fixture
def cache(restrict: Restrict, valkey: embedded.Server) -> Iterator[Redis]:
    url = valkey.url.replace("redis://", "redis://restricted@")
    with cache_at(url) as client:
        client.flushall()
        yield client


@pytest.mark.parametrize(
    ("repository", "command"),
    [(None, command) for command in ("hmget", "hdel")]
    + [(NAME, command) for command in ("srem", "hmget", "hget", "unlink", "hdel")],
)
def test_a_clear_without_permission_for_one_of_its_commands_fails(
    repository: str | None, command: str, restrict: Restrict, cache: Redis
) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    scope = provider if repository is None else provider.repository_scoped(repository)
    scope.set_descriptor(A, make_descriptor(A))
    restrict(command)
    told: list[dict[str, Any]] = []

    def receiver(**facts: Any) -> None:
        told.append(facts)

    signals.descriptor_cleared.connect(receiver)
    try:
        with pytest.raises(CacheUnavailable):
            scope.clear(A)
    finally:
        signals.descriptor_cleared.disconnect(receiver)
    assert told == []


def test_a_repository_keeps_its_member_if_its_removal_is_refused(
    restrict: Restrict, cache: Redis
) -> None:
    scope = RedisBlobDescriptorCacheProvider().repository_scoped(NAME)
    scope.set_descriptor(A, make_descriptor(A))
    restrict("srem")
    with pytest.raises(CacheUnavailable):
        scope.clear(A)
    assert scope.stat(A).size == make_descriptor(A).size
