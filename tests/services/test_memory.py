from __future__ import annotations

import pytest

from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from tests.conformance import A, B, MakeProvider, ProviderConformance, of


class TestMemoryProvider(ProviderConformance):
    @pytest.fixture
    def make_provider(self) -> MakeProvider:
        return MemoryBlobDescriptorCacheProvider


def test_the_least_recently_used_descriptor_is_evicted_first() -> None:
    provider = MemoryBlobDescriptorCacheProvider(max_entries=2)
    third = "sha384:" + "d" * 96
    provider.set_descriptor(A, of(A))
    provider.set_descriptor(B, of(B))
    provider.stat(A)
    provider.set_descriptor(third, of(third))
    assert set(provider.stat_many([A, B, third])) == {A, third}
