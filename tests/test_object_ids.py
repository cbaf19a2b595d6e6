"""Ids of repositories and blobs of several registries."""

from __future__ import annotations

import pytest

from blobcache.object_ids import object_id, parse_object_id


@pytest.mark.parametrize(
    ("registry", "key", "text"),
    [
        ("default", "team/app", "team/app"),
        ("staging", "team/app", "staging::team/app"),
        ("default", "", ""),
        ("staging", "", "staging::"),
        ("staging", "a::b", "staging::a::b"),
    ],
)
def test_an_id_is_decoded_to_its_registry_and_key(registry: str, key: str, text: str) -> None:
    assert object_id(registry, key) == text
    assert parse_object_id(text) == (registry, key)


def test_no_object_of_the_default_registry_has_a_second_id() -> None:
    assert parse_object_id("default::team/app") == ("default", "default::team/app")
