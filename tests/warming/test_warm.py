"""What a warm writes, and what it does not."""

from __future__ import annotations

import json
from typing import cast

import pytest
from django.core.files.storage import FileSystemStorage
from redis import Redis

from blobcache.backends.listers import FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BackendUnavailable, OperationUnsupported, RepositoryNameInvalid
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.base import BlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from blobcache.services.truth import Witness
from blobcache.warming import reading
from blobcache.warming.report import Outcome, WarmRefused
from tests.backends.cases import ROOT, data, layer_link, write_tree
from tests.warming.worlds import TEAM, World

ADDED, KNOWN, DIFFERS = Outcome.ADDED, Outcome.KNOWN, Outcome.DIFFERS
OTHER = "team/web"

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def stats(name: str, *digests: Digest) -> dict[Digest, Descriptor]:
    return RedisBlobDescriptorCacheProvider().repository_scoped(name).stat_many(digests)


def everywhere(*digests: Digest) -> dict[Digest, Descriptor]:
    return RedisBlobDescriptorCacheProvider().stat_many(digests)


def contents(client: Redis) -> dict[bytes, bytes | None]:
    """The registry's own keys, as they are stored."""
    names = sorted(cast("list[bytes]", client.keys("[br]*::*")))
    return {key: client.dump(key) for key in names if b"{" not in key}


class TestLinks:
    def test_a_link_that_leads_to_data_becomes_a_membership(
        self, world: World, default_cache: Redis
    ) -> None:
        digest = world.layer(b"12345")
        world.blob(b"nobody links it")
        assert world.counts() == {ADDED: 1}
        assert stats(TEAM, digest) == {digest: Descriptor(digest, 5, OCTET_STREAM)}
        names, _ = RedisBlobDescriptorCacheProvider().catalog.index.names()
        assert names == [TEAM.encode()]
        assert len(default_cache.keys("blobs::*")) == 1

    def test_a_second_warm_changes_nothing(self, world: World, default_cache: Redis) -> None:
        digests = [world.layer(b"%d" % number) for number in range(5)]
        digests.append(world.layer(b"0", OTHER))
        assert world.counts() == {ADDED: 6}
        before = contents(default_cache)
        assert world.counts() == {KNOWN: 6}
        assert contents(default_cache) == before
        assert world.counts(OTHER) == {KNOWN: 1}

    def test_every_case_of_a_storage_has_its_outcome(self, world: World) -> None:
        """The same storage that all backends are tested with."""
        write_tree(world.directory)
        counts = world.counts()
        assert counts == {
            Outcome.CORRUPT_LINK: 13,
            Outcome.DAMAGED: 2,
            Outcome.ABSENT: 2,
            ADDED: 8,
        }
        assert not world.warm().is_judged

    def test_a_link_to_another_blob_is_refused_and_reported(self, world: World) -> None:
        one, two = world.layer(b"one"), world.layer(b"two")
        world.write(layer_link(TEAM, one), two.encode())
        report = world.warm()
        assert report.counts == {ADDED: 1, Outcome.CORRUPT_LINK: 1}
        assert [(each.repository, each.digest) for each in report.cases] == [(TEAM, one)]
        assert stats(TEAM, one, two).keys() == {two}
        assert everywhere(one) == {}

    def test_an_alias_is_warmed_by_its_own_link_alone(self, world: World) -> None:
        alias = world.alias(b"12345")
        assert world.counts() == {ADDED: 1}
        (found,) = stats(TEAM, alias).values()
        assert (found.digest.algorithm, found.size) == ("sha256", 5)
        assert stats(TEAM, found.digest) == {}

    def test_many_links_of_many_repositories(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "BATCH", 10)
        names = [f"team/{number}" for number in range(5)]
        wanted = {
            name: [world.layer(b"%b %d" % (name.encode(), number), name) for number in range(10)]
            for name in names
        }
        long = [world.layer(b"long %d" % number) for number in range(40)]
        report = world.warm(threads=4)
        assert report.counts == {ADDED: 90}
        assert report.is_judged
        assert len(stats(TEAM, *long)) == 40
        assert all(len(stats(name, *digests)) == 10 for name, digests in wanted.items())

    def test_names_that_oci_does_not_allow_are_skipped(self, world: World) -> None:
        world.layer(b"1", "Team/app")
        digest = world.layer(b"2")
        assert world.counts() == {Outcome.SKIPPED_NAME: 1, ADDED: 1}
        assert stats(TEAM, digest)
        assert stats("Team/app", world.blob(b"1")) == {}

    def test_only_the_named_repositories_are_warmed(self, world: World) -> None:
        one, two = world.layer(b"1"), world.layer(b"2", OTHER)
        assert world.counts(OTHER, OTHER) == {ADDED: 1}
        assert stats(OTHER, two)
        assert not stats(TEAM, one)
        assert world.counts("team/none") == {Outcome.NO_LINKS: 1}
        with pytest.raises(RepositoryNameInvalid):
            world.counts("no name")

    def test_a_dry_run_counts_and_writes_nothing(self, world: World, default_cache: Redis) -> None:
        world.layer(b"1")
        world.manifest(b"2")
        assert world.counts(dry_run=True) == {ADDED: 2}
        assert default_cache.keys("*") == []
        # Not even where nothing may be written.
        assert world.counts(dry_run=True, rules=Rules(read_only=True)) == {ADDED: 2}


class TestManifests:
    def test_on_version_2_a_manifest_gets_its_global_descriptor_alone(self, world: World) -> None:
        digest = world.manifest(b"{}")
        assert world.counts(version=2) == {ADDED: 1}
        assert everywhere(digest)
        assert not stats(TEAM, digest)
        assert world.counts(version=2) == {KNOWN: 1}

    def test_on_version_3_it_gets_a_membership_too(self, world: World) -> None:
        digest = world.manifest(b"{}")
        assert world.counts(version=3) == {ADDED: 1}
        assert everywhere(digest)
        assert stats(TEAM, digest)

    def test_a_manifest_that_is_linked_in_both_ways_counts_twice(self, world: World) -> None:
        digest = world.manifest(b"{}")
        assert world.layer(b"{}") == digest
        assert sum(world.counts(version=2).values()) == 2
        assert stats(TEAM, digest)
        assert world.counts(version=3) == {KNOWN: 2}


class TestWhatTheCacheHas:
    def test_nothing_is_overwritten(self, world: World, default_cache: Redis) -> None:
        digest = world.layer(b"12345")
        team = RedisBlobDescriptorCacheProvider().repository_scoped(TEAM)
        team.set_descriptor(digest, Descriptor(digest, 6, LAYER_TYPE))
        before = contents(default_cache)
        report = world.warm()
        assert report.counts == {DIFFERS: 1}
        assert "5 bytes" in report.cases[0].reason
        assert contents(default_cache) == before

    def test_a_specific_type_stays(self, world: World) -> None:
        digest = world.layer(b"12345")
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(digest, Descriptor(digest, 5, LAYER_TYPE))
        assert world.counts() == {ADDED: 1}
        assert provider.stat(digest).media_type == LAYER_TYPE
        assert stats(TEAM, digest)[digest].media_type == OCTET_STREAM

    def test_an_expired_descriptor_is_completed(self, world: World, default_cache: Redis) -> None:
        digest = world.layer(b"12345")
        world.warm(rules=Rules(ttl=100))
        assert 0 < default_cache.ttl(f"blobs::{digest}") <= 100
        for key in (f"blobs::{digest}", f"repository::{TEAM}::blobs::{digest}"):
            default_cache.delete(key)
            assert not stats(TEAM, digest)
            assert world.counts() == {ADDED: 1}
            assert stats(TEAM, digest)


def image(*layers: tuple[Digest, str], **more: object) -> bytes:
    named = [{"digest": digest, "size": 1, "mediaType": kind} for digest, kind in layers]
    document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": named, **more}
    return json.dumps(document).encode()


class TestMediaTypes:
    def types(self, world: World, *digests: Digest, version: int = 2) -> list[str | None]:
        world.warm(with_types=True, version=version)
        found = stats(TEAM, *digests)
        return [found[digest].media_type for digest in digests]

    def test_without_the_setting_no_manifest_is_read(self, world: World) -> None:
        layer = world.layer(b"1")
        world.manifest(image((layer, LAYER_TYPE)))
        world.warm()
        assert stats(TEAM, layer)[layer].media_type == OCTET_STREAM

    def test_a_safe_type_becomes_the_override_alone(self, world: World) -> None:
        layer = world.layer(b"1")
        world.manifest(image((layer, LAYER_TYPE)))
        assert self.types(world, layer) == [LAYER_TYPE]
        assert everywhere(layer)[layer].media_type == OCTET_STREAM

    def test_on_version_3_a_manifest_gets_its_own_type(self, world: World) -> None:
        digest = world.manifest(image())
        assert self.types(world, digest, version=3) == [MANIFEST_TYPE]

    @pytest.mark.parametrize(
        "unsafe", ["text/html", "image/svg+xml", "application/vnd.a+xml", "application/vnd.a;b=c"]
    )
    def test_an_unsafe_type_is_not_written(self, world: World, unsafe: str) -> None:
        layer = world.layer(b"1")
        world.manifest(image((layer, unsafe)))
        assert self.types(world, layer) == [OCTET_STREAM]

    def test_where_two_manifests_disagree_no_type_is_written(self, world: World) -> None:
        layer = world.layer(b"1")
        world.manifest(image((layer, LAYER_TYPE)))
        world.manifest(image((layer, CONFIG_TYPE)))
        assert self.types(world, layer) == [OCTET_STREAM]

    def test_manifests_of_other_repositories_say_nothing(self, world: World) -> None:
        layer = world.layer(b"1")
        world.manifest(image((layer, LAYER_TYPE)), OTHER)
        assert self.types(world, layer) == [OCTET_STREAM]

    def test_a_manifest_gives_no_repository_what_it_only_names(self, world: World) -> None:
        secret = world.layer(b"secret", OTHER)
        world.manifest(image((secret, LAYER_TYPE)))
        world.warm(with_types=True, version=3)
        assert not stats(TEAM, secret)

    def test_damaged_manifests_are_counted(self, world: World) -> None:
        layer = world.layer(b"1")
        whole = world.manifest(image((layer, LAYER_TYPE)))
        world.write(data(whole), image((layer, CONFIG_TYPE)))  # not what its digest says
        world.manifest(b"{")
        world.manifest(b"{}")
        report = world.warm(with_types=True)
        assert report.counts == {ADDED: 4, Outcome.SKIPPED_MANIFEST: 3}
        assert stats(TEAM, layer)[layer].media_type == OCTET_STREAM
        assert report.is_judged

    def test_an_override_that_is_there_stays(self, world: World) -> None:
        layer = world.layer(b"1")
        team = RedisBlobDescriptorCacheProvider().repository_scoped(TEAM)
        team.set_descriptor(layer, Descriptor(layer, 1, CONFIG_TYPE))
        world.manifest(image((layer, LAYER_TYPE)))
        assert self.types(world, layer) == [CONFIG_TYPE]


class TestRefusals:
    def test_a_read_only_registry_is_not_warmed(self, world: World) -> None:
        world.layer(b"1")
        with pytest.raises(OperationUnsupported):
            world.warm(rules=Rules(read_only=True))

    def test_a_storage_that_is_not_there_is_no_empty_one(self, world: World) -> None:
        with pytest.raises(BackendUnavailable):
            world.warm()
        with pytest.raises(BackendUnavailable):
            world.warm(dry_run=True)

    def test_a_witness_that_reads_this_cache_fills_it_with_nothing(self, world: World) -> None:
        digest = world.layer(b"1")

        class Dependent(StorageBackend):
            def witness(self, cache: BlobDescriptorCacheProvider) -> Witness:
                return Witness(is_independent=False, reason="It read what was written.")

        backend = Dependent(FileSystemLister(FileSystemStorage(world.directory), ROOT), 2)
        with pytest.raises(WarmRefused, match="It read what was written"):
            world.warm(backend=backend)
        assert not stats(TEAM, digest)
