from __future__ import annotations

import pytest

from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from tests.conformance import A, B, MakeProvider, ProviderConformance, make_descriptor


class TestMemoryProvider(ProviderConformance):
    @pytest.fixture
    def make_provider(self) -> MakeProvider:
        return MemoryBlobDescriptorCacheProvider


def test_the_least_recently_used_descriptor_is_evicted_first() -> None:
    provider = MemoryBlobDescriptorCacheProvider(max_entries=2)
    third = "sha384:" + "d" * 96
    provider.set_descriptor(A, make_descriptor(A))
    provider.set_descriptor(B, make_descriptor(B))
    provider.stat(A)
    provider.set_descriptor(third, make_descriptor(third))
    assert set(provider.stat_many([A, B, third])) == {A, third}


@pytest.mark.parametrize(("ttl", "found"), [(3600, {A}), (0, set())])
@pytest.mark.parametrize("name", [None, "a"])
def test_a_descriptor_is_unknown_when_its_time_is_over(
    ttl: int, found: set[str], name: str | None
) -> None:
    provider = MemoryBlobDescriptorCacheProvider(Rules(ttl=ttl))
    scope = provider if name is None else provider.repository_scoped(name)
    scope.set_descriptor(A, make_descriptor(A))
    assert set(scope.stat_many([A])) == found
