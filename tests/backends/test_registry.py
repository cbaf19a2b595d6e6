"""The backend over HTTP, beside a real registry: what it says, lists, reads, and whether it may."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from blobcache.backends import canary
from blobcache.backends.canary import PREFIX, Canary
from blobcache.backends.registry import RegistryBackend
from blobcache.backends.registry_http import USER_AGENT, Client
from blobcache.backends.registry_options import RegistryOptions
from blobcache.exceptions import (
    BackendUnavailable,
    BlobUnknown,
    DigestInvalid,
    RepositoryNameInvalid,
)
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services import get_backend
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from blobcache.services.truth import (
    Doubt,
    Present,
    Reachable,
    Unknown,
)
from project import embedded
from tests.backends.cases import CASES, Case, Expected, data, write_tree
from tests.interop.oci import digest_of
from tests.interop.registry import Registry, running_registry
from tests.servers import cache_at, installed

ASKED = [case for case in CASES if case.repository is not None]
HEALTHY = CASES[0]


def backend_of(registry: Registry | str, version: int = 2, **options: Any) -> RegistryBackend:
    url = registry if isinstance(registry, str) else f"http://{registry.address}"
    return RegistryBackend(Client(RegistryOptions({"url": url, **options})), version)


@pytest.fixture(scope="module")
def served(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without a cache that serves the storage of all cases."""
    with running_registry(tmp_path_factory.mktemp("registry"), storage=tree) as registry:
        yield registry


def fits(expected: Expected, answer: object) -> bool:
    """Whether a backend may answer this that sees no link and no folder itself."""
    if isinstance(answer, Present):
        found = answer.descriptor
        return expected.answer is Present and (
            (found.size, found.digest, answer.link)
            == (expected.size, expected.digest, expected.link)
        )
    return type(answer) is expected.answer


@pytest.mark.parametrize("case", ASKED, ids=str)
@pytest.mark.parametrize("version", [2, 3])
def test_a_registry_says_what_its_storage_says(case: Case, version: int, served: Registry) -> None:
    answer = backend_of(served, version).stat(case.digest, case.repository)
    assert fits(case.expected[version], answer), answer


def test_the_table_has_the_statuses_of_a_registry(served: Registry) -> None:
    found = {
        case.name: served.client.get_blob(str(case.repository), case.digest).status
        for case in ASKED
    }
    assert found == {case.name: case.status for case in ASKED}


def test_without_a_repository_nothing_is_known(served: Registry) -> None:
    answer = backend_of(served).stat(HEALTHY.digest)
    assert isinstance(answer, Unknown)
    assert answer.doubt is Doubt.SCOPE
    with pytest.raises(BackendUnavailable):
        backend_of(served).open(HEALTHY.digest)
    with pytest.raises(BackendUnavailable):
        backend_of(served).blobs()


def test_what_is_no_digest_is_not_asked_for(served: Registry) -> None:
    with pytest.raises(DigestInvalid):
        backend_of(served).stat("sha256:../../etc/passwd", "team/app")
    with pytest.raises(RepositoryNameInvalid):
        backend_of(served).stat(HEALTHY.digest, "../_catalog")


def test_requests_name_their_sender(served: Registry) -> None:
    backend_of(served).stat(HEALTHY.digest, HEALTHY.repository)
    assert USER_AGENT in served.log


class TestRoot:
    def test_a_registry_with_a_repository_is_there(self, served: Registry) -> None:
        assert backend_of(served).root() == Reachable(
            f"GET http://{served.address}/v2/_catalog?n=1"
        )

    def test_one_without_any_may_have_lost_its_storage(self, tmp_path: Path) -> None:
        with running_registry(tmp_path) as registry:
            answer = backend_of(registry).root()
        assert isinstance(answer, Unknown)
        assert answer.doubt is Doubt.NO_ROOT


class TestOpen:
    content = b"the bytes of own-digest"

    @pytest.mark.parametrize(
        ("start", "length"),
        [(0, None), (4, None), (4, 5), (0, 3), (22, 100), (23, 1), (1000, None), (5, 0)],
    )
    def test_a_blob_is_read_in_parts(
        self, start: int, length: int | None, served: Registry
    ) -> None:
        end = None if length is None else start + length
        opened = backend_of(served).open(
            HEALTHY.digest, HEALTHY.repository, start=start, length=length
        )
        with opened as file:
            assert file.read() == self.content[start:end]

    def test_a_manifest_is_read_where_its_link_counts(self, served: Registry) -> None:
        case = next(case for case in CASES if case.name == "manifest")
        with backend_of(served, 3).open(case.digest, case.repository, start=1, length=9) as file:
            assert file.read() == case.files[data(case.digest)][1:10]
        with pytest.raises(BlobUnknown):
            backend_of(served, 2).open(case.digest, case.repository)

    @pytest.mark.parametrize("name", ["data-missing", "unlinked", "no-repository"])
    def test_what_is_absent_is_unknown(self, name: str, served: Registry) -> None:
        case = next(case for case in CASES if case.name == name)
        for length in (None, 0):
            with pytest.raises(BlobUnknown):
                backend_of(served, 3).open(case.digest, case.repository, length=length)

    def test_what_nobody_knows_is_unavailable(self, served: Registry) -> None:
        case = next(case for case in CASES if case.name == "garbage")
        for length in (None, 0):
            with pytest.raises(BackendUnavailable) as caught:
                backend_of(served).open(case.digest, case.repository, length=length)
            assert "500" in caught.value.reason
            assert "500" not in caught.value.message


# What tags lead to


OCI = "application/vnd.oci.image"


def manifest_of(config: bytes, *layers: bytes, subject: str | None = None) -> bytes:
    def named(content: bytes, kind: str) -> dict[str, object]:
        return {"mediaType": f"{OCI}.{kind}", "digest": digest_of(content), "size": len(content)}

    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": named(config, "config.v1+json"),
        "layers": [named(layer, "layer.v1.tar+gzip") for layer in layers],
    }
    if subject is not None:
        document["subject"] = {
            "mediaType": f"{OCI}.manifest.v1+json",
            "digest": subject,
            "size": 2,
        }
    return json.dumps(document).encode()


def index_of(*manifests: bytes) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.index.v1+json",
            "manifests": [
                {
                    "mediaType": f"{OCI}.manifest.v1+json",
                    "digest": digest_of(each),
                    "size": len(each),
                }
                for each in manifests
            ],
        }
    ).encode()


CONFIG, LAYER, LOST, CLAIMED = b'{"a": 1}', b"layer", b"lost", b"claimed"
ARM, AMD = manifest_of(CONFIG, LAYER), manifest_of(CONFIG, LAYER, LOST, CLAIMED)
INDEX = index_of(ARM, AMD)
SIGNATURE = manifest_of(b"{}", LAYER, subject=digest_of(b"nothing"))
UNTAGGED = manifest_of(CONFIG)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with an index, an artifact and a stale tag in one repository.

    One of its layers is lost, and one is claimed: the storage has it, and the repository does not.
    """
    directory = tmp_path_factory.mktemp("tagged")
    files: dict[str, bytes] = {}
    for content in (CONFIG, LAYER, CLAIMED, b"{}", ARM, AMD, INDEX, SIGNATURE, UNTAGGED):
        files[data(digest_of(content))] = content
    repository = "repositories/team/app"
    for content in (CONFIG, LAYER, LOST, b"{}"):
        digest = digest_of(content)
        files[f"{repository}/_layers/{digest.replace(':', '/')}/link"] = digest.encode()
    for content in (ARM, AMD, INDEX, SIGNATURE, UNTAGGED):
        digest = digest_of(content)
        path = f"{repository}/_manifests/revisions/{digest.replace(':', '/')}/link"
        files[path] = digest.encode()
    for tag, content in {"v1": INDEX, "v2": INDEX, "sig": SIGNATURE, "stale": b"gone"}.items():
        files[f"{repository}/_manifests/tags/{tag}/current/link"] = digest_of(content).encode()
    files["repositories/team/bare/_layers/.keep"] = b""
    write_tree(directory / "storage", files, [])
    with running_registry(directory) as registry:
        yield registry


class TestLists:
    def test_members_are_what_the_tags_lead_to_and_the_repository_has(
        self, tagged: Registry
    ) -> None:
        members = list(backend_of(tagged).members("team/app"))
        expected = [
            *(("layer", each) for each in sorted(map(digest_of, (CONFIG, LAYER, b"{}")))),
            *(("manifest", each) for each in sorted(map(digest_of, (ARM, AMD, INDEX, SIGNATURE)))),
        ]
        assert [(str(each.kind), each.digest) for each in members] == expected
        assert all(each.target == each.digest for each in members)

    def test_they_go_on_after_any_of_them(self, tagged: Registry) -> None:
        backend = backend_of(tagged)
        members = list(backend.members("team/app"))
        for number in (0, 2, 4, 6):
            after = members[number].position
            assert list(backend.members("team/app", after)) == members[number + 1 :]

    @pytest.mark.parametrize("name", ["team/bare", "team/nowhere"])
    def test_a_repository_without_tags_has_none(self, name: str, tagged: Registry) -> None:
        assert list(backend_of(tagged).members(name)) == []

    def test_repositories_are_those_of_the_catalog(self, tagged: Registry) -> None:
        backend = backend_of(tagged)
        assert list(backend.repositories()) == ["team/app", "team/bare"]
        assert list(backend.repositories("team/app")) == ["team/bare"]
        assert not backend.is_complete


# The canary


@pytest.fixture
def cached(tmp_path: Path, redis_server: embedded.Server) -> Iterator[Registry]:
    """A registry that reads the cache, with a repository."""
    write_tree(tmp_path / "storage")
    with running_registry(tmp_path, redis_server) as registry:
        yield registry


@pytest.fixture(scope="module")
def redis_server() -> Iterator[embedded.Server]:
    """A Redis on TCP: a registry 2.x cannot use unix sockets."""
    with embedded.start(binary=installed("redis-server")) as server:
        yield server


@pytest.fixture
def provider(redis_server: embedded.Server) -> Iterator[RedisBlobDescriptorCacheProvider]:
    with cache_at(redis_server.url) as client:
        client.flushall()
        yield RedisBlobDescriptorCacheProvider()


def keys(server: embedded.Server) -> set[str]:
    """Return all keys but those of the index, and the names that are in the index."""
    with server.client() as client:
        found = {key.decode() for key in client.scan_iter()}
        names = next((key for key in found if key.endswith("::names")), None)
        indexed = client.zrange(names, 0, -1) if names else []
    return {key for key in found if "{catalog}" not in key} | {name.decode() for name in indexed}


class TestWitness:
    def test_a_registry_without_a_cache_is_one(
        self, served: Registry, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        witness = backend_of(served).witness(provider)
        assert witness.is_independent
        assert "a cache of its own" in witness.reason

    def test_one_that_reads_this_cache_is_none(
        self, cached: Registry, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        witness = backend_of(cached).witness(provider)
        assert not witness.is_independent
        assert "reads this cache" in witness.reason

    @pytest.mark.parametrize("role", ["cache", "primary"])
    def test_nothing_is_left_of_it(
        self,
        role: Any,
        cached: Registry,
        served: Registry,
        redis_server: embedded.Server,
        provider: RedisBlobDescriptorCacheProvider,
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider(Rules(role=role))
        provider.catalog.reindex()
        before = keys(redis_server)
        for registry in (cached, served):
            backend_of(registry).witness(provider)
        assert keys(redis_server) == before

    def test_a_cache_that_may_not_be_written_to_leaves_it_open(
        self, served: Registry, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider(Rules(read_only=True))
        witness = backend_of(served).witness(provider)
        assert not witness.is_independent
        assert "no canary could be placed" in witness.reason

    def test_a_registry_that_is_not_there_leaves_it_open(
        self, provider: RedisBlobDescriptorCacheProvider, redis_server: embedded.Server
    ) -> None:
        witness = backend_of("http://127.0.0.1:1").witness(provider)
        assert not witness.is_independent
        assert "no connection" in witness.reason
        assert keys(redis_server) == set()

    def test_a_canary_that_vanished_leaves_it_open(
        self, served: Registry, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        backend = backend_of(served)
        with canary.placed(provider) as placed:
            provider.repository_scoped(placed.repository).clear(placed.digest)
            witness = backend._watch(placed)
        assert not witness.is_independent
        assert "vanished" in witness.reason

    def test_a_redis_that_fails_leaves_it_open(self, served: Registry) -> None:
        with cache_at("redis://127.0.0.1:1/0"):
            witness = backend_of(served).witness(RedisBlobDescriptorCacheProvider())
        assert not witness.is_independent
        assert "Redis failed" in witness.reason

    def test_a_provider_without_a_catalog_will_do(self, served: Registry) -> None:
        assert backend_of(served).witness(MemoryBlobDescriptorCacheProvider()).is_independent


class TestSweep:
    def test_what_a_killed_process_left_is_removed_after_an_hour(
        self, provider: RedisBlobDescriptorCacheProvider, redis_server: embedded.Server
    ) -> None:
        provider.catalog.reindex()
        before = keys(redis_server)
        Canary(provider, RepositoryName(f"{PREFIX}1000-{'0' * 32}")).place()
        assert canary.sweep(provider, clock=lambda: 4000.0) == 0
        assert f"{PREFIX}1000-{'0' * 32}" in keys(redis_server) - before
        assert canary.sweep(provider, clock=lambda: 5000.0) == 1
        assert keys(redis_server) == before

    def test_other_repositories_with_that_prefix_stay(
        self, provider: RedisBlobDescriptorCacheProvider, redis_server: embedded.Server
    ) -> None:
        provider.catalog.reindex()
        Canary(provider, RepositoryName(f"{PREFIX}app")).place()
        before = keys(redis_server)
        assert canary.sweep(provider) == 0
        assert keys(redis_server) == before
        assert f"blobs::sha256:{hashlib.sha256(f'{PREFIX}app'.encode()).hexdigest()}" in before


def test_the_settings_name_it(served: Registry) -> None:
    truth = {
        "BACKEND": "blobcache.backends.registry.RegistryBackend",
        "OPTIONS": {"url": f"http://{served.address}/"},
    }
    with override_settings(BLOBCACHE={"default": {"TRUTH": truth}}):
        backend = get_backend()
        assert backend is not None
        answer = backend.stat(HEALTHY.digest, HEALTHY.repository)
    assert isinstance(answer, Present)
    assert repr(backend) == f"RegistryBackend('http://{served.address}')"
