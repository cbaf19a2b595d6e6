"""What each registry knows of a digest."""

from __future__ import annotations

import pytest
from django.test import override_settings

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.registries.everywhere import Sighting, State, look_everywhere
from blobcache.services import get_browsable
from blobcache.visibility import ALL, Visible
from tests.registries.worlds import NOWHERE, Two
from tests.servers import cache_at

A = Digest(f"sha256:{1:064x}")
FOUND = Descriptor(A, 5, "application/octet-stream")
MEMORY = {"PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"}


def put(registry: str, *repositories: str) -> None:
    for name in repositories:
        get_browsable(registry).repository_scoped(name).set_descriptor(A, FOUND)


def names(sighting: Sighting) -> list[str]:
    assert sighting.holders is not None
    return [holder.name for holder in sighting.holders.holders]


def test_who_has_it_and_who_holds_it(two: Two) -> None:
    put("staging", "a", "b")
    default, staging = look_everywhere(A, {"default": ALL, "staging": ALL}, 100)
    assert (default.registry, default.state, default.descriptor) == ("default", State.UNKNOWN, None)
    assert names(default) == []
    assert (staging.registry, staging.state, staging.descriptor) == ("staging", State.FOUND, FOUND)
    assert names(staging) == ["a", "b"]


def test_only_what_is_visible_in_that_registry(two: Two) -> None:
    put("default", "a", "b")
    put("staging", "a", "b")
    visible = {"default": Visible(("a",)), "staging": Visible(("b",))}
    assert [names(each) for each in look_everywhere(A, visible, 100)] == [["a"], ["b"]]


def test_only_the_first_holders(two: Two) -> None:
    put("default", "a", "b", "c")
    (only,) = look_everywhere(A, {"default": ALL}, limit=2)
    assert names(only) == ["a", "b"]
    assert only.holders is not None
    assert only.holders.next is not None


def test_a_damaged_descriptor(two: Two) -> None:
    two.staging.hset(f"blobs::{A}", mapping={"digest": "x", "size": "x", "mediatype": "x"})
    _, staging = look_everywhere(A, {"default": ALL, "staging": ALL}, 100)
    assert (staging.state, staging.descriptor) == (State.CORRUPT, None)


def test_a_dead_registry_is_unreachable_and_the_others_answer(two: Two) -> None:
    put("default", "a")
    with cache_at(NOWHERE, "staging"):
        default, staging = look_everywhere(A, {"default": ALL, "staging": ALL}, 100)
    assert (default.state, names(default)) == (State.FOUND, ["a"])
    assert staging == Sighting("staging", State.UNREACHABLE)


@pytest.mark.parametrize("wrong", [{"CACHE_ALIAS": "nowhere"}, {"PROVIDER": "no.such.Provider"}])
def test_a_registry_with_wrong_settings_is_unreachable_and_the_others_answer(
    two: Two, wrong: dict[str, str]
) -> None:
    put("default", "a")
    with override_settings(BLOBCACHE={"default": {}, "wrong": wrong}):
        default, staging = look_everywhere(A, {"default": ALL, "wrong": ALL}, 100)
    assert (default.state, names(default)) == (State.FOUND, ["a"])
    assert staging == Sighting("wrong", State.UNREACHABLE)


def test_a_registry_without_an_index(two: Two) -> None:
    with override_settings(BLOBCACHE={"default": {}, "memory": MEMORY}):
        _, memory = look_everywhere(A, {"default": ALL, "memory": ALL}, 100)
    assert memory == Sighting("memory", State.UNKNOWN)
