"""A finding of corrupt data has the part that is corrupt, and the stored value."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.doctor.judge import invalid_name_finding
from blobcache.exceptions import DescriptorCorrupt
from blobcache.findings import Kind, Part, Place
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.conformance import A
from tests.doctor.damage import findings, write_member

APP = "application/x"

BLOB, OVERRIDE = f"blobs::{A}", f"repository::a::blobs::{A}"

SOUND: dict[str, str] = {"digest": A, "size": "5", "mediatype": APP}

DAMAGES: dict[Part, tuple[str, dict[str, str] | None, str | None]] = {
    Part.KEY: (BLOB, None, None),
    Part.DIGEST: (BLOB, {**SOUND, "digest": "sha256:beef"}, "sha256:beef"),
    Part.SIZE: (BLOB, {**SOUND, "size": "5 MB"}, "5 MB"),
    Part.MEDIA_TYPE: (BLOB, {**SOUND, "mediatype": "a\x00b"}, r"a\x00b"),
    Part.OVERRIDE_KEY: (OVERRIDE, None, None),
    Part.OVERRIDE: (OVERRIDE, {"mediatype": "a\x00b"}, r"a\x00b"),
}
"""For each part a key, what it holds (None: a string instead of a hash), and what is reported."""


@pytest.mark.parametrize("part", DAMAGES)
def test_a_finding_has_the_part_that_fails_to_parse(part: Part, default_cache: Redis) -> None:
    key, stored, reported = DAMAGES[part]
    write_member(default_cache, "a", A)
    default_cache.delete(key)
    if stored is None:
        default_cache.set(key, "x")
    for field, value in (stored or {}).items():
        default_cache.hset(key, field, value)
    provider = RedisBlobDescriptorCacheProvider()
    with pytest.raises(DescriptorCorrupt) as caught:
        provider.repository_scoped("a").stat(A)
    assert (caught.value.kind, caught.value.part) == (Kind.CORRUPT, part)
    found = findings(provider)[f"corrupt/member/a/{A}"]
    assert found.facts == {"part": part} | ({} if reported is None else {"stored": reported})


@pytest.mark.parametrize(
    ("repository", "part", "reported"),
    [("a", Part.MEMBER, "junk"), ("Not A Name", Part.NAME, "Not A Name")],
)
def test_the_invalid_name_of_a_repository_is_reported_before_its_invalid_member(
    repository: str, part: Part, reported: str
) -> None:
    found = invalid_name_finding(Place.MEMBER, repository.encode(), b"junk")
    assert found.facts == {"part": part, "stored": reported}
