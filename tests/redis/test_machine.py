"""Random calls, in random order, compared with a model that does not use Redis."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from blobcache.conf import Role
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, DigestMismatch
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.base import BlobDescriptorCacheProvider, BlobDescriptorService
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from tests.conformance import purge
from tests.stores import KINDS, store

DIGESTS = [
    *(Digest("sha256:" + letter * 64) for letter in "abc"),
    *(Digest("sha512:" + letter * 128) for letter in "de"),
]
REPOSITORIES = ["one", "two/parts", "three.dots-and__more"]
MEDIA_TYPES = ["application/octet-stream", "application/vnd.oci.image.config.v1+json", "x"]

scopes = st.sampled_from([None, *REPOSITORIES])
digests = st.sampled_from(DIGESTS)


class Model:
    """The simplest implementation of the design: two dictionaries."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.blobs: dict[Digest, Descriptor] = {}
        self.overrides: dict[tuple[str, Digest], str] = {}

    def stat(self, scope: str | None, digest: Digest) -> Descriptor | None:
        blob = self.blobs.get(digest)
        if scope is None or blob is None:
            return blob
        override = self.overrides.get((scope, digest))
        return Descriptor(blob.digest, blob.size, override) if override else None

    def set(self, scope: str | None, digest: Digest, new: Descriptor) -> None:
        keys = {digest} if scope is None else {digest, new.digest}
        for key in keys:
            first = self.blobs.get(key, new).media_type
            self.blobs[key] = Descriptor(new.digest, new.size, first)
            if scope is not None:
                assert new.media_type
                self.overrides[scope, key] = new.media_type

    def clear(self, scope: str | None, digest: Digest) -> bool:
        if scope is None:
            return self.blobs.pop(digest, None) is not None
        if self.overrides.pop((scope, digest), None) is None:
            return False
        if self.role == "cache":
            self.blobs.pop(digest, None)
        return True


class Machine(RuleBasedStateMachine):
    """One provider and the model, which get the same calls."""

    provider: BlobDescriptorCacheProvider
    model: Model

    def scope(self, name: str | None) -> BlobDescriptorService:
        return self.provider if name is None else self.provider.repository_scoped(name)

    @rule(
        scope=scopes,
        digest=digests,
        of=digests,
        size=st.integers(0, 2**63 - 1),
        media_type=st.sampled_from(MEDIA_TYPES),
    )
    def set(
        self, scope: str | None, digest: Digest, of: Digest, size: int, media_type: str
    ) -> None:
        descriptor = Descriptor(of, size, media_type)
        if of != digest and of.algorithm == digest.algorithm:
            with pytest.raises(DigestMismatch):
                self.scope(scope).set_descriptor(digest, descriptor)
            return
        before = self.model.stat(scope, digest)
        result = self.scope(scope).set_descriptor(digest, descriptor)
        self.model.set(scope, digest, descriptor)
        assert result.before == before
        assert result.created == (before is None)
        assert result.descriptor == self.model.stat(scope, digest)

    @rule(scope=scopes, digest=digests)
    def clear(self, scope: str | None, digest: Digest) -> None:
        before = self.model.stat(scope, digest)
        if self.model.clear(scope, digest):
            assert self.scope(scope).clear(digest) == before
        else:
            with pytest.raises(BlobUnknown):
                self.scope(scope).clear(digest)

    @rule(digest=digests)
    def purge(self, digest: Digest) -> None:
        holders = {name for name in REPOSITORIES if (name, digest) in self.model.overrides}
        assert purge(self.provider, digest) == holders
        self.model.clear(None, digest)
        for name in holders:
            self.model.clear(name, digest)

    @rule(scope=scopes, digest=digests)
    def stat(self, scope: str | None, digest: Digest) -> None:
        expected = self.model.stat(scope, digest)
        if expected is None:
            with pytest.raises(BlobUnknown):
                self.scope(scope).stat(digest)
        else:
            assert self.scope(scope).stat(digest) == expected

    @invariant()
    def every_batch_agrees(self) -> None:
        for scope in (None, *REPOSITORIES):
            expected = {each: self.model.stat(scope, each) for each in DIGESTS}
            found = self.scope(scope).stat_many(DIGESTS)
            assert found == {key: value for key, value in expected.items() if value}


def run(provider: BlobDescriptorCacheProvider, role: Role) -> None:
    """Try the provider, emptied each time, in some random walks."""

    class OnProvider(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.provider = provider
            self.model = Model(role)
            for digest in DIGESTS:
                purge(provider, digest)

    run_state_machine_as_test(
        OnProvider,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )


ROLES: tuple[Role, ...] = ("cache", "primary")


@pytest.mark.long(few=1)
@pytest.mark.parametrize(
    ("kind", "role"),
    # The rules of a role do not know the kind of store. So each kind has one role, in turn.
    [("valkey", ROLES[1]), *zip(KINDS, itertools.cycle(ROLES), strict=False)],
)
def test_redis_agrees_with_the_model(kind: str, role: Role, request: pytest.FixtureRequest) -> None:
    with store(request, kind):
        run(RedisBlobDescriptorCacheProvider(Rules(role=role)), role)


@pytest.mark.parametrize("role", ROLES)
def test_memory_agrees_with_the_model(role: Role) -> None:
    run(MemoryBlobDescriptorCacheProvider(Rules(role=role)), role)
