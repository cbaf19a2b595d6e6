"""Read-through: what is answered, and what is written, in every state of cache and backend."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from typing import Any, cast

import pytest
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import (
    BackendUnavailable,
    BlobUnknown,
    CacheUnavailable,
    DescriptorCorrupt,
    DigestInvalidFormat,
    DigestInvalidLength,
    RepositoryNameInvalid,
)
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import cached as module
from blobcache.services.base import BlobDescriptorCacheProvider, BlobStatter, SetResult
from blobcache.services.cached import CachedBlobStatter, Found, Source
from blobcache.services.lookups import Limits, Lookups
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.metrics import CacheMetrics
from blobcache.services.rules import Rules
from blobcache.services.truth import Absent, Damage, Doubt, LinkKind, Present, Unknown
from project import embedded
from tests.conformance import ALIAS, LAYER, OCTETS, A, B, make_descriptor
from tests.coroutines import event_loop
from tests.servers import cache_at, commands
from tests.services.backend import StubBackend, present
from tests.test_docs import ROOT, blocks

SERVICE = ROOT / "docs" / "service.md"

WRITES = {"hset", "hsetnx", "sadd", "hdel", "srem", "unlink", "del", "expire", "exec"}

LONG = Limits(patience=30)
"""For what shall be answered, however slow the machine is."""

SILENT = [each for each in Doubt if each is not Doubt.SCOPE]
"""Doubts for which there is no answer but an error."""

REPOSITORIES = [None, "team/app"]


@pytest.fixture(autouse=True, params=["threads", "coroutines"])
def called_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every call of a statter be one of its coroutines, in the second round."""
    if request.param == "threads":
        yield
        return
    with event_loop() as runner:
        for name in ("find", "find_many", "set_descriptor", "clear"):
            coroutine = getattr(CachedBlobStatter, f"a{name}")

            def call(*args: object, coroutine: Any = coroutine) -> Any:
                return runner.run(coroutine(*args))

            monkeypatch.setattr(CachedBlobStatter, name, call)
        yield


@pytest.fixture
def backend() -> StubBackend:
    return StubBackend()


@pytest.fixture(params=["memory", "redis"])
def provider(request: pytest.FixtureRequest) -> BlobDescriptorCacheProvider:
    if request.param == "memory":
        return MemoryBlobDescriptorCacheProvider()
    request.getfixturevalue("default_cache")
    return RedisBlobDescriptorCacheProvider()


def statter_of(
    cache: BlobDescriptorCacheProvider,
    backend: StubBackend,
    repository: str | None = None,
    *,
    seconds: float = 5,
    limits: Limits = LONG,
) -> CachedBlobStatter:
    """A statter whose process has asked the backend nothing yet."""
    return CachedBlobStatter(cache, Lookups(backend, seconds=seconds, limits=limits), repository)


def counts(statter: CachedBlobStatter) -> tuple[int, int, int]:
    return statter.metrics.hits, statter.metrics.misses, statter.metrics.errors


def known(provider: BlobDescriptorCacheProvider, repository: str | None = None) -> set[Digest]:
    scope = provider if repository is None else provider.repository_scoped(repository)
    return set(scope.stat_many([A, B, ALIAS]))


class TestOverAnyCache:
    @pytest.fixture(params=REPOSITORIES, ids=str)
    def repository(self, request: pytest.FixtureRequest) -> str | None:
        return cast("str | None", request.param)

    @pytest.fixture
    def statter(
        self,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        repository: str | None,
    ) -> CachedBlobStatter:
        return statter_of(provider, backend, repository)

    def test_it_satisfies_the_protocol(self, statter: CachedBlobStatter) -> None:
        assert isinstance(statter, BlobStatter)

    def test_a_hit_does_not_call_the_backend(
        self, statter: CachedBlobStatter, backend: StubBackend
    ) -> None:
        statter.set_descriptor(A, make_descriptor(A, 1))
        assert statter.find(A) == Found(make_descriptor(A, 1), Source.HIT)
        assert backend.asked == []
        assert counts(statter) == (1, 0, 0)

    def test_a_miss_is_answered_by_the_backend_and_fills_the_global_descriptor_only(
        self,
        statter: CachedBlobStatter,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        repository: str | None,
    ) -> None:
        backend.store(A, "team/app", size=7)
        assert statter.find(str(A)) == Found(make_descriptor(A, 7), Source.BACKEND)
        assert provider.stat(A) == make_descriptor(A, 7)
        for name in ("team/app", "other"):
            assert known(provider, name) == set()
            provider.repository_scoped(name).set_descriptor(B, make_descriptor(B))
            assert known(provider, name) == {B}
        assert backend.asked == [(A, repository)]
        assert counts(statter) == (0, 1, 0)

    def test_what_is_stored_expires(
        self,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        repository: str | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        filled: list[int] = []

        def fill(_: object, digest: str, descriptor: Descriptor, seconds: int) -> None:
            filled.append(seconds)

        async def afill(*args: Any) -> None:
            fill(*args)

        monkeypatch.setattr(type(provider), "fill", fill)
        monkeypatch.setattr(type(provider), "afill", afill)
        backend.store(A, "team/app")
        lookups = Lookups(backend, limits=LONG)
        CachedBlobStatter(provider, lookups, repository, seconds=123).stat(A)
        assert filled == [123]

    def test_a_blob_that_is_absent_is_unknown_and_nothing_is_stored(
        self,
        statter: CachedBlobStatter,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        repository: str | None,
    ) -> None:
        for _ in range(2):
            with pytest.raises(BlobUnknown):
                statter.stat(A)
        assert backend.asked == [(A, repository)]
        assert known(provider) == set()
        assert counts(statter) == (0, 2, 0)

    @pytest.mark.parametrize("doubt", SILENT)
    def test_a_doubt_is_no_absence(
        self,
        statter: CachedBlobStatter,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        doubt: Doubt,
    ) -> None:
        backend.default = lambda *_: Unknown(doubt, "/secret/path")
        with pytest.raises(BackendUnavailable) as caught:
            statter.stat(A)
        assert "secret" not in str(caught.value)
        assert known(provider) == set()

    def test_where_the_backend_has_no_say_the_blob_is_unknown(
        self, statter: CachedBlobStatter, backend: StubBackend
    ) -> None:
        backend.default = lambda *_: Unknown(Doubt.SCOPE, "why")
        with pytest.raises(BlobUnknown):
            statter.stat(A)

    @pytest.mark.parametrize("link", [None, LinkKind.LAYER])
    def test_damaged_data_is_neither_answered_nor_stored(
        self,
        statter: CachedBlobStatter,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        link: LinkKind | None,
    ) -> None:
        empty = Present(make_descriptor(A, 0), "x", link, Damage.STORAGE_DAMAGE)
        backend.default = lambda *_: empty
        with pytest.raises(BackendUnavailable):
            statter.stat(A)
        assert known(provider) == set()
        assert statter.find_many([A]).unchecked == (A,)

    def test_only_a_look_of_this_moment_is_stored(
        self,
        statter: CachedBlobStatter,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
    ) -> None:
        """What a clear removes is not written again because the process remembers it."""
        backend.store(A, "team/app")
        statter.stat(A)
        provider.clear(A)
        assert statter.find(A).source is Source.BACKEND
        assert len(backend.asked) == 1
        assert known(provider) == set()

    def test_a_look_that_is_too_old_is_not_stored(
        self,
        statter: CachedBlobStatter,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        backend.store(A, "team/app")
        later = monotonic() + LONG.patience + 1
        monkeypatch.setattr(module, "monotonic", lambda: later)
        assert statter.find(A).source is Source.BACKEND
        assert known(provider) == set()

    def test_an_alias_is_stored_under_its_own_digest_alone(
        self,
        statter: CachedBlobStatter,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        repository: str | None,
    ) -> None:
        link = None if repository is None else LinkKind.LAYER
        backend.answers[ALIAS, repository] = Present(make_descriptor(A), "x", link)
        assert statter.stat(ALIAS) == make_descriptor(A)
        assert known(provider) == {ALIAS}

    @pytest.mark.parametrize(
        ("value", "error"), [("x", DigestInvalidFormat), ("sha256:a", DigestInvalidLength)]
    )
    def test_an_invalid_digest_is_refused_at_once(
        self,
        statter: CachedBlobStatter,
        backend: StubBackend,
        value: str,
        error: type[Exception],
    ) -> None:
        with pytest.raises(error):
            statter.stat(value)
        assert backend.asked == []
        assert counts(statter) == (0, 0, 0)

    def test_set_and_clear_change_only_the_cache(
        self, statter: CachedBlobStatter, backend: StubBackend
    ) -> None:
        assert statter.set_descriptor(A, make_descriptor(A, 1)) == SetResult(
            created=True, descriptor=make_descriptor(A, 1), before=None
        )
        assert statter.clear(A) == make_descriptor(A, 1)
        with pytest.raises(BlobUnknown):
            statter.clear(A)
        assert backend.asked == []
        assert counts(statter) == (0, 0, 0)

    def test_counts_may_be_shared(
        self, provider: BlobDescriptorCacheProvider, backend: StubBackend
    ) -> None:
        metrics, lookups = CacheMetrics(), Lookups(backend, limits=LONG)
        backend.store(A)
        for _ in range(2):
            CachedBlobStatter(provider, lookups, metrics=metrics).stat(A)
        assert (metrics.hits, metrics.misses) == (1, 1)

    def test_a_batch_says_where_each_descriptor_came_from(
        self,
        statter: CachedBlobStatter,
        provider: BlobDescriptorCacheProvider,
        backend: StubBackend,
        repository: str | None,
    ) -> None:
        third, fourth = (Digest("sha256:" + letter * 64) for letter in "ef")
        statter.set_descriptor(A, make_descriptor(A, 1))
        backend.store(B, "team/app", size=2)
        backend.answers[fourth, repository] = Unknown(Doubt.TIMEOUT, "why")
        found = statter.find_many([A, B, third, fourth])
        assert found.descriptors == {A: make_descriptor(A, 1), B: make_descriptor(B, 2)}
        assert (found.from_backend, found.unknown, found.unchecked) == ((B,), (third,), (fourth,))
        assert known(provider) == {A, B}
        assert A not in [digest for digest, _ in backend.asked]
        assert statter.stat_many([str(A), str(B), third]) == found.descriptors

    def test_a_batch_asks_the_backend_about_some_blobs_only(
        self, provider: BlobDescriptorCacheProvider, backend: StubBackend
    ) -> None:
        statter = statter_of(provider, backend, limits=replace(LONG, batch=1))
        found = statter.find_many([A, B, ALIAS])
        assert (found.unknown, found.unchecked) == ((A,), (B, ALIAS))
        assert len(backend.asked) == 1

    def test_a_batch_is_unknown_where_the_backend_has_no_say(
        self, statter: CachedBlobStatter, backend: StubBackend
    ) -> None:
        backend.default = lambda *_: Unknown(Doubt.SCOPE, "why")
        assert statter.find_many([A]).unknown == (A,)

    def test_a_batch_has_a_source(self, statter: CachedBlobStatter, backend: StubBackend) -> None:
        assert statter.find_many([A]).source is Source.MISS
        statter.set_descriptor(A, make_descriptor(A))
        assert statter.find_many([A, ALIAS]).source is Source.HIT
        backend.store(B, "team/app")
        assert statter.find_many([A, B]).source is Source.BACKEND


def test_a_repository_s_answer_without_a_link_is_not_stored(
    provider: BlobDescriptorCacheProvider, backend: StubBackend
) -> None:
    backend.answers[A, "a"] = present(A)
    assert statter_of(provider, backend, "a").stat(A) == make_descriptor(A)
    assert known(provider) == set()


def test_the_audit_log_names_read_through(
    provider: BlobDescriptorCacheProvider,
    backend: StubBackend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "blobcache.audit")
    backend.store(A, "a", size=7)
    statter_of(provider, backend, "a").stat(A)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"set registry='default' repository=- digest={A} before=- after={A},7,'{OCTETS}' "
        "actor=None source='read-through'"
    )


def test_the_example_in_the_documentation_works() -> None:
    (example,) = [each for each in blocks(SERVICE, "python") if "class Inventory" in each]
    names = {
        "Descriptor": Descriptor,
        "provider": MemoryBlobDescriptorCacheProvider(),
        "digest": "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    }
    exec(example, names)  # noqa: S102 - our own documentation
    statter = cast("CachedBlobStatter", names["statter"])
    assert counts(statter) == (0, 1, 0)
    assert statter.cache.stat(str(names["digest"])).size == 5


def test_an_invalid_name_is_refused(backend: StubBackend) -> None:
    for name in ("", "a::b", "Team"):
        with pytest.raises(RepositoryNameInvalid):
            statter_of(MemoryBlobDescriptorCacheProvider(), backend, name)


def test_a_name_that_cannot_be_written_is_read_through(backend: StubBackend) -> None:
    provider = MemoryBlobDescriptorCacheProvider()
    backend.store(A, "MyTeam/app")
    assert statter_of(provider, backend, "MyTeam/app").stat(A) == make_descriptor(A)
    assert known(provider) == {A}


def test_a_read_only_cache_is_read_through(
    backend: StubBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "blobcache.cached")
    cache = MemoryBlobDescriptorCacheProvider(Rules(read_only=True))
    backend.store(A)
    assert statter_of(cache, backend).stat(A) == make_descriptor(A)
    (record,) = [each for each in caplog.records if each.name == "blobcache.cached"]
    assert record.getMessage().startswith(f"The descriptor of {A} is not cached: ")
    assert (record.levelno, record.exc_info) == (logging.DEBUG, None)
    assert known(cache) == set()


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": str(A), "size": "many", "mediatype": OCTETS},
        {"digest": str(A), "size": "-1", "mediatype": OCTETS},
        {"digest": str(B), "size": "1", "mediatype": OCTETS},
        {"digest": "nonsense", "size": "1", "mediatype": OCTETS},
        {"digest": str(A), "size": "1", "mediatype": "a\nb"},
        None,
    ],
    ids=str,
)
def test_a_corrupt_descriptor_is_a_miss_and_is_replaced(
    default_cache: Redis, fields: dict[str, str] | None
) -> None:
    if fields is None:
        default_cache.set(f"blobs::{A}", "a string")
    else:
        for name, value in fields.items():
            default_cache.hset(f"blobs::{A}", name, value)
    cache = RedisBlobDescriptorCacheProvider()
    with pytest.raises(DescriptorCorrupt):
        cache.stat(A)
    backend = StubBackend()
    statter = statter_of(cache, backend)
    with pytest.raises(DescriptorCorrupt):
        statter.stat(A)
    backend.store(A, size=7)
    statter = statter_of(cache, backend)
    assert statter.stat(A) == make_descriptor(A, 7)
    assert cache.stat(A) == make_descriptor(A, 7)
    assert default_cache.ttl(f"blobs::{A}") > 0
    assert counts(statter) == (0, 1, 0)


def test_a_hash_that_others_have_written_meanwhile_stays_as_it_is(default_cache: Redis) -> None:
    cache = RedisBlobDescriptorCacheProvider()

    class Late(StubBackend):
        """Somebody pushes the blob while the backend looks."""

        def stat(self, digest: str, repository: str | None = None) -> Present:
            cache.set_descriptor(digest, make_descriptor(digest, 1, LAYER))
            return present(digest, 2)

    assert statter_of(cache, Late()).stat(A).size == 2
    assert cache.stat(A) == make_descriptor(A, 1, LAYER)
    assert default_cache.ttl(f"blobs::{A}") == -1


def test_a_miss_takes_two_round_trips_and_a_hit_one(default_cache: Redis) -> None:
    backend = StubBackend()
    backend.store(A, "a")
    backend.store(B, "a")
    provider = RedisBlobDescriptorCacheProvider()
    statter_of(provider, backend).stat(B)
    statter, scoped = statter_of(provider, backend), statter_of(provider, backend, "a")
    for each, trips in ((statter, 2), (statter, 1), (scoped, 2), (scoped, 1)):
        with commands(default_cache) as traffic:
            each.stat(A)
        assert traffic.round_trips == trips
        if each is scoped:
            assert not WRITES & set(traffic.calls)


@contextmanager
def own_redis() -> Iterator[tuple[embedded.Server, CachedBlobStatter, StubBackend]]:
    """A server that the test may stop, a statter whose cache is on it, and its backend."""
    backend = StubBackend()
    for digest in (A, B):
        backend.store(digest, "a")
    with (
        embedded.start() as server,
        cache_at(server.url, SOCKET_CONNECT_TIMEOUT=0.2, SOCKET_TIMEOUT=0.2),
    ):
        yield server, statter_of(RedisBlobDescriptorCacheProvider(), backend), backend


def test_while_redis_is_down_the_backend_is_called_and_the_failure_is_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with own_redis() as (server, first, backend):
        first.stat(A)
        server.stop()
        statter = statter_of(first.cache, backend)
        assert statter.find(A) == Found(make_descriptor(A), Source.BACKEND)
        with pytest.raises(BlobUnknown):
            statter.stat(ALIAS)
        assert counts(statter) == (0, 0, 2)
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.getMessage() for record in warnings] == [
            f"The cache failed; asked the backend for {digest}." for digest in (A, ALIAS)
        ]
        assert all(record.exc_info for record in warnings)
        found = statter.find_many([A, B, ALIAS])
        assert (found.from_backend, found.unknown) == ((A, B), (ALIAS,))
        for write in (
            lambda: statter.set_descriptor(A, make_descriptor(A)),
            lambda: statter.clear(A),
        ):
            with pytest.raises(CacheUnavailable):
                write()

        server.restart()
        for _ in range(2):
            assert statter_of(first.cache, backend).stat(A) == make_descriptor(A)


def test_a_redis_that_fails_is_not_written_to() -> None:
    with own_redis() as (server, statter, _), server.client() as observer:
        statter.stat(A)
        # A user who may not read: an error of the server, not of the connection.
        observer.execute_command("ACL", "SETUSER", "default", "-hmget")
        with commands(observer) as traffic:
            assert statter.stat(B) == make_descriptor(B)
            assert statter.find_many([B, ALIAS]).from_backend == (B,)
        assert not WRITES & set(traffic.calls)
        assert counts(statter) == (0, 1, 1)
        assert observer.exists(f"blobs::{B}") == 0


def test_a_write_that_redis_refuses_is_logged_and_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with own_redis() as (server, statter, backend), server.client() as observer:
        observer.execute_command("ACL", "SETUSER", "default", "-hset")
        assert statter.stat(A) == make_descriptor(A)
        told = [each.message for each in caplog.records if each.name == "blobcache.cached"]
        assert told == [f"The descriptor of {A} could not be cached."]
        assert backend.asked == [(A, None)]
        assert counts(statter) == (0, 1, 0)


class Failing(MemoryBlobDescriptorCacheProvider):
    """A cache whose every read fails at once, and which must not be written to."""

    error: Exception = CacheUnavailable("Down.")

    def stat(self, digest: str) -> Descriptor:
        raise self.error

    def stat_many(self, digests: object) -> dict[Digest, Descriptor]:
        raise self.error

    def fill(self, digest: str, descriptor: Descriptor, seconds: int) -> bool:
        raise AssertionError("a sick cache was written to")

    async def astat(self, digest: str) -> Descriptor:
        raise self.error

    async def astat_many(self, digests: object) -> dict[Digest, Descriptor]:
        raise self.error

    async def afill(self, digest: str, descriptor: Descriptor, seconds: int) -> bool:
        raise AssertionError("a sick cache was written to")


class TestFailedCache:
    def test_it_is_never_written_to(self, backend: StubBackend) -> None:
        backend.store(A)
        statter = statter_of(Failing(), backend)
        assert statter.stat(A) == make_descriptor(A)
        assert counts(statter) == (0, 0, 1)

    def test_where_the_backend_has_no_say_the_cache_s_failure_is_raised(
        self, backend: StubBackend
    ) -> None:
        backend.default = lambda *_: Unknown(Doubt.SCOPE, "why")
        statter = statter_of(Failing(), backend)
        with pytest.raises(CacheUnavailable):
            statter.stat(A)
        assert statter.find_many([A]).unchecked == (A,)

    def test_what_the_backend_says_is_absent_is_unknown(self, backend: StubBackend) -> None:
        backend.default = lambda *_: Absent("x")
        statter = statter_of(Failing(), backend)
        with pytest.raises(BlobUnknown):
            statter.stat(A)
        assert statter.find_many([A]).unknown == (A,)

    def test_a_programming_error_is_not_handled_as_a_failed_cache(
        self, backend: StubBackend
    ) -> None:
        cache = Failing()
        type(cache).error, before = ZeroDivisionError(), type(cache).error
        try:
            with pytest.raises(ZeroDivisionError):
                statter_of(cache, backend).stat(A)
        finally:
            type(cache).error = before
        assert backend.asked == []
