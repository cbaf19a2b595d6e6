from __future__ import annotations

import pytest

from blobcache.services import memory
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


@pytest.mark.parametrize("ttl", [None, 3600])
def test_a_filled_descriptor_is_unknown_when_its_time_is_over(
    ttl: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(memory, "monotonic", lambda: now)
    provider = MemoryBlobDescriptorCacheProvider(Rules(ttl=ttl))
    provider.set_descriptor(B, make_descriptor(B))
    assert [provider.fill(each, make_descriptor(each), 60) for each in (A, B)] == [True, False]
    now += 59
    assert not provider.fill(A, make_descriptor(A), 60)
    assert set(provider.stat_many([A, B])) == {A, B}
    now += 1
    assert set(provider.stat_many([A, B])) == {B}
    assert provider.fill(A, make_descriptor(A), 60)


@pytest.mark.parametrize(("ttl", "found"), [(None, set()), (3600, {A})])
def test_a_set_keeps_the_expiry_of_a_filled_descriptor_unless_there_is_a_ttl(
    ttl: int | None, found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(memory, "monotonic", lambda: now)
    provider = MemoryBlobDescriptorCacheProvider(Rules(ttl=ttl))
    provider.fill(A, make_descriptor(A), 60)
    provider.set_descriptor(A, make_descriptor(A))
    now += 60
    assert set(provider.stat_many([A])) == found
