"""A repair removes nothing that is still needed."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache import signals
from blobcache.conf import Role
from blobcache.doctor.repair import repair
from blobcache.findings import FINDING_KINDS, Finding, Kind, Outcome, Place, Subject
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import STEP
from blobcache.services.rules import Rules
from tests.conformance import make_descriptor
from tests.doctor.damage import InterruptedProvider, contents, digest, write_blob, write_member
from tests.stores import KINDS, store

BLOB = Subject(Place.BLOB, None, digest(1).encode())
MEMBER = Subject(Place.MEMBER, b"a", digest(1).encode())


def test_a_blob_held_only_by_a_repository_after_the_first_thousand_is_referenced(
    default_cache: Redis,
) -> None:
    with default_cache.pipeline(transaction=False) as pipe:
        for number in range(STEP + 1):
            pipe.sadd(f"repository::r/{number:05}::blobs", digest(2))
        pipe.execute()
    write_member(default_cache, "s/last", digest(1))
    provider = RedisBlobDescriptorCacheProvider()
    provider.catalog.reindex()
    assert provider.catalog.status().indexed > 0
    assert repair(provider, Finding(Kind.UNREFERENCED, BLOB)) is Outcome.HEALED
    assert provider.repository_scoped("s/last").stat(digest(1)).size == 5
    assert provider.stat(digest(1)).size == 5


def test_a_repaired_blob_is_not_removed_although_no_repository_holds_it(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    """Only a repair of unreferenced blobs removes it."""
    write_blob(any_store, digest(1), "no number")
    provider.set_descriptor(digest(1), make_descriptor(digest(1), size=77))
    for kind in set(FINDING_KINDS) - {Kind.UNREFERENCED}:
        assert repair(provider, Finding(kind, BLOB)) is Outcome.HEALED
        assert provider.stat(digest(1)).size == 77


@pytest.mark.parametrize("role", ["cache", "primary"])
@pytest.mark.parametrize("state", ["no number", "another digest", "string", "leftover"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_that_has_lost_its_membership_before_the_removal_is_not_repaired(
    kind: str,
    state: str,
    role: Role,
    request: pytest.FixtureRequest,
) -> None:
    """Another program removed only the membership, as a clear in a primary store does."""
    with store(request, kind) as client:
        write_member(client, "a", digest(1), state, "absent")
        client.sadd("repository::a::blobs", digest(2))  # or the set would be gone as well
        signals_sent: list[object] = []

        def receiver(**facts: object) -> None:
            signals_sent.append(facts)

        provider = InterruptedProvider(
            lambda: client.srem("repository::a::blobs", digest(1)), Rules(role=role)
        )
        signals.descriptor_cleared.connect(receiver)
        try:
            assert repair(provider, Finding(Kind.CORRUPT, MEMBER)) is Outcome.HEALED
        finally:
            signals.descriptor_cleared.disconnect(receiver)
        assert signals_sent == []
        assert contents(client).keys() == {
            f"blobs::{digest(1)}".encode(),
            b"repository::a::blobs",
        }
