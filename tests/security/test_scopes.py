"""The characters of a name decide its scope, even if a string claims to equal another one."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.exceptions import BlobUnknown
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.conformance import A, make_descriptor

PUBLIC, SECRET = "team/public", "team/secret"


class Disguised(str):
    """A name that equals another one."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == PUBLIC or str.__eq__(self, PUBLIC)

    def __hash__(self) -> int:
        return hash(PUBLIC)


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    found = RedisBlobDescriptorCacheProvider()
    found.repository_scoped(SECRET).set_descriptor(A, make_descriptor(A))
    assert Disguised(SECRET) == PUBLIC
    return RedisBlobDescriptorCacheProvider()


@pytest.mark.parametrize("kind", [str, Disguised])
def test_a_name_that_equals_another_does_not_get_its_scope(
    kind: type[str], provider: RedisBlobDescriptorCacheProvider
) -> None:
    assert str(provider.repository_scoped(kind(PUBLIC)).repository) == PUBLIC
    scope = provider.repository_scoped(Disguised(SECRET))
    assert str(scope.repository) == SECRET
    assert scope.stat(A) == make_descriptor(A)


@pytest.mark.parametrize("kind", [str, Disguised])
def test_its_own_scope_is_not_cached_under_the_other_name(
    kind: type[str], provider: RedisBlobDescriptorCacheProvider
) -> None:
    assert provider.repository_scoped(Disguised(SECRET)).stat(A) == make_descriptor(A)
    with pytest.raises(BlobUnknown):
        provider.repository_scoped(kind(PUBLIC)).stat(A)
