"""What changes between the two looks, and what a warm then takes back."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.exceptions import BackendUnavailable
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from blobcache.warming.report import Outcome
from tests.backends.cases import data, layer_link
from tests.warming.test_warm import CONFIG_TYPE, OTHER, everywhere, stats
from tests.warming.worlds import TEAM, World

ADDED, KNOWN, TAKEN_BACK = Outcome.ADDED, Outcome.KNOWN, Outcome.TAKEN_BACK


@pytest.fixture
def provider() -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


def test_a_delete_in_flight_is_taken_back(world: World, default_cache: Redis) -> None:
    """A registry clears its cache first. Then we read the link, and then it goes."""
    digest, other = world.layer(b"1"), world.layer(b"2")
    counts = world.counts(happens=lambda: world.unlink(digest))
    assert counts == {ADDED: 2, TAKEN_BACK: 1}
    assert stats(TEAM, digest, other).keys() == {other}
    # The blob's hash went too, since this warm wrote it; nothing is left of it.
    assert everywhere(digest) == {}
    assert default_cache.keys(f"*{digest}*") == []


def test_collected_data_is_taken_back(world: World, default_cache: Redis) -> None:
    digest = world.layer(b"1")
    world.layer(b"2")
    counts = world.counts(happens=lambda: world.collect(digest))
    assert counts == {ADDED: 2, TAKEN_BACK: 1}
    assert default_cache.keys(f"*{digest}*") == []


@pytest.mark.parametrize("version", [2, 3])
def test_a_manifest_is_taken_back(world: World, default_cache: Redis, version: int) -> None:
    """Its hash alone would make the registry lose the next push of that manifest."""
    digest = world.manifest(b"{}")
    world.layer(b"2")
    counts = world.counts(version=version, happens=lambda: world.collect(digest))
    assert counts == {ADDED: 2, TAKEN_BACK: 1}
    assert default_cache.keys(f"*{digest}*") == []


def test_an_alias_is_taken_back(world: World, default_cache: Redis) -> None:
    alias = world.alias(b"1")
    world.layer(b"2")
    assert world.counts(happens=lambda: world.unlink(alias)) == {ADDED: 2, TAKEN_BACK: 1}
    assert default_cache.keys(f"*{alias}*") == []


def test_the_hash_goes_before_the_membership(world: World, default_cache: Redis) -> None:
    """Version 2 makes a membership of the hash that it finds for a link without data."""
    digest = world.layer(b"1")
    world.layer(b"2")
    seen: list[str] = []
    with default_cache.monitor() as monitor:
        world.counts(happens=lambda: world.collect(digest))
        default_cache.echo("over")
        for command in monitor.listen():
            text = str(command["command"])
            if "over" in text:
                break
            if "UNLINK" in text.upper() and digest in text:
                seen.append(text)
    removed = [each.upper().split()[1].lower() for each in seen]
    assert removed
    assert removed[0].startswith("blobs::")


def test_what_was_there_before_is_not_taken_back(
    world: World, provider: RedisBlobDescriptorCacheProvider
) -> None:
    digest = world.layer(b"1")
    world.layer(b"2")
    provider.repository_scoped(TEAM).set_descriptor(digest, Descriptor(digest, 1, CONFIG_TYPE))
    counts = world.counts(happens=lambda: world.unlink(digest))
    assert counts == {KNOWN: 1, ADDED: 1}
    assert stats(TEAM, digest)


def test_a_hash_that_was_there_before_stays(
    world: World, provider: RedisBlobDescriptorCacheProvider
) -> None:
    digest = world.layer(b"1")
    provider.set_descriptor(digest, Descriptor(digest, 1, CONFIG_TYPE))
    counts = world.counts(happens=lambda: world.unlink(digest))
    assert counts == {ADDED: 1, TAKEN_BACK: 1}
    assert not stats(TEAM, digest)
    assert everywhere(digest)[digest].media_type == CONFIG_TYPE


def test_other_repositories_keep_their_memberships(world: World) -> None:
    digest = world.layer(b"1")
    world.layer(b"1", OTHER)
    counts = world.counts(happens=lambda: world.unlink(digest), threads=1)
    assert counts == {ADDED: 2, TAKEN_BACK: 1}
    assert not stats(TEAM, digest)
    # At most a miss, which a registry fills again.
    assert world.counts() in ({ADDED: 1}, {KNOWN: 1})
    assert stats(OTHER, digest)


def test_where_nobody_refills_the_hash_stays_with_its_data(world: World) -> None:
    one, two = world.layer(b"1"), world.layer(b"2")
    world.layer(b"3")

    def both() -> None:
        world.unlink(one)
        world.collect(two)

    counts = world.counts(happens=both, rules=Rules(role="primary"))
    assert counts == {ADDED: 3, TAKEN_BACK: 2}
    assert stats(TEAM, one, two) == {}
    assert everywhere(one, two).keys() == {one}


def test_a_hash_that_somebody_else_has_changed_is_left_alone(
    world: World, provider: RedisBlobDescriptorCacheProvider
) -> None:
    digest = world.layer(b"1")
    changed = Descriptor(digest, 99, OCTET_STREAM)

    def happens() -> None:
        world.unlink(digest)
        provider.set_descriptor(digest, changed)

    assert world.counts(happens=happens) == {ADDED: 1, TAKEN_BACK: 1}
    assert everywhere(digest) == {digest: changed}
    assert not stats(TEAM, digest)


def test_a_membership_that_somebody_else_has_changed_is_left_alone(
    world: World, provider: RedisBlobDescriptorCacheProvider
) -> None:
    digest = world.layer(b"1")
    changed = Descriptor(digest, 1, CONFIG_TYPE)
    provider.set_descriptor(digest, changed)  # so the hash is not this warm's

    def happens() -> None:
        world.unlink(digest)
        provider.repository_scoped(TEAM).set_descriptor(digest, changed)

    assert world.counts(happens=happens) == {ADDED: 1, Outcome.CHANGED: 1}
    assert stats(TEAM, digest) == {digest: changed}


def test_a_link_that_is_back_is_kept(world: World) -> None:
    digest = world.layer(b"1")

    def happens() -> None:
        world.unlink(digest)
        world.layer(b"1")

    assert world.counts(happens=happens) == {ADDED: 1}
    assert stats(TEAM, digest)


def test_a_link_to_another_blob_is_no_doubt_to_keep(world: World) -> None:
    """Nobody can say what that link means: nothing is taken back, and the warm is not done."""
    one, two = world.layer(b"1"), world.layer(b"2")
    report = world.warm(happens=lambda: world.write(layer_link(TEAM, one), two.encode()))
    assert report.counts == {ADDED: 2, Outcome.UNKNOWN: 1}
    assert not report.is_judged
    assert report.waiting == 1
    assert stats(TEAM, one)
    # The next warm looks again.
    world.unlink(one)
    assert world.counts() == {KNOWN: 1, TAKEN_BACK: 1}
    assert not stats(TEAM, one)


def test_data_that_became_damaged_is_taken_back(world: World) -> None:
    digest = world.layer(b"1")
    counts = world.counts(happens=lambda: world.write(data(digest), b""))
    assert counts == {ADDED: 1, TAKEN_BACK: 1}
    assert not stats(TEAM, digest)


def test_a_storage_that_goes_away_takes_nothing_back(world: World) -> None:
    digests = [world.layer(b"%d" % number) for number in range(5)]
    away = world.directory.with_name("away")
    with pytest.raises(BackendUnavailable):
        world.warm(happens=lambda: world.directory.rename(away))
    assert len(stats(TEAM, *digests)) == 5
    # It comes back without one of them: the next warm makes up for the second looks.
    away.rename(world.directory)
    world.unlink(digests[0])
    report = world.warm()
    assert report.is_resumed
    assert report.counts[TAKEN_BACK] == 1
    assert stats(TEAM, *digests).keys() == set(digests[1:])
    assert not world.warm().is_resumed
