"""A clear that stops half way is finished by the next one, whatever step it stopped after.

An override without a membership is the mark of what is left to clear. The original registry has no
such rule: it answers that the blob is unknown, and the rest stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from redis import Redis

from blobcache.exceptions import BlobUnknown, CacheUnavailable
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.servers import cache_at
from tests.stores import KINDS, store

SET, HASH = b"repository::a::blobs", b"blobs::" + A.encode()
OVERRIDE = SET + b"::" + A.encode()

Damage = Callable[[Any], object]

STATES: dict[str, Damage] = {
    "whole": lambda _: None,
    "override evicted": lambda raw: raw.delete(OVERRIDE),
    "set of the wrong type": lambda raw: (raw.delete(SET), raw.set(SET, "text")),
    "hash of the wrong type": lambda raw: (raw.delete(HASH), raw.set(HASH, "text")),
    "override of the wrong type": lambda raw: (raw.delete(OVERRIDE), raw.set(OVERRIDE, "text")),
}
"""What was damaged, by other programs, before the clear."""


def exist(raw: Redis) -> set[bytes]:
    return {key for key in (SET, HASH, OVERRIDE) if raw.exists(key)}


class TestLeftovers:
    def test_an_override_without_a_membership_is_cleared(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        repository = provider.repository_scoped("a")
        repository.set_descriptor(B, make_descriptor(B))
        repository.set_descriptor(A, make_descriptor(A))
        any_store.srem(SET, A)
        assert repository.clear(A) is None
        assert exist(any_store) == {SET}
        with pytest.raises(BlobUnknown):
            repository.clear(A)
        assert repository.stat(B) == make_descriptor(B)

    @pytest.mark.parametrize("kind", ["valkey", "cluster"])
    def test_a_primary_store_keeps_the_global_descriptor(
        self, request: pytest.FixtureRequest, kind: str
    ) -> None:
        with store(request, kind) as raw:
            repository = RedisBlobDescriptorCacheProvider(Rules(role="primary"))
            repository.repository_scoped("a").set_descriptor(A, make_descriptor(A))
            raw.srem(SET, A)
            assert repository.repository_scoped("a").clear(A) is None
            assert exist(raw) == {HASH}

    @pytest.mark.parametrize("kind", ["valkey", "cluster"])
    def test_without_an_override_the_blob_is_unknown_and_its_descriptor_stays(
        self, request: pytest.FixtureRequest, kind: str
    ) -> None:
        """Another repository may need it."""
        with store(request, kind) as raw:
            provider = RedisBlobDescriptorCacheProvider()
            provider.set_descriptor(A, make_descriptor(A))
            with pytest.raises(BlobUnknown):
                provider.repository_scoped("a").clear(A)
            assert exist(raw) == {HASH}


@contextmanager
def forbidden(nodes: list[embedded.Server], command: str) -> Iterator[None]:
    """Within the block, the user `writer` may not use this command."""
    for node in nodes:
        with node.client() as client:
            client.acl_setuser(
                "writer",
                enabled=True,
                reset=True,
                passwords=["+secret"],
                keys=["*"],
                categories=["+@all"],
                commands=[f"-{command}"],
            )
    try:
        yield
    finally:
        for node in nodes:
            with node.client() as client:
                client.acl_deluser("writer")


@pytest.mark.parametrize("kind", ["valkey", "cluster"])
@pytest.mark.parametrize("refused", ["srem", "hdel", "unlink", "eval"])
def test_the_next_clear_finishes_one_that_was_refused_half_way(
    request: pytest.FixtureRequest, kind: str, refused: str
) -> None:
    fixture, options = KINDS[kind]
    server = request.getfixturevalue(fixture)
    nodes = list(server.nodes) if isinstance(server, embedded.Cluster) else [server]
    url = server.url.replace("://", "://writer:secret@")
    with store(request, kind) as raw, forbidden(nodes, refused), cache_at(url, "writer", **options):
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("a")
        writer = RedisBlobDescriptorCacheProvider(options=RedisOptions(cache_alias="writer"))
        for name, damage in STATES.items():
            if name == "override evicted" and kind == "valkey":
                continue  # nothing but a missing permission interrupts a script
            repository.set_descriptor(A, make_descriptor(A))
            damage(raw)
            with suppress(CacheUnavailable):
                writer.repository_scoped("a").clear(A)
            with suppress(BlobUnknown):
                repository.clear(A)
            assert exist(raw) == set(), name
