"""What garbage collections print: eleven real outputs, of versions 2.8.3 and 3.1.1."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.doctor.collection import (
    MAX_UNKNOWN,
    Collection,
    Link,
    clear_links,
    find_aliases,
    read_collection,
)
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from tests.conformance import A, B, make_descriptor

GC = Path(__file__).parent / "gc"
LOGS = sorted(GC.glob("*.log"))
SHA512 = Digest(f"sha512:{'5' * 128}")


def read(name: str) -> Collection:
    with (GC / f"{name}.log").open("rb") as file:
        return read_collection(file)


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_every_line_of_a_real_output_is_known(log: Path) -> None:
    collection = read(log.stem)
    assert collection.unknown == ()
    assert collection.unknown_count == 0


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_the_blobs_are_as_many_as_the_output_says(log: Path) -> None:
    collection = read(log.stem)
    sums = [line for line in log.read_text().splitlines() if " blobs marked, " in line]
    said = int(sums[0].split()[3]) if sums else 0  # one of them failed before it had counted
    assert len(collection.blobs) == said


def test_what_is_marked_is_never_cleared() -> None:
    for log in LOGS:
        collection = read(log.stem)
        marked = {
            line.split()[-1] for line in log.read_text().splitlines() if ": marking blob" in line
        }
        assert marked.isdisjoint(collection.blobs)


def test_a_link_is_named_once_with_its_repository() -> None:
    """Version 3.1.1 prints a link twice where two digests lead to it."""
    first, second = read("3.1.1-alias").links
    assert (first.repository, second.repository) == ("aaa/first", "team/base")
    assert second.digest in read("3.1.1-alias").blobs


@pytest.mark.parametrize(
    "line",
    [
        b"blob eligible for deletion: sha256:123",
        b"blob eligible for deletion:",
        b"blob eligible for deletion: " + A.encode() + b" and more",
        b" blob eligible for deletion: " + A.encode(),
        b"Not A Name: layer link eligible for deletion: " + A.encode(),
        b"\xff: layer link eligible for deletion: " + A.encode(),
        b"config eligible for deletion: " + A.encode(),
        b"3 blobs marked, 1 blobs and 0 manifests eligible for deletion, or so",
        b"blob eligible for deletion: " + A.encode() + b"\x00",
        b"deletion" * 100_000,
    ],
)
def test_a_line_of_another_form_is_reported_and_clears_nothing(line: bytes) -> None:
    collection = read_collection([line, b"blob eligible for deletion: " + B.encode() + b"\r\n"])
    assert collection.blobs == (B,)
    assert collection.links == ()
    assert collection.unknown_count == len(collection.unknown) == 1
    assert collection.unknown[0].isprintable()
    assert len(collection.unknown[0]) < 300


def test_only_the_first_unknown_lines_are_kept() -> None:
    collection = read_collection([b"deletion"] * 1000)
    assert len(collection.unknown) == MAX_UNKNOWN
    assert collection.unknown_count == 1000


def test_aliases_are_found_by_the_blobs_that_they_name(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    provider.repository_scoped("c").set_descriptor(SHA512, make_descriptor(A))
    provider.set_descriptor(B, make_descriptor(B))
    any_store.hset(f"blobs::sha512:{'6' * 128}", "digest", "rubbish")
    assert list(find_aliases(provider, [Digest(A)])) == [SHA512]
    assert list(find_aliases(provider, [Digest(B)])) == []
    assert list(find_aliases(provider, [])) == []


def test_a_link_is_cleared_in_its_repository_alone(
    provider: RedisBlobDescriptorCacheProvider, any_store: Redis
) -> None:
    for name in ("a", "b"):
        provider.repository_scoped(name).set_descriptor(B, make_descriptor(B))
    link = Link(RepositoryName("a"), Digest(B))
    assert list(clear_links(provider, [link, Link(RepositoryName("c"), Digest(B))])) == [link]
    assert not any_store.sismember("repository::a::blobs", B)
    assert any_store.sismember("repository::b::blobs", B)
    assert list(clear_links(provider, [link])) == [], "again"
