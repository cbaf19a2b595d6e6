from __future__ import annotations

import pytest

from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
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
